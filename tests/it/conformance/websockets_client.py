"""Conformance to RFC 6455, seen by the Python library `websockets`.

    python websockets_client.py ADDRESS MAX_MESSAGE

Talks to examples/echo.rs. Legal things go through the library; what it would never send goes into
its socket as bytes, and the library reads what comes back.
"""

import itertools
import struct
import sys

from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode
from websockets.sync.client import connect

ADDRESS, MAX_MESSAGE = sys.argv[1], int(sys.argv[2])
PATIENCE = 20


def session(**options):
    return connect(
        f"ws://{ADDRESS}/", max_size=None, open_timeout=PATIENCE, close_timeout=PATIENCE, ping_interval=None, **options
    )


def frame(opcode, data=b"", fin=True):
    # Its `serialize` looks at reserved bits, codes and the like, but not at how frames follow each other.
    return Frame(opcode, data, fin).serialize(mask=True, extensions=[])


def closed_with(*sent):
    """The code that the server closes with after it got these bytes."""
    with session(compression=None) as ws:
        ws.socket.sendall(b"".join(sent))
        try:
            while True:
                ws.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            return closed.rcvd and closed.rcvd.code


def lengths():
    return [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 20, MAX_MESSAGE]


def test_messages_of_all_lengths():
    with session() as ws:
        for length in lengths():
            text, data = "x" * length, bytes(at % 251 for at in range(min(length, 4096))) * (length // 4096 + 1)
            for message in (text, data[:length]):
                ws.send(message)
                assert ws.recv(timeout=PATIENCE) == message, length


def test_text_of_all_planes():
    with session() as ws:
        for text in ("κόσμε", "\x00\x7f\x80\u07ff\u0800\uffff", "\U00010000\U0010ffff", "\ufeff\ufffe"):
            ws.send(text)
            assert ws.recv(timeout=PATIENCE) == text


def test_fragments_with_control_frames_between():
    with session() as ws:
        for parts in (["a", "", "b"], ["", ""], ["κόσμε"[at] for at in range(5)], [b"\xff", b"", b"\xfe"], [b"x"] * 1000):
            ws.send(parts)
            assert ws.recv(timeout=PATIENCE) == type(parts[0])().join(parts)
        # A character cut in two, and a ping and a pong between its halves.
        text = "κ".encode()
        pong = ws.ping(b"between")
        ws.socket.sendall(frame(Opcode.TEXT, text[:1], False) + frame(Opcode.PING, b"1") + frame(Opcode.PONG, b"2"))
        ws.socket.sendall(frame(Opcode.CONT, text[1:]))
        assert ws.recv(timeout=PATIENCE) == "κ"
        assert pong.wait(PATIENCE)


def test_pings_are_answered_with_their_payload():
    with session() as ws:
        pongs = [ws.ping(bytes([length]) * length) for length in range(1, 126)]
        assert all(pong.wait(PATIENCE) for pong in pongs)
        ws.ping(b"").wait(PATIENCE)
        ws.pong(b"unasked")
        ws.send("still there")
        assert ws.recv(timeout=PATIENCE) == "still there"


def test_no_compression_is_agreed_on():
    with session(compression="deflate") as ws:
        assert ws.response.headers.get("Sec-WebSocket-Extensions") is None
        ws.send("x" * 1000)
        assert ws.recv(timeout=PATIENCE) == "x" * 1000
    assert closed_with(b"\xc1\x81\x00\x00\x00\x00x") == 1002, "compressed all the same"


def test_legal_closes_are_answered_with_their_code():
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        for reason in ("", "bye", "ö" * 61):
            with session() as ws:
                ws.close(code, reason)
                assert ws.protocol.close_rcvd == Close(code, "closed"), code
    assert closed_with(frame(Opcode.CLOSE)) == 1005, "without a code: the library's word for it"
    assert closed_with(frame(Opcode.CLOSE, Close(1000, "x" * 123).serialize())) == 1000


def test_illegal_closes_are_1002_or_1007():
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        assert closed_with(frame(Opcode.CLOSE, struct.pack("!H", code))) == 1002, code
    assert closed_with(frame(Opcode.CLOSE, b"\x03")) == 1002
    assert closed_with(frame(Opcode.CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80")) == 1007


def test_what_follows_a_close_is_not_heard():
    with session() as ws:
        after = frame(Opcode.TEXT, b"too late") + b"\xff\xff"
        ws.socket.sendall(frame(Opcode.CLOSE, b"\x03\xe8") + after)
        try:
            raise AssertionError(f"heard {ws.recv(timeout=PATIENCE)}")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1000


def test_text_that_is_not_utf8_is_1007_as_soon_as_it_is_seen():
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xce\xba\xe1\xbd"):
        assert closed_with(frame(Opcode.TEXT, bad)) == 1007, bad
    # The message has not ended: the server does not wait for that.
    assert closed_with(frame(Opcode.TEXT, b"ok \xff", False)) == 1007
    assert closed_with(frame(Opcode.TEXT, b"ok \xf4", False), frame(Opcode.CONT, b"\x90", False)) == 1007
    assert closed_with(frame(Opcode.TEXT, b"\xce", False), frame(Opcode.CONT, b"")) == 1007


def test_frames_that_the_rfc_forbids_are_1002():
    mask = b"\x01\x02\x03\x04"
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        assert closed_with(bytes([0x80 | opcode, 0x80]) + mask) == 1002, opcode
    for reserved in (0x10, 0x20, 0x40, 0x70):
        assert closed_with(bytes([0x81 | reserved, 0x80]) + mask) == 1002, reserved
    for opcode in (1, 2, 8, 9, 10):
        assert closed_with(bytes([0x80 | opcode, 0x00])) == 1002, "not masked"
    for opcode in (8, 9, 10):
        assert closed_with(bytes([opcode, 0x80]) + mask) == 1002, "a control frame in parts"
        assert closed_with(bytes([0x80 | opcode, 0xFE, 0, 126]) + mask) == 1002, "a long control frame"
    assert closed_with(b"\x81\xfe\x00\x7d" + mask) == 1002, "125 in 16 bits"
    assert closed_with(b"\x81\xff" + struct.pack("!Q", 65_535) + mask) == 1002, "65,535 in 64 bits"
    assert closed_with(b"\x81\xff" + struct.pack("!Q", 1 << 63) + mask) == 1002, "the highest bit"
    for first, second in itertools.product((Opcode.TEXT, Opcode.BINARY), repeat=2):
        assert closed_with(frame(first, b"x", False), frame(second, b"y")) == 1002, "a message in a message"
    assert closed_with(frame(Opcode.CONT, b"x")) == 1002, "more of nothing"


def test_messages_over_the_limit_are_1009():
    assert closed_with(b"\x82\xff" + struct.pack("!Q", MAX_MESSAGE + 1) + b"\x01\x02\x03\x04") == 1009
    half = frame(Opcode.BINARY, bytes(MAX_MESSAGE // 2), False)
    rest = frame(Opcode.CONT, bytes(MAX_MESSAGE // 2), False)
    assert closed_with(half, rest, frame(Opcode.CONT, b"x")) == 1009


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("ok", name)
