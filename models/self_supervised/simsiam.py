"""SimSiam: predict the other view's projection, which gets no gradient; no negatives, no moving copy."""

import keras
import tensorflow as tf

from topkin.models.ops.cosine import cosine_rows
from topkin.models.self_supervised.base import Augment, SelfSupervised, joined, mlp


def simsiam_loss(predictions: tf.Tensor, projections: tf.Tensor) -> tf.Tensor:
    """The mean of -cosine(prediction, projection), -1 to 1; the projections get no gradient. (n, d) each."""
    predictions, projections = tf.cast(predictions, tf.float32), tf.cast(projections, tf.float32)
    return -tf.reduce_mean(cosine_rows(predictions, tf.stop_gradient(projections)))


class SimSiam(SelfSupervised):
    """An encoder, projector and predictor learn to predict the projection of the other view, both ways round.

    Chen and He, Exploring simple Siamese representation learning, CVPR 2021.

    Args:
        encoder: a built Keras model with one output (n, dim).
        augment: from a batch to a random version of it, called twice a step; see :mod:`base`.
        predictor: (n, out) to (n, out) of the projector's output; the paper's, with a narrow middle, where None.
        **kwargs: ``projector``, see :class:`SelfSupervised`; of ``keras.Model``.

    Examples:
        >>> from topkin.models import HistoryCrops, SimSiam
        >>> items = keras.Input((6,), dtype="int64")
        >>> pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8, mask_zero=True)(items))
        >>> learner = SimSiam(keras.Model(items, pooled), HistoryCrops())
        >>> learner.compile("adam")
        >>> history = learner.fit(np.arange(1, 19).reshape(3, 6), verbose=0)
        >>> sorted(history.history)
        ['loss', 'spread']
    """

    def __init__(
        self, encoder: keras.Model, augment: Augment, *, predictor: keras.Model | None = None, **kwargs: object
    ) -> None:
        super().__init__(encoder, augment, **kwargs)
        out = self.projector.output_shape[-1]
        self.predictor = predictor or mlp(out, (max(out // 4, 1), out), "predictor")

    def default_projector(self) -> keras.Model:
        """The paper's: its last layer is normalised over the batch."""
        return mlp(self.dim, self.widths, "projector", last_norm=True)

    def loss_of(self, first: tf.Tensor, second: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Both ways round, averaged."""
        embedding = self.encoder(joined(first, second), training=training)
        projected = self.projector(embedding, training=training)
        predictions = self.predictor(projected, training=training)
        return simsiam_loss(predictions, tf.roll(projected, tf.shape(projected)[0] // 2, axis=0)), embedding
