"""What a command costs before it works: seconds of ``topkin --help`` beside a bare ``python -c pass``."""

import statistics
import subprocess
import sys
import time

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


def main() -> None:
    """Print the median of nine runs of each, taken in turn after one that is not counted."""
    runs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(10):
        for name, arguments in COMMANDS.items():
            took = seconds(arguments)
            if turn:
                runs[name].append(took)
    for name, took in runs.items():
        print(f"{name:<20} {statistics.median(took):.3f} s")


if __name__ == "__main__":
    main()
