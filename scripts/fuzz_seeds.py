#!/usr/bin/env python3
"""Writes the seeds of the fuzz corpora that a program makes: `git status` then shows whether they are as before.

    scripts/fuzz_seeds.py

They are choices for the checks that read them with `arbitrary`. Needs only Python's standard library.
"""

import random

from fuzz_targets import ROOT

SEED = 7


def main():
    corpora = ROOT / "fuzz/corpus"
    for number in range(24):
        write(corpora / f"settings/choices-{number:02}", (53 * number + 29 * at for at in range(50)))
    for number in range(40):
        write(corpora / f"handshake/choices-{number:02}", (37 * number + 11 * at for at in range(60)))
    for byte in range(23, 256, 23):
        write(corpora / f"handshake/choices-same-{byte:03}", [byte] * 64)
    # One generator for all files of a corpus, one after another.
    generator = random.Random(SEED)
    for number in range(6):
        write(ROOT / f"protocol/fuzz/corpus/exchange/random-{number}", drawn(generator, 400 * (number + 1)))
    generator = random.Random(SEED)
    for number in range(8):
        write(corpora / f"settings_file/choices-{number}", drawn(generator, 200))
    generator = random.Random(SEED)
    for number in range(24):
        write(corpora / f"tls_records/random-{number:02}", drawn(generator, 400))
    generator = random.Random(SEED)
    for number in range(24):
        write(corpora / f"worker_records/random-{number:02}", drawn(generator, 400))


def drawn(generator, count):
    return [generator.randrange(256) for _ in range(count)]


def write(path, numbers):
    path.write_bytes(bytes(number % 256 for number in numbers))


if __name__ == "__main__":
    main()
