"""What miners choose, in two forms.

Index tuples are what a person reads: :class:`Pairs` (a1, p, a2, n) and :class:`Triplets` (a, p, n), int64 row
numbers, (k,). An anchor numbers a row of the batch, a positive or negative a row of the references (the
batch itself, as a rule). How many there are depends on the data.

Losses take a choice, whose shapes depend on the batch's size alone: :class:`PairMasks`, :class:`TripletList`,
:class:`TripletCube`. XLA, which Keras turns on where there is a GPU, compiles those safely; with shapes
that depend on data it gave wrong values, or crashed (TensorFlow 2.21 on a CPU).
"""

from typing import NamedTuple

import tensorflow as tf

from topkin.models.metric_learning.pairwise import Comparison, require
from topkin.models.metric_learning.serialization import Tensor


class Pairs(NamedTuple):
    """Positive pairs (a1[i], p[i]) and negative pairs (a2[j], n[j])."""

    a1: Tensor
    p: Tensor
    a2: Tensor
    n: Tensor


class Triplets(NamedTuple):
    """Triplets: anchor a[i], positive p[i], negative n[i]."""

    a: Tensor
    p: Tensor
    n: Tensor


class PairMasks(NamedTuple):
    """The chosen positive and negative pairs, (n, m) bool each."""

    positive: Tensor
    negative: Tensor

    def tuples(self) -> Pairs:
        """In row order."""
        a1, p = tf.unstack(tf.where(self.positive), num=2, axis=1)
        a2, n = tf.unstack(tf.where(self.negative), num=2, axis=1)
        return Pairs(a1, p, a2, n)

    def masks(self, shape: Tensor) -> "PairMasks":
        """Themselves."""
        return self

    def cube(self) -> Tensor:
        """Every positive of an anchor with every negative of it, (n, m, m) bool."""
        return tf.logical_and(self.positive[:, :, None], self.negative[:, None, :])


class TripletCube(NamedTuple):
    """The chosen triplets as [anchor, positive, negative], (n, m, m) bool."""

    chosen: Tensor

    def tuples(self) -> Triplets:
        """In order of anchor, positive, negative."""
        return Triplets(*tf.unstack(tf.where(self.chosen), num=3, axis=1))

    def masks(self, shape: Tensor) -> PairMasks:
        """The pairs that are in any triplet."""
        return PairMasks(tf.reduce_any(self.chosen, axis=2), tf.reduce_any(self.chosen, axis=1))

    def cube(self) -> Tensor:
        """Itself."""
        return self.chosen


class TripletList(NamedTuple):
    """Triplets one by one: a, p, n (k,) int64, of which those count where ``valid`` (k,) is True."""

    a: Tensor
    p: Tensor
    n: Tensor
    valid: Tensor

    def tuples(self) -> Triplets:
        """Those that count, in order."""
        where = tf.where(self.valid)[:, 0]
        return Triplets(*(tf.gather(x, where) for x in (self.a, self.p, self.n)))

    def masks(self, shape: Tensor) -> PairMasks:
        """The pairs that are in any triplet."""
        return PairMasks(_mask(self.a, self.p, self.valid, shape), _mask(self.a, self.n, self.valid, shape))


Choice = PairMasks | TripletCube | TripletList


def choice_of(tuples: Choice | Pairs | Triplets, comparison: Comparison) -> Choice:
    """A choice as it is; index tuples checked and as a choice."""
    if isinstance(tuples, PairMasks | TripletCube | TripletList):
        return tuples
    tuples = check(tuples, comparison)
    if isinstance(tuples, Triplets):
        return TripletList(*tuples, tf.ones_like(tuples.a, tf.bool))
    shape, ones = tf.shape(comparison.same), (tf.ones_like(tuples.a1, tf.bool), tf.ones_like(tuples.a2, tf.bool))
    return PairMasks(_mask(tuples.a1, tuples.p, ones[0], shape), _mask(tuples.a2, tuples.n, ones[1], shape))


def _mask(rows: Tensor, columns: Tensor, valid: Tensor, shape: Tensor) -> Tensor:
    where = tf.stack([tf.cast(rows, tf.int32), tf.cast(columns, tf.int32)], axis=1)
    return tf.scatter_nd(where, tf.cast(valid, tf.int32), tf.cast(shape, tf.int32)) > 0


def check(tuples: Pairs | Triplets, comparison: Comparison) -> Pairs | Triplets:
    """The tuples as given, with int64 numbers, where they fit the comparison.

    Raises TypeError for what is neither Pairs nor Triplets or no integers, ValueError for lengths that
    differ, numbers out of range, a positive of another label, a negative of the same label or a row paired
    with itself.
    """
    if not isinstance(tuples, Pairs | Triplets):
        raise TypeError(f"a miner must return Pairs (a1, p, a2, n) or Triplets (a, p, n), got {type(tuples).__name__}")
    numbers = []
    for name, index in zip(tuples._fields, tuples, strict=True):
        index = tf.convert_to_tensor(index)
        if not index.dtype.is_integer or index.shape.rank != 1:
            raise TypeError(f"{name} must be (k,) integers, got {index.dtype.name} of shape {index.shape}")
        numbers.append(tf.cast(index, tf.int64))
    anchors = numbers[2] if isinstance(tuples, Pairs) else numbers[0]
    _fit(numbers[0], numbers[1], comparison.same, "a positive pair must be two rows of one label")
    _fit(anchors, numbers[-1], comparison.different, "a negative pair must be two rows of different labels")
    return type(tuples)(*numbers)


def _fit(rows: Tensor, columns: Tensor, allowed: Tensor, rule: str) -> None:
    if None not in (rows.shape[0], columns.shape[0]) and rows.shape[0] != columns.shape[0]:
        raise ValueError(f"both sides of pairs must have the same length, got {rows.shape[0]} and {columns.shape[0]}")
    n, m = tf.unstack(tf.shape(allowed, out_type=tf.int64))
    inside = (rows >= 0) & (rows < n) & (columns >= 0) & (columns < m)
    require(
        tf.reduce_all(inside),
        "index tuples must number rows of the batch ({}) and of the references ({}), got others: "
        "mine from the same batch that the loss sees",
        n,
        m,
    )
    where = tf.stack([tf.clip_by_value(rows, 0, n - 1), tf.clip_by_value(columns, 0, m - 1)], axis=1)
    wrong = tf.logical_not(tf.gather_nd(allowed, where))
    require(
        tf.logical_not(tf.reduce_any(wrong)),
        rule + ", got {} others: look at the miner",
        tf.reduce_sum(tf.cast(wrong, tf.int32)),
    )
