"""The fuzz targets of both folders: where each is, what it starts with, and how it is built."""

import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The small one first: its targets are built soon.
FOLDERS = [ROOT / "protocol/fuzz", ROOT / "fuzz"]
# No input of a target is longer.
LENGTH_MAX = 4096


@dataclass
class Target:
    name: str
    folder: Path
    dictionary: Path | None

    @property
    def corpus(self):
        return self.folder / "corpus" / self.name

    @property
    def artifacts(self):
        """Where `cargo fuzz` keeps what it finds, too."""
        return self.folder / "artifacts" / self.name


def all_targets():
    return [target for folder in FOLDERS for target in targets_of(folder)]


def targets_of(folder):
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())
    dictionaries = manifest["package"]["metadata"]["dictionaries"]
    for program in manifest["bin"]:
        name = program["name"]
        yield Target(name, folder, (folder / dictionaries[name]).resolve() if name in dictionaries else None)


def nightly():
    """What `rustc +nightly -vV` says, by name: `host`, `LLVM version` and others."""
    text = subprocess.run(["rustc", "+nightly", "-vV"], check=True, capture_output=True, text=True).stdout
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def build(folder):
    """Builds all targets of a folder, and returns where the programs are."""
    # As cargo fuzz itself has it, whatever CARGO_TARGET_DIR says: the folders must not share one.
    command = ["cargo", "+nightly", "fuzz", "build", "--target-dir", folder / "target"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "target" / nightly()["host"] / "release"
