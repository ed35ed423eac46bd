"""Losses against one trained vector for each class: labels are 0 to classes - 1, predictions come from a head.

The trained weights are in the head, ``loss.head(classes)``, a layer of the model
(``topkin.models.metric_learning.heads``):
these losses are functions of what it gives out, and hold nothing that could be lost when a model is saved.
"""

import math
from typing import Any

import keras
import tensorflow as tf

from topkin.models.metric_learning.heads import Centres, Proxies, SoftCentres, SubCentres
from topkin.models.metric_learning.losses.base import Loss, log_sum_exp
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.pairwise import (
    compute_dtype,
    finite,
    flat_labels,
    require,
    row_weights,
    same_length,
    whole,
)
from topkin.models.metric_learning.reducers import Mean, Reducer, sums_of
from topkin.models.metric_learning.serialization import Tensor, serializable


class ProxyLoss(Loss):
    """A loss against one trained vector for each class: a subclass has :meth:`values` of cosines (n, classes).

    Labels number the classes from 0; predictions are what ``loss.head(classes)``, a layer of the model, gives.

    Args:
        reducer: the mean where None.
        **kwargs: of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> losses.ArcFace().head(classes=3)(np.ones((2, 4))).shape
        TensorShape([2, 3])
    """

    def __init__(self, *, reducer: Reducer | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reducer: Reducer = part("reducer", reducer) or Mean()

    def head(self, classes: int | None = None) -> keras.layers.Layer:
        """The layer that turns embeddings into cosines with the classes' proxies. Raises ValueError without classes."""
        return Proxies(_known(classes, self))

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """Labels (n,) integers, cosines (n, classes)."""
        labels, cosines = self.checked(labels, predictions, 2, "cosines with the proxies, (n, classes)")
        if self.check:
            largest = tf.reduce_max(tf.abs(cosines))
            require(
                largest < 1.01,
                f"{type(self).__name__} needs cosines, from -1 to 1, got numbers up to {{}}: "
                "end the model with loss.head(classes)",
                largest,
            )
        target = tf.one_hot(labels, tf.shape(cosines)[1], on_value=True, off_value=False, dtype=tf.bool)
        return self.reducer(
            sums_of(self.values(cosines, target)), labels, row_weights(weights, cosines, check=self.check)
        )

    def checked(self, labels: Tensor, predictions: Tensor, axes: int, what: str) -> tuple[Tensor, Tensor]:
        """Labels as (n,) integers and predictions in the dtype to compute in, where they fit together."""
        labels = flat_labels(labels, check=self.check)
        if predictions.shape.rank != axes:
            raise ValueError(
                f"{type(self).__name__} reads {what}, got shape {predictions.shape}: "
                "end the model with loss.head(classes)"
            )
        predictions = tf.cast(predictions, compute_dtype(predictions, self._own_dtype))
        same_length(labels, predictions)
        labels = whole(labels, type(self).__name__, check=self.check)
        if self.check:
            finite(predictions, "predictions")
            classes = tf.shape(predictions, out_type=tf.int64)[1]
            require(
                tf.reduce_all((labels >= 0) & (labels < classes)),
                "labels must number the head's {} classes from 0, got {} to {}: "
                "number them, or give the head more classes",
                classes,
                tf.reduce_min(labels),
                tf.reduce_max(labels),
            )
        return labels, predictions

    def values(self, cosines: Tensor, target: Tensor) -> Tensor:
        """The loss of each row, (n,). target: (n, classes) bool, the row's class."""
        raise NotImplementedError


def _known(classes: int | None, loss: Loss) -> int:
    if classes is None:
        raise ValueError(f"the head of {type(loss).__name__} needs the number of classes: loss.head(classes=10)")
    return classes


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return tf.reduce_logsumexp(logits, axis=1) - tf.reduce_sum(tf.where(target, logits, tf.zeros_like(logits)), axis=1)


@serializable
class CosFace(ProxyLoss):
    """Softmax of scaled cosines, the target's less a margin. Margin 0 is the normalised softmax.

    Wang et al., CosFace: large margin cosine loss for deep face recognition, CVPR 2018;
    Wang et al., Additive margin softmax for face verification, 2018.

    Args:
        margin: taken off the target's cosine.
        scale: of the cosines.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> cosines = np.array([[0.9, 0.1], [0.2, 0.6]])
        >>> round(float(losses.CosFace()([0, 1], cosines)), 4)
        0.02
    """

    def __init__(self, margin: float = 0.35, scale: float = 64.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin, self.scale = margin, scale

    def values(self, cosines: Tensor, target: Tensor) -> Tensor:
        return _cross_entropy(self.scale * tf.where(target, cosines - self.margin, cosines), target)


@serializable
class AMSoftmax(CosFace):
    """:class:`CosFace` under its other name, with the defaults of that paper: margin 0.35, scale 30.

    Args:
        margin: taken off the target's cosine.
        scale: of the cosines.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> cosines = np.array([[0.9, 0.1], [0.2, 0.6]])
        >>> round(float(losses.AMSoftmax()([0, 1], cosines)), 4)
        0.1007
    """

    def __init__(self, margin: float = 0.35, scale: float = 30.0, **kwargs: object) -> None:
        super().__init__(margin, scale, **kwargs)


@serializable
class ArcFace(ProxyLoss):
    """Softmax of scaled cosines, the target's angle increased by a margin.

    Past pi - margin, where the cosine would rise again, it goes on as cos(angle) - margin · sin(margin), so that
    a row further off never costs less.

    Deng et al., ArcFace: additive angular margin loss for deep face recognition, CVPR 2019.

    Args:
        margin: in radians, from 0 to below pi.
        scale: of the cosines.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Raises:
        ValueError: another margin.

    Examples:
        >>> from topkin.models import losses
        >>> cosines = np.array([[0.9, 0.1], [0.2, 0.6]])
        >>> round(float(losses.ArcFace()([0, 1], cosines)), 4)
        1.8366
    """

    def __init__(self, margin: float = 0.5, scale: float = 64.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= margin < math.pi:
            raise ValueError(f"margin must be an angle from 0 to pi, in radians, got {margin}")
        self.margin, self.scale = margin, scale

    def values(self, cosines: Tensor, target: Tensor) -> Tensor:
        square = 1.0 - tf.square(tf.clip_by_value(cosines, -1.0, 1.0))
        # The slope of the root is infinite at 0, where row and proxy point the same or the opposite way.
        inside = square > 1e-12
        sines = tf.where(inside, tf.sqrt(tf.where(inside, square, tf.ones_like(square))), tf.zeros_like(square))
        moved = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        past = cosines < math.cos(math.pi - self.margin)
        moved = tf.where(past, cosines - self.margin * math.sin(self.margin), moved)
        return _cross_entropy(self.scale * tf.where(target, moved, cosines), target)


@serializable
class SubCenterArcFace(ArcFace):
    """:class:`ArcFace` with several proxies a class, of which a row's nearest counts: a class may have several kinds.

    Deng et al., Sub-center ArcFace: boosting face recognition by large-scale noisy web faces, ECCV 2020.

    Args:
        centres: proxies of a class; 1 is :class:`ArcFace`.
        margin: in radians, from 0 to below pi.
        scale: of the cosines.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Raises:
        ValueError: another margin, or centres below 1.

    Examples:
        >>> from topkin.models import losses
        >>> loss = losses.SubCenterArcFace(centres=2)
        >>> loss.head(classes=3)(np.ones((4, 8))).shape
        TensorShape([4, 3])
    """

    def __init__(self, centres: int = 3, margin: float = 0.5, scale: float = 64.0, **kwargs: object) -> None:
        super().__init__(margin, scale, **kwargs)
        if centres < 1:
            raise ValueError(f"centres must be at least 1, got {centres}")
        self.centres = centres

    def head(self, classes: int | None = None) -> keras.layers.Layer:
        """The layer that gives each class's largest cosine. Raises ValueError without classes."""
        return SubCentres(_known(classes, self), self.centres)


@serializable
class ProxyNCA(ProxyLoss):
    """A row nearer to its class's proxy than to the others', in squared distance of unit rows, D² = 2 - 2 cosine.

    The mean of -log(exp(-D²_own / T) / Σ over the other proxies of exp(-D² / T)). The own proxy is not in the sum, so
    that it falls below 0 where a row is learned.

    Movshovitz-Attias et al., No fuss distance metric learning using proxies, ICCV 2017.

    Args:
        temperature: T, above 0.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Raises:
        ValueError: a temperature of 0 or below.

    Examples:
        >>> from topkin.models import losses
        >>> cosines = np.array([[0.9, 0.1], [0.2, 0.6]])
        >>> round(float(losses.ProxyNCA()([0, 1], cosines)), 4)
        -1.2
    """

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def values(self, cosines: Tensor, target: Tensor) -> Tensor:
        logits = (2.0 * cosines - 2.0) / self.temperature
        own = tf.reduce_sum(tf.where(target, logits, tf.zeros_like(logits)), axis=1)
        return log_sum_exp(logits, tf.logical_not(target)) - own


@serializable
class ProxyNCAPlus(ProxyNCA):
    """ProxyNCA++: :class:`ProxyNCA` as the probability of the own proxy among all, at a low temperature.

    The same as :class:`CosFace` with margin 0 and scale 2 / T. The paper's other advice is for the encoder and the
    training: layer normalisation before the last layer, max pooling, a learning rate of the proxies of its own.

    Teh, DeVries and Taylor, ProxyNCA++: revisiting and revitalizing proxy neighborhood component analysis, ECCV 2020.

    Args:
        temperature: T, above 0.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Raises:
        ValueError: a temperature of 0 or below.

    Examples:
        >>> from topkin.models import losses
        >>> cosines = np.array([[0.9, 0.1], [0.2, 0.6]])
        >>> round(float(losses.ProxyNCAPlus(temperature=0.5)([0, 1], cosines)), 4)
        0.1119
    """

    def __init__(self, temperature: float = 1 / 9, **kwargs: object) -> None:
        super().__init__(temperature, **kwargs)

    def values(self, cosines: Tensor, target: Tensor) -> Tensor:
        return _cross_entropy((2.0 * cosines - 2.0) / self.temperature, target)


@serializable
class ProxyAnchor(ProxyLoss):
    """Each proxy is an anchor, the rows of the batch its positives and negatives.

    The mean over proxies with a positive of log(1 + Σ exp(-alpha (S - margin))) over their positives, plus
    the mean over all proxies of log(1 + Σ exp(alpha (S + margin))) over their negatives. A sample weight
    multiplies its row's terms of the sums.

    Kim et al., Proxy anchor loss for deep metric learning, CVPR 2020.

    Args:
        margin: of the cosines.
        alpha: the scale.
        **kwargs: ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> cosines = np.array([[0.9, 0.1], [0.2, 0.6]])
        >>> round(float(losses.ProxyAnchor()([0, 1], cosines)), 4)
        8.0009
    """

    def __init__(self, margin: float = 0.1, alpha: float = 32.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin, self.alpha = margin, alpha

    @classmethod
    def options(cls) -> list[str]:
        """Proxies are the anchors: there is nothing to reduce by rows."""
        return [name for name in super().options() if name != "reducer"]

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """Labels (n,) integers, cosines (n, classes)."""
        labels, cosines = self.checked(labels, predictions, 2, "cosines with the proxies, (n, classes)")
        target = tf.one_hot(labels, tf.shape(cosines)[1], on_value=True, off_value=False, dtype=tf.bool)
        other = tf.logical_not(target)
        weights = row_weights(weights, cosines, check=self.check)
        amount = tf.zeros_like(cosines)
        if weights is not None:
            target, other = (tf.logical_and(mask, weights[:, None] > 0) for mask in (target, other))
            amount += tf.math.log(tf.where(weights > 0, weights, tf.ones_like(weights)))[:, None]
        pull = tf.nn.softplus(log_sum_exp(amount - self.alpha * (cosines - self.margin), target, axis=0))
        push = tf.nn.softplus(log_sum_exp(amount + self.alpha * (cosines + self.margin), other, axis=0))
        present = tf.reduce_sum(tf.cast(tf.reduce_any(target, axis=0), cosines.dtype))
        return tf.math.divide_no_nan(tf.reduce_sum(pull), present) + tf.reduce_mean(push)


@serializable
class Center(ProxyLoss):
    """Softmax cross-entropy, plus ``weight`` times half the squared distance of each row to its class's centre.

    The centres are trained by the optimizer with everything else.

    Wen et al., A discriminative feature learning approach for deep face recognition, ECCV 2016.

    Args:
        weight: of the distances to the centres beside the softmax's 1.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Examples:
        >>> from topkin.models import losses
        >>> loss = losses.Center()
        >>> round(float(loss([0, 1], loss.head(classes=2)(np.zeros((2, 4))))), 4)
        0.6931
    """

    def __init__(self, weight: float = 0.003, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight

    def head(self, classes: int | None = None) -> keras.layers.Layer:
        """The layer that gives logits and squared distances to the centres. Raises ValueError without classes."""
        return Centres(_known(classes, self))

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """Labels (n,) integers, predictions (n, classes, 2)."""
        labels, predictions = self.checked(
            labels, predictions, 3, "logits and squared distances to centres, (n, classes, 2)"
        )
        logits, squares = predictions[..., 0], predictions[..., 1]
        target = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
        near = tf.reduce_sum(tf.where(target, squares, tf.zeros_like(squares)), axis=1)
        losses = _cross_entropy(logits, target) + self.weight / 2.0 * near
        return self.reducer(sums_of(losses), labels, row_weights(weights, logits, check=self.check))


@serializable
class SoftTriple(ProxyLoss):
    """Softmax over classes of several proxies each, the nearer the more they count, which few are kept apart.

    Cross-entropy of ``scale`` times the relaxed cosines, the target's less a margin, plus ``pull`` times the mean
    distance of a class's proxies from each other: those that are not needed fall together.

    Qian et al., SoftTriple loss: deep metric learning without triplet sampling, ICCV 2019.

    Args:
        centres: proxies of a class.
        scale: lambda of the paper.
        temperature: gamma: lower, and the nearest proxy alone counts.
        margin: delta, taken off the target's cosine.
        pull: of the proxies of a class to each other; the paper's tau is twice as much, for it counts each pair once
            and divides by all.
        **kwargs: ``reducer``; ``check``, ``dtype`` of :class:`Loss`.

    Raises:
        ValueError: centres below 1, or a temperature of 0 or below.

    Examples:
        >>> from topkin.models import losses
        >>> loss = losses.SoftTriple(centres=2)
        >>> loss.head(classes=3)(np.ones((4, 8))).shape
        TensorShape([4, 3, 2])
    """

    def __init__(
        self,
        centres: int = 10,
        scale: float = 20.0,
        temperature: float = 0.1,
        margin: float = 0.01,
        pull: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if centres < 1 or not temperature > 0:
            raise ValueError(f"centres must be at least 1 and temperature above 0, got {centres} and {temperature}")
        self.centres, self.scale, self.temperature, self.margin, self.pull = centres, scale, temperature, margin, pull

    def head(self, classes: int | None = None) -> keras.layers.Layer:
        """The layer that gives relaxed cosines and the spread of each class's proxies. Raises without classes."""
        return SoftCentres(_known(classes, self), self.centres, self.temperature)

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """Labels (n,) integers, predictions (n, classes, 2)."""
        labels, predictions = self.checked(
            labels, predictions, 3, "relaxed cosines and the spread of proxies, (n, classes, 2)"
        )
        cosines = predictions[..., 0]
        target = tf.one_hot(labels, tf.shape(cosines)[1], on_value=True, off_value=False, dtype=tf.bool)
        losses = _cross_entropy(self.scale * tf.where(target, cosines - self.margin, cosines), target)
        losses = self.reducer(sums_of(losses), labels, row_weights(weights, cosines, check=self.check))
        return losses + self.pull * tf.reduce_mean(predictions[..., 1])
