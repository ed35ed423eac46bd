"""Losses of recommendation: one user's scores of bought and of other items."""

from typing import Any

import numpy as np
import tensorflow as tf

from topkin.models.metric_learning.distances import Cosine, Distance
from topkin.models.metric_learning.losses.base import Loss, log_sum_exp
from topkin.models.metric_learning.losses.softmax import views
from topkin.models.metric_learning.pairwise import (
    compare,
    compute_dtype,
    finite,
    flat_labels,
    require,
    row_weights,
    same_length,
)
from topkin.models.metric_learning.reducers import AnchorSums, Mean, Reducer, sums_of
from topkin.models.metric_learning.serialization import serializable


def softmax_against(positive: tf.Tensor, logits: tf.Tensor, negative: tf.Tensor, rows: Any = None) -> tf.Tensor:
    """Softmax cross-entropy of positives against the negatives of their row, the one of every loss here.

    Args:
        positive: (t,) logits of the positives.
        logits: (q, c) logits of the candidates, corrected for how they were drawn.
        negative: (q, c) bool, which candidates are negatives of a row.
        rows: (t,) int, the row of each positive; row t for positive t where None.

    Returns:
        (t,) losses, ``log(1 + sum of exp(logits of negatives) / exp(positive))``; 0 without a negative.
    """
    crowd = log_sum_exp(logits, negative)
    return tf.nn.softplus((crowd if rows is None else tf.gather(crowd, rows)) - positive)


def excess_over(cosines: tf.Tensor, shares: tf.Tensor, margin: float) -> tf.Tensor:
    """The mean by which cosines exceed a margin, weighted by shares, along the last axis; 0 without a share."""
    total = tf.reduce_sum(shares, axis=-1)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.nn.relu(cosines - margin) * shares, axis=-1), total)


class ListLoss(Loss):
    """The interface: y_true (n, c) says of each candidate 1 bought, 0 not, below 0 not there; y_pred (n, c) scores."""

    def __init__(self, *, reducer: Reducer | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reducer = reducer or Mean()

    def compute(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """See the class."""
        relevant = tf.convert_to_tensor(labels)
        if predictions.shape.rank != 2 or relevant.shape.rank != 2 or not _compatible(relevant, predictions):
            raise ValueError(
                f"{type(self).__name__} reads 1, 0 or -1 for each candidate and its score, (n, candidates) both, "
                f"got shapes {relevant.shape} and {predictions.shape}"
            )
        scores = tf.cast(predictions, compute_dtype(predictions, self._asked))
        same_length(relevant, scores, "labels and scores")
        if self.check:
            finite(scores, "scores")
            require(
                tf.reduce_any(relevant > 0),
                "a batch must hold a bought item, got none in {} rows: y_true marks it with 1",
                tf.shape(relevant)[0],
            )
        parts = self.parts(scores, relevant > 0, tf.equal(relevant, 0))
        weights = row_weights(weights, scores)
        return tf.add_n([self.reducer(part, None, weights) for part in parts])

    def parts(self, scores: Any, bought: Any, other: Any) -> list[AnchorSums]:
        """What each row's losses sum up to. bought, other: (n, c) bool."""
        raise NotImplementedError


def _compatible(a: Any, b: Any) -> bool:
    return bool(a.shape[1:].is_compatible_with(b.shape[1:]))


@serializable
class CCL(ListLoss):
    """Cosine contrastive: 1 - S of a bought item, plus ``weight`` times the mean of max(S - margin, 0) of the others.

    Scores are cosines. The margin lets negatives alone that are far enough already, so that many can be drawn.

    Mao et al., SimpleX: a simple and strong baseline for collaborative filtering, CIKM 2021.
    """

    def __init__(self, margin: float = 0.4, weight: float = 150.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin, self.weight = margin, weight

    def parts(self, scores: Any, bought: Any, other: Any) -> list[AnchorSums]:
        """The bought items, and each row's mean over the others."""
        if self.check:
            largest = tf.reduce_max(tf.where(bought | other, tf.abs(scores), tf.zeros_like(scores)))
            require(
                largest < 1.01,
                "CCL needs cosines, from -1 to 1, got scores up to {}: use topkin.models.ops.cosine.CosineRows()",
                largest,
            )
        push = self.weight * excess_over(scores, tf.cast(other, scores.dtype), self.margin)
        return [sums_of(1.0 - scores, bought), sums_of(push, tf.reduce_any(other, axis=1))]


@serializable
class BPR(ListLoss):
    """Each bought item above each other of its row: log(1 + exp(S_other - S_bought)).

    Rendle et al., BPR: Bayesian personalized ranking from implicit feedback, UAI 2009.
    """

    def parts(self, scores: Any, bought: Any, other: Any) -> list[AnchorSums]:
        """The pairs."""
        pairs = tf.logical_and(bought[:, :, None], other[:, None, :])
        return [sums_of(tf.nn.softplus(scores[:, None, :] - scores[:, :, None]), pairs)]


@serializable
class SampledSoftmax(Loss):
    """Cross-entropy of each user's item among the items of the batch, corrected for how often they are drawn.

    y_true (n,): the items' numbers. y_pred (n, 2, d): user and item. A popular item is a negative in most
    batches and would be learned away; taking log(n · q) off its logit, q its share of ``counts``, undoes
    that. Columns of the row's own item are no negatives of it.
    counts: (items,), how often each item is a target; None for no correction. An entry of 0 is taken as ½.

    Bengio and Senécal, Adaptive importance sampling to accelerate training of a neural probabilistic language
    model, 2008; Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations,
    RecSys 2019.
    """

    def __init__(
        self,
        counts: Any = None,
        temperature: float = 0.1,
        *,
        distance: Distance | None = None,
        reducer: Reducer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.counts = None if counts is None else np.asarray(counts)
        if self.counts is not None and (self.counts.ndim != 1 or not (self.counts >= 0).all()):
            raise ValueError(f"counts must be (items,) numbers of at least 0, got shape {self.counts.shape}")
        self.temperature = temperature
        self.distance, self.reducer = distance or Cosine(), reducer or Mean()

    def compute(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """See the class."""
        users, items = views(predictions, compute_dtype(predictions, self._asked))
        ids = flat_labels(labels)
        compared = compare(ids, users, ids, items, weights=weights, check=self.check, dtype=self._asked)
        logits = -self.distance.dissimilarity(users, items) / self.temperature
        if self.counts is not None:
            logits -= self._log_expected(ids, logits.dtype)[None, :]
        losses = softmax_against(tf.linalg.diag_part(logits), logits, compared.different)
        return self.reducer(sums_of(losses), ids, compared.weights)

    def _log_expected(self, ids: Any, dtype: Any) -> Any:
        """The logarithm of how often each item is expected in a batch, (n,)."""
        assert self.counts is not None
        ids = tf.cast(ids, tf.int64)
        if self.check:
            require(
                tf.reduce_all((ids >= 0) & (ids < len(self.counts))),
                "items must number counts, 0 to {}, got {} to {}: pass a count for each item",
                len(self.counts) - 1,
                tf.reduce_min(ids),
                tf.reduce_max(ids),
            )
        counts = np.maximum(self.counts.astype(np.float64), 0.5)
        log_share = tf.gather(tf.constant(np.log(counts / counts.sum()), dtype), ids)
        return log_share + tf.math.log(tf.cast(tf.shape(ids)[0], dtype))
