"""A whole run on a generated shop, beside its plan: time, processors and the largest process of each stage.

``python -m benchmarks.scale.whole_run [--users 1000000 --items 200000 --purchases 20000000 --processes 2]
[--folder FOLDER] [--memory 4] [--set KEY=VALUE ...]``. Customers of 64 tastes buy seven times in ten what their taste
sells most. The closed form alone unless ``--set train.epochs=N`` asks for more. ``--memory`` is what a process may
use, in GB: the plan refuses what needs more. With a folder what is there is not written or run anew.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TASTES = 64
START, AS_OF, DAYS = np.datetime64("2023-01-01", "us"), "2024-12-01", 730
FILE_ROWS = 2_000_000
CONFIG = """[run]
output = "out"

[purchases]
path = "purchases"
user_id = "user_id"
item_id = "item_id"
timestamp = "timestamp"
"""


def write(folder: Path, users: int, items: int, purchases: int) -> None:
    """Parquet files of purchases, and a configuration."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "purchases").mkdir(parents=True, exist_ok=True)
    mine, names = items // TASTES, pa.array([f"item-{n:07d}" for n in range(items)])
    for block, first in enumerate(range(0, purchases, FILE_ROWS)):
        rng, rows = np.random.default_rng([42, block]), min(FILE_ROWS, purchases - first)
        who = (users * rng.random(rows) ** 1.2).astype(np.int64)
        taste = who * 7919 % TASTES
        own = taste * mine + (mine * rng.random(rows) ** 2.5).astype(np.int64)
        what = np.where(rng.random(rows) < 0.7, own, (items * rng.random(rows)).astype(np.int64))
        seconds = (DAYS * 86_400 * rng.random(rows)).astype(np.int64) * np.timedelta64(10**6)
        columns = {
            "user_id": pa.array(who + 10**9),
            "item_id": names.take(pa.array(what)),
            "timestamp": START + seconds,
        }
        pq.write_table(pa.table(columns), folder / "purchases" / f"{block:05d}.parquet")
    (folder / "topkin.toml").write_text(CONFIG)


def _largest(process: subprocess.Popen[bytes], peaks: dict[str, int]) -> None:
    """Fill in the largest resident memory of a process, or of one below it, each second, in all and by command."""
    page = os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
        below, more = {process.pid}, True
        while more:
            more = {pid for pid, parent in parents.items() if parent in below} - below
            below |= more
        for pid in below:
            try:
                resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            except (OSError, IndexError):
                continue
            name = "launcher" if pid == process.pid else "worker"
            peaks[name] = max(peaks.get(name, 0), resident)
        time.sleep(1)


def run(folder: Path, processes: int, memory: float, sets: Sequence[str]) -> dict[str, Any]:
    """Run all stages that are not done; the report, and the largest launcher and worker."""
    command = [sys.executable, "-m", "topkin", "run", "--config", str(folder / "topkin.toml"), "--as-of", AS_OF]
    command += ["--profile", "--no-publish", "--json", "--set", f"run.worker_memory={memory}"]
    command += [part for one in sets for part in ("--set", one)]
    if processes > 1:
        command += ["--", "--direct_running_mode=multi_processing", f"--direct_num_workers={processes}"]
    peaks: dict[str, int] = {}
    with (folder / "report.json").open("wb") as out:
        process = subprocess.Popen(command, stdout=out)
        watch = threading.Thread(target=_largest, args=(process, peaks))
        watch.start()
        code = process.wait()
        watch.join()
    if code:
        raise SystemExit(code)
    return {"report": json.loads((folder / "report.json").read_text()), "peaks": peaks}


def main() -> None:
    """Write the shop, run it, print a line a stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 1_000_000, "items": 200_000, "purchases": 20_000_000, "processes": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--memory", type=float, default=4.0)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    sets = ["train.epochs=0", *args.set]

    from benchmarks.jobs.constants import print_plan
    from topkin.artifacts.runs import read_run
    from topkin.config.load import load_settings
    from topkin.planning.costs import MEASURED
    from topkin.planning.estimate import InputCounts, Machine
    from topkin.telemetry.profiling import machine_cores

    with tempfile.TemporaryDirectory(prefix="topkin-whole-") as scratch:
        folder = args.folder or Path(scratch)
        if not (folder / "topkin.toml").exists():
            write(folder, args.users, args.items, args.purchases)
        done = run(folder, args.processes, args.memory, sets)
        finished = read_run(done["report"]["output"], done["report"]["run_id"])
        stages = json.loads(Path(finished.path, "profile.json").read_text())["stages"]
        counts = InputCounts.of_prepared(finished.folder("prepare"))
        settings = load_settings(folder / "topkin.toml", sets, {})
    cores = max(1, machine_cores() // args.processes)
    machine = Machine(memory=args.memory * 1e9, cores=cores, workers=args.processes)
    print_plan(counts, settings, machine, MEASURED, {stage["stage"]: stage for stage in stages})
    print(", ".join(f"largest {name} {peak / 2**30:.2f} GiB" for name, peak in sorted(done["peaks"].items())))


if __name__ == "__main__":
    main()
