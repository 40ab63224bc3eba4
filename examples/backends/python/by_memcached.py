#!/usr/bin/env python3
"""Is the user online? Looks into memcached, where presenced writes.

    python3 by_memcached.py 10.0.0.5:11211 USER…

For one memcached without TLS and password. Needs only the standard library.
"""

import hashlib
import json
import re
import socket
import sys
from datetime import datetime, timezone

TEMPLATE = "user:{userId}:online"  # --key-template
# As long as this key says that memcached has been told of everyone, users who
# are not there are offline.
MARKER = b"presenced:marker:" + hashlib.md5(TEMPLATE.encode()).hexdigest()[:16].encode()
# As many as presenced itself asks for in one command.
USERS_PER_GET = 100
TIMEOUT_S = 5
# An id with one of these would be another command, or another user's.
NOT_IN_USER_ID = re.compile(r"[\s\0-\x20\x7f-\x9f]")


def key(user):
    """Returns the key of a user's entry."""
    key = TEMPLATE.replace("{userId}", user).encode()
    if not user or NOT_IN_USER_ID.search(user) or len(key) > 250:
        raise ValueError(f"not the id of a user: {user!r}")
    return key


def read_values(replies):
    """Reads the answer to one `get`: values by key."""
    values = {}
    while (line := replies.readline()) != b"END\r\n":
        match line.split():
            case [b"VALUE", key, _, length]:
                values[key] = replies.read(int(length) + 2)[:-2]
            case []:
                raise ConnectionError("memcached has closed the connection")
            case _:
                raise ConnectionError(f"memcached answered {line!r}")
    return values


def is_whole(marker):
    """Whether memcached has been told of everyone: "{ring} {nonce} … {nonce}"."""
    _, *nonces = marker.split(b" ")
    return len(nonces) > 1 and nonces[0] in nonces[1:]


def connected_at(value):
    """Reads an entry; returns None for what presenced has not written."""
    try:
        return int(json.loads(value)["connectedAt"])
    except (KeyError, TypeError, ValueError):
        return None


def presence(address, users):
    """Returns when those who are online connected (Unix time in ms, by user),
    and the users about whom nothing is known now. All others are offline."""
    online, unknown = {}, set()
    keys = {user: key(user) for user in users}
    with (
        socket.create_connection(address, timeout=TIMEOUT_S) as connection,
        connection.makefile("rb") as replies,
    ):
        for first in range(0, len(users), USERS_PER_GET):
            portion = users[first : first + USERS_PER_GET]
            # The marker comes last: what was lost before was lost with it.
            command = [b"get", *(keys[user] for user in portion), MARKER]
            connection.sendall(b" ".join(command) + b"\r\n")
            values = read_values(replies)
            knows_all = is_whole(values.get(MARKER, b""))
            for user in portion:
                value = values.get(keys[user])
                since = connected_at(value) if value is not None else None
                if since is not None:
                    online[user] = since
                elif value is not None or not knows_all:
                    unknown.add(user)
    return online, unknown


def main():
    if len(sys.argv) < 3:
        sys.exit("usage: by_memcached.py HOST:PORT USER…")
    host, _, port = sys.argv[1].rpartition(":")
    users = sys.argv[2:]
    try:
        online, unknown = presence((host.strip("[]"), int(port)), users)
    except (OSError, ValueError) as error:
        sys.exit(f"by_memcached.py: {sys.argv[1]}: {error}")
    for user in users:
        if user in online:
            since = datetime.fromtimestamp(online[user] / 1000, timezone.utc)
            print(f"{user}: online since {since:%Y-%m-%dT%H:%M:%SZ}")
        elif user in unknown:
            # They may be online or offline: send the push notification.
            print(f"{user}: unknown")
        else:
            print(f"{user}: offline")


if __name__ == "__main__":
    main()
