"""The largest memory of the launcher while a shop is prepared and its closed form learned, as purchases grow.

``python -m benchmarks.scale.launcher [--purchases 5000000 50000000 --items 100000 --processes 2] [--set KEY=VALUE]``.
Shops of :mod:`benchmarks.scale.whole_run` of as many items each, ten purchases a user; two processes work for a
launcher that trains. It prints the peak of each stage's process, and how much more the largest shop takes than the
smallest.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scale.whole_run import AS_OF, write

EACH = 10  # purchases of a user


def peak(command: list[str]) -> int:
    """Run a command, the largest resident memory of its process in bytes; of no process below it."""
    largest = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            held = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            largest = int(held[1]) << 10 if held else largest
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return largest


def main() -> None:
    """Write each shop, run two stages of it, print a line a shop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--purchases", type=int, nargs="+", default=[5_000_000, 50_000_000])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    sets = ["train.epochs=0", "recommend.sources=[]", *args.set]
    workers = ["--direct_running_mode=multi_processing", f"--direct_num_workers={args.processes}"]
    largest = []
    for purchases in args.purchases:
        with tempfile.TemporaryDirectory(prefix="topkin-launcher-") as scratch:
            folder = Path(scratch)
            write(folder, purchases // EACH, args.items, purchases)
            peaks = {}
            for stage in ("prepare", "train"):
                command = [sys.executable, "-m", "topkin", stage, "--config", str(folder / "topkin.toml")]
                command += ["--as-of", AS_OF, *(part for one in sets for part in ("--set", one)), "--", *workers]
                peaks[stage] = peak(command)
        largest.append(max(peaks.values()))
        stages = ", ".join(f"{stage} {size / 1e6:,.0f} MB" for stage, size in peaks.items())
        print(f"{purchases:>11,} purchases, {args.items:,} items: {stages}", flush=True)
    print(f"the largest shop takes {largest[-1] / largest[0] - 1:+.0%} of the smallest's memory")


if __name__ == "__main__":
    main()
