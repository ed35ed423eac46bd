"""A training step with a million items against the same step with ten thousand: its time must not grow with them.

``python -m benchmarks.training.training_step [--items 1000000 --few 10000 --batch 2048 --steps 30 --against FOLDER]``.
Two trainers of the default settings, with titles and categories, on as many generated purchases; their steps run in
turn, each on its next batch. The step is the compiled update; making its batch from the histories is timed beside it.
With another checkout its trainers take turns with these, in a process of their own.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas
from topkin.config.sections import TrainSettings
from topkin.interactions import Interactions
from topkin.models.data.histories import PreparedHistories

AS_OF = datetime(2024, 1, 1)
EACH = 25  # purchases of a user


@dataclass(frozen=True)
class Generated(PreparedHistories):
    """Purchases made up in memory: every item is bought, the first ones more often."""

    users: int = 1000

    def names(self) -> list[str]:
        """One part."""
        return ["generated"]

    def part(self, name: str) -> Interactions:
        """All of it."""
        rng = np.random.default_rng(0)
        n, total = len(self.item_ids), self.users * EACH
        items = np.concatenate([np.arange(n), (n * rng.random(total - n) ** 2).astype(np.int64)])
        ages = np.sort(rng.uniform(0, 300, (self.users, EACH)).astype(np.float32))[:, ::-1].ravel()
        indptr = np.arange(self.users + 1, dtype=np.int64) * EACH
        return Interactions(indptr, rng.permutation(items).astype(np.int32), ages, np.ones(total, np.float32), n)


def catalogue(n: int) -> pa.Table:
    """A catalogue of n items with titles of six words."""
    rng = np.random.default_rng(1)
    words = np.array([f"word{i}" for i in range(5000)], object)
    titles = [" ".join(row) for row in words[rng.integers(0, len(words), (n, 6))]]
    return pa.table(
        {
            "item_id": pa.array(np.arange(n)),
            "title": titles,
            "category": pa.array([f"kind {i}" for i in range(50)]).take(pa.array(rng.integers(0, 50, n))),
            "price": rng.uniform(1, 100, n),
            "available": pa.array(np.ones(n, bool)),
            "events": np.full(n, 3),
            "users": np.full(n, 3),
            "recent": np.zeros(n, np.int64),
            "first_sale": pa.array([AS_OF - timedelta(days=300)] * n, pa.timestamp("us")),
            "last_sale": pa.array([AS_OF] * n, pa.timestamp("us")),
        }
    ).select(schemas.catalogue(pa.int64()).names)


def trainer_of(n: int, users: int, batch: int, neighbours: int) -> Any:
    """A trainer of the default settings, but for these."""
    from topkin.models.training.context import TrainingContext
    from topkin.models.training.trainer import Trainer

    train = TrainSettings().changed(batch_size=batch, min_sales=0, neighbours=neighbours)
    table = catalogue(n)
    purchases = Generated("", table["item_id"], AS_OF, users=users)
    context = TrainingContext(train=train, seed=0, recent_days=7)
    return Trainer(context, purchases, "refit", context.index(purchases, table))


def endless(trainer: Any) -> Iterator[dict[str, np.ndarray]]:
    """Batches, epoch after epoch."""
    for epoch in itertools.count(1):
        yield from trainer.batches(epoch)


def work(args: argparse.Namespace) -> None:
    """For each line that comes, one step of each trainer in turn: seconds of wall and processors, as JSON."""
    trainers = {n: trainer_of(n, args.users, args.batch, args.neighbours) for n in (args.few, args.items)}
    streams = {n: endless(trainer) for n, trainer in trainers.items()}
    for _ in sys.stdin:
        figures: dict[int, Any] = {}
        for n, trainer in trainers.items():
            at = [(time.perf_counter(), time.process_time())]
            batch = next(streams[n])
            at.append((time.perf_counter(), time.process_time()))
            float(trainer.step(batch))
            at.append((time.perf_counter(), time.process_time()))
            spent = [[after - before for before, after in zip(*pair, strict=True)] for pair in itertools.pairwise(at)]
            sizes = {
                name: len(batch[name]) for name in ("candidates", "pooled", "history", "mixed_rows") if name in batch
            }
            figures[n] = {"making": spent[0], "step": spent[1], "sizes": sizes}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        kept = {"peak": usage.ru_maxrss / 2**20, "faults": usage.ru_minflt, "system": usage.ru_stime}
        print(json.dumps({"steps": figures, **kept}), flush=True)


class Checkout:
    """Another process that works with the code of a folder."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(folder), "TF_CPP_MIN_LOG_LEVEL": "2"}
        command = [sys.executable, __file__, "--work", *options]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, cwd=folder, text=True, **pipes)
        self.reports: list[Any] = []

    def turn(self) -> None:
        """One step of each trainer there."""
        assert self.process.stdin is not None, "it is asked for"
        assert self.process.stdout is not None, "it is asked for"
        print(file=self.process.stdin, flush=True)
        self.reports.append(json.loads(self.process.stdout.readline()))

    def median(self, n: int, what: str, processors: bool) -> float:
        """Milliseconds."""
        return 1e3 * statistics.median(report["steps"][str(n)][what][processors] for report in self.reports[3:])

    def tell(self, n: int) -> None:
        """A line of one trainer."""
        step, making = ([self.median(n, what, cpu) for cpu in (False, True)] for what in ("step", "making"))
        sizes = ", ".join(
            f"{size:,} {name.replace('_', ' ')}" for name, size in self.reports[-1]["steps"][str(n)]["sizes"].items()
        )
        print(
            f"  {n:9,d} items: step {step[0]:6.1f} (processors {step[1]:6.1f}), making the batch {making[0]:5.1f} "
            f"({making[1]:5.1f}); {sizes}"
        )

    def tell_process(self) -> None:
        """Memory and page faults."""
        first, last = self.reports[3], self.reports[-1]
        steps = 2 * (len(self.reports) - 4)
        faults, system = ((last[name] - first[name]) / steps for name in ("faults", "system"))
        print(f"  {last['peak']:.2f} GiB at most; a step: {faults:,.0f} page faults, kernel {1e3 * system:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = {"items": 1_000_000, "few": 10_000, "batch": 2048, "steps": 30, "users": 100_000}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--neighbours", type=int)
    parser.add_argument("--against", type=Path, help="another checkout, whose steps run in turn with these")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.neighbours is None:
        from topkin.config.sections import TrainSettings

        args.neighbours = TrainSettings().advanced.neighbours
    if args.work:
        work(args)
        return
    options = [f"--{name}={getattr(args, name)}" for name in (*sizes, "neighbours")]
    folders = {"here": Path(__file__).resolve().parents[2]}
    folders |= {"there": args.against.resolve()} if args.against else {}
    checkouts = {name: Checkout(folder, options) for name, folder in folders.items()}
    for _ in range(args.steps + 3):
        for checkout in checkouts.values():
            checkout.turn()
    print(f"{args.batch} purchases a step, {args.steps} steps of each in turn, median milliseconds")
    for name, checkout in checkouts.items():
        print(f"{name}, {folders[name]}" if args.against else "this checkout")
        for n in (args.few, args.items):
            checkout.tell(n)
        checkout.tell_process()
        checkout.process.kill()
    here = checkouts["here"]
    wall, ratio = (here.median(args.items, "step", cpu) / here.median(args.few, "step", cpu) for cpu in (False, True))
    verdict = "ok" if ratio <= 1.5 else "below"
    pair = f"{args.items:,d} against {args.few:,d} items"
    print(f"  {pair}: processors {ratio:.2f} (wall {wall:.2f}), at most 1.5 1.2: {verdict}")
    for n in (args.few, args.items) if args.against else ():
        wall, ratio = (here.median(n, "step", cpu) / checkouts["there"].median(n, "step", cpu) for cpu in (False, True))
        verdict = "ok" if ratio <= 0.7 else "below"
        print(f"  {n:,d} items, here against there: processors {ratio:.2f} (wall {wall:.2f}), at most .7 .4: {verdict}")


if __name__ == "__main__":
    main()
