"""Siamese networks: pairs from labels, one encoder for both sides, the distance between them.

    pairs = make_pairs(labels, seed=7)
    network = twin(mlp(), distance=Euclidean())
    network.compile("rmsprop", loss=PairContrastive(margin=1.0), metrics=[PairAccuracy(0.5)])
    network.fit([images[pairs.first], images[pairs.second]], pairs.alike)

Bromley et al., Signature verification using a "Siamese" time delay neural network, NIPS 1993;
Hadsell et al., Dimensionality reduction by learning an invariant mapping, CVPR 2006.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from topkin.models.metric_learning.distances import Distance, Euclidean
from topkin.models.metric_learning.serialization import serializable


class PairList(NamedTuple):
    """Pairs of rows. first, second: (p,) int64 row numbers, never equal. alike: (p,) float32, 1 for one label."""

    first: np.ndarray
    second: np.ndarray
    alike: np.ndarray


def make_pairs(labels: Any, *, per_row: int = 1, seed: Any = 0) -> PairList:
    """Balanced pairs: each row with ``per_row`` others of its label and as many of another label, shuffled.

    labels: (n,) of any type. The other row of an alike pair is drawn evenly from the rows of the label; of
    a different pair first the label, evenly from the others, then the row: rare labels are met as often as
    frequent ones. A row alone with its label has no pair, but is met in those of others. seed: a number, a
    sequence of numbers or a NumPy generator; the same gives the same pairs.

    Raises ValueError where there is one label only, or no label has two rows.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must be (n,), one for each row, got shape {labels.shape}")
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


