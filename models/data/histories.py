"""What training reads of the prepared histories: purchases before a cut, streamed part by part, and counted."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.errors import ArtifactError
from topkin.interactions import Interactions, concatenate

BUFFER_PURCHASES = 20_000_000  # shuffled at a time: about 250 MB


def before_cut(history: Interactions, days: float) -> Interactions:
    """The purchases more than ``days`` old, with their ages counted from then: as at an as-of date, none of its own."""
    return _where(history, history.ages > days, days)


def after_cut(history: Interactions, days: float) -> Interactions:
    """The purchases at most ``days`` old."""
    return _where(history, history.ages <= days, 0.0)


def fresh(history: Interactions, days: float) -> Interactions:
    """The distinct items that each user bought in the last ``days`` and not before."""
    after, before = after_cut(history, days).distinct(), before_cut(history, days).distinct()
    keys = after.users.astype(np.int64) * history.n_items + after.items
    bought = before.users.astype(np.int64) * history.n_items + before.items
    return _where(after, ~np.isin(keys, bought), 0.0)


def _where(history: Interactions, keep: np.ndarray, days: float) -> Interactions:
    indptr = np.concatenate([[0], np.cumsum(keep)])[history.indptr].astype(np.int64)
    ages = history.ages[keep] - np.float32(days)
    return Interactions(indptr, history.items[keep], ages, history.weights[keep], history.n_items)


@dataclass(frozen=True)
class PreparedHistories:
    """The histories of a prepared folder, part by part.

    item_ids: the catalogue's, whose row numbers the histories get. days: how many days before the as-of date
    the known purchases end: 0 for all, more to keep the last ones for validation.
    """

    folder: str
    item_ids: pa.ChunkedArray
    as_of: datetime
    days: float = 0.0
    buffer: int = BUFFER_PURCHASES

    def names(self) -> list[str]:
        """The part files, in order. Raises ArtifactError where there is none."""
        names = [n for n in storage.files(self.folder) if n.endswith(".parquet")]
        if not names:
            raise ArtifactError(f"{self.folder} holds no Parquet file: run topkin prepare again with --force")
        return names

    def part(self, name: str) -> Interactions:
        """One part as it was at the as-of date, the last ``days`` included."""
        table = storage.read_parquet(storage.join(self.folder, name), ["items", "times", "weights"])
        return Interactions.from_histories(table, self.item_ids, self.as_of)

    def user_ids(self, name: str) -> pa.ChunkedArray:
        """The ids of a part's users, in their order."""
        return storage.read_parquet(storage.join(self.folder, name), ["user_id"])["user_id"]

    def groups(self, rng: np.random.Generator) -> Iterator[Interactions]:
        """All known purchases in groups of parts that are shuffled together, the parts in random order."""
        group: list[Interactions] = []
        for name in rng.permutation(self.names()):
            group.append(before_cut(self.part(str(name)), self.days))
            if sum(len(p.items) for p in group) >= self.buffer:
                yield concatenate(group)
                group = []
        if group:
            yield concatenate(group)


@dataclass(frozen=True)
class ItemCounts:
    """What training counts of each item before the cut, each (n_items,) int64.

    events: purchases. buyers: distinct users. recent: purchases of the last days. targets: examples that
    have the item as target.
    """

    events: np.ndarray
    buyers: np.ndarray
    recent: np.ndarray
    targets: np.ndarray

    @property
    def examples(self) -> int:
        """Examples of one epoch."""
        return int(self.targets.sum())


def count(purchases: PreparedHistories, recent_days: float) -> ItemCounts:
    """Count, in one pass over the parts."""
    n = len(purchases.item_ids)
    events, buyers, recent, targets = (np.zeros(n, np.int64) for _ in range(4))
    for name in purchases.names():
        history = before_cut(purchases.part(name), purchases.days)
        events += np.bincount(history.items, minlength=n)
        recent += np.bincount(history.items[history.ages <= recent_days], minlength=n)
        distinct = history.distinct()
        buyers += np.bincount(distinct.items, minlength=n)
        several = np.repeat(np.diff(distinct.indptr) > 1, np.diff(distinct.indptr))
        targets += np.bincount(distinct.items[several], minlength=n)
    return ItemCounts(events, buyers, recent, targets)
