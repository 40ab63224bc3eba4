#!/usr/bin/env python3
"""Plots what a session takes by how many there are, from the CSV of `cargo bench --bench sessions -- trend`.

    scripts/plot_sessions.py sessions-trend.csv sessions-trend.svg

`make trend` runs both. Needs matplotlib (`scripts/setup.sh plots` installs it into target/venv).
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("svg")
# Text stays text, and the same figures make the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "presenced", "font.family": "sans-serif"})
import matplotlib.pyplot as plt  # noqa: E402 (the backend comes first)
from matplotlib.ticker import EngFormatter  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("csv", type=Path)
    parser.add_argument("svg", type=Path)
    flags = parser.parse_args()
    with flags.csv.open() as file:
        rows = list(csv.DictReader(file))
    column = lambda name: [float(row[name]) for row in rows]
    sessions = column("sessions")
    figure, (memory, time) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    memory.plot(sessions, column("bytes"), marker="o", color="#0b6e4f")
    memory.set_title("memory of the process, bytes a session")
    time.plot(sessions, column("pong_ns"), marker="o", color="#0b6e4f", label="pong, from its bytes to the record")
    time.plot(sessions, column("ping_ns"), marker="s", color="#8c5e00", label="ping, from the wheel to its bytes")
    time.set_title("our own code, ns a session")
    time.legend()
    for axes in (memory, time):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("sessions in one worker, without sockets")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
    figure.savefig(flags.svg, metadata={"Date": None})


if __name__ == "__main__":
    main()
