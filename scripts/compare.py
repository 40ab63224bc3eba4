#!/usr/bin/env python3
"""Compares presenced with its peers: prints a table of memory, CPU time, handshakes and latency.

    scripts/compare.py [--sessions 18000] [--duration 20s] [--intervals 1s,10s]
                       [--peers epoll,ws,…] [--json FILE]

The servers run in turn on the first core, with presenced-load and memcached on the last. benches/peers/README.md
describes the peers and what they leave out. Needs only Python's standard library; a peer that cannot be built is
skipped, with the reason. A measurement is rounded up to whole rounds of pings and flushes, so that it has the same number
of them for each session.
"""

import argparse
import json
import math
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import free_port, stop

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RELEASE = TARGET / "release"
NODE = ROOT / "benches/peers/node"
# For the servers' listener, log, memcached and runtime.
OTHER_DESCRIPTORS = 1500
SERVER_CORE, LOAD_CORE = sorted(os.sched_getaffinity(0))[0], sorted(os.sched_getaffinity(0))[-1]
START_TIMEOUT_S = 20
FLUSH_INTERVAL_S = 5
PROCESSES = []


class Skipped(Exception):
    """Why a server is not in the table."""


def main():
    flags = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and flags.sessions > hard - OTHER_DESCRIPTORS:
        flags.sessions = hard - OTHER_DESCRIPTORS
        print(f"the limit of open files is {hard}: {flags.sessions} sessions", file=sys.stderr)
    reasons = build(flags.peers)
    names = list(dict.fromkeys([*PRESENCED, *flags.peers]))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "secret")
        secret.write_text(secrets.token_hex(32))
        secret.chmod(0o600)
        for interval in flags.intervals:
            results[interval] = {
                name: reasons.get(name) or measure(name, interval, flags, secret) for name in names
            }
    for interval, rows in results.items():
        show(interval, rows, flags)
    if flags.json:
        Path(flags.json).write_text(json.dumps(results, indent=1))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sessions", type=int, default=18_000)
    parser.add_argument("--duration", default="20s", type=seconds, help="time of each measurement")
    parser.add_argument("--intervals", default="1s,10s", type=list_of_seconds, help="intervals of the pings, each measured separately")
    parser.add_argument("--peers", default=",".join(PEERS), type=lambda text: text.replace(" ", ",").split(","))
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
    flags = parser.parse_args()
    if unknown := set(flags.peers) - set(SERVERS):
        parser.error(f"--peers {','.join(unknown)}: expected some of {','.join(PEERS)}")
    return flags


def seconds(text):
    if not (text.removesuffix("s").isdecimal() and int(text.removesuffix("s"))):
        raise argparse.ArgumentTypeError("expected whole seconds, such as 20s")
    return int(text.removesuffix("s"))


def list_of_seconds(text):
    return [seconds(part) for part in text.split(",")]


def build(peers):
    """Builds all; returns why peers can't be built. Exits if presenced or presenced-load can't be."""
    cargo = ["cargo", "build", "--release", "--locked", "--quiet", "--bins", "--package"]
    # Built one by one, as otherwise cargo would unify the features of shared crates.
    for package in ["presenced", "presenced-load"]:
        if reason := failure([*cargo, package], ROOT):
            sys.exit(f"{package}: {reason}")
    reasons = {}
    for group, command, folder in [
        (RUST, [*cargo, "presenced-peers"], ROOT),
        (NODE_JS, ["node", "--version"], ROOT),
        (NODE_JS, ["npm", "ci", "--no-audit", "--no-fund", "--silent"], NODE),
    ]:
        wanted = [name for name in group if name in peers and name not in reasons]
        if wanted and (reason := failure(command, folder)):
            reasons.update(dict.fromkeys(wanted, reason))
    return reasons


def failure(command, folder):
    """Runs a command; returns why it failed, or None."""
    try:
        status = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL).returncode
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    return f"{' '.join(command[:2])} ended with {status}" if status else None


def presenced(*more):
    def command(port, interval, secret, memcached):
        times = ["--ping-interval", f"{interval}s", "--ping-timeout", timeout_of(interval)]
        address = ["--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", "--workers", "1"]
        return [RELEASE / "presenced", *address, *times, *tokens(secret, memcached), *more]

    return command


def rust(name, has_presence=True, more=()):
    def command(port, interval, secret, memcached):
        presence = tokens(secret, memcached) if has_presence else []
        return [RELEASE / name, "--listen", f"127.0.0.1:{port}", "--ping-interval", f"{interval}s", *presence, *more]

    return command


def node(script):
    def command(port, interval, secret, memcached):
        times = ["--ping-interval", f"{interval}s", "--ping-timeout", timeout_of(interval)]
        return ["node", NODE / script, "--listen", f"127.0.0.1:{port}", *times, *tokens(secret, memcached)]

    return command


def tokens(secret, memcached):
    return ["--jwt-secret-file", secret, "--memcached", f"127.0.0.1:{memcached}"]


