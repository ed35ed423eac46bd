"""init on a large folder: 100 files of 1,000,000 rows, seconds and the most memory that the command held.

``python -m benchmarks.jobs.init [--files 100 --rows 1000000 --ids text|number --repeats 3 --folder FOLDER]`` generates
the files in a temporary folder (or in FOLDER, where they stay), runs ``topkin init`` on them in a process of its own
and prints what it took, the start of Python and its imports included. Files are by time, as exports are: what a user
buys again lies in another file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SECONDS, MEBIBYTES = 10.0, 500.0


def write(folder: Path, files: int, rows: int, ids: str) -> None:
    """The files, one a day's part of a year; 200,000 users, 20,000 items, a tenth of the lines returned."""
    folder.mkdir(parents=True, exist_ok=True)
    step = 365 * 86_400 // files
    users = pa.array([f"c-{n:010d}" for n in range(200_000)]) if ids == "text" else pa.array(np.arange(200_000))
    items = pa.array([f"sku{n:06d}" for n in range(20_000)]) if ids == "text" else pa.array(np.arange(20_000))
    prices = np.round(np.linspace(0.5, 90, 20_000), 2)
    for number in range(files):
        rng = np.random.default_rng(number)
        item = (20_000 * rng.random(rows) ** 3).astype(np.int64)
        quantity = rng.choice([1, 1, 2, 3, -1], rows)
        seconds = np.sort(rng.integers(number * step, (number + 1) * step, rows)) + 1_704_067_200
        table = {
            "order_id": number * rows + np.arange(rows) // 3,
            "customer_id": users.take(pa.array((200_000 * rng.random(rows) ** 2).astype(np.int64))),
            "sku": items.take(pa.array(item)),
            "ordered_at": pa.array(seconds * 1_000_000).cast(pa.timestamp("us")),
            "quantity": quantity,
            "line_total": np.round(prices[item] * quantity, 2),
            "status": pa.array(["complete", "complete", "cancelled"]).take(
                pa.array(rng.choice(3, rows, p=[0.5, 0.45, 0.05]))
            ),
        }
        pq.write_table(pa.table(table), folder / f"part-{number:05d}.parquet", row_group_size=rows)


def measured(folder: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and MiB of one ``topkin init``."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "topkin", "init", str(folder), "-o", f"{out}/topkin.toml"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"topkin init ended with {os.waitstatus_to_exitcode(status)}")
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Generate, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"files": 100, "rows": 1_000_000, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--ids", choices=("text", "number"), default="text")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch, "purchases")
        if not folder.exists():
            write(folder, args.files, args.rows, args.ids)
        size = sum(f.stat().st_size for f in folder.iterdir()) / 2**30
        print(f"{args.files} files of {args.rows:,} rows, {size:.1f} GiB, ids as {args.ids}")
        for _ in range(args.repeats):
            seconds, cpu, memory = measured(folder)
            verdict = "ok" if seconds <= SECONDS and memory <= MEBIBYTES else "below"
            took = f"{seconds:5.1f} s of {SECONDS:.0f} (of processors {cpu:.1f} s)"
            print(f"  {took}, {memory:5.0f} MiB of {MEBIBYTES:.0f}  {verdict}", flush=True)


if __name__ == "__main__":
    main()
