"""What a command costs before it works: seconds of ``topkin --help``, and bytes of what must be installed."""

import re
import statistics
import subprocess
import sys
import time
from importlib import metadata

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "topkin --help": ["-m", "topkin", "--help"],
    "topkin show --help": ["-m", "topkin", "show", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


HEAVY = {"tensorflow": ("tensorflow", "keras"), "beam": ("apache-beam",)}


def installed(without: tuple[str, ...] = ()) -> dict[str, int]:
    """Bytes of topkin's dependencies and theirs, by name, but for some and what these alone need."""
    sizes: dict[str, int] = {}
    names = ["topkin"]
    while names:
        name = names.pop()
        if name in sizes or name in without:
            continue
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system
            continue
        files = [file.locate() for file in there.files or () if not str(file).startswith("..")]
        sizes[name] = 0 if name == "topkin" else sum(file.stat().st_size for file in files if file.is_file())
        needs = [need.partition(";") for need in there.requires or ()]
        names += [
            re.split(r"[^\w.-]", need)[0].lower().replace("_", "-") for need, _, when in needs if "extra" not in when
        ]
    del sizes["topkin"]
    return sizes


def print_sizes() -> None:
    """Print what is installed: all of it, and without what readers do not need."""
    every = HEAVY["tensorflow"] + HEAVY["beam"]
    kinds = {
        "everything": (),
        "without Beam": HEAVY["beam"],
        "without TensorFlow": HEAVY["tensorflow"],
        "readers": every,
    }
    for name, without in kinds.items():
        sizes = installed(without)
        most = ", ".join(f"{n} {b / 1e6:,.0f}" for n, b in sorted(sizes.items(), key=lambda size: -size[1])[:4])
        print(f"{name:<20} {sum(sizes.values()) / 1e6:7,.0f} MB in {len(sizes)} packages: {most}")


def main() -> None:
    """Print the median of nine runs of each, taken in turn after one that is not counted; then the sizes."""
    runs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(10):
        for name, arguments in COMMANDS.items():
            took = seconds(arguments)
            if turn:
                runs[name].append(took)
    for name, took in runs.items():
        print(f"{name:<20} {statistics.median(took):.3f} s")
    print_sizes()


if __name__ == "__main__":
    main()
