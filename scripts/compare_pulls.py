#!/usr/bin/env python3
"""Compares pulls with bare pipelined gets of the same users: prints a table of rates, latencies, CPU time and fairness.

    scripts/compare_pulls.py [--users 100000] [--duration 3s] [--rounds 3]

The users are in memcached, as if another edge had written them, and have no session on the edges that are measured. memcached
has one thread, on the last core, and each edge one worker, on the first; presenced-load and presenced-bare-gets run on the
cores between, or on both if there are no others. The measurements take turns, so that other work on this machine affects all
alike. Takes two to three minutes, and gives up after four. Needs only Python's standard library and memcached.
"""

import argparse
import json
import os
import random
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import free_port, stop

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
CORES = sorted(os.sched_getaffinity(0))
EDGE_CORE, MEMCACHED_CORE, LOAD_CORES = CORES[0], CORES[-1], CORES[1:-1] or CORES
START_TIMEOUT_S = 20
GIVE_UP_AFTER_S = 240
# Entries outlive the whole run.
TTL_S = 600
PREFIX = "elsewhere-"
# Enough to have a pull waiting at any time.
SESSIONS = {500: 32, 50: 128}
HEARTBEATS = ["--sessions", 60, "--heartbeat-every", "52ms"]
# Within the default --max-messages-per-second, of 500 users each.
GREEDY = ["--sessions", 5 * 32, "--sessions-per-user", 32, "--pull-users", 500, "--pull-every", "52ms"]
# How long the greedy ones are at it before the victim comes, and after.
AHEAD_S = 1
TICKS = os.sysconf("SC_CLK_TCK")
PROCESSES = []


def main():
    flags = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"gave up after {GIVE_UP_AFTER_S} s"))
    build()
    signal.alarm(GIVE_UP_AFTER_S)
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "secret")
        secret.write_text(secrets.token_hex(32))
        try:
            bench = Bench(flags, secret)
            rounds = [bench.round(number) for number in range(flags.rounds)]
        finally:
            while PROCESSES:
                stop(PROCESSES.pop())
    show(rounds, flags)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--duration", default=3, type=seconds, help="time of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args()
    if flags.users < 500:
        parser.error(f"--users {flags.users}: a pull asks for 500")
    return flags


def seconds(text):
    if not (text.removesuffix("s").isdecimal() and int(text.removesuffix("s"))):
        raise argparse.ArgumentTypeError("expected whole seconds, such as 3s")
    return int(text.removesuffix("s"))


def build():
    for package in ["presenced", "presenced-load"]:
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--bins", "--package", package]
        if subprocess.run(command, cwd=ROOT).returncode:
            sys.exit(f"cannot build {package}")


