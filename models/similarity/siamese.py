"""Siamese networks: one encoder for both rows of a pair, and the distance between its two embeddings.

Bromley et al., Signature verification using a "Siamese" time delay neural network, NIPS 1993;
Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from topkin.models.metric_learning.distances import Distance, Euclidean
from topkin.models.metric_learning.samplers import PairList
from topkin.models.metric_learning.serialization import serializable
from topkin.models.ops.encoders import embedding_dim, fitting

Shape = tuple[int | None, ...]


@serializable
class RowDistance(keras.layers.Layer):
    """The distance of each row of one input from the same row of another: (n, d), (n, d) -> (n,)."""

    def __init__(self, distance: Distance | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.distance = distance or Euclidean()

    def call(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """See the class."""
        return self.distance.rows(a, b)

    def compute_output_shape(self, a_shape: Shape, b_shape: Shape | None = None) -> Shape:
        """(n,)."""
        return tuple(a_shape[:1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "distance": keras.saving.serialize_keras_object(self.distance)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RowDistance":
        """From :meth:`get_config`."""
        return cls(**{**config, "distance": keras.saving.deserialize_keras_object(config["distance"])})


@serializable
class Siamese(keras.Model):
    """A Siamese network: two inputs through one encoder, and the distance of their embeddings, (n,).

    The encoder is shared, not copied: training the network trains it. Fit it on pairs, with a loss of
    distances such as ``losses.PairContrastive``.

    Args:
        encoder: a built Keras model of one input, to embeddings (n, dim).
        distance: between the two embeddings of a pair; Euclidean unless given.

    Raises:
        ValueError: the encoder has several inputs.

    Examples:
        >>> import numpy as np
        >>> from topkin.models import Siamese, losses, mlp, samplers
        >>> rows, labels = np.zeros((6, 4, 4, 1), "uint8"), [0, 0, 0, 1, 1, 1]
        >>> network = Siamese(mlp((4, 4, 1), units=(8,)))
        >>> network.compile("adam", loss=losses.PairContrastive(margin=1.0))
        >>> history = network.fit(samplers.PairBatches(rows, labels, batch_size=4), verbose=0)
        >>> network.distances(rows, samplers.make_pairs(labels)).shape
        (12,)
    """

    def __init__(self, encoder: keras.Model, *, distance: Distance | None = None, **kwargs: object) -> None:
        embedding_dim(encoder, "the encoder of a Siamese network")
        if len(encoder.inputs) != 1:
            raise ValueError(f"the encoder of a Siamese network must have one input, got {len(encoder.inputs)}")
        shape, dtype = encoder.inputs[0].shape[1:], encoder.inputs[0].dtype
        sides = [keras.Input(shape, dtype=dtype, name=name) for name in ("first", "second")]
        between = RowDistance(distance, name="distance")
        super().__init__(inputs=sides, outputs=between(*(encoder(side) for side in sides)), **kwargs)
        self.encoder, self.distance = encoder, between.distance

    def distances(self, rows: np.ndarray, pairs: PairList, *, batch_size: int = 500) -> np.ndarray:
        """The distance of each pair, (p,) float32, each row encoded once.

        Args:
            rows: (n, ...) what the encoder takes.
            pairs: whose numbers are of ``rows``.
            batch_size: rows encoded at once.
        """
        rows, _ = fitting(self.encoder, rows)
        used, where = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
        vectors = np.asarray(self.encoder.predict(rows[used], batch_size=batch_size, verbose=0))[where]
        return np.asarray(self.distance.rows(vectors[: len(pairs.first)], vectors[len(pairs.first) :]))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        parts = {"encoder": self.encoder, "distance": self.distance}
        return {"name": self.name, **{k: keras.saving.serialize_keras_object(v) for k, v in parts.items()}}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Siamese":
        """From :meth:`get_config`."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("encoder", "distance")}
        return cls(**parts, name=config["name"])


