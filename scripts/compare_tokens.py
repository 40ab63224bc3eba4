#!/usr/bin/env python3
"""Measures storms of handshakes, by the algorithm of their tokens: CPU time a handshake, and what others notice.

    scripts/compare_tokens.py [--duration 4s] [--rounds 3]

One edge with one worker on the first core has a secret and three public keys. Clients on the other cores close and open sessions
as fast as it lets them, with tokens signed beforehand, while a hundred other sessions send pings and wait for the pongs. The
algorithms take turns, so that other work on this machine affects all alike. Needs only Python's standard library and openssl.
"""

import argparse
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare_pulls import CORES, EDGE_CORE, PROCESSES, RELEASE, build, cpu, finish, seconds, spawn, start
from processes import free_port, stop

LOAD_CORES = CORES[1:] or CORES
ALGORITHMS = {
    "HS256": None,
    "ES256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "EdDSA": ["ED25519"],
    "RS256": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
}
# More handshakes than the edge manages, by users who may each come again at once.
STORM = ["--sessions", 2000, "--concurrency", 256, "--churn", 30_000, "--client-ping", "0s", "--settle", "0s"]
OTHERS = ["--sessions", 100, "--client-ping", "50ms", "--client-ping-sessions", 100, "--settle", "0s"]
UNLIMITED = ["--max-handshakes-per-second-per-user", 1_000_000]
# Others are measured in the middle of a storm.
AHEAD_S = 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--duration", default=4, type=seconds, help="time of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    build()
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench = Bench(Path(folder), flags.duration)
            rounds = [bench.round(number, flags.rounds) for number in range(flags.rounds)]
        finally:
            while PROCESSES:
                stop(PROCESSES.pop())
    show(rounds, flags)


class Bench:
    """An edge, and what signs the tokens that it accepts."""

    def __init__(self, folder, duration):
        self.duration = duration
        secret = folder / "secret"
        secret.write_text(secrets.token_hex(32))
        self.signing, checking = {}, []
        for algorithm, kind in ALGORITHMS.items():
            if not kind:
                self.signing[algorithm] = ["--jwt-secret-file", secret]
                checking += ["--jwt-secret-file", secret]
                continue
            private, public = folder / f"{algorithm}.pem", folder / f"{algorithm}.pub"
            openssl("genpkey", "-algorithm", *kind, "-out", private)
            openssl("pkey", "-in", private, "-pubout", "-out", public)
            self.signing[algorithm] = ["--jwt-key-file", private]
            checking += ["--jwt-key-file", public]
        port, self.store = free_port(), free_port()
        command = [RELEASE / "presenced", "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", "--workers", 1]
        command += ["--store-listen", f"127.0.0.1:{self.store}", "--server-id", "edge", *checking, *UNLIMITED]
        self.edge, self.at = start(command, EDGE_CORE, port), f"127.0.0.1:{port}"

    def round(self, number, count):
        """Measures everything once; returns what was measured by algorithm."""
        print(f"round {number + 1} of {count} …", file=sys.stderr)
        quiet = self.others(self.duration)
        results = {"none": {"p99_us": quiet["latency_us"]["client_ping"]["p99"]}}
        for algorithm in ALGORITHMS:
            results[algorithm] = self.storm(algorithm)
        return results

    def load(self, *flags, duration):
        command = [RELEASE / "presenced-load", "--connect", self.at, "--json", "--duration", f"{duration}s", *flags]
        return spawn(command, LOAD_CORES, stdout=subprocess.PIPE)

    def others(self, duration):
        load = self.load("--user-prefix", "other-", *self.signing["HS256"], *OTHERS, duration=duration)
        return finish(load, duration)

    def storm(self, algorithm):
        """Others and the edge in a storm."""
        duration = self.duration + 2 * AHEAD_S
        idle = cpu(self.edge)
        storm = self.load("--user-prefix", f"{algorithm}-", *self.signing[algorithm], *STORM, duration=duration)
        # Signing takes seconds, in which the edge has nothing to do.
        while cpu(self.edge) - idle < 0.2:
            time.sleep(0.02)
            if storm.poll() is not None:
                sys.exit("the storm has ended before it began")
        time.sleep(AHEAD_S)
        others = self.others(self.duration)
        storm = finish(storm, duration)
        spent = cpu(self.edge) - idle
        handshakes = storm["connected"] + storm["churned"]
        if amiss := [storm[key] for key in ["refused", "connect_errors", "lost"] if storm[key]]:
            print(f"{algorithm}: {amiss}", file=sys.stderr)
        return {
            "handshakes_per_second": storm["churned"] / storm["seconds"],
            "us": 1e6 * spent / handshakes,
            "p99_us": others["latency_us"]["client_ping"]["p99"],
        }


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def show(rounds, flags):
    print(f"medians of {flags.rounds} rounds of {flags.duration} s in turn\n")
    print("| tokens of the storm | handshakes/s | edge CPU a handshake | of HS256 | others' p99, worst round |")
    print("| --- | ---: | ---: | ---: | ---: |")

    def median(algorithm, key):
        return statistics.median(results[algorithm][key] for results in rounds)

    usual = median("HS256", "us")
    for algorithm in rounds[0]:
        worst = max(results[algorithm]["p99_us"] for results in rounds) / 1000
        if algorithm == "none":
            print(f"| no storm | | | | {worst:.2f} ms |")
            continue
        us, rate = median(algorithm, "us"), median(algorithm, "handshakes_per_second")
        print(f"| {algorithm} | {rate:,.0f} | {us:.1f} µs | {us / usual:.2f} | {worst:.2f} ms |")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
