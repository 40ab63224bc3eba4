"""Python clients: python.py CLIENT PORT USERS STRIDE"""

import json
import sys
import time

TTL_S = 60
CHUNK = 1000


def main():
    client, (port, users, stride) = sys.argv[1], map(int, sys.argv[2:])
    entries = [
        (
            f"user:{number}:online",
            f'{{"serverId":"server-1","connectedAt":1700000000000,"socketId":"00000001-0-{number}-0"}}',
        )
        for number in (place * stride % users for place in range(users))
    ]
    write = {"pymemcache": pymemcache, "libmc": libmc}[client](port)
    write(entries[:1])
    start, cpu = time.perf_counter(), time.process_time()
    for first in range(0, users, CHUNK):
        write(entries[first : first + CHUNK])
    print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}))


def pymemcache(port):
    from pymemcache.client.base import Client

    client = Client(("127.0.0.1", port), no_delay=True)
    return lambda entries: client.set_many(dict(entries), expire=TTL_S, noreply=False)


def libmc(port):
    from libmc import Client

    client = Client([f"127.0.0.1:{port}"])
    return lambda entries: client.set_multi(dict(entries), TTL_S)


main()
