"""A reader that ejects nodes: libmemcached, as pylibmc brings it.

    python libmemcached.py USERS HOST:PORT…

Answers each line on its standard input with how many of u0, u1, … it finds, all by the same client.
"""

import sys

import pylibmc

BEHAVIORS = {
    "ketama_weighted": True,
    "tcp_nodelay": True,
    "auto_eject": True,
    "failure_limit": 2,
    # Seconds until a node that was away is asked again.
    "retry_timeout": 2,
    "dead_timeout": 2,
    # ms
    "connect_timeout": 1000,
    # µs
    "receive_timeout": 1_000_000,
    "send_timeout": 1_000_000,
}


def is_online(client, user):
    try:
        # The bytes as they are: values are not pylibmc's own.
        return f"user:{user}:online" in client.get_multi([f"user:{user}:online"])
    except pylibmc.Error:
        return False


users, nodes = int(sys.argv[1]), sys.argv[2:]
client = pylibmc.Client(nodes, behaviors=BEHAVIORS)
for _ in sys.stdin:
    print(sum(is_online(client, f"u{number}") for number in range(users)), flush=True)
