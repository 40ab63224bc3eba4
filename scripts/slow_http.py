#!/usr/bin/env python3
"""Attacks a server on loopback with slowhttptest in its four modes, and checks that others are served meanwhile.

    scripts/slow_http.py [--connections 2000] [--seconds 30]

The modes are slow heads (slowloris), slow bodies, many ranges, and answers that are read slowly. In each, /readyz must be 200
at every look; handshakes and pulls of another address must be answered within a few seconds, all but a few of them with
success, though the attacker has more connections than the server has places; and the server's memory must stay below
--memory. Needs only Python's standard library and slowhttptest. Takes two to three minutes.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
SLOW = ["-i", "1", "-x", "8", "-p", "3"]
MODES = {
    "slow heads": ["-H", *SLOW],
    "slow bodies": ["-B", "-t", "POST", "-s", "8192", *SLOW],
    "many ranges": ["-R", "-a", "10", "-b", "3000"],
    "slow reading": ["-X", "-w", "1", "-y", "8", "-n", "1", "-z", "8", "-k", "10"],
}
# Of another address than the attacker, whose share is half of the places.
OTHER = ("127.0.0.2", 0)
ANSWER_TIMEOUT_S = 5
START_TIMEOUT_S = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--memory", type=int, default=128, help="MiB")
    parser.add_argument("--server", type=Path, default=RELEASE / "presenced")
    flags = parser.parse_args()
    if flags.server == RELEASE / "presenced":
        subprocess.run(["cargo", "build", "--locked", "--release", "--quiet", "--bin", "presenced"], cwd=ROOT, check=True)
    secret = secrets.token_hex(32)
    server, edge, admin = start(flags.server, secret)
    failures = []
    try:
        for mode, options in MODES.items():
            failures += attack(mode, options, flags, edge, admin, token(secret))
        peak = peak_mib(server.pid)
        print(f"most memory: {peak:.0f} MiB")
        if peak > flags.memory:
            failures.append(f"{peak:.0f} MiB of memory, more than {flags.memory}")
        if server.poll() is not None:
            failures.append("the server has ended")
    finally:
        server.terminate()
        server.wait()
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(1 if failures else 0)


def start(program, secret):
    """The server, and where it and its admin address listen."""
    listen = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--store-listen=127.0.0.1:0"]
    environment = os.environ | {"PRESENCED_JWT_SECRET": secret}
    server = subprocess.Popen([program, *listen], env=environment, stdout=subprocess.PIPE, text=True)
    text = ""
    while "admin" not in text:
        line = server.stdout.readline()
        if not line:
            sys.exit("the server does not start")
        text += line
    edge, admin = (re.search(rf"{name} +http://127\.0\.0\.1:(\d+)/", text)[1] for name in ("edge", "admin"))
    deadline = time.monotonic() + START_TIMEOUT_S
    while status(int(admin), "/readyz") != 200:
        if time.monotonic() > deadline:
            sys.exit("the server is not ready")
        time.sleep(0.1)
    return server, int(edge), int(admin)


def attack(mode, options, flags, edge, admin, bearer):
    """Runs slowhttptest in one mode; returns what went wrong for others."""
    rate = max(1, flags.connections // 5)
    command = ["slowhttptest", *options, "-c", str(flags.connections), "-r", str(rate), "-l", str(flags.seconds)]
    url = f"http://127.0.0.1:{edge}/v1/presence?user=1"
    with tempfile.TemporaryFile() as output:
        attacker = subprocess.Popen([*command, "-u", url], stdout=output, stderr=subprocess.STDOUT)
        looks, unready, failed, slowest = 0, 0, 0, 0.0
        while attacker.poll() is None:
            looks += 1
            unready += status(admin, "/readyz") != 200
            began = time.monotonic()
            failed += not is_served(edge, bearer)
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.2)
        if looks == 0 or attacker.returncode != 0:
            output.seek(0)
            return [f"{mode}: slowhttptest: {output.read().decode(errors='replace')[-400:]}"]
    print(f"{mode}: {looks} looks, {unready} not ready, {failed} failed, {slowest:.1f} s at most")
    problems = [f"{mode}: not ready {unready} times"] if unready else []
    if failed > looks // 20:
        problems.append(f"{mode}: {failed} of {looks} were not served")
    return problems


def is_served(edge, bearer):
    """Whether a handshake and a pull are answered with success."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode()}
    wanted = [("/ws", upgrade, 101), ("/v1/presence?user=1", {}, 200)]
    return all(status(edge, path, OTHER, headers | {"Authorization": f"Bearer {bearer}"}) == expected
               for path, headers, expected in wanted)


def status(port, path, source=None, headers=None):
    """The status of an answer; None without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_S, source_address=source)
    try:
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse().status
    except OSError:
        return None
    except http.client.HTTPException:
        return None
    finally:
        connection.close()


def token(secret):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"sub": "other", "exp": int(time.time()) + 3600}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.digest(secret.encode(), signed, hashlib.sha256))).decode()


def peak_mib(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 1024


if __name__ == "__main__":
    main()
