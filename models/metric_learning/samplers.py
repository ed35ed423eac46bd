"""Batches for metric learning: M classes x N examples, positives by pairs, negatives by popularity.

A pair or triplet loss needs batches in which classes meet themselves; shuffled rows of many classes hold
hardly a positive. Here from memory; from streams in ``topkin.models.metric_learning.parquet_samplers``. Everything
is drawn from a seed: the same seed and epoch give the same batches.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def check_sizes(classes: int, examples: int) -> None:
    """Raise ValueError unless a batch has two classes and an example of each."""
    if classes < 2 or examples < 1:
        raise ValueError(f"a batch needs at least 2 classes and 1 example of each, got {classes} x {examples}")


def class_batches(
    labels: Any, *, classes: int, examples: int, batches: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Row numbers of batches of ``classes`` classes with ``examples`` rows each, (classes · examples,) int64.

    labels: (n,) of any type. Rows of one class stand together. Classes come in rounds, each once before any
    comes again; so do the rows of a class: a class with fewer rows than ``examples`` repeats them.
    Raises ValueError where there are fewer classes than a batch needs.
    """
    check_sizes(classes, examples)
    labels = np.asarray(labels)
    _, of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < classes:
        raise ValueError(f"classes must be at most the {len(sizes)} there are, got {classes}: take fewer a batch")
    members = np.split(np.argsort(of, kind="stable"), np.cumsum(sizes)[:-1])
    rows = [_Round(m, rng) for m in members]
    turn = _Round(np.arange(len(sizes)), rng)
    for _ in range(batches):
        yield np.concatenate([rows[c].take(examples) for c in turn.take_distinct(classes)])


class _Round:
    """Numbers in random order, all of them before any comes again."""

    def __init__(self, numbers: np.ndarray, rng: np.random.Generator) -> None:
        self.numbers, self.rng, self.left = numbers, rng, numbers[:0]

    def take(self, k: int) -> np.ndarray:
        """The next k."""
        while len(self.left) < k:
            self.left = np.concatenate([self.left, self.rng.permutation(self.numbers)])
        taken, self.left = self.left[:k], self.left[k:]
        return taken

    def take_distinct(self, k: int) -> np.ndarray:
        """The next k, no two alike: of a round's end, and of the next round those that are not among them."""
        if len(self.left) < k:
            fresh = self.rng.permutation(self.numbers)
            # The next round begins with those that the end of this one lacks; the order stays random.
            fresh = fresh[np.argsort(np.isin(fresh, self.left), kind="stable")]
            self.left = np.concatenate([self.left, fresh])
        taken, self.left = self.left[:k], self.left[k:]
        return taken


