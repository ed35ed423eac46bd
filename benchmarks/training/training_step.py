"""A training step with a million items against the same step with ten thousand: its time must not grow with them.

``python -m benchmarks.training.training_step [--items 1000000 --few 10000 --batch 2048 --steps 30]``. Two trainers of
the default settings, with titles and categories, on as many generated purchases; their steps run in turn, each on its
next batch. The step is the compiled update; making its batch from the histories is timed beside it.
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
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


def made(n: int, users: int, batch: int, neighbours: int) -> Any:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in {"items": 1_000_000, "few": 10_000, "batch": 2048, "steps": 30, "users": 100_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--neighbours", type=int, default=TrainSettings().advanced.neighbours)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    trainers = {n: made(n, args.users, args.batch, args.neighbours) for n in (args.few, args.items)}
    streams = {n: endless(trainer) for n, trainer in trainers.items()}
    making: dict[int, list[float]] = {n: [] for n in trainers}
    stepping: dict[int, list[float]] = {n: [] for n in trainers}
    for _ in range(args.steps + 3):
        for n, trainer in trainers.items():
            start = time.perf_counter()
            batch = next(streams[n])
            made_at = time.perf_counter()
            float(trainer.step(batch))
            making[n].append(made_at - start)
            stepping[n].append(time.perf_counter() - made_at)
    print(f"{args.batch} purchases a step, {args.steps} steps of each in turn, median milliseconds")
    steps = {n: statistics.median(times[3:]) for n, times in stepping.items()}
    for n in trainers:
        batch, ready = next(streams[n]), 1e3 * statistics.median(making[n][3:])
        sizes = ", ".join(f"{len(batch[name]):,} {name}" for name in ("candidates", "pooled", "history"))
        print(f"  {n:9,d} items: step {1e3 * steps[n]:6.1f}, making the batch {ready:6.1f}; {sizes}")
    ratio = steps[args.items] / steps[args.few]
    print(f"  ratio {ratio:.2f}, at most 2.0, aim 1.2: {'ok' if ratio < 2 else 'below'}")


if __name__ == "__main__":
    main()