PRESENCED = {
    "presenced": presenced(),
    "presenced-0ms": presenced("--coalesce", "0s"),
    # The same server, whose clients speak Socket.IO.
    "presenced-io": presenced(),
}
RUST = {
    "epoll": rust("peer-epoll", has_presence=False),
    "naive": rust("peer-naive"),
    "tungstenite": rust("peer-tungstenite"),
    "socketioxide": rust("peer-socketioxide"),
}
NODE_JS = {"ws": node("ws.js"), "socket.io": node("socket-io.js")}
PEERS = RUST | NODE_JS
SOCKET_IO = {"presenced-io", "socket.io", "socketioxide"}
SERVERS = PRESENCED | PEERS


def timeout_of(interval):
    """The ping timeout: nine tenths of the interval."""
    return f"{interval * 900}ms"


def measure(name, interval, flags, secret):
    """The report of presenced-load about a server, or the reason why there is none."""
    print(f"{name}, a ping every {interval} s …", file=sys.stderr)
    memcached_port, port = free_port(), free_port()
    try:
        listen = ["-l", "127.0.0.1", "-p", memcached_port, "-U", "0"]
        start(["memcached", "-u", "root", *listen, "-t", "1", "-m", "256"], LOAD_CORE, memcached_port)
        server = start(SERVERS[name](port, interval, secret, memcached_port), SERVER_CORE, port)
        load = [RELEASE / "presenced-load", "--connect", f"127.0.0.1:{port}", "--jwt-secret-file", secret, "--json"]
        load += ["--sessions", flags.sessions, "--duration", f"{whole_rounds(flags.duration, interval)}s"]
        # Two rounds of pings, so that memory has settled after the handshakes.
        load += ["--settle", f"{2 * interval + 1}s", "--pid", server.pid]
        load += ["--protocol", "engine.io"] if name in SOCKET_IO else []
        # Enough for a p99, and few compared with the server's own pings.
        load += ["--client-ping", "1s", "--client-ping-sessions", "50"]
        load = [str(word) for word in load]
        ran = subprocess.run(load, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}))
        if ran.returncode != 0:
            raise Skipped(f"presenced-load ended with {ran.returncode}")
        report = json.loads(ran.stdout)
        if name != "epoll":
            report["users_in_memcached"] = items(memcached_port)
        return report
    except Skipped as reason:
        return str(reason)
    finally:
        while PROCESSES:
            stop(PROCESSES.pop())


def whole_rounds(duration, interval):
    whole = math.lcm(interval, FLUSH_INTERVAL_S)
    return math.ceil(duration / whole) * whole


def items(memcached_port):
    with socket.create_connection(("127.0.0.1", memcached_port)) as connection, connection.makefile("rwb") as stream:
        stream.write(b"stats\r\nquit\r\n")
        stream.flush()
        return next(int(line.split()[2]) for line in stream if line.startswith(b"STAT curr_items "))


def start(command, core, port):
    """Starts a server on a core, and returns once it listens."""
    try:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    except OSError as error:
        raise Skipped(str(error)) from error
    PROCESSES.append(process)
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise Skipped(f"{Path(command[0]).name} does not listen")


COLUMNS = (
    *("server", "B/session", "of ours", "µs/ping+pong", "of epoll", "user µs"),
    *("µs/handshake", "handshakes/s", "p99 ms", "lost"),
)


def show(interval, rows, flags):
    duration = whole_rounds(flags.duration, interval)
    print(f"\n{flags.sessions:,} sessions, a ping every {interval} s, measured for {duration} s\n")
    floor, ours = of(rows, "epoll", "cpu_us_per_ping_and_pong"), of(rows, "presenced", "bytes_per_session")
    lines = [COLUMNS]
    for name, row in rows.items():
        if isinstance(row, str):
            continue
        cpu, p99 = row["cpu_us_per_ping_and_pong"], (row["latency_us"]["client_ping"] or {}).get("p99")
        lines.append((
            name,
            f"{row['bytes_per_session']:,.0f}",
            f"{row['bytes_per_session'] / ours:.1f}" if ours else "",
            f"{cpu:.2f}",
            f"{cpu / floor:.2f}" if floor else "",
            f"{1e6 * row['cpu_user_seconds'] / max(row['pings'], 1):.2f}",
            f"{row['cpu_us_per_handshake']:.1f}",
            f"{row['handshakes_per_second']:,.0f}",
            f"{p99 / 1000:.2f}" if p99 else "",
            f"{sum(row['lost'].values()) + sum(row['refused'].values())}",
        ))
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    for index, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |")
        if index == 0:
            print("| " + " | ".join(["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]) + " |")
    for name, row in rows.items():
        if isinstance(row, str):
            print(f"skipped: {name}: {row}")
        elif row.get("users_in_memcached", row["open"]) < row["open"]:
            print(f"{name}: memcached has {row['users_in_memcached']:,} of the users of {row['open']:,} sessions")
    if isinstance(rows.get("epoll"), dict):
        print("epoll checks no token and writes nothing to memcached")


def of(rows, name, what):
    return rows[name][what] if isinstance(rows.get(name), dict) else None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
