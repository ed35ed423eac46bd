"""Many nights in a row: whether disk, files, memory and the time to find finished stages stay what they are.

``python -m benchmarks.faults.many_nights`` makes 50 nights of a tiny shop with ``run.keep = 7``, each in a process of
its own, and then times what a night asks of an output with 400 runs. It fails where anything grew by more than a tenth
from the night on at which as many versions are there as are kept.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.faults._processes import Night, ended, forked, light_shop, tiny_shop
from topkin.artifacts import manifest, runs, stage_index, storage
from topkin.pipelines.engine import registry, stages

NIGHTS, KEEP, MANY = 50, 7, 400
GROWTH = 1.1
ASKED = len(registry.ORDER)


@dataclass(frozen=True)
class Size:
    """An output folder after a night: its bytes and files, the peak memory of the night, seconds to find stages."""

    night: int
    bytes: int
    files: int
    memory: int
    seconds: float


def nights(night: Night, root: str, first: datetime, how_many: int) -> Iterator[Size]:
    """Make nights, a day from each to the next. Raises RuntimeError where one fails."""
    for number in range(1, how_many + 1):
        code, memory = ended(forked(lambda number=number: night(first + timedelta(days=number), 0)))
        if code:
            raise RuntimeError(f"night {number} ended with code {code}")
        files = storage.files(root, hidden=True)
        asked = finding(root, first + timedelta(days=number + 1))
        yield Size(number, storage.folder_size(root), len(files), memory, asked)


def finding(root: str, as_of: datetime) -> float:
    """Processor seconds to look for the stages of a night that was not made yet, its run and the one before it."""

    def ask() -> None:
        for number in range(ASKED):
            stage_index.find(root, f"{number:064x}")
        stages.find_run(root, f"{as_of:%Y-%m-%d}-0123456789")
        runs.published_before(root, as_of)

    return _cpu(ask)


def _cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def many_runs(root: str, how_many: int) -> None:
    """Published runs of tiny stages, a day from each to the next."""
    for number in range(how_many):
        run = runs.Run(root, "", datetime(2020, 1, 1) + timedelta(days=number))
        run = runs.Run(root, f"{run.as_of:%Y-%m-%d}-0000000000", run.as_of)
        for name in registry.ORDER:
            place, key = f"runs/{run.run_id}/{registry.stage(name).folder}", f"{name}-{number}"
            storage.write_bytes(b"rows", f"{root}/{place}/part.bin")
            manifest.seal(f"{root}/{place}", stage=name, key=key, summary={})
            run = runs.record_stage(run, name, {"folder": place, "key": key}, {})
        runs.publish_run(run)


def grown(sizes: list[Size], keep: int) -> list[str]:
    """What grew from the first night with as many versions as are kept to the last one."""
    full, last = sizes[keep], sizes[-1]
    wrong = []
    for name in ("bytes", "files", "memory"):
        was, now = getattr(full, name), getattr(last, name)
        if now > GROWTH * was:
            wrong.append(f"{name} grew from {was:,} after night {full.night} to {now:,} after night {last.night}")
    return wrong


def main() -> int:
    """Make the nights, and print what they take as a table. Returns 1 where anything grew."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nights", type=int, default=NIGHTS)
    options.add_argument("--keep", type=int, default=KEEP)
    options.add_argument("--light", action="store_true", help="stages of one file, in place of those of a tiny shop")
    given = options.parse_args()
    print("| night | disk, MB | files | peak memory, MB | finding stages, CPU ms |\n|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        night, root, first = (light_shop if given.light else tiny_shop)(Path(name), keep=given.keep)
        shown, sizes = {1, given.keep, given.keep + 1, *range(10, given.nights, 10), given.nights}, []
        for s in nights(night, root, first, given.nights):
            sizes.append(s)
            if s.night in shown:
                megabytes = f"{s.bytes / 1e6:.1f} | {s.files:,} | {s.memory / 1e6:,.0f}"
                print(f"| {s.night} | {megabytes} | {1000 * s.seconds:.1f} |", flush=True)
    with tempfile.TemporaryDirectory() as root:
        many_runs(root, MANY)
        first_time, then = (finding(root, datetime(2030, 1, 1)) for _ in range(2))
    print(f"\nAmong {MANY} runs: {1000 * then:.1f} ms; without an index, once, {1000 * first_time:,.0f} ms.")
    wrong = grown(sizes, given.keep)
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
