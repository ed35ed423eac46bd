"""Losses of recommendation: one user's scores of bought and of other items."""

from typing import Any

import tensorflow as tf
from numpy.typing import ArrayLike

from topkin.models.metric_learning.losses.base import Loss, only_where
from topkin.models.metric_learning.losses.softmax import InfoNCE
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.pairwise import (
    compute_dtype,
    counts_of,
    finite,
    log_share,
    require,
    row_weights,
    same_length,
)
from topkin.models.metric_learning.reducers import AnchorSums, Mean, Reducer, sums_of
from topkin.models.metric_learning.serialization import Tensor, serializable


class ListLoss(Loss):
    """A loss of one user's candidates: the interface; a subclass has :meth:`parts`.

    y_true (n, c) says of each candidate 1 bought, 0 not, below 0 not there; y_pred (n, c) scores.

    Args:
        reducer: the mean where None.
        **kwargs: of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> round(float(losses.BPR()([[1, 0, -1]], [[0.9, 0.4, 0.0]])), 4)
        0.4741
    """

    def __init__(self, *, reducer: Reducer | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reducer: Reducer = part("reducer", reducer) or Mean()

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        relevant = tf.convert_to_tensor(labels)
        if relevant.dtype == tf.string:
            raise TypeError(f"{type(self).__name__} reads 1, 0 or -1 for each candidate, got text: say which is bought")
        if predictions.shape.rank != 2 or relevant.shape.rank != 2 or not _compatible(relevant, predictions):
            raise ValueError(
                f"{type(self).__name__} reads 1, 0 or -1 for each candidate and its score, (n, candidates) both, "
                f"got shapes {relevant.shape} and {predictions.shape}"
            )
        scores = tf.cast(predictions, compute_dtype(predictions, self._own_dtype))
        same_length(relevant, scores, "labels and scores")
        if self.check:
            finite(scores, "scores")
            if relevant.dtype.is_floating:
                finite(relevant, "labels")
        counts = self.teaches(
            tf.reduce_any(relevant > 0),
            "a batch must hold a bought item, got none in {} rows: y_true marks it with 1",
            tf.shape(relevant)[0],
        )
        parts = self.parts(scores, relevant > 0, tf.equal(relevant, 0))
        weights = row_weights(weights, scores, check=self.check)
        return only_where(counts, tf.add_n([self.reducer(part, None, weights) for part in parts]))

    def parts(self, scores: Tensor, bought: Tensor, other: Tensor) -> list[AnchorSums]:
        """What each row's losses sum up to. bought, other: (n, c) bool."""
        raise NotImplementedError


def _compatible(a: Tensor, b: Tensor) -> bool:
    return bool(a.shape[1:].is_compatible_with(b.shape[1:]))


@serializable
class CCL(ListLoss):
    """Cosine contrastive: 1 - S of a bought item, plus ``weight`` times the mean of max(S - margin, 0) of the others.

    Scores are cosines. The margin lets negatives alone that are far enough already, so that many can be drawn.

    Mao et al., SimpleX: a simple and strong baseline for collaborative filtering, CIKM 2021.

    Args:
        margin: negatives of a lower cosine are let alone.
        weight: of the negatives' mean.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> round(float(losses.CCL()([[1, 0, 0]], [[0.9, 0.5, 0.1]])), 4)
        7.6
    """

    def __init__(self, margin: float = 0.4, weight: float = 150.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin, self.weight = margin, weight

    def parts(self, scores: Tensor, bought: Tensor, other: Tensor) -> list[AnchorSums]:
        """The bought items, and each row's mean over the others."""
        if self.check:
            largest = tf.reduce_max(tf.where(bought | other, tf.abs(scores), tf.zeros_like(scores)))
            require(
                largest < 1.01,
                "CCL needs cosines, from -1 to 1, got scores up to {}: use topkin.models.ops.cosine.CosineRows()",
                largest,
            )
        counted = tf.cast(other, scores.dtype)
        excess = tf.reduce_sum(tf.nn.relu(scores - self.margin) * counted, axis=-1)
        push = self.weight * tf.math.divide_no_nan(excess, tf.reduce_sum(counted, axis=-1))
        return [sums_of(1.0 - scores, bought), sums_of(push, tf.reduce_any(other, axis=1))]


@serializable
class BPR(ListLoss):
    """Each bought item above each other of its row: log(1 + exp(S_other - S_bought)).

    Rendle et al., BPR: Bayesian personalized ranking from implicit feedback, UAI 2009.

    Examples:
        >>> from topkin.models import losses
        >>> round(float(losses.BPR()([[1, 0, 0]], [[0.9, 0.5, 0.1]])), 4)
        0.4421
    """

    def parts(self, scores: Tensor, bought: Tensor, other: Tensor) -> list[AnchorSums]:
        pairs = tf.logical_and(bought[:, :, None], other[:, None, :])
        return [sums_of(tf.nn.softplus(scores[:, None, :] - scores[:, :, None]), pairs)]


@serializable
class SampledSoftmax(InfoNCE):
    """Cross-entropy of each user's item among the items of the batch, corrected for how often they are drawn.

    y_true (n,): the items' numbers. y_pred (n, 2, d): user and item. A popular item is a negative in most
    batches and would be learned away; taking log(n · q) off its logit, q its share of ``counts``, undoes
    that. Columns of the row's own item are no negatives of it.

    Bengio and Senécal, Adaptive importance sampling to accelerate training of a neural probabilistic language
    model, 2008; Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations,
    RecSys 2019.

    Args:
        counts: (items,), how often each item is a target; None for no correction. An entry of 0 is taken as ½.
        temperature: above 0.
        **kwargs: ``distance``, ``reducer`` of :class:`InfoNCE`; ``check``, ``dtype`` of :class:`Loss`.

    Raises:
        ValueError: a temperature of 0 or below, or counts that are none.

    Examples:
        >>> from topkin.models import losses
        >>> views = np.array([[[1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [0.6, 0.8]]])
        >>> round(float(losses.SampledSoftmax(counts=[9, 1])([0, 1], views)), 4)
        0.4058
    """

    def __init__(self, counts: ArrayLike | None = None, temperature: float = 0.1, **kwargs: Any) -> None:
        super().__init__(temperature, symmetric=False, **kwargs)
        self.counts = None if counts is None else counts_of(counts)

    @classmethod
    def options(cls) -> list[str]:
        """The user looks for the item, never the other way round."""
        return [name for name in super().options() if name != "symmetric"]

    def logits(self, labels: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(n, n), less the logarithm of how often each item is expected in a batch."""
        logits = super().logits(labels, first, second)
        if self.counts is None:
            return logits
        expected = log_share(self.counts, labels, logits.dtype, check=self.check)
        return logits - (expected + tf.math.log(tf.cast(tf.shape(labels)[0], logits.dtype)))[None, :]
