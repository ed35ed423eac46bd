"""prepare against Polars doing the same work in memory; how its time and memory grow with the purchases.

``python -m benchmarks.jobs.prepare [--millions 3 10 30 --peer 30 --threads 2 --parts 32 --repeats 5]``. Every run is a
process of its own, in turn; seconds are without that process's imports, memory is the most that it held, and with
worker processes as many times the most that one of them held. Both read
the same Parquet files, keep the same rules, drop rows that come twice, split at the as-of date, and write
events, held-out events, histories, the catalogue's statistics and the rejects as Parquet with zstd.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.jobs._purchases import PURCHASES, write

AS_OF, RECENT = datetime(2024, 12, 1), datetime(2024, 11, 24)
TIME, MEMORY = 4.0, 4.0


def topkin(source: str, out: Path, threads: int, parts: int) -> Callable[[], int]:
    """The job, ready to run; it gives the events before the as-of date."""
    import pyarrow as pa

    from topkin.config.sections import Settings
    from topkin.pipelines.engine.job import Job, run_pipeline  # noqa: F401  Beam is imported before the clock starts
    from topkin.pipelines.prepare import STAGE
    from topkin.transforms import prepare  # noqa: F401

    pa.set_cpu_count(threads)
    settings = Settings.model_validate({"run": {"parts": parts}, "purchases": {"path": source, **PURCHASES}})
    beam = [] if threads == 1 else ["--direct_running_mode=multi_processing", f"--direct_num_workers={threads}"]
    return lambda: int(STAGE.execute(Job(settings=settings, as_of=AS_OF, out=str(out), beam=beam))["events"])


def polars(source: str, out: Path, threads: int, parts: int) -> Callable[[], int]:
    """The same with Polars, all in memory."""
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    def run() -> int:
        rows = pl.read_parquet(f"{source}/*.parquet")
        columns = ("user_id", "item_id", "timestamp", "quantity")
        good = pl.all_horizontal(
            *(pl.col(c).is_not_null() for c in columns),
            pl.col("timestamp") <= datetime.now(),
            pl.col("quantity") > 0,
            pl.col("price") > 0,
        ).fill_null(False)
        rejects, rows = rows.filter(~good), rows.filter(good).unique()
        keys = ["user_id", "timestamp", "item_id", "quantity", "price", "country"]
        events = rows.with_columns(pl.col("quantity", "price").cast(pl.Float32)).sort(keys)
        before, heldout = (events.filter(c) for c in (pl.col("timestamp") < AS_OF, pl.col("timestamp") >= AS_OF))
        histories = before.group_by("user_id", maintain_order=True).agg(
            items=pl.col("item_id"),
            times=pl.col("timestamp"),
            weights=pl.col("quantity"),
            segment=pl.col("country").drop_nulls().last(),
        )
        sales = before.group_by("item_id").agg(
            events=pl.len(),
            users=pl.col("user_id").n_unique(),
            recent=(pl.col("timestamp") >= RECENT).sum(),
            first_sale=pl.col("timestamp").min(),
            last_sale=pl.col("timestamp").max(),
            price=pl.col("price").sort_by("timestamp").last(),
        )
        tables = {"events": before, "heldout": heldout, "histories": histories, "rejects": rejects}
        for name, table in {**tables, "catalogue": sales.sort("item_id")}.items():
            table.write_parquet(out / f"{name}.parquet", compression="zstd", compression_level=1)
        return len(before)

    return run


def measured(who: str, source: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds, GiB and events of one run in a process of its own."""
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        command = [sys.executable, "-m", "benchmarks.jobs.prepare", "--who", who, "--source", str(source), "--out", out]
        command += [f"--threads={args.threads}", f"--parts={args.parts}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Generate the purchases, run both in turn, print seconds, memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--millions", type=int, nargs="+", default=[3, 10, 30])
    parser.add_argument("--peer", type=int, nargs="*", default=[30], help="Sizes at which Polars runs too.")
    for name, value in {"threads": 2, "parts": 32, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--who", choices=("topkin", "polars"), help=argparse.SUPPRESS)
    for name in ("source", "out"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.who:
        run = {"topkin": topkin, "polars": polars}[args.who](str(args.source), args.out, args.threads, args.parts)
        start = time.perf_counter()
        events = run()
        seconds = time.perf_counter() - start
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(u.ru_utime + u.ru_stime for u in usage)
        workers = args.threads if args.who == "topkin" and args.threads > 1 else 0
        memory = (usage[0].ru_maxrss + workers * usage[1].ru_maxrss) / 2**20  # of children, the largest is reported
        print(json.dumps({"seconds": seconds, "processor": cpu, "memory": memory, "events": events}))
        return
    print(f"{args.threads} threads, {args.parts} parts, median of {args.repeats}")
    ours: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=args.out) as scratch:
        for size in args.millions:
            source = write(Path(scratch) / f"{size}", size * 10**6)
            who = ["topkin", *(["polars"] if size in args.peer else [])]
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in who}
            for _ in range(args.repeats):
                for name in who:
                    runs[name].append(measured(name, source, args))
            middle = {
                n: {k: statistics.median(r[k] for r in measured_runs) for k in measured_runs[0]}
                for n, measured_runs in runs.items()
            }
            assert len({m["events"] for m in middle.values()}) == 1, middle
            ours[size] = middle["topkin"]
            for name, m in middle.items():
                print(
                    f"  {size:3d} million  {name:8s} {m['seconds']:7.1f} s  processors {m['processor']:7.1f} s  "
                    f"{m['memory']:5.2f} GiB  {m['events']:,.0f} events",
                    flush=True,
                )
            if "polars" in middle:
                ratio = middle["topkin"]["seconds"] / middle["polars"]["seconds"]
                print(
                    f"  time over that of Polars {ratio:5.2f} x, at most {TIME} x  {'ok' if ratio <= TIME else 'below'}"
                )
    last = max(ours)
    memory = ours[last]["memory"]
    verdict = "ok" if memory <= MEMORY else "below"
    print(f"  memory at {last} million {memory:.2f} GiB, at most {MEMORY} GiB  {verdict}")
    if len(ours) > 2:
        (a, x), (b, y), (c, z) = sorted((size, m["seconds"]) for size, m in ours.items())[-3:]
        line = y + (y - x) / (b - a) * (c - b)
        bytes_each = (memory - ours[b]["memory"]) * 2**30 / ((c - b) * 10**6)
        off = z / line - 1
        verdict = "ok" if abs(off) <= 0.15 else "below"
        print(f"  time at {c} million {off:+.1%} off the line through {a} and {b} million, at most 15 %  {verdict}")
        print(
            f"  each further purchase costs {(z - y) / (c - b):.2f} microseconds and {bytes_each:.0f} bytes of memory"
        )


if __name__ == "__main__":
    main()
