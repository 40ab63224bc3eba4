#!/usr/bin/env python3
"""Measures what a Socket.IO session that polls takes, and what a poll that waits takes beside it.

    scripts/polling_memory.py [--sessions 3000]

Opens sessions by polling at a server with one worker, each connected to the default namespace, and lets one poll of each
wait. What is measured is the private memory of the server's process; the kernel's part of the connections is not in it.
Needs only Python's standard library. Takes half a minute.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from processes import stop

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PATH = "/socket.io/?EIO=4&transport=polling"
USERS = 50
SETTLE_S = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=3000)
    parser.add_argument("--server", type=Path, default=RELEASE / "presenced")
    flags = parser.parse_args()
    if flags.server == RELEASE / "presenced":
        subprocess.run(["cargo", "build", "--locked", "--release", "--quiet", "--bin", "presenced"], cwd=ROOT, check=True)
    count = flags.sessions
    server, edge = start(flags.server, count)
    try:
        url = f"http://127.0.0.1:{edge}/dev/token?user=user-"
        tokens = [json.load(urllib.request.urlopen(f"{url}{user}"))["token"] for user in range(USERS)]
        empty = private_bytes(server.pid)
        paths = [begin(edge, tokens[number % USERS]) for number in range(count)]
        time.sleep(SETTLE_S)
        polling = private_bytes(server.pid)
        connections = [wait(edge, path) for path in paths]
        time.sleep(SETTLE_S)
        waiting = private_bytes(server.pid)
        print(f"{count:,} sessions that poll: {(polling - empty) / count:.0f} B each")
        print(f"{len(connections):,} polls that wait: {(waiting - polling) / count:.0f} B each, beside that")
    finally:
        stop(server)


def start(program, count):
    """The server, and where it listens."""
    listen = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--store-listen=127.0.0.1:0", "--workers=1"]
    # All come from one address, and no ping is due while it is measured.
    bounds = [f"--max-http-connections={2 * count}", f"--max-http-connections-per-address={2 * count}",
              f"--max-sessions-per-user={count}", "--ping-interval=300s", "--ttl=900s"]
    server = subprocess.Popen([program, *listen, *bounds], stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if found := re.match(r"edge +http://127\.0\.0\.1:(\d+)/", line):
            return server, int(found[1])
    sys.exit("the server does not start")


def begin(edge, token):
    """Begins a session, which is connected; returns the path of its requests."""
    with connection(edge) as stream:
        sid = json.loads(ask(stream, "GET", PATH)[1:])["sid"]
        path = f"{PATH}&sid={sid}"
        ask(stream, "POST", path, "40" + json.dumps({"token": token}))
        connected = ask(stream, "GET", path)
        if not connected.startswith("40"):
            sys.exit(f"not connected: {connected}")
        return path


def wait(edge, path):
    """Lets a poll wait; returns its connection."""
    stream = connection(edge)
    send(stream, "GET", path)
    return stream


def connection(edge):
    return socket.create_connection(("127.0.0.1", edge))


def send(stream, method, path, body=""):
    head = f"{method} {path} HTTP/1.1\r\nHost: edge.test\r\nContent-Length: {len(body)}\r\n\r\n"
    stream.sendall((head + body).encode())


def ask(stream, method, path, body=""):
    send(stream, method, path, body)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += stream.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(body) < length:
        body += stream.recv(65536)
    return body.decode()


def private_bytes(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"Private_Dirty: +(\d+) kB", text)[1]) * 1024


if __name__ == "__main__":
    main()
