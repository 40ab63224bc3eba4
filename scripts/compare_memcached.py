#!/usr/bin/env python3
"""Compares a flush of presenced with other memcached clients that write the same entries: prints a table.

    scripts/compare_memcached.py [--users 1000000] [--rounds 3] [--clients presenced,pymemcache,…]

The clients run in turn on the last core, and memcached with one thread on the first. A client that can't be built or
installed is skipped, with the reason. benches/writers/README.md says what each does. Each writes in a random order of its
own, as in the order of the client before, neighbours would lie side by side in memcached's memory.
"""

import argparse
import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import free_port

ROOT = Path(__file__).resolve().parent.parent
WRITERS = ROOT / "benches/writers"
OTHERS = WRITERS / "others"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", WRITERS / "target"))
CORES = sorted(os.sched_getaffinity(0))
RUST = ["bare", "presenced", "presenced-ms", "async-memcached", "async-memcached-1", "memcache", "memcache-async", "mtop", "memcached-rs"]
NODE = ["npm-memcached", "memjs"]
PYTHON = ["pymemcache", "libmc"]
C = ["libmemcached", "libmemcached-noreply"]
# By how much fewer users slow clients write. Most of them wait for each answer before the next command.
FEWER = {"async-memcached-1": 10, "mtop": 10, "npm-memcached": 4, "memjs": 4}
CLIENT_TIMEOUT_S = 120


def main():
    all_clients = [*RUST, *C, *PYTHON, *NODE]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default=",".join(all_clients), type=lambda text: text.replace(" ", ",").split(","))
    flags = parser.parse_args()
    if unknown := set(flags.clients) - set(all_clients):
        parser.error(f"--clients {','.join(unknown)}: expected some of {','.join(all_clients)}")
    clients = list(dict.fromkeys(["bare", *flags.clients]))
    with tempfile.TemporaryDirectory() as folder:
        commands, reasons = build(clients, Path(folder))
        results = {client: [] for client in clients if client in commands}
        port = free_port()
        memcached = start(port)
        try:
            # In turn, so that other work on this machine affects all alike.
            for _ in range(flags.rounds):
                for client in list(results):
                    users = flags.users // FEWER.get(client, 1)
                    try:
                        results[client].append(measure([*commands[client], client, str(port), str(users), str(stride(users))], users))
                    except (subprocess.SubprocessError, ValueError) as error:
                        reasons[client] = str(error)
                        del results[client]
        finally:
            memcached.kill()
            memcached.wait()
    show(results, reasons, flags)


def build(clients, folder):
    """Builds the clients; returns their commands, and why others can't be built."""
    commands, reasons = {}, {}

    def offer(group, command, *steps):
        wanted = [client for client in group if client in clients]
        reason = next(filter(None, map(failure, steps)), None) if wanted else None
        for client in wanted:
            if reason:
                reasons[client] = reason
            else:
                commands[client] = command

    manifest = str(WRITERS / "Cargo.toml")
    offer(RUST, [str(TARGET / "release/presenced-writers")],
          ["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", manifest, "--target-dir", str(TARGET)])
    binary = str(folder / "libmemcached")
    offer(C, [binary], ["cc", "-O2", "-o", binary, str(OTHERS / "libmemcached.c"), "-lmemcached"])
    python = str(folder / "venv/bin/python")
    environment = ["python3", "-m", "venv", str(folder / "venv")]
    for client in PYTHON:
        offer([client], [python, str(OTHERS / "python.py")], environment,
              [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", client])
    for file in ["node.cjs", "package.json", "package-lock.json"]:
        (folder / file).write_bytes((OTHERS / file).read_bytes())
    offer(NODE, ["node", str(folder / "node.cjs")],
          ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder)])
    if "bare" in reasons:
        sys.exit(f"bare: {reasons['bare']}")
    return commands, reasons


def failure(command):
    """Runs a command; returns why it failed, or None."""
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        return f"{command[0]} is not installed"
    return f"{' '.join(command[:3])} ended with {ended.returncode}" if ended.returncode else None


def stride(users):
    """A random number whose multiples, modulo the number of users, reach all users."""
    while math.gcd(chosen := random.randrange(users // 4, users), users) != 1:
        pass
    return chosen


def start(port):
    command = ["memcached", "-u", "root", "-l", "127.0.0.1", "-U", "0", "-m", "1024", "-t", "1", "-p", str(port)]
    try:
        process = subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, {CORES[0]}))
    except FileNotFoundError:
        sys.exit("memcached must be installed (make setup)")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except OSError:
            time.sleep(0.02)
    process.kill()
    sys.exit("memcached does not answer")


def measure(command, users):
    """Runs a client; returns its time and CPU time in seconds per million users."""
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S,
                            preexec_fn=lambda: os.sched_setaffinity(0, {CORES[-1]})).stdout
    result = json.loads(output)
    return result["seconds"] / users * 1e6, result["cpu"] / users * 1e6


def show(results, reasons, flags):
    medians = {client: [statistics.median(column) for column in zip(*runs)] for client, runs in results.items()}
    bare = medians["bare"][0]
    print(f"{flags.users} users, medians of {flags.rounds} rounds in turn\n")
    print("| client | sets/s | of the bare writer's rate | client CPU, s a million |")
    print("| --- | ---: | ---: | ---: |")
    for client, (seconds, cpu) in sorted(medians.items(), key=lambda row: row[1][0]):
        print(f"| {client} | {1e6 / seconds:,.0f} | {bare / seconds:.3f} | {cpu:.3f} |")
    for client, reason in reasons.items():
        print(f"| {client} | skipped: {reason} | | |")


main()
