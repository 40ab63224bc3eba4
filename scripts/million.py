#!/usr/bin/env python3
"""Holds a million live WebSocket sessions on this machine, and disturbs them: prints tables of costs and of faults.

    make million [SESSIONS=1000000] [EDGES=54] [FAULTS=0] [JSON=FILE]

Starts one memcached, as many edges as the limit of open files asks for, a presenced-load for each, and one more edge
without sessions, which is asked who is online all the while. All traffic is on loopback. If the machine does not allow
as many sessions, it says what binds and takes fewer. A million take some 12 GB of memory and a quarter of an hour.
Every process that it has started ends with it. Needs only Python's standard library and memcached; `make million`
builds the rest.
"""

import argparse
import json
import math
import os
import resource
import secrets
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import million_machine as machine
import million_report as report
from million_faults import Faults
from million_fleet import CORES, RELEASE, Fleet
from million_observer import Observer

POLL_S = 2
# Time without one more session after which connecting has failed.
STUCK_S = 60
ROUNDS = 2
LINE = 120
# Of the other cores' time, above which they would not do for edges and load generators alone.
BUSY_MAX = 0.9
# The part of the edges whose sessions are tried first, to see what they cost.
TRIAL = 0.1
IDLE_S = 5
# Of the cores' time, for all sessions: clients that come back all at once need the rest. Beyond it, memcached would wait
# for its turn behind a hundred processes, and nothing would be measured but that.
CORES_SHARE = 0.8


@dataclass
class Plan:
    """What the machine allows."""

    sessions: int
    edges: int
    per_edge: int
    limits: list
    # Why there are fewer sessions than were asked for.
    binding: str | None


