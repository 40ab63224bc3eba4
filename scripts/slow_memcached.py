#!/usr/bin/env python3
"""Measures how soon all users are back in a memcached that was restarted empty, at full speed and slowed.

    scripts/slow_memcached.py [--users 60000] [--edges 20] [--busy 3]

presenced-load holds the sessions at a few edges. The same memcached is then killed and started again: once as it is, and
once stopped (SIGSTOP) for all but --busy percent of the time, as on a machine that has no time for it. What it still can do
must be at least twice what heartbeats alone need. Fails unless all users are back in time and no connection was given up
meanwhile. Takes one to three minutes; everything is on loopback. Needs only Python's standard library and memcached.
"""

import argparse
import contextlib
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from processes import free_port, stop

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PING_INTERVAL_S = 25
START_TIMEOUT_S = 20
CONNECT_TIMEOUT_S = 90
BACK_TIMEOUT_S = 60
OUTAGE_S = 3
# Descriptors of an edge beside its sessions.
OTHER_DESCRIPTORS = 2500
# How long memcached is let run at a time when it is slowed.
RUN_S = 0.004
KEYS_PER_GET = 100
PROCESSES = []


def main():
    flags = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    per_edge = flags.users // flags.edges
    if hard != resource.RLIM_INFINITY:
        per_edge = min(per_edge, hard - OTHER_DESCRIPTORS)
    build()
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "secret")
        secret.write_text(secrets.token_hex(32))
        try:
            failures = run(flags, per_edge, secret)
        finally:
            while PROCESSES:
                stop(PROCESSES.pop())
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    sys.exit(1 if failures else 0)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=60_000)
    parser.add_argument("--edges", type=int, default=20)
    parser.add_argument("--busy", type=int, default=3, help="percent of the time that the slowed memcached has")
    flags = parser.parse_args()
    if not 1 <= flags.busy <= 100:
        parser.error(f"--busy {flags.busy}: expected a percentage, from 1 to 100")
    return flags


def build():
    for package in ["presenced", "presenced-load"]:
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--bins", "--package", package]
        if subprocess.run(command, cwd=ROOT).returncode:
            sys.exit(f"cannot build {package}")


def run(flags, per_edge, secret):
    """Measures both restarts and prints them; returns what has failed."""
    users = [f"e{edge}-{number}" for edge in range(flags.edges) for number in range(per_edge)]
    port = free_port()
    memcached = start_memcached(port)
    admins = [start_edge(edge, per_edge, port, secret) for edge in range(flags.edges)]
    until(CONNECT_TIMEOUT_S, "all users are connected", lambda: count_stored(port) >= len(users))
    failures = []
    heartbeats = len(users) / PING_INTERVAL_S
    print(f"{len(users):,} users on {flags.edges} edges, {heartbeats:,.0f} heartbeats a second\n")
    print("| memcached      | all back after | sets a second | given up |")
    print("| -------------- | -------------: | ------------: | -------: |")
    for name, busy in [("full speed", 100), (f"{flags.busy} % of it", flags.busy)]:
        memcached.kill()
        memcached.wait()
        time.sleep(OUTAGE_S)
        before = given_up(admins)
        memcached = start_memcached(port)
        with slowed(memcached, busy):
            began = time.monotonic()
            is_back = wait(BACK_TIMEOUT_S, lambda: count_stored(port) >= len(users))
            took = time.monotonic() - began
            rate = stat(port, "cmd_set") / took
            # A few of the entries are not users; these come within moments.
            is_back = is_back and wait(BACK_TIMEOUT_S, lambda: are_online(port, users))
            # What is sent again comes within the next flush.
            time.sleep(10)
            lost = given_up(admins) - before
        back = f"{took:.1f} s" if is_back else f"not in {BACK_TIMEOUT_S} s"
        print(f"| {name:14} | {back:>14} | {rate:>13,.0f} | {lost:>8} |", flush=True)
        if not is_back:
            failures.append(f"{name}: {count_stored(port):,} of {len(users):,} users are back after {BACK_TIMEOUT_S} s")
        if lost:
            failures.append(f"{name}: {lost} connections were given up")
        if rate < 2 * heartbeats:
            failures.append(f"{name}: memcached took {rate:,.0f} sets a second, less than twice the heartbeats")
    return failures


def start_memcached(port):
    listen = ["-l", "127.0.0.1", "-p", port, "-U", "0"]
    return start(["memcached", "-u", "root", *listen, "-t", "2", "-m", "512", "-c", "4096"], port)


def start_edge(edge, sessions, memcached_port, secret):
    """Starts an edge and its users; returns its admin port."""
    port, admin = free_port(), free_port()
    command = [RELEASE / "presenced", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    command += ["--server-id", f"edge-{edge}", "--ping-interval", f"{PING_INTERVAL_S}s"]
    command += ["--jwt-secret-file", secret, "--memcached", f"127.0.0.1:{memcached_port}"]
    start(command, port)
    load = [RELEASE / "presenced-load", "--connect", f"127.0.0.1:{port}", "--jwt-secret-file", secret]
    load += ["--sessions", sessions, "--user-prefix", f"e{edge}-", "--client-ping", "0s", "--duration", "1h"]
    PROCESSES.append(spawn(load))
    return admin


@contextlib.contextmanager
def slowed(process, percent):
    """Lets a process run for a part of the time only."""
    done = threading.Event()

    def pace():
        while not done.wait(RUN_S):
            process.send_signal(signal.SIGSTOP)
            done.wait(RUN_S * (100 - percent) / percent)
            process.send_signal(signal.SIGCONT)

    pacer = threading.Thread(target=pace)
    if percent < 100:
        pacer.start()
    try:
        yield
    finally:
        done.set()
        if percent < 100:
            pacer.join()


def count_stored(port):
    """Entries of any kind; a memcached that does not listen yet has none."""
    try:
        return stat(port, "curr_items")
    except OSError:
        return 0


def stat(port, name):
    start_of_line = f"STAT {name} ".encode()
    return next(int(line.split()[2]) for line in ask(port, b"stats\r\n") if line.startswith(start_of_line))


def are_online(port, users):
    keys = [f"user:{user}:online" for user in users]
    runs = [keys[at : at + KEYS_PER_GET] for at in range(0, len(keys), KEYS_PER_GET)]
    return all(
        sum(line.startswith(b"VALUE ") for line in ask(port, f"get {' '.join(run)}\r\n".encode())) == len(run)
        for run in runs
    )


def ask(port, command):
    """The lines of an answer up to END."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(command + b"quit\r\n")
        with connection.makefile("rb") as stream:
            return stream.read().splitlines()


def given_up(admins):
    """Connections to memcached that were given up as it did not answer in time, of all edges."""
    total = 0
    for admin in admins:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        timeouts = [line for line in lines if "memcached_errors" in line and 'error="timeout"' in line]
        if not timeouts:
            sys.exit("/metrics tells nothing of time-outs")
        total += sum(int(float(line.split()[-1])) for line in timeouts)
    return total


def start(command, port):
    """Starts a server, and returns once it listens."""
    process = spawn(command)
    PROCESSES.append(process)
    if not wait(START_TIMEOUT_S, lambda: process.poll() is not None or listens(port)) or process.poll() is not None:
        sys.exit(f"{Path(command[0]).name} does not listen")
    return process


def spawn(command):
    words = [str(word) for word in command]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    except ConnectionRefusedError:
        return False


def wait(seconds, holds):
    """Whether something holds within this time."""
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return held


def until(seconds, what, holds):
    if not wait(seconds, holds):
        sys.exit(f"not within {seconds} s: {what}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