@serializable
class PairAccuracy(keras.metrics.Mean):
    """The share of pairs rightly called alike: distance below ``threshold`` (or similarity above it).

    ``y_true`` (n,) is 1 for alike, ``y_pred`` (n,) the distance.

    Args:
        threshold: of the distance.
        larger_is_nearer: ``y_pred`` is a similarity.

    Examples:
        >>> from topkin.models import PairAccuracy
        >>> metric = PairAccuracy(threshold=0.5)
        >>> metric.update_state([1, 0, 1], [0.2, 0.9, 0.7])
        >>> round(float(metric.result()), 3)
        0.667
    """

    def __init__(
        self,
        threshold: float = 0.5,
        larger_is_nearer: bool = False,
        name: str = "pair_accuracy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold, self.larger_is_nearer = threshold, larger_is_nearer

    def update_state(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> None:
        """Take in a batch."""
        truth, values = tf.reshape(y_true, [-1]), tf.reshape(y_pred, [-1])
        alike = values > self.threshold if self.larger_is_nearer else values < self.threshold
        right = tf.equal(alike, tf.cast(truth, tf.float32) > 0.5)
        super().update_state(tf.cast(right, tf.float32), sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        mine = {"threshold": self.threshold, "larger_is_nearer": self.larger_is_nearer}
        return {"name": self.name, "dtype": self.dtype, **mine}


def pair_accuracy(
    distances: ArrayLike, alike: ArrayLike, threshold: float = 0.5, *, larger_is_nearer: bool = False
) -> float:
    """The share of pairs rightly called alike by ``distance < threshold`` (similarity above it).

    Args:
        distances: (p,) finite.
        alike: (p,) 1 for pairs of one label, 0 for others.
        threshold: of the distance.
        larger_is_nearer: the distances are similarities.

    Raises:
        ValueError: no pairs, unequally many, or a distance that is not finite.

    Examples:
        >>> from topkin.models import pair_accuracy
        >>> pair_accuracy([0.2, 0.9, 0.7, 0.8], [1, 0, 1, 0])
        0.75
    """
    distances, alike = _checked(distances, alike)
    nearer = distances > threshold if larger_is_nearer else distances < threshold
    return float((nearer == alike).mean())


def best_threshold(distances: ArrayLike, alike: ArrayLike, *, larger_is_nearer: bool = False) -> tuple[float, float]:
    """The threshold with the highest pair accuracy, and that accuracy: on pairs kept apart from the test.

    It lies halfway between two distances that occur; of equally good ones the widest gap is taken, then the
    nearest. Arguments and errors are those of :func:`pair_accuracy`.

    Examples:
        >>> from topkin.models import best_threshold
        >>> best_threshold([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0])
        (0.5, 1.0)
    """
    distances, alike = _checked(distances, alike)
    if larger_is_nearer:
        threshold, accuracy = best_threshold(-distances, alike)
        return -threshold, accuracy
    order = np.argsort(distances, kind="stable")
    values, right = distances[order], np.where(alike[order], 1, -1)
    # Called alike are the first k; between equal distances no threshold passes.
    correct = np.concatenate([[0], np.cumsum(right)]) + np.count_nonzero(~alike)
    edges = np.concatenate([[values[0] - 1], values, [values[-1] + 1]])
    gaps = np.diff(edges)
    k = max(np.flatnonzero(gaps > 0), key=lambda cut: (correct[cut], gaps[cut], -cut))
    return float((edges[k] + edges[k + 1]) / 2), float(correct[k] / len(values))


def _checked(distances: ArrayLike, alike: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    distances, truth = np.asarray(distances, np.float64).ravel(), np.asarray(alike).ravel()
    if truth.dtype.kind not in "biuf" or not np.isin(truth, (0, 1)).all():
        raise ValueError(
            "alike must be 1 for pairs of one label and 0 for others, got something else: compare the labels"
        )
    alike = truth > 0.5
    if len(distances) != len(alike) or not len(alike):
        raise ValueError(f"each pair must have a distance and a truth, got {len(distances)} and {len(alike)}")
    if not np.isfinite(distances).all():
        raise ValueError(f"distances must be finite, got {np.count_nonzero(~np.isfinite(distances))} that are not")
    return distances, alike


def pick_pairs(distances: np.ndarray, pairs: PairList, threshold: float, each: int) -> list[int]:
    """Numbers of pairs worth looking at: the ``each`` worst of both kinds of error, then typical ones of both kinds.

    In order: alike and called different, farthest first; different and called alike, nearest first; then alike
    and different pairs rightly called, from their median distance on. No row comes twice among one kind.

    Examples:
        >>> import numpy as np
        >>> from topkin.models import pick_pairs, samplers
        >>> pairs = samplers.PairList(np.array([0, 2]), np.array([1, 3]), np.array([1.0, 0.0]))
        >>> pick_pairs(np.array([0.9, 0.8]), pairs, threshold=0.5, each=1)
        [0, 1]
    """
    distances, alike = np.asarray(distances), pairs.alike > 0.5
    order = np.argsort(distances, kind="stable")
    near = distances < threshold
    kinds = [order[::-1][(alike & ~near)[order[::-1]]], order[(~alike & near)[order]]]
    for kind in (True, False):
        right = order[((alike == kind) & (near == kind))[order]]
        kinds.append(right[max(0, (len(right) - each) // 2) :])
    picked: list[int] = []
    for numbers in kinds:
        seen: set[int] = set()
        for number in numbers:
            both = {int(pairs.first[number]), int(pairs.second[number])}
            if len(seen) < 2 * each and seen.isdisjoint(both):
                seen |= both
                picked.append(int(number))
    return picked
