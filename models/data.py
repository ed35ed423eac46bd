"""Training batches, streamed from the prepared histories: arrays of fixed shapes, shuffled from a seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin import storage
from topkin.errors import ArtifactError
from topkin.interactions import Interactions, history_weights, joined

BUFFER_PURCHASES = 20_000_000  # shuffled at a time: about 250 MB


def older(history: Interactions, days: float) -> Interactions:
    """The purchases at least ``days`` old, with their ages counted from then."""
    return _where(history, history.ages >= days, days)


def newer(history: Interactions, days: float) -> Interactions:
    """The purchases less than ``days`` old."""
    return _where(history, history.ages < days, 0.0)


def _where(history: Interactions, keep: np.ndarray, days: float) -> Interactions:
    indptr = np.concatenate([[0], np.cumsum(keep)])[history.indptr].astype(np.int64)
    ages = history.ages[keep] - np.float32(days)
    return Interactions(indptr, history.items[keep], ages, history.weights[keep], history.n_items)


@dataclass(frozen=True)
class Purchases:
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
        found = [n for n in storage.files(self.folder) if n.endswith(".parquet")]
        if not found:
            raise ArtifactError(f"{self.folder} holds no Parquet file: run topkin prepare again with --force")
        return found

    def part(self, name: str) -> Interactions:
        """One part as it was at the as-of date, the last ``days`` included."""
        table = storage.read_parquet(storage.join(self.folder, name), ["items", "times", "weights"])
        return Interactions.from_histories(table, self.item_ids, self.as_of)

    def groups(self, rng: np.random.Generator) -> Iterator[Interactions]:
        """All known purchases in groups of parts that are shuffled together, the parts in random order."""
        group: list[Interactions] = []
        for name in rng.permutation(self.names()):
            group.append(older(self.part(str(name)), self.days))
            if sum(len(p.items) for p in group) >= self.buffer:
                yield joined(group)
                group = []
        if group:
            yield joined(group)


@dataclass(frozen=True)
class Counts:
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


def count(purchases: Purchases, recent_days: float) -> Counts:
    """Count, in one pass over the parts."""
    n = len(purchases.item_ids)
    events, buyers, recent, targets = (np.zeros(n, np.int64) for _ in range(4))
    for name in purchases.names():
        history = older(purchases.part(name), purchases.days)
        events += np.bincount(history.items, minlength=n)
        recent += np.bincount(history.items[history.ages <= recent_days], minlength=n)
        distinct = history.distinct()
        buyers += np.bincount(distinct.items, minlength=n)
        several = np.repeat(np.diff(distinct.indptr) > 1, np.diff(distinct.indptr))
        targets += np.bincount(distinct.items[several], minlength=n)
    return Counts(events, buyers, recent, targets)


@dataclass(frozen=True)
class Recipe:
    """How examples are made of histories; the settings of the same names."""

    batch_size: int
    history_length: int
    rarity: float
    half_life_days: float | None
    user_power: float
    example_half_life_days: float | None


def example_weights(history: Interactions, recipe: Recipe) -> np.ndarray:
    """The weight of each purchase as a training example, (n,) float32.

    A user's count to the power of ``-user_power``, so that the largest histories do not rule; recent
    purchases weigh more where ``example_half_life_days`` is set.
    """
    lengths = np.repeat(np.diff(history.indptr), np.diff(history.indptr))
    weights = np.maximum(lengths, 1).astype(np.float64) ** -recipe.user_power
    if recipe.example_half_life_days is not None:
        weights *= np.exp2(-history.ages / recipe.example_half_life_days)
    return weights.astype(np.float32)


def batches(
    history: Interactions, buyers: np.ndarray, recipe: Recipe, rng: np.random.Generator
) -> Iterator[dict[str, np.ndarray]]:
    """One epoch over the distinct purchases of users with at least two; the last, short batch is left out.

    Each example asks for one purchase from the user's others: ``history_length`` of them, drawn anew each
    epoch where there are more. Arrays of a batch (b examples, h history places, c = b candidates):

    candidates: (c,) int32, the batch's distinct targets by number, padded with item 0. positive: (b,) int32,
    the target's candidate. masked: (b, c) bool, candidates that are no negatives: padding, and what the user
    bought. history: (b, h) int32 items, padded with 0. history_weights: (b, h) float32, 0 for padding.
    weights: (b,) float32 of the examples, their mean in the epoch 1.
    """
    known = history.distinct()
    users, size = known.users, recipe.batch_size
    order = np.lexsort((rng.random(len(users)), users))  # shuffled within each user
    items, ages = known.items[order], known.ages[order]
    pool_weights = history_weights(known, buyers, rarity=recipe.rarity, half_life_days=None)[order]
    weights = example_weights(known, recipe)[order]
    lengths = np.diff(known.indptr)
    examples = np.flatnonzero(lengths[users] > 1)
    weights /= max(float(weights[examples].mean()), 1e-30) if len(examples) else 1.0
    examples = rng.permutation(examples)
    column = np.full(known.n_items, -1, np.int32)
    ahead = np.arange(1, recipe.history_length + 1)
    for start in range(0, len(examples) - size + 1, size):
        at = examples[start : start + size]
        user = users[at]
        first, length = known.indptr[user], lengths[user]
        others = first[:, None] + ((at - first)[:, None] + ahead) % length[:, None]
        there = ahead <= (length - 1)[:, None]
        history_weight = np.where(there, pool_weights[others], 0).astype(np.float32)
        if recipe.half_life_days is not None:
            gap = np.abs(ages[others] - ages[at][:, None])
            history_weight *= np.exp2(-gap / np.float32(recipe.half_life_days))
        found = np.unique(items[at])
        column[found] = np.arange(len(found), dtype=np.int32)
        yield {
            "candidates": np.pad(found, (0, size - len(found))),
            "positive": column[items[at]],
            "masked": _masked(known, user, column, len(found), size),
            "history": np.where(there, items[others], 0).astype(np.int32),
            "history_weights": history_weight,
            "weights": weights[at],
        }
        column[found] = -1


def _masked(known: Interactions, user: np.ndarray, column: np.ndarray, found: int, size: int) -> np.ndarray:
    """Which candidates each example's user bought, padding too, (b, size) bool."""
    distinct, back = np.unique(user, return_inverse=True)
    bought = known.take(distinct)
    columns = column[bought.items]
    mask = np.zeros((len(distinct), size), bool)
    mask[:, found:] = True
    mask[bought.users[columns >= 0], columns[columns >= 0]] = True
    return mask[back]