class Bench:
    """memcached with all users, and an edge for each kind of measurement."""

    def __init__(self, flags, secret):
        self.flags, self.secret = flags, secret
        self.memcached_port = free_port()
        listen = ["-l", "127.0.0.1", "-p", self.memcached_port, "-U", "0"]
        self.memcached = start(["memcached", "-u", "root", *listen, "-t", "1", "-m", "1024"], MEMCACHED_CORE, self.memcached_port)
        store(self.memcached_port, flags.users)
        known = subprocess.run([RELEASE / "presenced", "--help"], check=True, capture_output=True, text=True).stdout

        def only_known(*words):
            return words if f"{words[0]} " in known else ()

        unlimited = ["--max-messages-per-second", 1_000_000, *only_known("--max-pull-users-per-second", 1_000_000)]
        self.uncached = self.start_edge(*unlimited, *only_known("--pull-cache", "0s"))
        self.unlimited = self.start_edge(*unlimited)
        self.usual = self.start_edge()
        for edge in [self.uncached, self.unlimited, self.usual]:
            self.warm_up(edge)

    def start_edge(self, *more):
        """Starts an edge; returns its process and port."""
        port = free_port()
        command = [RELEASE / "presenced", "--listen", f"127.0.0.1:{port}", "--admin", "127.0.0.1:0", "--workers", 1]
        command += ["--server-id", f"edge-{port}", "--jwt-secret-file", self.secret]
        command += ["--memcached", f"127.0.0.1:{self.memcached_port}", *more]
        return start(command, EDGE_CORE, port), port

    def warm_up(self, edge):
        """Returns once the edge is connected to memcached and finds users there."""
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            report = self.pull(edge, "--sessions", 1, "--pull-every", "20ms", seconds=0.2)
            if report["pulled_online"] and not report["pulled_unknown"]:
                return
        sys.exit("the edge does not find users in memcached")

    def round(self, number):
        """Measures everything once; returns what was measured by name."""
        print(f"round {number + 1} of {self.flags.rounds} …", file=sys.stderr)
        results = {"bare": self.bare()}
        for users, sessions in SESSIONS.items():
            results[f"pulls of {users}"] = self.back_to_back(self.uncached, users, sessions)
        results |= self.beside_heartbeats()
        results["zipf"] = self.back_to_back(self.unlimited, 50, SESSIONS[50], "--pull-choice", "zipf")
        results["lone"] = self.back_to_back(self.unlimited, 20, 1)
        results["lone, 50 ms"] = self.pull(self.unlimited, "--sessions", 1, "--pull-users", 20, "--pull-every", "50ms")
        results["lone bare, 50 ms"] = self.lone_bare()
        top = results["pulls of 50"]["pulls_per_second"]
        every = f"{SESSIONS[50] / (top / 2) * 1e9:.0f}ns"
        half = ["--sessions", SESSIONS[50], "--pull-users", 50, "--pull-every", every]
        results["half"] = self.pull(self.uncached, *half)
        results["greedy"], results["victim"] = self.victim()
        return results

    def bare(self):
        command = [RELEASE / "presenced-bare-gets", "--connect", f"127.0.0.1:{self.memcached_port}", "--user-prefix", PREFIX]
        command += ["--population", self.flags.users, "--duration", f"{self.flags.duration}s"]
        before = cpu(self.memcached)
        report = finish(spawn(command, LOAD_CORES, stdout=subprocess.PIPE), self.flags.duration)
        spent = cpu(self.memcached) - before
        return report | {"memcached_us": 1e6 * spent / report["keys"], "memcached_busy": spent / report["seconds"]}

    def lone_bare(self):
        """How long a bare get of 20 keys takes, one every 50 ms: two processes are woken for it, and four for a pull."""
        took = []
        os.sched_setaffinity(0, set(LOAD_CORES))
        with socket.create_connection(("127.0.0.1", self.memcached_port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end = time.monotonic() + self.flags.duration
            while time.monotonic() < end:
                users = random.sample(range(self.flags.users), 20)
                get = f"get {' '.join(f'user:{PREFIX}{number}:online' for number in users)}\r\n".encode()
                time.sleep(0.05)
                sent_at, answer = time.monotonic(), b""
                connection.sendall(get)
                while not answer.endswith(b"END\r\n"):
                    answer += connection.recv(1 << 16)
                took.append(1e6 * (time.monotonic() - sent_at))
        os.sched_setaffinity(0, set(CORES))
        return {"latency_us": {"pull": {"p50": statistics.median(took)}}}

    def back_to_back(self, edge, users, sessions, *more):
        return self.pull(edge, "--sessions", sessions, "--pull-users", users, "--pull-every", "0s", *more)

    def pull(self, edge, *load, seconds=None):
        """The report of presenced-load about an edge, and what it cost the edge and memcached."""
        servers = {"edge": edge[0], "memcached": self.memcached}
        before = {name: cpu(server) for name, server in servers.items()}
        asked = self.keys_asked()
        seconds = seconds or self.flags.duration
        report = answers(finish(self.spawn_load(edge, "asker-", *load, seconds=seconds), seconds))
        for name, server in servers.items():
            spent = cpu(server) - before[name]
            report[f"{name}_us"] = 1e6 * spent / max(report["pulled_users"], 1)
            report[f"{name}_busy"] = spent / report["seconds"]
        return report | {"keys_a_user": (self.keys_asked() - asked) / max(report["pulled_users"], 1)}

    def beside_heartbeats(self):
        hearts = self.spawn_load(self.uncached, "heart-", *HEARTBEATS, seconds=GIVE_UP_AFTER_S)
        time.sleep(AHEAD_S)
        results = {
            "beside heartbeats": self.back_to_back(self.uncached, 500, SESSIONS[500]),
            "lone beside heartbeats": self.back_to_back(self.uncached, 20, 1),
        }
        stop(hearts)
        return results

    def victim(self):
        """The reports about five users who pull as much as they may, and about a sixth beside them."""
        seconds = 2 * self.flags.duration
        greedy = self.spawn_load(self.usual, "greedy-", *GREEDY, seconds=seconds + 2 * AHEAD_S)
        time.sleep(AHEAD_S)
        victim = self.pull(self.usual, "--sessions", 1, "--pull-users", 20, "--pull-every", "100ms", seconds=seconds)
        return answers(finish(greedy, seconds)), victim

    def spawn_load(self, edge, user_prefix, *load, seconds):
        command = [RELEASE / "presenced-load", "--connect", f"127.0.0.1:{edge[1]}", "--jwt-secret-file", self.secret, "--json"]
        command += ["--user-prefix", user_prefix, "--pull-user-prefix", PREFIX, "--pull-population", self.flags.users]
        command += ["--client-ping", "0s", "--settle", "0s", "--duration", f"{seconds * 1000:.0f}ms", *load]
        return spawn(command, LOAD_CORES, stdout=subprocess.PIPE)

    def keys_asked(self):
        """Keys that memcached was asked for so far."""
        with socket.create_connection(("127.0.0.1", self.memcached_port)) as connection, connection.makefile("rwb") as stream:
            stream.write(b"stats\r\nquit\r\n")
            stream.flush()
            return next(int(line.split()[2]) for line in stream if line.startswith(b"STAT cmd_get "))


def answers(report):
    """A report of presenced-load with its sums."""
    report["pulled_users"] = report["pulled_online"] + report["pulled_offline"] + report["pulled_unknown"]
    report["pulls_answered"] = (report["latency_us"]["pull"] or {"count": 0})["count"] + sum(report["pull_errors"].values())
    return report


def store(port, users):
    """Writes all users as an edge does, in a random order: in the order of their numbers, neighbours would lie side by side."""
    numbers = random.sample(range(users), users)
    now = int(time.time() * 1000)
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as stream:
        for number in numbers:
            value = f'{{"serverId":"server-1","connectedAt":{now - number},"socketId":"0a1b2c3d-0-{number}-0"}}'
            connection.sendall(f"set user:{PREFIX}{number}:online 0 {TTL_S} {len(value)} noreply\r\n{value}\r\n".encode())
        connection.sendall(b"mn\r\n")
        if stream.readline() != b"MN\r\n":
            sys.exit("memcached has refused a user")


def cpu(process):
    """CPU time of a process in seconds (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def spawn(command, cores, stdout=subprocess.DEVNULL):
    words = [str(word) for word in command]
    process = subprocess.Popen(words, stdout=stdout, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, set(cores)))
    PROCESSES.append(process)
    return process


def start(command, core, port):
    """Starts a server on a core, and returns once it listens."""
    try:
        process = spawn(command, [core])
    except FileNotFoundError:
        sys.exit(f"{command[0]} must be installed (make setup)")
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process
        except ConnectionRefusedError:
            time.sleep(0.02)
    sys.exit(f"{Path(command[0]).name} does not listen")


def finish(process, seconds):
    """The JSON that a measuring process prints at its end."""
    output, _ = process.communicate(timeout=seconds + START_TIMEOUT_S)
    PROCESSES.remove(process)
    if process.returncode:
        sys.exit(f"{Path(process.args[0]).name} ended with {process.returncode}")
    return json.loads(output)


class Table:
    """Rows of medians over all rounds, beside what bare gets did."""

    def __init__(self, rounds):
        self.rounds, self.rows = rounds, []
        self.bare_rate = self.median("bare", "keys_per_second")
        self.add("bare pipelined gets of 100 keys", f"{self.bare_rate:,.0f} keys/s", "1.00")

    def median(self, name, key):
        return statistics.median(results[name][key] for results in self.rounds)

    def sum(self, name, key):
        return sum(results[name][key] for results in self.rounds)

    def add(self, what, measured, of_bare="", target=""):
        self.rows.append((what, measured, of_bare, target))

    def rate(self, what, name, target=""):
        rate = self.median(name, "pulled_per_second")
        self.add(what, f"{rate:,.0f} users/s", f"{rate / self.bare_rate:.2f}", target)

    def spent(self, what, name, server, target=""):
        us, busy = self.median(name, f"{server}_us"), self.median(name, f"{server}_busy")
        # The edge's, too: machines differ, and some from one minute to the next.
        of_bare = f"{us / self.median('bare', 'memcached_us'):.2f}"
        self.add(what, f"{us:.2f} µs ({busy:.0%} of a core)", of_bare, target)

    def latency(self, what, name, quantile, target, of_rounds=statistics.median):
        latencies = [results[name]["latency_us"]["pull"] for results in self.rounds]
        took = of_rounds(latency[quantile] for latency in latencies if latency)
        self.add(what, f"{took / 1000:.2f} ms", "", target)

    def unknown(self, what, name, target=""):
        unknown, users = self.sum(name, "pulled_unknown"), self.sum(name, "pulled_users")
        lost = self.sum(name, "pulls") - self.sum(name, "pulls_answered")
        unanswered = f"; {lost} of {self.sum(name, 'pulls'):,} pulls not answered" if lost else ""
        self.add(what, f"{unknown:,} of {users:,}{unanswered}", "", target)

    def show(self):
        lines = [("what", "measured", "of bare", "target"), *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(4)]
        lines.insert(1, ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])))
        for line in lines:
            cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
            print("| " + " | ".join(cells) + " |")


def show(rounds, flags):
    table = Table(rounds)
    table.rate("pulls of 500, back to back", "pulls of 500", "≥ 0.70 of bare")
    table.rate("pulls of 50, back to back", "pulls of 50", "≥ 0.70 of bare")
    table.rate("pulls of 500 beside 60 sessions with 19 pongs/s each", "beside heartbeats")
    table.spent("edge CPU a user, pulls of 500", "pulls of 500", "edge", "≤ 0.60 µs")
    table.spent("edge CPU a user, pulls of 50", "pulls of 50", "edge", "≤ 0.60 µs")
    table.spent("edge CPU a user, pulls of 50 by Zipf(1.0), default cache", "zipf", "edge", "≤ 0.35 µs")
    table.add("keys that memcached was asked for, a user of these", f"{table.median('zipf', 'keys_a_user'):.3f}")
    table.spent("memcached CPU a key, bare gets", "bare", "memcached")
    table.spent("memcached CPU a user, pulls of 500", "pulls of 500", "memcached")
    table.spent("memcached CPU a user, pulls of 50", "pulls of 50", "memcached")
    table.latency("a lone pull of 20, back to back, p50", "lone", "p50", "≤ 0.15 ms")
    table.latency("a lone pull of 20, every 50 ms, p50", "lone, 50 ms", "p50", "≤ 0.40 ms")
    table.latency("a lone bare get of 20 keys, every 50 ms, p50", "lone bare, 50 ms", "p50", "")
    table.latency("a lone pull of 20 beside the 60 sessions, back to back, p50", "lone beside heartbeats", "p50", "")
    table.latency("a pull of 50 at half the top rate, p99", "half", "p99", "≤ 10 ms")
    table.latency("a victim's pull of 20 beside five greedy users, p99, worst round", "victim", "p99", "≤ 100 ms", max)
    table.unknown("users answered unknown to the victim", "victim", "0")
    table.unknown("users answered unknown to the greedy", "greedy")
    known = table.sum("greedy", "pulled_users") - table.sum("greedy", "pulled_unknown")
    table.add("users answered otherwise to the greedy", f"{known / table.sum('greedy', 'seconds'):,.0f} users/s")
    print(f"{flags.users:,} users of another edge, medians of {flags.rounds} rounds of {flags.duration} s in turn\n")
    table.show()
    for name in dict.fromkeys(name for results in rounds for name in results if name not in ["bare", "lone bare, 50 ms", "victim", "greedy"]):
        if amiss := table.sum(name, "pulled_unknown") + table.sum(name, "pulled_offline"):
            print(f"{name}: {amiss:,} of {table.sum(name, 'pulled_users'):,} users were not answered online")
        if errors := [results[name]["pull_errors"] for results in rounds if results[name]["pull_errors"]]:
            print(f"{name}: errors {errors}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
