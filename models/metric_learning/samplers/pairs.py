"""Pairs from labels: which rows are compared in a Siamese network, and batches of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from topkin.metrics.labels import label_array
from topkin.models.metric_learning.samplers.in_memory import Augment, Batches


class PairList(NamedTuple):
    """Pairs of rows.

    Attributes:
        first: (p,) int64 row numbers.
        second: (p,) int64, never equal to ``first``.
        alike: (p,) float32, 1 for pairs of one label, 0 for others.

    Examples:
        >>> from topkin.models import samplers
        >>> samplers.PairList(np.array([0]), np.array([1]), np.array([1.0])).alike
        array([1.])
    """

    first: np.ndarray
    second: np.ndarray
    alike: np.ndarray


def make_pairs(labels: ArrayLike, *, per_row: int = 1, seed: int | Sequence[int] | np.random.Generator = 0) -> PairList:
    """Balanced pairs: each row with ``per_row`` others of its label and as many of another label, shuffled.

    The other row of an alike pair is drawn evenly from the rows of the label; of a different pair first the
    label, evenly from the others, then the row: rare labels are met as often as frequent ones. A row alone with
    its label has no pair, but is met in those of others.

    Args:
        labels: (n,) of any type.
        per_row: pairs of each kind for each row.
        seed: a number, a sequence of numbers or a NumPy generator; the same gives the same pairs.

    Raises:
        ValueError: one label only, or no label with two rows.

    Examples:
        >>> from topkin.models import samplers
        >>> pairs = samplers.make_pairs(["cup", "cup", "pan", "pan"], seed=7)
        >>> len(pairs.first), float(pairs.alike.mean())
        (8, 0.5)
    """
    labels = label_array(labels)
    if per_row < 1:
        raise ValueError(f"per_row must be at least 1, got {per_row}")
    rng = np.random.default_rng(seed)
    classes, of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2 or sizes.max() < 2:
        raise ValueError(
            f"pairs need two labels and a label with two rows, got {len(classes)} labels in {len(labels)} rows"
        )
    order = np.argsort(of, kind="stable")
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels)) - starts[of[order]]

    first = np.repeat(np.flatnonzero(sizes[of] > 1), per_row)
    own = of[first]
    # One of the class's other places: those from the row's own on are one further.
    near = rng.integers(0, sizes[own] - 1)
    near += near >= place[first]
    other = rng.integers(0, len(classes) - 1, len(first))
    other += other >= own
    away = rng.integers(0, sizes[other])
    second = np.concatenate([order[starts[own] + near], order[starts[other] + away]])
    alike = np.repeat(np.array([1, 0], np.float32), len(first))
    shuffled = rng.permutation(len(second))
    return PairList(np.concatenate([first, first])[shuffled], second[shuffled], alike[shuffled])


class PairBatches(Batches):
    """Pairs for ``fit``, drawn anew each epoch: batches of ((first, second), alike). The last, short batch is left out.

    Args:
        rows: (n, ...) what the encoder takes.
        labels: (n,) of any type.
        batch_size: pairs.
        per_row: see :func:`make_pairs`.
        augment: called as ``augment(rows, rng)`` on both sides.
        seed: the same seed and epoch give the same batches.

    Raises:
        ValueError: lengths that differ, a batch larger than the pairs, or labels without pairs.

    Examples:
        >>> from topkin.models import samplers
        >>> batches = samplers.PairBatches(np.zeros((6, 3)), [0, 0, 0, 1, 1, 1], batch_size=4)
        >>> (first, second), alike = batches[0]
        >>> len(batches), first.shape, alike.shape
        (3, (4, 3), (4,))
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: ArrayLike,
        *,
        batch_size: int = 128,
        per_row: int = 1,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> None:
        self.batch_size, self.per_row = batch_size, per_row
        super().__init__(rows, labels, augment, seed)
        if len(self) < 1:
            raise ValueError(
                f"batch_size must be at most the number of pairs, {len(self._pairs.first)}: got {batch_size}"
            )

    def _draw(self) -> None:
        self._pairs = make_pairs(self.labels, per_row=self.per_row, seed=[self.seed, self.epoch])
        starts = range(0, len(self._pairs.first) - self.batch_size + 1, self.batch_size)
        self._numbers = [np.arange(start, start + self.batch_size) for start in starts]

    def __getitem__(self, index: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        numbers, rng = self._numbers[index], np.random.default_rng([self.seed, self.epoch, index])
        first, second = (self._take(side[numbers], rng) for side in self._pairs[:2])
        return (first, second), self._pairs.alike[numbers]
