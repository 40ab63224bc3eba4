"""The faults of `scripts/million.py`: memcached killed, an edge killed, and a rolling drain."""

import signal
import sys
import time

# How long memcached is away.
OUTAGE_S = 3
EDGES_AT_A_TIME = 6
BACK_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60
POLL_S = 0.25
# The last few clients have failed several times, and wait for up to half a minute.
NEARLY = 0.99


class Faults:
    """Each fault returns a row: what happened, how soon all was back, and what the observer was told meanwhile."""

    def __init__(self, fleet, flags, observer, progress):
        self.fleet = fleet
        self.observer = observer
        self.progress = progress
        # Within it, all entries of those who are away have expired, and misses are believed again after a loss.
        self.afterwards_s = flags.ttl + flags.flush_interval
        self.believed_timeout_s = 3 * self.afterwards_s + 30
        # Within it, a heartbeat of every user is written; twice, for a machine that is busy.
        self.round_s = 2 * (flags.ping_interval + flags.flush_interval)

    def prove_observer(self):
        """Takes users' entries away, and returns how often the observer was told that they are offline.

        It is a failure if it never was.
        """
        edge = self.fleet.edges[0]
        self.await_belief("before the proof that a false offline is seen")
        self.observer.begin()
        self.observer.watched = [edge]
        self.fleet.delete_keys(edge)
        end = time.monotonic() + self.round_s
        while missing := self.fleet.missing_keys([edge]):
            self.progress(f"{missing:,} entries that were taken away are not written again yet")
            if time.monotonic() > end:
                sys.exit(f"{missing:,} entries that were taken away were not written within {self.round_s} s")
            time.sleep(0.5)
        self.observer.watched = []
        if not (seen := self.observer.counts()["false_offline"]):
            sys.exit("the observer was told of nobody that they are offline, though their entries were taken away")
        return seen

    def run(self):
        yield self.row("memcached killed, empty after 3 s", self.kill_memcached)
        yield self.row("an edge killed and started again", self.kill_edge)
        yield self.row(f"all edges drained and started again, {EDGES_AT_A_TIME} at a time", self.rolling_drain)

    def row(self, name, fault):
        self.await_belief(f"before: {name}")
        self.observer.begin()
        began = time.monotonic()
        measured = fault()
        took = time.monotonic() - began
        # Users who are called offline too soon are so within a TTL.
        self.watch(self.afterwards_s, f"watching after: {name}")
        self.await_belief(f"after: {name}")
        self.observer.watched = []
        return {"fault": name, "took_s": took, "watched_s": time.monotonic() - began, **measured,
                **self.observer.counts()}

    def kill_memcached(self):
        fleet = self.fleet
        fleet.kill(fleet.memcached)
        time.sleep(OUTAGE_S)
        sessions = sum(edge.sessions for edge in fleet.edges)
        began = time.monotonic()
        fleet.start_memcached()
        back = self.wait(began, sessions, "keys", lambda: fleet.memcached_stat("curr_items"))
        # A few of the entries are not users.
        missing = None
        while missing != 0 and time.monotonic() - began < BACK_TIMEOUT_S:
            missing = fleet.missing_keys()
        if missing:
            sys.exit(f"{missing:,} users have no key {BACK_TIMEOUT_S} s after memcached's return")
        return {**back, "keys_checked_s": time.monotonic() - began}

    def kill_edge(self):
        edge = self.fleet.edges[0]
        self.observer.watched = [edge]
        self.observer.lost(edge)
        began = time.monotonic()
        self.fleet.kill(edge.process)
        self.fleet.start_edge(edge)
        back = self.wait(began, edge.sessions, f"sessions of edge {edge.index}", edge.open_sessions)
        self.observer.back(edge)
        return back

    def rolling_drain(self):
        edges, backs = self.fleet.edges, []
        for first in range(0, len(edges), EDGES_AT_A_TIME):
            group = edges[first : first + EDGES_AT_A_TIME]
            self.observer.watched = group
            began = time.monotonic()
            for edge in group:
                self.observer.lost(edge)
                edge.process.send_signal(signal.SIGTERM)
            self.await_restarts(group)
            for edge in group:
                backs.append(self.wait(began, edge.sessions, f"sessions of edge {edge.index}", edge.open_sessions))
                self.observer.back(edge)
        self.observer.watched = edges
        return {name: max(back[name] for back in backs) for name in backs[0]}

    def await_restarts(self, group):
        """Starts each edge again as soon as it has stopped."""
        draining = list(group)
        end = time.monotonic() + STOP_TIMEOUT_S
        while draining:
            if time.monotonic() > end:
                sys.exit(f"{draining[0].process.name} has not stopped within {STOP_TIMEOUT_S} s")
            for edge in [edge for edge in draining if edge.process.poll() is not None]:
                if edge.process.returncode:
                    sys.exit(f"{edge.process.name} has ended with {edge.process.returncode}: "
                             f"{self.fleet.log_of(edge.process)}")
                self.fleet.processes.remove(edge.process)
                self.fleet.start_edge(edge)
                draining.remove(edge)
            time.sleep(0.05)

    def wait(self, began, wanted, what, count):
        """Waits until there are as many as wanted; returns the times since the beginning: until all, and nearly all."""
        nearly = None
        while (found := count()) < wanted:
            if found >= NEARLY * wanted:
                nearly = nearly or time.monotonic() - began
            self.fleet.check()
            if time.monotonic() - began > BACK_TIMEOUT_S:
                sys.exit(f"{found:,} of {wanted:,} {what} after {BACK_TIMEOUT_S} s")
            self.progress(f"{found:,} of {wanted:,} {what} are back")
            time.sleep(POLL_S)
        took = time.monotonic() - began
        return {"back_s": took, "nearly_back_s": nearly or took}

    def watch(self, seconds, what):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.fleet.check()
            self.progress(f"{what}: {left:.0f} s left")
            time.sleep(min(1, left))

    def await_belief(self, what):
        """Waits until a user who never existed is called offline: before that, everyone who is not found is unknown."""
        end = time.monotonic() + self.believed_timeout_s
        self.observer.believes = False
        while not self.observer.believes:
            self.fleet.check()
            if not self.observer.is_alive():
                sys.exit("the observer has failed")
            if time.monotonic() > end:
                sys.exit(f"{what}: a user who never existed is still not offline after {self.believed_timeout_s:.0f} s")
            self.progress(f"{what}: until misses are believed")
            time.sleep(0.5)
