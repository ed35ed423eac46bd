"""What every loss is: a Keras loss with checked inputs and a configuration that can be saved.

``Loss`` reads whatever its head gives out; ``MetricLoss`` is distance x miner x reducer over a batch's
embeddings. ``model.compile(loss=loss)`` takes either. A loss that needs more than the embedding (weights of
its own, to know whether it trains) has a ``head``: a layer put after the encoder, which holds and saves them.
"""

from typing import Any

import keras
import tensorflow as tf

from topkin.models.metric_learning.distances import Cosine, Distance
from topkin.models.metric_learning.miners import Miner
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.pairwise import ONE_CLASS, Comparison, compare, require, require_two_classes
from topkin.models.metric_learning.reducers import AnchorSums, Mean, Reducer
from topkin.models.metric_learning.serialization import Configured, Tensor
from topkin.models.metric_learning.tuples import Choice, PairMasks


class Loss(Configured, keras.losses.Loss):
    """What every loss is, a Keras loss: the interface; a subclass has :meth:`compute`.

    A loss that needs more than the embedding (weights of its own, to know whether it trains) has a :meth:`head`,
    a layer of the model put after the encoder.

    A batch that teaches nothing, because all its rows are of one class, adds 0 and is counted in :attr:`skipped`; where
    no batch before it had two, it is an error.

    Args:
        check: look at values (NaN, one class, unit rows) and not only at shapes; see :mod:`pairwise`.
        name: for Keras.
        dtype: to compute in; that of the predictions, at least float32, where None. Mixed precision needs nothing.

    Examples:
        >>> from topkin.models import losses
        >>> isinstance(losses.Triplet(), losses.Loss), losses.Triplet().head()
        (True, None)
    """

    def __init__(self, *, check: bool = True, name: str | None = None, dtype: str | None = None) -> None:
        # The reduction is done by our reducers: Keras would take the mean over rows, where pairs are many.
        keras.losses.Loss.__init__(self, name=name, reduction="sum", dtype=dtype)
        self.check = check
        self._own_dtype = None if dtype is None else self._dtype
        self._taught, self._skipped = (
            keras.Variable(0, trainable=False, dtype="int64", name=name) for name in ("taught", "skipped")
        )

    @property
    def skipped(self) -> int:
        """How many batches so far taught nothing and were passed over: of one class, or without a bought item."""
        return int(self._skipped)

    def teaches(self, possible: Tensor, message: str, *values: Tensor) -> Tensor:
        """Whether a batch counts, a bool scalar: where not, the batch is counted as skipped.

        possible: whether it holds what can teach. Requires it, by ``message``, of the first batch.
        """
        if not self.check:
            return tf.constant(True)
        require(possible | (tf.convert_to_tensor(self._taught) > 0), message, *values)
        self._taught.assign_add(tf.cast(possible, tf.int64))
        self._skipped.assign_add(tf.cast(tf.logical_not(possible), tf.int64))
        return possible

    def of_two_classes(self, comparison: Comparison) -> Tensor:
        """Whether a comparison has two classes, which its first batch must; see :meth:`teaches`."""
        return self.teaches(tf.reduce_any(comparison.different), ONE_CLASS, tf.shape(comparison.labels)[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dtype": self._own_dtype}

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """The loss of a batch, a scalar: labels (n,), predictions as the class says, weights (n,) or None."""
        with tf.name_scope(self.name):
            return self.compute(y_true, tf.convert_to_tensor(y_pred), sample_weight)

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        raise NotImplementedError

    def head(self, classes: int | None = None) -> keras.layers.Layer | None:
        """The layer to put after the encoder, or None where the loss reads the embedding itself."""
        return None


class MetricLoss(Loss):
    """A loss over the pairs or triplets of a batch, distance x miner x reducer: a subclass has :meth:`parts`.

    It reads labels (n,) and embeddings (n, d). :meth:`forward_pairs` compares rows with others than themselves.

    Args:
        distance: one of ``topkin.models.distances``, or its name; the loss's own default where None.
        miner: one of ``topkin.models.miners``, or its name: which pairs or triplets count; all where None.
        reducer: one of ``topkin.models.reducers``, or its name: how they become one number.
        **kwargs: of :class:`Loss`.

    Examples:
        >>> from topkin.models import distances, losses
        >>> users, items = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.8, 0.6], [0.6, 0.8]])
        >>> loss = losses.Contrastive(distance=distances.Cosine())
        >>> round(float(loss.forward_pairs([0, 1], users, [0, 1], items)), 4)
        0.2
    """

    default_distance: type[Distance] = Cosine
    default_reducer: type[Reducer] = Mean

    def __init__(
        self,
        *,
        distance: Distance | str | None = None,
        miner: Miner | str | None = None,
        reducer: Reducer | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.distance: Distance = part("distance", distance) or self.default_distance()
        self.miner: Miner | None = part("miner", miner)
        self.reducer: Reducer = part("reducer", reducer) or self.default_reducer()

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """The loss of rows compared with each other."""
        comparison = compare(labels, predictions, weights=weights, check=self.check, dtype=self._own_dtype)
        counts = self.of_two_classes(comparison)
        return only_where(counts, self.forward(comparison))

    def forward_pairs(
        self,
        labels: Tensor,
        embeddings: Tensor,
        ref_labels: Tensor,
        references: Tensor,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """The loss of rows compared with others: users with items, views with views, a batch with a memory.

        labels (n,), embeddings (n, d), ref_labels (m,), references (m, d); anchors are the rows.
        """
        comparison = compare(
            labels, embeddings, ref_labels, references, weights=sample_weight, check=self.check, dtype=self._own_dtype
        )
        if self.check:
            require_two_classes(comparison)
        return self.forward(comparison)

    def forward(self, comparison: Comparison) -> Tensor:
        """The loss of a comparison: the sum of its reduced parts."""
        parts = [self.reducer(part, comparison.labels, comparison.weights) for part in self.parts(comparison)]
        return tf.add_n(parts)

    def dissimilarity(self, comparison: Comparison) -> Tensor:
        """How far each row is from each reference, (n, m), larger is farther."""
        return self.distance.dissimilarity(comparison.vectors, None if comparison.own else comparison.references)

    def choice(self, comparison: Comparison) -> Choice:
        """What the miner chooses; all pairs without one."""
        if self.miner is None:
            return PairMasks(comparison.same, comparison.different)
        return self.miner.choose(comparison, self.distance)

    def masks(self, comparison: Comparison) -> PairMasks:
        """The pairs that count, positive and negative, two of (n, m) bool."""
        return self.choice(comparison).masks(tf.shape(comparison.same))

    def parts(self, comparison: Comparison) -> list[AnchorSums]:
        """What each anchor's pairs sum up to; each part is reduced by itself."""
        raise NotImplementedError


def only_where(counts: Tensor, loss: Tensor) -> Tensor:
    """The loss of a batch that counts, else 0 without a gradient."""
    return tf.where(counts, loss, tf.zeros_like(loss))


def log_sum_exp(x: Tensor, mask: Tensor, axis: int = 1) -> Tensor:
    """log of the sum of exp(x) under the mask; where there is none, a number so small that exp gives 0."""
    lowest = tf.constant(-1e30, x.dtype)
    return tf.reduce_logsumexp(tf.where(mask, x, lowest), axis=axis)
