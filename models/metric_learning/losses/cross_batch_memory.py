"""Cross-batch memory: compare a batch with the embeddings of the batches before it as well."""

from typing import Any

import keras
import tensorflow as tf

from topkin.models.metric_learning.heads import TrainingMark
from topkin.models.metric_learning.losses.base import Loss, MetricLoss, only_where
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.pairwise import compare, flat_labels, matrix, same_length, whole
from topkin.models.metric_learning.serialization import Tensor, serializable


@serializable
class CrossBatchMemory(Loss):
    """A pair loss against the batch and the last ``size`` rows trained on, which have no gradient.

    Put ``loss.head()`` after the encoder: it marks training rows, so that validation rows neither enter the
    memory nor are compared with it. Without it every call remembers its rows. The memory is no part of a
    saved model: training goes on with an empty one, full again after size / batch steps. Only what moves
    slowly can be remembered; begin after a few epochs without it where the encoder is new.

    Wang et al., Cross-batch memory for embedding learning, CVPR 2020.

    Args:
        loss: any MetricLoss, its miner included, or its name.
        size: rows remembered; a batch at least.
        dim: coordinates of an embedding.
        **kwargs: of :class:`Loss`.

    Raises:
        TypeError: ``loss`` is not over pairs or triplets.
        ValueError: a size or dim below 1.

    Examples:
        >>> from topkin.models import losses
        >>> loss = losses.CrossBatchMemory(losses.NTXent(), size=8, dim=2)
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> [round(float(loss(labels, rows)), 4) for step in range(2)]
        [1.4566, 1.0536]
    """

    def __init__(self, loss: MetricLoss | str, size: int = 1024, dim: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        loss = part("loss", loss)
        if not isinstance(loss, MetricLoss):
            raise TypeError(f"a memory needs a loss over pairs or triplets (a MetricLoss), got {type(loss).__name__}")
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim must be at least 1, got {size} and {dim}")
        self.loss, self.size, self.dim = loss, size, dim
        self._vectors = keras.Variable(tf.zeros((size, dim)), trainable=False, dtype="float32", name="vectors")
        self._labels = keras.Variable(tf.zeros(size, tf.int64), trainable=False, dtype="int64", name="labels")
        self._seen = keras.Variable(0, trainable=False, dtype="int64", name="seen")

    def head(self, classes: int | None = None) -> keras.layers.Layer:
        """The layer that marks rows of training."""
        return TrainingMark()

    def reset(self) -> None:
        """Forget everything."""
        self._seen.assign(0)

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """Labels (n,) integers; embeddings (n, dim), or (n, dim + 1) from the head."""
        rows = matrix(predictions, "embeddings", self._own_dtype)
        if rows.shape[1] not in (self.dim, self.dim + 1):
            raise ValueError(f"embeddings must have dim = {self.dim} coordinates, got {rows.shape[1]}")
        labels = whole(flat_labels(labels, check=self.check), "CrossBatchMemory", check=self.check)
        same_length(labels, rows)
        marked = rows.shape[1] == self.dim + 1
        training = tf.reduce_any(rows[:, -1] > 0.5) if marked else tf.constant(True)
        rows = rows[:, : self.dim]
        n = tf.shape(rows)[0]
        tf.debugging.assert_less_equal(n, self.size, "the memory must hold a batch at least: raise size")

        slots = tf.range(self.size, dtype=tf.int64)
        seen = tf.convert_to_tensor(self._seen)
        step = tf.cast(n, tf.int64)
        # Of a full memory the rows are left out that this batch is about to overwrite.
        overwritten = tf.math.floormod(slots - seen, self.size) < step
        remembered = (slots < seen) & tf.logical_not(overwritten) & training
        own = tf.logical_not(tf.eye(n, dtype=tf.bool))
        valid = tf.concat([own, tf.broadcast_to(remembered[None, :], tf.stack([n, self.size]))], axis=1)
        comparison = compare(
            labels,
            rows,
            tf.concat([labels, tf.convert_to_tensor(self._labels)], axis=0),
            tf.concat([rows, tf.cast(tf.convert_to_tensor(self._vectors), rows.dtype)], axis=0),
            weights=weights,
            check=self.check,
            dtype=self._own_dtype,
            valid=valid,
        )
        loss = only_where(self.of_two_classes(comparison), self.loss.forward(comparison))
        self._remember(tf.stop_gradient(tf.cast(rows, tf.float32)), labels, seen, step, training)
        return loss

    def _remember(self, rows: Tensor, labels: Tensor, seen: Tensor, step: Tensor, training: Tensor) -> None:
        where = tf.math.floormod(seen + tf.range(step, dtype=tf.int64), self.size)[:, None]
        for variable, new in ((self._vectors, rows), (self._labels, labels)):
            old = tf.convert_to_tensor(variable)
            variable.assign(tf.where(training, tf.tensor_scatter_nd_update(old, where, new), old))
        self._seen.assign(seen + tf.where(training, step, tf.zeros_like(step)))