class ClassBatches(keras.utils.PyDataset):
    """M classes x N examples from memory, for ``model.fit``: batches of (rows, labels).

    rows: (n, ...) array. labels: (n,). batches: of an epoch; by default as many as make n rows.
    augment: called as ``augment(rows, rng)`` on each batch. Each epoch draws anew.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: Any,
        *,
        classes: int = 8,
        examples: int = 8,
        batches: int | None = None,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(rows) != len(labels):
            raise ValueError(
                f"rows and labels must have the same length, got {len(rows)} and {len(labels)}: "
                "pass one label for each row"
            )
        self.rows, self.labels, self.augment = rows, np.asarray(labels), augment
        self.classes, self.examples, self.seed, self.epoch = classes, examples, seed, 0
        self.batches = max(1, len(rows) // (classes * examples)) if batches is None else batches
        self._draw()

    def _draw(self) -> None:
        rng = np.random.default_rng([self.seed, self.epoch])
        sizes = {"classes": self.classes, "examples": self.examples, "batches": self.batches}
        self._numbers = list(class_batches(self.labels, **sizes, rng=rng))

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = self._numbers[index]
        rows = self.rows[numbers]
        if self.augment is not None:
            rows = self.augment(rows, np.random.default_rng([self.seed, self.epoch, index]))
        return rows, self.labels[numbers]

    def on_epoch_end(self) -> None:
        """Draw the next epoch."""
        self.epoch += 1
        self._draw()


class RowBatches(keras.utils.PyDataset):
    """Shuffled rows from memory, augmented, for losses with a vector a class: batches of (rows, labels).

    The last, short batch is left out. Each epoch has its own order and its own augmentation.
    """

    def __init__(
        self, rows: np.ndarray, labels: Any, *, batch_size: int = 128, augment: Augment | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        if len(rows) != len(labels) or not 1 <= batch_size <= len(rows):
            raise ValueError(
                f"rows and labels must have the same length, at least batch_size, got {len(rows)}, {len(labels)} "
                f"and batch_size {batch_size}: pass one label for each row, or lower batch_size"
            )
        self.rows, self.labels, self.augment = rows, np.asarray(labels), augment
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self._order = np.random.default_rng([seed, 0]).permutation(len(rows))

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        rows = self.rows[numbers]
        if self.augment is not None:
            rows = self.augment(rows, np.random.default_rng([self.seed, self.epoch, index]))
        return rows, self.labels[numbers]

    def on_epoch_end(self) -> None:
        """Draw the next epoch."""
        self.epoch += 1
        self._order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.rows))


def pair_batches(pairs: Any, *, pairs_per_batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of positive pairs in which no row occurs twice, (pairs_per_batch, 2): one pass in random order.

    pairs: (p, 2) int row numbers, such as items of one basket. Each pair's rows are negatives of all other
    pairs' (labels: the pair's number in the batch), so a row must not be in two pairs of a batch; a pair
    that would is kept for a later one. What is left at the end and fills no batch is left out.
    """
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"pairs must be (p, 2) integers, got {pairs.dtype} of shape {pairs.shape}")
    if (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("a pair must be two rows, got a row with itself: leave such pairs out")
    if pairs_per_batch < 2:
        raise ValueError(f"pairs_per_batch must be at least 2, got {pairs_per_batch}: one pair has no negatives")
    waiting: list[tuple[int, int]] = [(int(a), int(b)) for a, b in rng.permutation(pairs)]
    while len(waiting) >= pairs_per_batch:
        batch: list[tuple[int, int]] = []
        used: set[int] = set()
        later: list[tuple[int, int]] = []
        for at, pair in enumerate(waiting):
            if len(batch) == pairs_per_batch:
                later.extend(waiting[at:])
                break
            if used.isdisjoint(pair):
                batch.append(pair)
                used.update(pair)
            else:
                later.append(pair)
        if len(batch) < pairs_per_batch:
            return
        waiting = later
        yield np.array(batch, dtype=pairs.dtype)


class PopularityNegatives:
    """Negatives drawn with a chance that grows with popularity: counts to the power of ``power``.

    counts: (items,), how often each was bought. power: 0 draws evenly, 1 by popularity; word2vec's is 0.75.
    Items of count 0 are drawn only where power is 0.

    Mikolov et al., Distributed representations of words and phrases, NeurIPS 2013.
    """

    def __init__(self, counts: Any, power: float = 0.75) -> None:
        counts = np.asarray(counts, np.float64)
        if counts.ndim != 1 or not len(counts) or not np.isfinite(counts).all() or (counts < 0).any():
            raise ValueError(f"counts must be (items,) finite numbers of at least 0, got shape {counts.shape}")
        if not counts.any() and power > 0:
            raise ValueError("counts must not all be 0: nothing could be drawn; give counts, or power=0")
        weights = counts**power if power else np.ones_like(counts)
        self.power, self.probability = power, weights / weights.sum()
        self._until = np.cumsum(self.probability)
        self._last = int(np.flatnonzero(self.probability)[-1])

    def draw(self, shape: int | Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """Item numbers, int64, independent of each other."""
        return np.minimum(np.searchsorted(self._until, rng.random(shape), side="right"), self._last)

    def draw_for(
        self, bought: Sequence[np.ndarray], k: int, rng: np.random.Generator, *, rounds: int = 100
    ) -> np.ndarray:
        """``k`` negatives for each user, (users, k) int64: none of the user's own items; repeats are allowed.

        bought: for each user its item numbers. A draw that hits one is drawn again. Raises ValueError where
        after ``rounds`` there are hits left: the user bought (nearly) all that can be drawn.
        """
        width = len(self.probability)
        users = np.repeat(np.arange(len(bought)), [len(b) for b in bought])
        own = np.unique(users * width + np.concatenate([np.asarray(b, np.int64) for b in bought] or [users]))
        drawn = self.draw((len(bought), k), rng)
        for _ in range(rounds):
            keys = np.arange(len(bought))[:, None] * width + drawn
            hit = np.isin(keys, own)
            if not hit.any():
                return drawn
            drawn[hit] = self.draw(int(hit.sum()), rng)
        user = int(np.flatnonzero(np.isin(np.arange(len(bought))[:, None] * width + drawn, own).any(axis=1))[0])
        raise ValueError(
            f"user {user} must leave something to draw, got {len(bought[user])} of {width} items bought: "
            "leave such users out, or lower power"
        )

    def log_probability(self, items: Any) -> np.ndarray:
        """The logarithm of each item's chance, float64: what the logQ correction subtracts; -inf for none."""
        with np.errstate(divide="ignore"):
            return np.log(self.probability)[np.asarray(items)]