@serializable
class RowDistance(keras.layers.Layer):
    """The distance of each row of one input from the same row of another: (n, d), (n, d) -> (n,)."""

    def __init__(self, distance: Distance | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.distance = distance or Euclidean()

    def call(self, a: Any, b: Any) -> Any:
        """See the class."""
        return self.distance.rows(a, b)

    def compute_output_shape(self, a_shape: Any, b_shape: Any = None) -> Any:
        """(n,)."""
        return tuple(a_shape[:1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "distance": keras.saving.serialize_keras_object(self.distance)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RowDistance":
        """From :meth:`get_config`."""
        return cls(**{**config, "distance": keras.saving.deserialize_keras_object(config["distance"])})


def twin(encoder: keras.Model, *, distance: Distance | None = None) -> keras.Model:
    """The network of two inputs that both go through ``encoder``; gives their distance, (n,).

    The encoder is shared: training the network trains it. Euclidean distance unless given.
    """
    if len(encoder.inputs) != 1:
        raise ValueError(f"the encoder of a twin network must have one input, got {len(encoder.inputs)}")
    shape, dtype = encoder.inputs[0].shape[1:], encoder.inputs[0].dtype
    sides = [keras.Input(shape, dtype=dtype, name=name) for name in ("first", "second")]
    apart = RowDistance(distance, name="distance")(*(encoder(side) for side in sides))
    return keras.Model(sides, apart, name="twin")


@serializable
class PairAccuracy(keras.metrics.Mean):
    """The share of pairs rightly told alike: distance below ``threshold`` (or similarity above it).

    y_true (n,): 1 for alike. y_pred (n,): the distance.
    """

    def __init__(
        self, threshold: float = 0.5, larger_is_nearer: bool = False, name: str = "pair_accuracy", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold, self.larger_is_nearer = threshold, larger_is_nearer

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Take in a batch."""
        y_true, y_pred = tf.reshape(y_true, [-1]), tf.reshape(y_pred, [-1])
        told = y_pred > self.threshold if self.larger_is_nearer else y_pred < self.threshold
        right = tf.equal(told, tf.cast(y_true, tf.float32) > 0.5)
        return super().update_state(tf.cast(right, tf.float32), sample_weight=sample_weight)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        mine = {"threshold": self.threshold, "larger_is_nearer": self.larger_is_nearer}
        return {"name": self.name, "dtype": self.dtype, **mine}


def pair_accuracy(distances: Any, alike: Any, threshold: float = 0.5, *, larger_is_nearer: bool = False) -> float:
    """The share of pairs rightly told alike by ``distance < threshold`` (similarity above it)."""
    distances, alike = _checked(distances, alike)
    told = distances > threshold if larger_is_nearer else distances < threshold
    return float((told == alike).mean())


def calibrate(distances: Any, alike: Any, *, larger_is_nearer: bool = False) -> tuple[float, float]:
    """The threshold with the highest pair accuracy, and that accuracy: on pairs kept apart from the test.

    distances, alike: (p,). The threshold lies halfway between two distances that occur; of equally good ones
    the widest gap is taken, then the nearest.
    """
    distances, alike = _checked(distances, alike)
    if larger_is_nearer:
        threshold, accuracy = calibrate(-distances, alike)
        return -threshold, accuracy
    order = np.argsort(distances, kind="stable")
    values, right = distances[order], np.where(alike[order], 1, -1)
    # Told alike are the first k; between equal distances no threshold passes.
    correct = np.concatenate([[0], np.cumsum(right)]) + np.count_nonzero(~alike)
    edges = np.concatenate([[values[0] - 1], values, [values[-1] + 1]])
    gaps = np.diff(edges)
    k = max(np.flatnonzero(gaps > 0), key=lambda cut: (correct[cut], gaps[cut], -cut))
    return float((edges[k] + edges[k + 1]) / 2), float(correct[k] / len(values))


def _checked(distances: Any, alike: Any) -> tuple[np.ndarray, np.ndarray]:
    distances, alike = np.asarray(distances, np.float64).ravel(), np.asarray(alike).ravel() > 0.5
    if len(distances) != len(alike) or not len(alike):
        raise ValueError(f"each pair must have a distance and a truth, got {len(distances)} and {len(alike)}")
    if not np.isfinite(distances).all():
        raise ValueError(f"distances must be finite, got {np.count_nonzero(~np.isfinite(distances))} that are not")
    return distances, alike


class PairBatches(keras.utils.PyDataset):
    """Pairs for ``fit``, drawn anew each epoch: batches of ((first, second), alike).

    rows: (n, ...) what the encoder takes. augment: called as ``augment(rows, rng)`` on both sides. The same
    seed gives the same batches; the last, short batch is left out.
    """

    def __init__(
        self,
        rows: np.ndarray,
        labels: Any,
        *,
        batch_size: int = 128,
        per_row: int = 1,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(rows) != len(labels):
            raise ValueError(
                f"rows and labels must have the same length, got {len(rows)} and {len(labels)}: "
                "pass one label for each row"
            )
        self.rows, self.labels, self.augment = rows, np.asarray(labels), augment
        self.batch_size, self.per_row, self.seed, self.epoch = batch_size, per_row, seed, 0
        self._pairs = make_pairs(self.labels, per_row=per_row, seed=[seed, 0])
        if len(self) < 1:
            raise ValueError(
                f"batch_size must be at most the number of pairs, {len(self._pairs.first)}: got {batch_size}"
            )

    def __len__(self) -> int:
        return len(self._pairs.first) // self.batch_size

    def __getitem__(self, index: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rng = np.random.default_rng([self.seed, self.epoch, index])
        sides = []
        for numbers in (self._pairs.first[part], self._pairs.second[part]):
            rows = self.rows[numbers]
            sides.append(rows if self.augment is None else self.augment(rows, rng))
        return (sides[0], sides[1]), self._pairs.alike[part]

    def on_epoch_end(self) -> None:
        """Draw the next epoch's pairs."""
        self.epoch += 1
        self._pairs = make_pairs(self.labels, per_row=self.per_row, seed=[self.seed, self.epoch])


def pair_distances(network: keras.Model, rows: np.ndarray, pairs: PairList, *, batch_size: int = 500) -> np.ndarray:
    """The distance of each pair, (p,) float32, each row encoded once. ``network`` is of :func:`twin`."""
    encoder = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    used, where = np.unique(np.concatenate([pairs.first, pairs.second]), return_inverse=True)
    vectors = np.asarray(encoder.predict(rows[used], batch_size=batch_size, verbose=0))[where]
    distance = network.get_layer("distance").distance
    return np.asarray(distance.rows(vectors[: len(pairs.first)], vectors[len(pairs.first) :]))


def pick_pairs(distances: np.ndarray, pairs: PairList, threshold: float, each: int) -> list[int]:
    """Numbers of pairs worth looking at: the ``each`` worst of both kinds of error, then typical ones of both kinds.

    In order: alike and told different, farthest first; different and told alike, nearest first; then alike
    and different pairs rightly told, from their median distance on. No row is shown twice among one kind.
    """
    distances, alike = np.asarray(distances), pairs.alike > 0.5
    order = np.argsort(distances, kind="stable")
    told = distances < threshold
    kinds = [order[::-1][(alike & ~told)[order[::-1]]], order[(~alike & told)[order]]]
    for kind in (True, False):
        right = order[((alike == kind) & (told == kind))[order]]
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
