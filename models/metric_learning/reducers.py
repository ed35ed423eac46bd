"""Reducers: many losses become one number.

A loss hands over what each anchor's pairs or triplets sum up to; a reducer weighs anchors. The rows' sample
weights multiply the losses of their anchors and, as in Keras, not the number divided by: weights of 2
double the loss. Nothing to learn from gives 0.
"""

from typing import NamedTuple

import tensorflow as tf

from topkin.models.metric_learning.serialization import Configured, Tensor, serializable

__all__ = ["Mean", "MeanOfNonZero", "PerAnchor", "PerClass", "Reducer", "Sum"]


class AnchorSums(NamedTuple):
    """For each anchor, (n,): the sum of its losses, how many there are, how many of them are above 0."""

    total: Tensor
    count: Tensor
    positive: Tensor


def sums_of(losses: Tensor, mask: Tensor | None = None) -> AnchorSums:
    """Of losses (n, ...), the anchor first, those under ``mask`` (the same shape, bool)."""
    axes = list(range(1, len(losses.shape)))
    mask = tf.ones_like(losses, tf.bool) if mask is None else mask
    losses = tf.where(mask, losses, tf.zeros_like(losses))
    return AnchorSums(
        tf.reduce_sum(losses, axis=axes),
        tf.reduce_sum(tf.cast(mask, losses.dtype), axis=axes),
        tf.reduce_sum(tf.cast(losses > 0, losses.dtype), axis=axes),
    )


def sums_by_anchor(losses: Tensor, anchors: Tensor, n: Tensor, valid: Tensor) -> AnchorSums:
    """Of losses (k,) whose anchors (k,) are rows below ``n``, those where ``valid`` (k,) is True."""
    losses = tf.where(valid, losses, tf.zeros_like(losses))
    every = (losses, tf.cast(valid, losses.dtype), tf.cast(losses > 0, losses.dtype))
    return AnchorSums(*(tf.math.unsorted_segment_sum(x, anchors, n) for x in every))


class Reducer(Configured):
    """How the losses of a batch's pairs become one number: the interface; a subclass has :meth:`reduce`.

    Examples:
        >>> from topkin.models import losses, reducers
        >>> loss = losses.Triplet(0.2, reducer=reducers.Sum())
        >>> round(float(loss([0, 0, 1], np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))), 4)
        0.462
    """

    def __call__(self, sums: AnchorSums, labels: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """One number. labels: (n,) of the anchors. weights: (n,) sample weights of the anchors."""
        weighted = sums.total if weights is None else sums.total * tf.cast(weights, sums.total.dtype)
        return self.reduce(weighted, sums, labels)

    def reduce(self, total: Tensor, sums: AnchorSums, labels: Tensor) -> Tensor:
        """``total`` is that of ``sums`` with the weights in it."""
        raise NotImplementedError


@serializable
class Mean(Reducer):
    """The mean over all pairs or triplets.

    Examples:
        >>> from topkin.models import losses, reducers
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> round(float(losses.Triplet(0.2, reducer=reducers.Mean())([0, 0, 1], rows)), 4)
        0.231
    """

    def reduce(self, total: Tensor, sums: AnchorSums, labels: Tensor) -> Tensor:
        return tf.math.divide_no_nan(tf.reduce_sum(total), tf.reduce_sum(sums.count))


@serializable
class MeanOfNonZero(Reducer):
    """The mean over the pairs or triplets whose loss is not 0: those that are learned already do not dilute it.

    Examples:
        >>> from topkin.models import losses, reducers
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> round(float(losses.Triplet(0.2, reducer=reducers.MeanOfNonZero())([0, 0, 1], rows)), 4)
        0.462
    """

    def reduce(self, total: Tensor, sums: AnchorSums, labels: Tensor) -> Tensor:
        return tf.math.divide_no_nan(tf.reduce_sum(total), tf.reduce_sum(sums.positive))


@serializable
class Sum(Reducer):
    """The sum.

    Examples:
        >>> from topkin.models import losses, reducers
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> round(float(losses.Triplet(0.2, reducer=reducers.Sum())([0, 0, 1], rows)), 4)
        0.462
    """

    def reduce(self, total: Tensor, sums: AnchorSums, labels: Tensor) -> Tensor:
        return tf.reduce_sum(total)


@serializable
class PerAnchor(Reducer):
    """The mean of each anchor, then the mean over the anchors that have any pair: large classes count no more.

    Examples:
        >>> from topkin.models import losses, reducers
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> round(float(losses.Triplet(0.2, reducer=reducers.PerAnchor())([0, 0, 1], rows)), 4)
        0.231
    """

    def reduce(self, total: Tensor, sums: AnchorSums, labels: Tensor) -> Tensor:
        means = tf.math.divide_no_nan(total, sums.count)
        anchors = tf.reduce_sum(tf.cast(sums.count > 0, total.dtype))
        return tf.math.divide_no_nan(tf.reduce_sum(means), anchors)


@serializable
class PerClass(Reducer):
    """The mean of each class of anchors, then the mean over the classes that have any pair.

    Examples:
        >>> from topkin.models import losses, reducers
        >>> rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> round(float(losses.Triplet(0.2, reducer=reducers.PerClass())([0, 0, 1], rows)), 4)
        0.231
    """

    def reduce(self, total: Tensor, sums: AnchorSums, labels: Tensor) -> Tensor:
        if labels is None:
            raise ValueError("PerClass needs labels, got None: take PerAnchor for a loss without labels")
        alike = tf.cast(tf.equal(labels[:, None], labels[None, :]), total.dtype)
        count = tf.linalg.matvec(alike, sums.count)
        mean = tf.math.divide_no_nan(tf.linalg.matvec(alike, total), count)
        # Each row of a class holds the class's mean, so each row counts one by the size of its class.
        share = tf.where(count > 0, 1.0 / tf.reduce_sum(alike, axis=1), tf.zeros_like(mean))
        return tf.math.divide_no_nan(tf.reduce_sum(mean * share), tf.reduce_sum(share))
