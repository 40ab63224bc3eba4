#!/usr/bin/env python3
"""Prints which share of our own lines and regions the committed corpus of a fuzz target reaches, file by file.

    scripts/fuzz_coverage.py TARGET [--lines FILE]

Builds the target with rustc's coverage, apart from the other builds, and runs its corpus once. Reads the profile with
llvm-profdata and llvm-cov: rustup's component llvm-tools if it is there, else Debian's package of the same version of LLVM
as the nightly rustc. Files that are not reached at all are left out. `--lines` prints how often each line of a file runs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from fuzz_targets import ROOT, all_targets, nightly


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="print this file with the counts of its lines")
    flags = parser.parse_args()
    target = next((target for target in all_targets() if target.name == flags.target), None)
    if target is None:
        parser.error(f"there is no fuzz target {flags.target}")
    tools, host = llvm_tools(), nightly()["host"]
    build = target.folder / "target/coverage"
    run(["cargo", "+nightly", "fuzz", "coverage", "--target-dir", build, "--llvm-path", tools, target.name, target.corpus],
        target.folder)
    program = build / host / "release" / target.name
    profile = ["-instr-profile", target.folder / "coverage" / target.name / "coverage.profdata"]
    if flags.lines:
        subprocess.run([tools / "llvm-cov", "show", program, *profile, flags.lines.resolve()], check=True)
    else:
        exported = subprocess.run([tools / "llvm-cov", "export", "-summary-only", program, *profile],
                                  check=True, capture_output=True, text=True).stdout
        print(table(json.loads(exported)["data"][0]["files"]))


def run(command, folder):
    """Runs it, and passes on what it says, but not two lines for each seed."""
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stderr:
            if not line.startswith(("Running: ", "Executed ")):
                print(line, end="", file=sys.stderr)
    if process.returncode != 0:
        sys.exit(f"{command[0]} ended with {process.returncode}")


def llvm_tools():
    """The folder that has llvm-profdata and llvm-cov. They must not be older than the LLVM of rustc."""
    sysroot = subprocess.run(["rustc", "+nightly", "--print", "sysroot"], check=True, capture_output=True, text=True).stdout
    rustc = nightly()
    major = rustc["LLVM version"].partition(".")[0]
    folders = [Path(sysroot.strip()) / "lib/rustlib" / rustc["host"] / "bin", Path(f"/usr/lib/llvm-{major}/bin")]
    for folder in folders:
        if (folder / "llvm-profdata").exists() and (folder / "llvm-cov").exists():
            return folder
    sys.exit(f"needs: rustup component add --toolchain nightly llvm-tools, or apt-get install llvm-{major}")


def table(files):
    rows, total = [], {"lines": [0, 0], "regions": [0, 0]}
    for file in sorted(files, key=lambda file: file["filename"]):
        path, summary = Path(file["filename"]), file["summary"]
        if not is_ours(path) or summary["lines"]["covered"] == 0:
            continue
        for kind, (covered, count) in total.items():
            total[kind] = [covered + summary[kind]["covered"], count + summary[kind]["count"]]
        rows.append(row(f"`{path.relative_to(ROOT)}`", *(
            [summary[kind]["covered"], summary[kind]["count"]] for kind in total)))
    return "\n".join(["| file | lines | | regions | |", "| --- | ---: | ---: | ---: | ---: |", *rows, row("all", *total.values())])


def is_ours(path):
    """Whether it is code that is fuzzed, and no check."""
    return path.is_relative_to(ROOT) and "fuzz" not in path.relative_to(ROOT).parts


def row(name, *shares):
    return f"| {name} | " + " | ".join(f"{covered:,} of {count:,} | {covered / count:.0%}" for covered, count in shares) + " |"


if __name__ == "__main__":
    main()
