"""Sessions over Python's ssl: by hand, and with the library `websockets`.

    python client.py PORT AUTHORITY TOKEN USER
"""

import json
import logging
import os
import socket
import ssl
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from websockets.sync.client import connect

PORT, AUTHORITY, TOKEN, USER = int(sys.argv[1]), *sys.argv[2:]
HOST = "same.example"
PINGS = 3
PATIENCE = 20
VERSIONS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)
QUESTION = json.dumps({"pull": 1, "users": [USER, "nobody"]})


def context(version):
    trusting = ssl.create_default_context(cafile=AUTHORITY)
    trusting.minimum_version = trusting.maximum_version = version
    trusting.set_alpn_protocols(["http/1.1"])
    return trusting


def check(answer):
    found = json.loads(answer)["online"]
    assert list(found) == [USER], answer


def masked(first, payload):
    mask = os.urandom(4)
    head = bytes([first, 0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BBH", first, 0xFE, len(payload))
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def by_hand(version):
    plain = socket.create_connection(("127.0.0.1", PORT), PATIENCE)
    # An end without close_notify would be an error.
    with context(version).wrap_socket(plain, server_hostname=HOST, suppress_ragged_eofs=False) as secret:
        assert secret.selected_alpn_protocol() == "http/1.1"
        secret.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        stream = secret.makefile("rb")
        status = stream.readline()
        assert b" 101 " in status, status
        while stream.readline() != b"\r\n":
            pass

        def frame():
            first, length = stream.read(2)
            if length == 126:
                (length,) = struct.unpack("!H", stream.read(2))
            return first, stream.read(length)

        secret.sendall(masked(0x81, QUESTION.encode()))
        pings, answers = 0, 0
        while pings < PINGS:
            first, payload = frame()
            if first == 0x89:
                secret.sendall(masked(0x8A, payload))
                pings += 1
            else:
                assert first == 0x81, first
                check(payload)
                answers += 1
        assert answers == 1, answers
        secret.sendall(masked(0x88, struct.pack("!H", 1000)))
        while (got := frame())[0] != 0x88:
            pass
        assert got[1][:2] == struct.pack("!H", 1000), got
        assert stream.read(1) == b""
        secret.unwrap()
    return f"by hand {version.name}"


class Pings(logging.Handler):
    """Counts the pings that the library answers by itself."""

    def __init__(self):
        super().__init__()
        self.seen = threading.Semaphore(0)

    def emit(self, record):
        if record.getMessage().startswith("< PING"):
            self.seen.release()


def by_library(version):
    pings = Pings()
    logger = logging.Logger("session", logging.DEBUG)
    logger.addHandler(pings)
    with connect(
        f"wss://127.0.0.1:{PORT}/ws",
        ssl=context(version),
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
        ping_interval=None,
        logger=logger,
    ) as session:
        for _ in range(PINGS):
            session.send(QUESTION)
            check(session.recv(timeout=PATIENCE))
            assert pings.seen.acquire(timeout=PATIENCE)
    assert session.close_code == 1000, session.close_code
    return f"by library {version.name}"


with ThreadPoolExecutor() as pool:
    sessions = [pool.submit(talk, version) for talk in (by_hand, by_library) for version in VERSIONS]
# Threads that print by themselves would mix their lines.
for session in sessions:
    print(session.result())
