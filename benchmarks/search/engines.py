"""The engines of the index on the same vectors: processor seconds to build, memory, recall@10, queries a second.

``python -m benchmarks.search.engines [--items 100000 --dim 64 --queries 2000 --m 16 --ef 100 --search 200]``. Each is
built and asked by one thread in a process of its own; memory is what the process grew by in the build, with the
engine's copy of the vectors. Engines that are not installed are left out.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.search.index import vectors
from topkin.errors import ConfigError
from topkin.search.hnsw.engines import ENGINES, engine_of, version_of
from topkin.search.topk import top_k


def _resident() -> float:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() / 1e6


def measured(name: str, args: argparse.Namespace) -> dict[str, object]:
    """One engine's row."""
    engine = engine_of(name)
    centres = np.random.default_rng(0).standard_normal((500, args.dim))
    items, queries = vectors(args.items, args.dim, 1, centres), vectors(args.queries, args.dim, 2, centres)
    exact = top_k(queries, items, 10)[0]
    engine.build(items[:100], args.m, args.ef)  # what the library itself needs
    before, start = _resident(), time.process_time()
    graph = engine.build(items, args.m, args.ef)
    built, grown = time.process_time() - start, _resident() - before
    with tempfile.TemporaryDirectory() as folder:
        engine.save(graph, os.path.join(folder, "graph"))
        size = sum(entry.stat().st_size for entry in os.scandir(folder)) / 1e6
    engine.nearest(graph, queries[:100], 10, args.search, 1)
    start = time.process_time()
    nearest, _ = engine.nearest(graph, queries, 10, args.search, 1)
    asked = time.process_time() - start
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(nearest, exact, strict=True)) / exact.size
    row = {"build": built, "memory": grown, "file": size, "recall": hits, "rate": args.queries / asked}
    return {"engine": f"{name} {version_of(engine)}", **row}


def main() -> None:
    """Print the table; with ``--only`` one engine's row as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    numbers = {"items": 100_000, "dim": 64, "queries": 2000, "m": 16, "ef": 100, "search": 200}
    for option, value in numbers.items():
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--only", choices=[*ENGINES])
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measured(args.only, args)))
        return
    print(
        f"{args.items:,} x {args.dim}, M = {args.m}, efConstruction = {args.ef}, efSearch = {args.search}, one thread\n"
    )
    print(
        "| engine | build, processor s | memory, MB | file, MB | recall@10 | queries a second |\n"
        "|---|--:|--:|--:|--:|--:|"
    )
    for name in ENGINES:
        try:
            engine_of(name)
        except ConfigError as e:
            print(f"left out: {e}", file=sys.stderr)
            continue
        command = [sys.executable, "-m", "benchmarks.search.engines", *sys.argv[1:], "--only", name]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        row = json.loads(done.stdout.splitlines()[-1])
        cells = (
            f"{row['build']:.1f} | {row['memory']:.0f} | {row['file']:.0f} | {row['recall']:.4f} | {row['rate']:,.0f}"
        )
        print(f"| {row['engine']} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
