"""Asks a server without sessions who is online, and counts what it answers of users who are.

Once a second it asks for 1,000 users, another thousand each time, spread over all edges, and for up to 500 users of
edges that are being disturbed. A user who never existed is among them: as long as that one is unknown, nobody can be
called offline.

An answer "offline" about a user is false if the user's edge had all of its sessions when the question was sent, and
also if the edge had begun to lose them so short a time before that no entry of theirs could have expired: the TTL less
a round of pings, a flush and a second, 9 s with the defaults. All other such answers are about users whose edge was
down, or whose edge's sessions were not all back. They are counted apart, with the shortest time since the edge began to
lose its sessions.
"""

import base64
import collections
import hmac
import http.client
import json
import threading
import time

USERS_PER_PULL = 500
PULLS_PER_SECOND = 2
TIMEOUT_S = 10
TOKEN_TIME_S = 7200
# A stride that shares no factor with most numbers of sessions, so that another thousand users come each time.
STRIDE = 7919
KINDS = ("online", "unknown", "false_offline", "away_offline")


class Observer(threading.Thread):
    """A thread that asks until it is told to stop."""

    def __init__(self, fleet, flags):
        super().__init__(daemon=True)
        self.fleet = fleet
        # The earliest time after which someone who has left may appear offline.
        self.earliest_offline_s = flags.ttl - flags.ping_interval - flags.ping_timeout - flags.flush_interval - 1
        self.token = token(fleet.secret.read_bytes().removesuffix(b"\n"))
        self.lost_at = {}
        self.watched = []
        self.turn = 0
        self.believes = False
        self.phase = new_counts()
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.connection = None

    def begin(self):
        """Counts from zero."""
        with self.lock:
            self.phase = new_counts()

    def counts(self):
        with self.lock:
            return dict(self.phase)

    def lost(self, edge):
        """The edge is about to lose its sessions."""
        self.lost_at[edge.index] = time.monotonic()

    def back(self, edge):
        """The edge has all of its sessions again."""
        self.lost_at.pop(edge.index, None)

    def stop(self):
        self.done.set()
        self.join()

    def run(self):
        began = time.monotonic()
        while not self.done.wait(max(0, began - time.monotonic())):
            began = max(began + 1, time.monotonic())
            batches = [self.sample(USERS_PER_PULL) for _ in range(PULLS_PER_SECOND)]
            if watched := self.watched:
                batches.append(self.sample(USERS_PER_PULL, watched))
            nobody = f"nobody-{self.turn}"
            for users in batches:
                # Takes the place of one of the users.
                self.ask({**dict(list(users.items())[1:]), nobody: None}, nobody)

    def sample(self, size, edges=None):
        """The next users, with their edges."""
        edges = edges or self.fleet.edges
        users = {}
        for at in range(self.turn, self.turn + size):
            edge = edges[at % len(edges)]
            if edge.sessions:
                users[edge.user(at // len(edges) * STRIDE)] = edge
        self.turn += size
        return users

    def ask(self, users, nobody):
        asked_at = time.monotonic()
        away = {index: asked_at - lost_at for index, lost_at in self.lost_at.copy().items()}
        try:
            answer = self.pull(list(users))
        except (OSError, http.client.HTTPException, ValueError):
            self.connection = None
            with self.lock:
                self.phase["errors"] += 1
            return
        online, unknown = answer["online"], set(answer.get("unknown", ()))
        self.believes = nobody not in unknown
        with self.lock:
            phase = self.phase
            phase["pulls"] += 1
            phase["slowest_s"] = max(phase["slowest_s"], time.monotonic() - asked_at)
            for user, edge in users.items():
                if edge is None:
                    continue
                kind = "online" if user in online else "unknown" if user in unknown else self.offline(edge, away)
                phase[kind] += 1
                if kind == "away_offline":
                    phase["away_shortest_s"] = min(phase["away_shortest_s"] or 1e9, away[edge.index])

    def offline(self, edge, away):
        return "away_offline" if away.get(edge.index, 0) >= self.earliest_offline_s else "false_offline"

    def pull(self, users):
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.fleet.observer.port, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self.connection.request("POST", "/v1/presence", json.dumps({"users": users}), headers)
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {body!r}")
        return json.loads(body)


def new_counts():
    counts = collections.Counter(dict.fromkeys([*KINDS, "pulls", "errors"], 0))
    return {**counts, "slowest_s": 0.0, "away_shortest_s": None}


def token(secret):
    """A service token (docs/protocol.md), which may ask for everyone."""
    claims = {"sub": "million", "scope": "presence:read-all", "exp": int(time.time()) + TOKEN_TIME_S}
    parts = [encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.digest(secret, b".".join(parts), "sha256")
    return b".".join([*parts, encode(signature)]).decode()


def encode(part):
    return base64.urlsafe_b64encode(part).rstrip(b"=")