def main():
    flags = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell has a process in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("presenced", "presenced-load"):
        if not (RELEASE / name).exists():
            sys.exit(f"{RELEASE / name} is missing: `make million` builds it")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        fleet = Fleet(Path(folder), flags, workers=1)
        fleet.secret.write_text(secrets.token_hex(32))
        fleet.secret.chmod(0o600)
        try:
            result = run(fleet, flags)
        finally:
            progress.end()
            fleet.stop()
    if flags.json:
        Path(flags.json).write_text(json.dumps(result, indent=1) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sessions", type=positive, default=1_000_000)
    parser.add_argument("--edges", type=positive, help="number of edges [default: as many as the limits need]")
    parser.add_argument("--no-faults", dest="faults", action="store_false", help="leave out the faults")
    parser.add_argument("--json", metavar="FILE", help="write all values to this file")
    times = parser.add_argument_group("settings of the edges, in seconds; shorter ones make a shorter run")
    times.add_argument("--ttl", type=positive, default=60)
    times.add_argument("--ping-interval", type=positive, default=25)
    times.add_argument("--ping-timeout", type=positive, default=20)
    times.add_argument("--flush-interval", type=positive, default=5)
    times.add_argument("--drain", type=positive, default=5)
    return parser.parse_args()


def positive(text):
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError("expected a number above 0")
    return int(text)


def run(fleet, flags):
    """The whole run: connects, measures, disturbs; prints the tables, and returns all values."""
    plan = make_plan(fleet, flags)
    report.show_limits(plan, flags)
    fleet.start(plan)
    observer = Observer(fleet, flags)
    observer.start()
    try:
        before = {"pss": {pid: machine.pss_bytes([pid]) for pid in fleet.pids()["edges"]},
                  "kernel": machine.kernel_bytes(), "available": machine.meminfo()["MemAvailable"]}
        seconds = fit_to_cores(fleet, flags, plan)
        seconds += connect(fleet, [edge for edge in fleet.edges if not edge.load], plan.sessions)
        # A round of pings, so that memory has settled after the handshakes, and a flush of its heartbeats.
        sleep(flags.ping_interval + flags.flush_interval, "settling", fleet)
        observer.begin()
        result = {"sessions": plan.sessions, "edges": plan.edges, "workers": fleet.workers,
                  "limits": [vars(limit) for limit in plan.limits], "binding": plan.binding,
                  "connected_s": seconds, "connected_per_second": plan.sessions / seconds,
                  **measure(fleet, flags, plan, before), "observer": observer.counts()}
        report.show_costs(result)
        if flags.faults:
            result["memcached_core"] = give_memcached_a_core(fleet, result)
            faults = Faults(fleet, flags, observer, progress)
            result["false_offline_when_taken_away"] = faults.prove_observer()
            result["faults"] = []
            for row in faults.run():
                result["faults"].append(row)
                progress.end()
            report.show_faults(result)
    finally:
        observer.stop()
    return result


def make_plan(fleet, flags):
    """How many sessions and edges the machine allows, and what binds."""
    per_edge = fleet.sessions_of_an_edge()
    edges = flags.edges or math.ceil(flags.sessions / per_edge)
    if (workers := max(1, len(CORES) // edges)) > 1:
        # More workers need more descriptors of other kinds.
        fleet.workers = workers
        per_edge = fleet.sessions_of_an_edge()
        edges = flags.edges or math.ceil(flags.sessions / per_edge)
    limits = machine.limits(edges, per_edge, fleet.workers)
    tightest = min(limits, key=lambda limit: limit.sessions)
    sessions = min(flags.sessions, int(tightest.sessions))
    if sessions < 1:
        sys.exit(f"no session is possible: {tightest.name} ({tightest.value})")
    if not flags.edges:
        edges = math.ceil(sessions / per_edge)
    binding = tightest.name if sessions < flags.sessions else None
    return Plan(sessions, min(edges, sessions), per_edge, limits, binding)


def fit_to_cores(fleet, flags, plan):
    """Opens the sessions of some edges, and gives up as many of the other edges as the cores have no time for.

    Returns how long it took to connect.
    """
    some = fleet.edges[: max(1, int(len(fleet.edges) * TRIAL))]
    sessions = sum(edge.sessions for edge in some)
    idle = cores_in_use(fleet, IDLE_S, "measuring idle edges")
    seconds = connect(fleet, some, sessions)
    sleep(flags.ping_interval, "settling", fleet)
    busy = cores_in_use(fleet, flags.ping_interval, "measuring some sessions")
    most = int((CORES_SHARE * len(CORES) - idle) / max(busy - idle, 1e-9) * sessions)
    plan.limits.append(machine.Limit("cores", str(len(CORES)), most))
    while plan.sessions > most and len(fleet.edges) > len(some):
        plan.sessions -= fleet.give_up_last_edge()
        plan.edges, plan.binding = len(fleet.edges), "cores"
    report.show_cores(plan, sessions, busy, most)
    return seconds


def cores_in_use(fleet, seconds, what):
    """The cores that all processes of the fleet take."""
    def used():
        return sum(machine.cpu_seconds(pids) for pids in fleet.pids().values())

    cpu, began = used(), time.monotonic()
    sleep(seconds, what, fleet)
    return (used() - cpu) / (time.monotonic() - began)


def connect(fleet, edges, wanted):
    """Opens the sessions of these edges; returns how long it took from the first one on until all edges had so many."""
    found = grown = fleet.open_sessions()
    fleet.start_sessions(edges)
    first = last = looked_at = None
    while found < wanted:
        fleet.check()
        now, before = time.monotonic(), found
        found = fleet.open_sessions()
        if found > grown:
            first, last, grown = first or now, now, found
        elif now - (last or now) > STUCK_S:
            sys.exit(f"{found:,} of {wanted:,} sessions, and none more for {STUCK_S} s")
        last = last or now
        rate = max(0, found - before) / (now - (looked_at or now - POLL_S))
        looked_at = now
        progress(f"connecting: {found:,} of {wanted:,} sessions, {rate:,.0f} a second")
        time.sleep(POLL_S if wanted - found > 5 * rate else POLL_S / 10)
    return max(time.monotonic() - (first or time.monotonic()), 0.001)


def measure(fleet, flags, plan, before):
    """Memory, and rates over whole rounds of pings."""
    pids = fleet.pids()
    seconds = ROUNDS * math.lcm(flags.ping_interval, flags.flush_interval)
    metrics, cpu = fleet.metrics(), {kind: machine.cpu_seconds(some) for kind, some in pids.items()}
    sets, began = fleet.memcached_stat("cmd_set"), time.monotonic()
    sleep(seconds, "measuring", fleet)
    took = time.monotonic() - began
    sets = fleet.memcached_stat("cmd_set") - sets
    cores = {kind: (machine.cpu_seconds(some) - cpu[kind]) / took for kind, some in pids.items()}
    after = fleet.metrics()
    ends = sum(count for name, count in after.items() if name.startswith("presenced_session_ends_total"))
    since = {name: value - metrics.get(name, 0) for name, value in after.items()}
    sessions = plan.sessions
    pss, kernel = machine.pss_bytes(pids["edges"]), machine.kernel_bytes()
    return {
        "measured_s": took,
        "open": int(after["presenced_sessions"]),
        "heartbeats_per_second": since["presenced_pongs_total"] / took,
        "flushed_per_second": since["presenced_flushed_total"] / took,
        "memcached_sets_per_second": sets / took,
        "cores": cores,
        "edges_pss_bytes": pss,
        "edge_bytes_per_session": (pss - sum(before["pss"][pid] for pid in pids["edges"])) / sessions,
        "load_pss_bytes": machine.pss_bytes(pids["load"]),
        "memcached_pss_bytes": machine.pss_bytes(pids["memcached"]),
        "kernel_bytes_per_session": (kernel - before["kernel"]) / sessions,
        "available_less_bytes": before["available"] - machine.meminfo()["MemAvailable"],
        # Since the edges started, as the other ends of sessions.
        "missed_pongs": int(after["presenced_missed_pongs_total"]),
        "sessions_lost": int(ends),
        "keys": fleet.memcached_stat("curr_items"),
        "keys_missing": fleet.missing_keys(),
        "flush_p99_s": report.quantile(since, "presenced_flush_duration_seconds", 0.99),
        "ping_rtt_p99_s": report.quantile(since, "presenced_ping_rtt_seconds", 0.99),
    }


def give_memcached_a_core(fleet, result):
    """Keeps everything else off memcached's core, if the other cores are enough; says which it was."""
    needed = result["cores"]["edges"] + result["cores"]["load"]
    others = CORES[:-1]
    if needed > BUSY_MAX * len(others):
        return f"core {CORES[-1]}, shared: edges and load take {needed:.2f} cores, and there are {len(others)} others"
    fleet.confine(set(others))
    return f"core {CORES[-1]}, alone"


def sleep(seconds, what, fleet):
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        fleet.check()
        progress(f"{what}: {left:.0f} s left")
        time.sleep(min(1, left))


class Progress:
    """One line on a terminal, which is written over; elsewhere a line every few seconds."""

    def __init__(self):
        self.is_terminal = sys.stderr.isatty()
        self.began = time.monotonic()
        self.next = 0.0

    def __call__(self, text):
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + (0.2 if self.is_terminal else 10)
        line = f"{now - self.began:5.0f} s  {text}"
        print(f"\r{line[:LINE]:{LINE}}" if self.is_terminal else line, end="" if self.is_terminal else "\n",
              file=sys.stderr, flush=True)

    def end(self):
        if self.is_terminal:
            print(f"\r{'':{LINE}}\r", end="", file=sys.stderr, flush=True)


progress = Progress()

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
