#!/usr/bin/env python3
"""Compares stores of presence: memcached, Redis, PostgreSQL and `presenced store`. Prints tables.

    scripts/compare_stores.py [--users 1000000] [--duration 25s] [--rounds 3] [--stores memcached,redis,…]
                              [--presenced FILE] [--json FILE]

Each server runs on the first core, and the client (benches/stores, whose README says what it does) on the last. All
speak TCP on loopback. Each has a folder of its own and a free port, and ends with this script. A store that is not
installed is skipped, with the reason; `scripts/setup.sh stores` installs all. Some more stores are measured only if they are named:
memcached-r1000, redis-aof and postgresql-logged. Takes some 13 minutes with a million users.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from store_servers import CORES, DEFAULT, STORES, Server, Skipped, stop_all
from store_tables import show

ROOT = Path(__file__).resolve().parent.parent
CRATE = ROOT / "benches/stores"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CLIENT_TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CRATE / "target"))
CONNECTIONS = [1, 4, 16]
TTL_S = 60
# Each user is refreshed this often.
REFRESH_S = 25
# How long each measurement of the top rate takes.
TOP_RATE_S = 3
# With less room than this between its rate and that of the steady load, a store is written over more connections.
ROOM = 1.25
# Users that a store has when it is stopped or killed.
RESTART_USERS = 100_000
# Every how many users one is looked for after all have expired. All would be removed by looking for them.
SAMPLE = 100


class Client:
    """The client program, and the flags that all its runs have."""

    def __init__(self, users, password):
        self.program, self.users, self.password = CLIENT_TARGET / "release/presenced-stores", users, password

    def __call__(self, server, step, kind=None, users=None, **more):
        command = [self.program, kind or server.store.kind, step, "--port", server.port, "--pid", server.process.pid]
        command += ["--users", users or self.users, *server.store.client_flags]
        for flag, value in more.items():
            command += [f"--{flag}", value]
        ran = subprocess.run(
            [str(word) for word in command],
            env={**os.environ, "PASSWORD": self.password},
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {CORES[-1]}),
        )
        if ran.returncode:
            raise Skipped(f"the client could not {step}: {ran.stderr.strip()}")
        return json.loads(ran.stdout)


def main():
    flags = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    build("--manifest-path", CRATE / "Cargo.toml", "--target-dir", CLIENT_TARGET)
    if "presenced" in flags.stores and not flags.presenced:
        build("--bin", "presenced")
    results, reasons = {name: {"rounds": []} for name in flags.stores}, {}
    with tempfile.TemporaryDirectory() as folder:
        # Servers run as another user if we are root.
        Path(folder).chmod(0o755)
        try:
            measure_all(flags, Path(folder), results, reasons)
        finally:
            stop_all()
    show(results, reasons, flags.users, flags.rounds)
    if flags.json:
        report = {"users": flags.users, "results": results, "skipped": reasons}
        Path(flags.json).write_text(json.dumps(report, indent=1))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--duration", type=seconds, default=25, help="time of the steady load, in whole periods of 5 s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", default=",".join(DEFAULT), type=lambda text: text.replace(" ", ",").split(","))
    parser.add_argument("--presenced", metavar="FILE", type=Path, help="take this program instead of building it")
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
    flags = parser.parse_args()
    if unknown := set(flags.stores) - set(STORES):
        parser.error(f"--stores {','.join(unknown)}: expected some of {','.join(STORES)}")
    if flags.users < 1000:
        parser.error(f"--users {flags.users}: expected 1000 or more")
    if flags.rounds < 1:
        parser.error(f"--rounds {flags.rounds}: expected 1 or more")
    return flags


def build(*what):
    command = ["cargo", "build", "--release", "--locked", "--quiet", *what]
    if status := subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {status}")


def seconds(text):
    if not (text.removesuffix("s").isdecimal() and int(text.removesuffix("s"))):
        raise argparse.ArgumentTypeError("expected whole seconds, such as 25s")
    return int(text.removesuffix("s"))


def measure_all(flags, folder, results, reasons):
    """Fills `results`. A store that fails is left out from then on, and `reasons` says why."""
    password = secrets.token_hex(16)
    client = Client(flags.users, password)
    presenced = (flags.presenced or TARGET / "release/presenced").resolve()

    def server(name, purpose):
        return Server(STORES[name], folder / f"{name}-{purpose}", flags.users, password, client, presenced)

    def step(name, purpose, measure):
        print(f"{name}, {purpose} …", file=sys.stderr)
        try:
            return measure()
        except Skipped as reason:
            reasons[name] = str(reason)
            del results[name]

    # In turn, so that other work on this machine affects all alike.
    for number in range(flags.rounds):
        for name in list(results):
            one = server(name, f"round-{number}")
            if found := step(name, f"round {number + 1}", lambda: one_round(one, client, flags)):
                results[name]["rounds"].append(found)
    for name in list(results):
        one = server(name, "restarts")
        if found := step(name, "restarts", lambda: restarts(one, client, flags.users)):
            results[name]["restart"] = found
    with ExitStack() as running:
        servers = {}
        for name in list(results):
            one = server(name, "expiry")
            fill = lambda: fill_to_expire(running.enter_context(one), client)
            if filled := step(name, "all users, then none", fill):
                servers[name] = filled
        for name, filled in servers.items():
            step(name, "expired", lambda: look_for_expired(filled, client))
        for name, filled in servers.items():
            if name not in results:
                continue
            if found := step(name, "a minute later", lambda: a_minute_later(filled, client)):
                results[name]["expiry"] = found


def one_round(server, client, flags):
    """The steady load comes before the top rates, so that memory is what a real load leaves."""
    with server:
        found = {"fill": client(server, "fill")}
        fast_enough = found["fill"]["written"] / found["fill"]["seconds"] >= ROOM * flags.users / REFRESH_S
        found["steady_connections"] = CONNECTIONS[0 if fast_enough else 1]
        found["steady"] = client(server, "steady", connections=found["steady_connections"], seconds=flags.duration)
        found["count"] = client(server, "count")
        found["refresh"] = {
            connections: client(server, "refresh", connections=connections, seconds=TOP_RATE_S)
            for connections in CONNECTIONS
        }
        if server.store.kind == "memcached":
            found["noreply"] = client(server, "refresh", kind="memcached-noreply", seconds=TOP_RATE_S)
        return found


def restarts(server, client, users):
    """How many users a store has after a clean stop, and after `kill -9`."""
    users = min(users, RESTART_USERS)
    found = {"users": users}
    for how in ["stop", "kill"]:
        with server:
            client(server, "fill", users=users)
            server.stop() if how == "stop" else server.kill()
        with server:
            found[how] = client(server, "count", users=users)["found"]
    return found


def fill_to_expire(server, client):
    client(server, "fill")
    expired_at = time.monotonic() + TTL_S + 1
    return {
        "server": server,
        "expired_at": expired_at,
        "before": client(server, "count"),
        "idle_since": time.monotonic(),
    }


def look_for_expired(filled, client):
    time.sleep(max(0, filled["expired_at"] - time.monotonic()))
    server = filled["server"]
    filled["sample"] = client(server, "count", every=SAMPLE)
    if server.store.kind == "postgresql":
        filled["clean"] = client(server, "clean")


def a_minute_later(filled, client):
    time.sleep(max(0, filled["expired_at"] + TTL_S - time.monotonic()))
    found = {name: filled.get(name) for name in ["before", "sample", "clean"]}
    found["after"] = client(filled["server"], "usage")
    found["seconds"] = time.monotonic() - filled["idle_since"]
    return found


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
