#!/usr/bin/env python3
"""Runs every fuzz target of both folders for a while, and prints a Markdown table of what each did.

    scripts/fuzz_all.py [--seconds 1800] [--jobs 2] [--targets "replies pull"] [--table FILE]

Builds once. Each target starts with its committed corpus, has its dictionary, and runs at the lowest priority. New inputs and
logs are in `target/fuzz-all/` of the target's folder, and what is found in its `artifacts/`, as with `cargo fuzz run`. Exits
with 1 if a target crashed, leaked, took too long or too much memory. Ctrl-C stops all of them, and prints the table so far.
Needs cargo-fuzz and a nightly toolchain; else only Python's standard library.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from fuzz_targets import LENGTH_MAX, all_targets, build, nightly

# Of a target's new inputs and log. Half an hour makes some 20 MB.
DISK_BYTES_MAX = 1 << 30
POLL_S = 2
# How often the new inputs are counted, which are thousands of files.
DISK_S = 30
# How long libFuzzer may take to end once it is stopped.
STOP_S = 30
# libFuzzer's codes for having been interrupted, and for an input that took too long.
INTERRUPTED, TIMED_OUT = 72, 70
NUMBERS = {
    "executions": r"stat::number_of_executed_units:\s+(\d+)",
    "cov": r"\bcov: (\d+)",
    "ft": r"\bft: (\d+)",
}


class Run:
    """A target that runs."""

    def __init__(self, target, program, flags):
        self.target = target
        self.folder = target.folder / "target/fuzz-all" / target.name
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "corpus").mkdir(parents=True)
        target.artifacts.mkdir(parents=True, exist_ok=True)
        self.artifacts_before = set(target.artifacts.iterdir())
        self.log = self.folder / "log"
        self.stopped_for = ""
        self.disk_checked = time.monotonic()
        self.command = [program, f"-timeout={flags.timeout}", f"-rss_limit_mb={flags.memory}"]
        with self.log.open("w") as log:
            # In a session of its own, Ctrl-C reaches only this script, which then stops all in order.
            self.process = subprocess.Popen(
                ["nice", "-n", "19", *self.command, *self.flags(flags), self.folder / "corpus", target.corpus],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        yield_to_others(self.process)

    def flags(self, flags):
        dictionary = [f"-dict={self.target.dictionary}"] if self.target.dictionary else []
        return [*dictionary, f"-max_len={LENGTH_MAX}", f"-max_total_time={flags.seconds}",
                f"-artifact_prefix={self.target.artifacts}/", "-print_final_stats=1"]

    def has_ended(self):
        """Whether it has ended. It is stopped if it fills the disk."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            if not self.stopped_for and time.monotonic() > self.disk_checked + DISK_S:
                self.disk_checked = time.monotonic()
                if bytes_in(self.folder) > DISK_BYTES_MAX:
                    self.stop(f"more than {DISK_BYTES_MAX >> 20} MiB of files")
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.drop_false_timeouts()
        return True

    def drop_false_timeouts(self):
        """libFuzzer's clock goes on while the process is suspended. So an input that took too long must do so again."""
        for path in self.found():
            if path.name.startswith("timeout-") and self.passes(path):
                path.unlink()
                self.stopped_for = "suspended"

    def passes(self, path):
        return subprocess.run([*self.command, path], cwd=self.folder, capture_output=True).returncode == 0

    def stop(self, reason):
        """libFuzzer says what it has done before it ends."""
        self.stopped_for = reason
        os.kill(self.process.pid, signal.SIGINT)

    def found(self):
        """The files of what was found. A slow input is told of, and is no failure."""
        return sorted(set(self.target.artifacts.iterdir()) - self.artifacts_before)

    def failures(self):
        failed = [path for path in self.found() if not path.name.startswith("slow-unit-")]
        fine = (0, INTERRUPTED, TIMED_OUT) if self.stopped_for else (0,)
        return failed or ([self.log] if self.process.returncode not in fine else [])

    def row(self):
        text = self.log.read_text(errors="replace")
        numbers = {name: int((re.findall(pattern, text) or [0])[-1]) for name, pattern in NUMBERS.items()}
        rate = numbers["executions"] / max(self.cpu_s, 0.01)
        failures = f"{len(self.failures())}" + (f" (stopped: {self.stopped_for})" if self.stopped_for else "")
        return f"| `{self.target.name}` | {self.cpu_s:,.0f} | {numbers['executions']:,} | {rate:,.0f} " \
               f"| {numbers['cov']:,} | {numbers['ft']:,} | {failures} |"


def yield_to_others(process):
    """Linux may give each session its share of the cores, whatever the priorities of what runs in it (sched(7), autogroup)."""
    try:
        Path(f"/proc/{process.pid}/autogroup").write_text("19")
    except OSError:  # a kernel without, or the process has ended
        pass


def bytes_in(folder):
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # libFuzzer has replaced it by a shorter one
            pass
    return total


def built(flags):
    """What is run, and how."""
    return f"Built on {time.strftime('%Y-%m-%d')} from {commit()} with rustc {nightly()['release']}: " \
           f"{flags.seconds:,} s each, {flags.jobs} at a time on {os.cpu_count()} cores"


def table(ended, head):
    ended = sorted(ended, key=lambda run: run.target.name)
    return "\n".join([
        head, "",
        "| target | CPU seconds | executions | a CPU second | cov | ft | crashes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(run.row() for run in ended), ""])


def commit():
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip() or "no commit"


def run_all(waiting, programs, flags, head):
    """Runs the targets. Returns those that have ended, and whether all have run their time."""
    running, ended = [], []
    try:
        while waiting or running:
            while waiting and len(running) < flags.jobs:
                target = waiting.pop(0)
                print(f"{time.strftime('%H:%M:%S')} {target.name}", file=sys.stderr, flush=True)
                running.append(Run(target, programs[target.folder] / target.name, flags))
            time.sleep(POLL_S)
            move_ended(running, ended, flags, head)
        return ended, True
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
        for run in running:
            run.stop("by hand")
        deadline = time.monotonic() + STOP_S
        while running and time.monotonic() < deadline:
            time.sleep(POLL_S)
            move_ended(running, ended, flags, head)
        return ended, False
    finally:
        for run in running:
            run.process.kill()


def move_ended(running, ended, flags, head):
    for run in [run for run in running if run.has_ended()]:
        running.remove(run)
        ended.append(run)
        for path in run.found() or run.failures():
            print(f"{run.target.name}: see {path}", file=sys.stderr, flush=True)
        if flags.table:
            flags.table.write_text(table(ended, head))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=1800, help="of each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--targets", type=str.split, help="only these; default: all")
    parser.add_argument("--timeout", type=int, default=120, help="seconds that one input may take")
    parser.add_argument("--memory", type=int, default=2048, help="MiB that one target may take")
    parser.add_argument("--table", type=Path, help="also write the table here, after each target")
    flags = parser.parse_args()
    targets = [target for target in all_targets() if flags.targets is None or target.name in flags.targets]
    if unknown := set(flags.targets or []) - {target.name for target in targets}:
        parser.error(f"no such targets: {' '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    programs = {folder: build(folder) for folder in dict.fromkeys(target.folder for target in targets)}
    head = built(flags)
    ended, whole = run_all(targets, programs, flags, head)
    print(table(ended, head), end="")
    sys.exit(0 if whole and not any(run.failures() for run in ended) else 1)


if __name__ == "__main__":
    main()
