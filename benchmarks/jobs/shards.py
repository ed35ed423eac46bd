"""What shards cost and save: seconds and peak memory of the lists, resident and with more and more shards.

``python -m benchmarks.jobs.shards [--users 8000 --items 500000 --k 20 --shards 1 2 4 8]``: each in a process of its
own, from embedding files to lists, d = 64, beside the memory that the plan says; and whether the files are equal.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any


def work(folder: Path, shards: int, k: int, parts: int) -> dict[str, Any]:
    """Make the lists of a folder with some shards; seconds, and measured and planned memory."""
    from benchmarks.jobs._embedded import job
    from topkin.artifacts import storage
    from topkin.config.sections import Settings
    from topkin.pipelines import recommend
    from topkin.pipelines.engine.job import run_pipeline
    from topkin.planning.estimate import InputCounts, Machine, Workload
    from topkin.telemetry.profiling import measure_usage
    from topkin.transforms import recommend as imported  # noqa: F401  before the clock starts

    run = {"parts": parts}
    settings = Settings.model_validate({"purchases": {"path": "x"}, "run": run, "recommend": {"k": k}})
    out = folder / f"lists-{shards}"
    lists = job(folder, out, settings)
    transform = recommend.transform(lists, replace(recommend.inputs_of(lists), shards=shards))
    with measure_usage() as usage:
        run_pipeline(transform, ())
    sizes = storage.read_json(str(folder / "embeddings" / "vectors.json"))
    known = sizes["users"] * 20
    counts = InputCounts(purchases=known, known=known, users=sizes["users"], items=sizes["items"], id_bytes=8)
    load = Workload(counts=counts, settings=settings, machine=Machine(memory=math.inf))
    planned = recommend.memory(load, shards) - load.costs.start_bytes["recommend"]
    return {"seconds": usage.seconds, "peak": usage.peak_bytes, "planned": planned}


def main() -> None:
    """Generate, make the lists with each number of shards, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"users": 8_000, "items": 500_000, "k": 20, "parts": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        print(json.dumps(work(args.folder, args.shards[0], args.k, args.parts)))
        return
    from benchmarks.jobs._embedded import write
    from topkin.artifacts import storage

    print(f"{args.users:,} users x {args.items:,} items, k = {args.k}, d = 64, {args.parts} parts")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder, users=args.users, items=args.items, history=20, dim=64, parts=args.parts)
        first: list[bytes] = []
        for shards in args.shards:
            options = ["--folder", str(folder), "--shards", str(shards)]
            options += [f"--{name}={getattr(args, name)}" for name in ("k", "parts")]
            command = [sys.executable, "-m", "benchmarks.jobs.shards", *options]
            used = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            lists = folder / f"lists-{shards}"
            files = [(lists / name).read_bytes() for name in storage.files(str(lists))]
            first = first or files
            print(
                f"  {shards:3d} shards {used['seconds']:7.1f} s   peak {used['peak'] / 1e6:7,.0f} MB   planned beside "
                f"the process {used['planned'] / 1e6:7,.0f} MB   {'equal' if files == first else 'DIFFERENT'}"
            )


if __name__ == "__main__":
    main()
