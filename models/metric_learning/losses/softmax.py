"""Losses made of a softmax over a batch: N-pair, NT-Xent, InfoNCE, soft nearest neighbour."""

from typing import Any

import tensorflow as tf

from topkin.models.metric_learning.distances import Cosine, Distance, InnerProduct, SquaredEuclidean
from topkin.models.metric_learning.losses.base import Loss, MetricLoss, log_sum_exp, only_where
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.pairwise import Comparison, compare, compute_dtype, flat_labels
from topkin.models.metric_learning.reducers import AnchorSums, Mean, PerAnchor, Reducer, sums_of
from topkin.models.metric_learning.serialization import Tensor, serializable


@serializable
class NTXent(MetricLoss):
    """Cross-entropy of each positive pair against the negatives of its anchor.

    Of a pair (a, p): -log(exp(S_p / T) / (exp(S_p / T) + Σ exp(S_n / T))); other positives of the anchor are
    left out of the sum. A distance counts as its negative. Two views of each row with a label of their own
    give SimCLR's loss.

    Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020.

    Args:
        temperature: above 0; lower looks at the hardest negatives only.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.NTXent()(labels, rows)), 4)
        1.4566
    """

    def __init__(self, temperature: float = 0.07, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        positive, negative = self.masks(comparison)
        logits = -self.dissimilarity(comparison) / self.temperature
        crowd = log_sum_exp(logits, negative)[:, None]
        return [sums_of(tf.nn.softplus(crowd - logits), positive)]


@serializable
class SupCon(NTXent):
    """Supervised contrastive: cross-entropy of each positive against all other rows, the other positives among them.

    Of an anchor i the mean over its positives p of -log(exp(S_ip / T) / Σ over all others a of exp(S_ia / T)), then the
    mean over the anchors that have any: L_out of the paper. :class:`NTXent` leaves other positives out of the sum.

    Khosla et al., Supervised contrastive learning, NeurIPS 2020.

    Args:
        temperature: above 0; lower looks at the hardest rows only.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.SupCon(temperature=0.5)(labels, rows)), 4)
        0.5881
    """

    default_reducer: type[Reducer] = PerAnchor

    def __init__(self, temperature: float = 0.1, **kwargs: object) -> None:
        super().__init__(temperature, **kwargs)

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        positive, negative = self.masks(comparison)
        logits = -self.dissimilarity(comparison) / self.temperature
        crowd = log_sum_exp(logits, tf.logical_or(positive, negative))[:, None]
        return [sums_of(crowd - logits, positive)]


@serializable
class NPair(NTXent):
    """:class:`NTXent` of plain inner products at temperature 1, with the lengths held back by ``l2``.

    With one pair a class compare anchors with positives by :meth:`forward_pairs`, as the paper does; on a whole
    batch all rows of other classes are negatives.

    Sohn, Improved deep metric learning with multi-class N-pair loss objective, NeurIPS 2016.

    Args:
        l2: times the mean squared length of the rows, halved, is added; the paper's is 0.002.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.NPair()(labels, rows)), 4)
        0.6178
    """

    default_distance: type[Distance] = InnerProduct

    def __init__(self, l2: float = 0.0, **kwargs: object) -> None:
        super().__init__(temperature=1.0, **kwargs)
        self.l2 = l2

    @classmethod
    def options(cls) -> list[str]:
        """The temperature is given."""
        return [name for name in super().options() if name != "temperature"]

    def forward(self, comparison: Comparison) -> Tensor:
        """The loss of a comparison."""
        loss = super().forward(comparison)
        for rows in (comparison.vectors,) if comparison.own else (comparison.vectors, comparison.references):
            loss += self.l2 / 2.0 * tf.reduce_mean(tf.reduce_sum(tf.square(rows), axis=1))
        return loss


def softmax_against(positive: Tensor, logits: Tensor, negative: Tensor, rows: Tensor | None = None) -> Tensor:
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


@serializable
class InfoNCE(Loss):
    """Cross-entropy of each row's two views: y_pred (n, 2, d), such as a user's embedding and the bought item's.

    The first view must find its second among the second views of all rows. y_true (n,): rows with equal labels
    are no negatives of each other; number the rows where nothing is known.

    van den Oord et al., Representation learning with contrastive predictive coding, 2018.

    Args:
        temperature: above 0.
        symmetric: add the other way round, and halve.
        distance: cosine similarity where None.
        reducer: the mean where None.
        **kwargs: of :class:`Loss`.

    Raises:
        ValueError: a temperature of 0 or below, or views of another shape.

    Examples:
        >>> from topkin.models import losses
        >>> views = np.array([[[1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [0.6, 0.8]]])
        >>> round(float(losses.InfoNCE()([0, 1], views)), 4)
        0.0558
    """

    def __init__(
        self,
        temperature: float = 0.07,
        symmetric: bool = True,
        *,
        distance: Distance | str | None = None,
        reducer: Reducer | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature, self.symmetric = temperature, symmetric
        self.distance: Distance = part("distance", distance) or Cosine()
        self.reducer: Reducer = part("reducer", reducer) or Mean()

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        first, second = views(predictions, compute_dtype(predictions, self._own_dtype))
        labels = flat_labels(labels, check=self.check)
        compared = compare(labels, first, labels, second, weights=weights, check=self.check, dtype=self._own_dtype)
        counts = self.of_two_classes(compared)
        logits = self.logits(labels, first, second)
        own = tf.linalg.diag_part(logits)
        ways = [logits, tf.transpose(logits)] if self.symmetric else [logits]
        losses = tf.add_n([softmax_against(own, way, compared.different) for way in ways]) / len(ways)
        return only_where(counts, self.reducer(sums_of(losses), labels, compared.weights))

    def logits(self, labels: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(n, n), of each first view with every second."""
        return -self.distance.dissimilarity(first, second) / self.temperature


def views(predictions: Tensor, dtype: str | None) -> tuple[Tensor, Tensor]:
    """The two views of (n, 2, d). Raises ValueError for another shape."""
    if predictions.shape.rank != 3 or predictions.shape[1] != 2:
        raise ValueError(
            f"predictions must be two views of each row, (n, 2, dim), got shape {predictions.shape}: "
            "join them with keras.ops.stack([first, second], axis=1)"
        )
    predictions = tf.cast(predictions, dtype)
    return predictions[:, 0], predictions[:, 1]


@serializable
class SoftNearestNeighbour(MetricLoss):
    """How little of each anchor's neighbourhood is of its own class.

    Of an anchor: -log(Σ exp(-D / T) over its positives by Σ exp(-D / T) over positives and negatives), in
    squared Euclidean distance. Anchors without a positive are left out.

    Frosst et al., Analyzing and improving representations with the soft nearest neighbor loss, ICML 2019;
    with T = 1 it is that of Goldberger et al., Neighbourhood components analysis, NeurIPS 2004.

    Args:
        temperature: above 0.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.SoftNearestNeighbour()(labels, rows)), 4)
        0.5881
    """

    default_distance: type[Distance] = SquaredEuclidean

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        """The anchors that have a positive."""
        positive, negative = self.masks(comparison)
        logits = -self.dissimilarity(comparison) / self.temperature
        own, others = log_sum_exp(logits, positive), log_sum_exp(logits, negative)
        return [sums_of(tf.nn.softplus(others - own), tf.reduce_any(positive, axis=1))]
