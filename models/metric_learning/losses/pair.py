"""Losses with margins over the pairs and triplets of a batch; each is distance x miner x reducer.

    loss = Triplet(0.2, distance=Cosine(), miner=SemiHard(0.2), reducer=MeanOfNonZero())
    model.compile("adam", loss=loss)

Those made of a softmax are in ``topkin.models.metric_learning.losses.softmax``.
"""

from typing import Any

import tensorflow as tf

from topkin.models.metric_learning.distances import Cosine, Distance, Euclidean, InnerProduct
from topkin.models.metric_learning.losses.base import Loss, MetricLoss, log_sum_exp
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.pairwise import (
    Comparison,
    compute_dtype,
    finite,
    flat_labels,
    require,
    row_weights,
    same_length,
    unit,
)
from topkin.models.metric_learning.reducers import AnchorSums, Mean, MeanOfNonZero, Reducer, sums_by_anchor, sums_of
from topkin.models.metric_learning.serialization import Tensor, serializable
from topkin.models.metric_learning.tuples import TripletList


@serializable
class Contrastive(MetricLoss):
    """Positive pairs within a margin of each other, negative pairs at least a margin apart.

    In distance D: max(D - positive_margin, 0) of a positive pair and max(negative_margin - D, 0) of a
    negative one, reduced each by itself and added; of a similarity both are turned round.

    Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006.

    Args:
        positive_margin: 0 for distances, 1 for similarities where None.
        negative_margin: 1 for distances, 0 for similarities where None.
        squared: half of the squares, as the paper does.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.Contrastive()(labels, rows)), 4)
        0.4675
    """

    default_distance = Euclidean
    default_reducer: type[Reducer] = MeanOfNonZero

    def __init__(
        self,
        positive_margin: float | None = None,
        negative_margin: float | None = None,
        squared: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        nearest, apart = (1.0, 0.0) if self.distance.larger_is_nearer else (0.0, 1.0)
        self.positive_margin = nearest if positive_margin is None else positive_margin
        self.negative_margin = apart if negative_margin is None else negative_margin
        self.squared = squared

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        far, (positive, negative) = self.dissimilarity(comparison), self.masks(comparison)
        sign = self.distance.sign
        losses = (tf.nn.relu(far - sign * self.positive_margin), tf.nn.relu(sign * self.negative_margin - far))
        if self.squared:
            losses = (tf.square(losses[0]) / 2.0, tf.square(losses[1]) / 2.0)
        return [sums_of(losses[0], positive), sums_of(losses[1], negative)]


@serializable
class PairContrastive(Loss):
    """The contrastive loss of pairs that are made already: y_true (n,) is 1 for alike, y_pred (n,) their distance.

    The mean of (Y D² + (1 - Y) max(margin - D, 0)²) / 2: the loss of a Siamese network.

    Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006.

    Args:
        margin: at least how far apart different pairs are to be.
        reducer: the mean where None.
        **kwargs: of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> round(float(losses.PairContrastive(margin=1.0)([1, 0], [0.2, 0.6])), 4)
        0.05
    """

    def __init__(self, margin: float = 1.0, *, reducer: Reducer | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = margin
        self.reducer: Reducer = part("reducer", reducer) or Mean()

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """(n,) or (n, 1) each."""
        distances = flat_labels(predictions, "distances", check=False)
        distances = tf.cast(distances, compute_dtype(distances, self._own_dtype))
        labels = flat_labels(labels, check=self.check)
        if labels.dtype == tf.string:
            raise TypeError("labels of pairs must be 1 for alike and 0 for others, got text: compare the two labels")
        same_length(labels, distances, "labels and distances")
        alike = tf.cast(labels, distances.dtype)
        if self.check:
            finite(distances, "distances")
            require(
                tf.reduce_all((alike >= 0) & (alike <= 1)),
                "labels of pairs must be 1 for alike and 0 for others, got {} to {}: change them",
                tf.reduce_min(alike),
                tf.reduce_max(alike),
            )
        apart = tf.square(tf.nn.relu(self.margin - distances))
        losses = (alike * tf.square(distances) + (1.0 - alike) * apart) / 2.0
        return self.reducer(sums_of(losses), labels, row_weights(weights, distances, check=self.check))


@serializable
class Triplet(MetricLoss):
    """The positive nearer than the negative by a margin: max(D(a, p) - D(a, n) + margin, 0).

    All triplets of a batch are n · m · m numbers, 64 MB for 256 rows: for larger batches take BatchHard, which
    lists few.

    Weinberger and Saul, Distance metric learning for large margin nearest neighbor classification, 2009;
    Schroff et al., FaceNet, CVPR 2015; Hermans et al., In defense of the triplet loss, 2017 (soft margin).

    Args:
        margin: in the distance's unit.
        soft: log(1 + exp(·)) instead of max(·, 0); with margin 0 that is the soft margin.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.Triplet(margin=0.2)(labels, rows)), 4)
        0.462
    """

    default_distance = Euclidean
    default_reducer: type[Reducer] = MeanOfNonZero

    def __init__(self, margin: float = 0.05, soft: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin, self.soft = margin, soft

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        far = self.dissimilarity(comparison)
        penalty = tf.nn.softplus if self.soft else tf.nn.relu
        choice = self.choice(comparison)
        if isinstance(choice, TripletList):
            a, p, n, valid = choice
            gap = tf.gather_nd(far, tf.stack([a, p], axis=1)) - tf.gather_nd(far, tf.stack([a, n], axis=1))
            return [sums_by_anchor(penalty(gap + self.margin), a, tf.shape(far)[0], valid)]
        gaps = far[:, :, None] - far[:, None, :]
        return [sums_of(penalty(gaps + self.margin), choice.cube())]


@serializable
class LiftedStructure(MetricLoss):
    """Each positive pair against all negatives of both its ends.

    Of a pair (a, p): half the square of max(D(a, p) - positive_margin + log of the sum of
    exp(negative_margin - D) over the negatives of a and of p, 0). Against references only those of a count.

    Song et al., Deep metric learning via lifted structured feature embedding, CVPR 2016.

    Args:
        negative_margin: in the distance's unit, as ``positive_margin``.
        positive_margin: see above.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.LiftedStructure()(labels, rows)), 4)
        1.3428
    """

    default_distance = Euclidean

    def __init__(self, negative_margin: float = 1.0, positive_margin: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_margin, self.positive_margin = negative_margin, positive_margin

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        far, (positive, negative) = self.dissimilarity(comparison), self.masks(comparison)
        sign = self.distance.sign
        crowd = log_sum_exp(sign * self.negative_margin - far, negative)[:, None]
        if comparison.own:
            crowd = _both(crowd)
        violation = far - sign * self.positive_margin + crowd
        return [sums_of(tf.square(tf.nn.relu(violation)) / 2.0, positive)]


def _both(crowd: Tensor) -> Tensor:
    """log(exp(c_i) + exp(c_j)) of (n, 1), as (n, n)."""
    larger = tf.maximum(crowd, tf.transpose(crowd))
    smaller = tf.minimum(crowd, tf.transpose(crowd))
    return larger + tf.math.log1p(tf.exp(smaller - larger))


@serializable
class MultiSimilarity(MetricLoss):
    """Positives and negatives of an anchor, each weighed by how much they stand out among the others.

    Of an anchor: log(1 + Σ exp(-alpha (S - base))) / alpha over its positives plus
    log(1 + Σ exp(beta (S - base))) / beta over its negatives. Made to go with MultiSimilarityMiner.

    Wang et al., Multi-similarity loss with general pair weighting for deep metric learning, CVPR 2019.

    Args:
        alpha: how sharply positives are weighed.
        beta: how sharply negatives are weighed.
        base: the similarity between both.
        **kwargs: ``distance``, ``miner``, ``reducer`` of :class:`MetricLoss`; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.MultiSimilarity()(labels, rows)), 4)
        0.3994
    """

    def __init__(self, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha, self.beta, self.base = alpha, beta, base

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        far, (positive, negative) = self.dissimilarity(comparison), self.masks(comparison)
        base = self.distance.sign * self.base
        pull = tf.nn.softplus(log_sum_exp(self.alpha * (far - base), positive)) / self.alpha
        push = tf.nn.softplus(log_sum_exp(self.beta * (base - far), negative)) / self.beta
        return [sums_of(pull + push)]


@serializable
class Circle(MetricLoss):
    """Every pair of a positive and a negative similarity, each weighed by how far it is from its optimum.

    Of an anchor: log(1 + Σ exp(gamma a_n (S_n - m)) Σ exp(-gamma a_p (S_p - 1 + m))), with the weights
    a_p = max(1 + m - S_p, 0) and a_n = max(S_n + m, 0), which have no gradient. Needs a cosine: inner
    products only of unit rows. Anchors without a positive or a negative are 0.

    Sun et al., Circle loss: a unified perspective of pair similarity optimization, CVPR 2020.

    Args:
        m: the margin.
        gamma: the scale.
        distance: Cosine() or InnerProduct().
        **kwargs: of :class:`MetricLoss`.

    Raises:
        ValueError: another distance.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> round(float(losses.Circle()(labels, rows)), 4)
        19.2
    """

    default_reducer: type[Reducer] = MeanOfNonZero

    def __init__(
        self, m: float = 0.4, gamma: float = 80.0, *, distance: Distance | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(distance=distance, **kwargs)
        if not isinstance(self.distance, Cosine | InnerProduct):
            raise ValueError(
                f"Circle must compare by Cosine() or InnerProduct(), got {self.distance!r}: its optima are cosines"
            )
        self.m, self.gamma = m, gamma

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        if self.check and isinstance(self.distance, InnerProduct):
            unit(comparison.vectors, "Circle by InnerProduct")
            unit(comparison.references, "Circle by InnerProduct")
        similar, (positive, negative) = -self.dissimilarity(comparison), self.masks(comparison)
        held = tf.stop_gradient(similar)
        pull = -self.gamma * tf.nn.relu(1.0 + self.m - held) * (similar - 1.0 + self.m)
        push = self.gamma * tf.nn.relu(held + self.m) * (similar - self.m)
        losses = tf.nn.softplus(log_sum_exp(pull, positive) + log_sum_exp(push, negative))
        return [sums_of(losses)]
