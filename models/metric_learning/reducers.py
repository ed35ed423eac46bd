"""Reducers: many losses become one number.

A loss hands over what each anchor's pairs or triplets sum up to; a reducer weighs anchors. The rows' sample
weights multiply the losses of their anchors and, as in Keras, not the number divided by: weights of 2
double the loss. Nothing to learn from gives 0.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from topkin.models.metric_learning.serialization import Configured, serializable


class AnchorSums(NamedTuple):
    """For each anchor, (n,): the sum of its losses, how many there are, how many of them are above 0."""

    total: Any
    count: Any
    positive: Any


def sums_of(losses: Any, mask: Any = None) -> AnchorSums:
    """Of losses (n, ...), the anchor first, those under ``mask`` (the same shape, bool)."""
    axes = list(range(1, len(losses.shape)))
    mask = tf.ones_like(losses, tf.bool) if mask is None else mask
    losses = tf.where(mask, losses, tf.zeros_like(losses))
    return AnchorSums(
        tf.reduce_sum(losses, axis=axes),
        tf.reduce_sum(tf.cast(mask, losses.dtype), axis=axes),
        tf.reduce_sum(tf.cast(losses > 0, losses.dtype), axis=axes),
    )


def sums_by_anchor(losses: Any, anchors: Any, n: Any, valid: Any) -> AnchorSums:
    """Of losses (k,) whose anchors (k,) are rows below ``n``, those where ``valid`` (k,) is True."""
    losses = tf.where(valid, losses, tf.zeros_like(losses))
    every = (losses, tf.cast(valid, losses.dtype), tf.cast(losses > 0, losses.dtype))
    return AnchorSums(*(tf.math.unsorted_segment_sum(x, anchors, n) for x in every))


class Reducer(Configured):
    """The interface: a subclass has :meth:`reduce`."""

    def __call__(self, sums: AnchorSums, labels: Any = None, weights: Any = None) -> Any:
        """One number. labels: (n,) of the anchors. weights: (n,) sample weights of the anchors."""
        weighted = sums.total if weights is None else sums.total * tf.cast(weights, sums.total.dtype)
        return self.reduce(weighted, sums, labels)

    def reduce(self, total: Any, sums: AnchorSums, labels: Any) -> Any:
        """``total`` is that of ``sums`` with the weights in it."""
        raise NotImplementedError


@serializable
class Mean(Reducer):
    """The mean over all pairs or triplets."""

    def reduce(self, total: Any, sums: AnchorSums, labels: Any) -> Any:
        """See the class."""
        return tf.math.divide_no_nan(tf.reduce_sum(total), tf.reduce_sum(sums.count))


@serializable
class MeanOfNonZero(Reducer):
    """The mean over the pairs or triplets whose loss is not 0: those that are learned already do not dilute it."""

    def reduce(self, total: Any, sums: AnchorSums, labels: Any) -> Any:
        """See the class."""
        return tf.math.divide_no_nan(tf.reduce_sum(total), tf.reduce_sum(sums.positive))


@serializable
class Sum(Reducer):
    """The sum."""

    def reduce(self, total: Any, sums: AnchorSums, labels: Any) -> Any:
        """See the class."""
        return tf.reduce_sum(total)


@serializable
class PerAnchor(Reducer):
    """The mean of each anchor, then the mean over the anchors that have any pair: large classes count no more."""

    def reduce(self, total: Any, sums: AnchorSums, labels: Any) -> Any:
        """See the class."""
        means = tf.math.divide_no_nan(total, sums.count)
        anchors = tf.reduce_sum(tf.cast(sums.count > 0, total.dtype))
        return tf.math.divide_no_nan(tf.reduce_sum(means), anchors)


@serializable
class PerClass(Reducer):
    """The mean of each class of anchors, then the mean over the classes that have any pair."""

    def reduce(self, total: Any, sums: AnchorSums, labels: Any) -> Any:
        """See the class."""
        if labels is None:
            raise ValueError("PerClass needs labels, got None: take PerAnchor for a loss without labels")
        alike = tf.cast(tf.equal(labels[:, None], labels[None, :]), total.dtype)
        count = tf.linalg.matvec(alike, sums.count)
        mean = tf.math.divide_no_nan(tf.linalg.matvec(alike, total), count)
        # Each row of a class holds the class's mean, so each row counts one by the size of its class.
        share = tf.where(count > 0, 1.0 / tf.reduce_sum(alike, axis=1), tf.zeros_like(mean))
        return tf.math.divide_no_nan(tf.reduce_sum(mean * share), tf.reduce_sum(share))
