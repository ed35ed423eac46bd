"""VICReg: views alike, every coordinate spread out, no two coordinates alike; no negatives, no momentum."""

import keras
import tensorflow as tf

from topkin.models.self_supervised.base import Augment, SelfSupervised, mlp


def vicreg_parts(
    first: tf.Tensor, second: tf.Tensor, *, floor: float = 1.0, epsilon: float = 1e-4
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Invariance, variance and covariance of two projected views, (n, d) each: three scalars, n at least 2.

    Invariance: mean squared difference. Variance: mean over the coordinates of max(floor - standard
    deviation, 0), the two views' halves added. Covariance: the squared off-diagonal entries of the
    covariance matrix, summed and divided by d, the two views' added. The variance is over n - 1.
    """
    first, second = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
    variance, covariance = tf.constant(0.0), tf.constant(0.0)
    rows, d = tf.cast(tf.shape(first)[0], tf.float32), tf.cast(tf.shape(first)[1], tf.float32)
    for view in (first, second):
        centred = view - tf.reduce_mean(view, axis=0)
        matrix = tf.matmul(centred, centred, transpose_a=True) / (rows - 1.0)
        own = tf.linalg.diag_part(matrix)
        variance += tf.reduce_mean(tf.nn.relu(floor - tf.sqrt(own + epsilon))) / 2.0
        covariance += (tf.reduce_sum(tf.square(matrix)) - tf.reduce_sum(tf.square(own))) / d
    return tf.reduce_mean(tf.square(first - second)), variance, covariance


class VICReg(SelfSupervised):
    """Views alike, every coordinate spread out, no two coordinates alike; see :func:`vicreg_parts`.

    Bardes, Ponce and LeCun, VICReg: variance-invariance-covariance regularization, ICLR 2022.

    Args:
        encoder: a built Keras model with one output (n, dim).
        augment: from a batch to a random version of it, called twice a step; see :mod:`base`.
        invariance: weight of the views' difference.
        variance: weight of the coordinates' spread.
        covariance: weight of what coordinates share.
        **kwargs: ``projector``, see :class:`SelfSupervised`; of ``keras.Model``.

    Examples:
        >>> from topkin.models import HistoryCrops, VICReg
        >>> items = keras.Input((6,), dtype="int64")
        >>> pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8, mask_zero=True)(items))
        >>> learner = VICReg(keras.Model(items, pooled), HistoryCrops())
        >>> learner.compile("adam")
        >>> history = learner.fit(np.arange(1, 19).reshape(3, 6), verbose=0)
        >>> sorted(history.history)
        ['loss', 'spread']
    """

    widths = (512, 512)

    def __init__(
        self,
        encoder: keras.Model,
        augment: Augment,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        **kwargs: object,
    ) -> None:
        super().__init__(encoder, augment, **kwargs)
        if min(invariance, variance, covariance) < 0:
            raise ValueError(f"weights must be at least 0, got {(invariance, variance, covariance)}")
        self.weights_of_parts = invariance, variance, covariance

    def default_projector(self) -> keras.Model:
        """The paper's expander: wider than the embedding."""
        return mlp(self.dim, self.widths, "expander")

    def loss_of(self, first: tf.Tensor, second: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """See the class; each view has its own batch statistics."""
        embeddings = [self.encoder(view, training=training) for view in (first, second)]
        parts = vicreg_parts(*(self.projector(e, training=training) for e in embeddings))
        loss = tf.add_n([weight * part for weight, part in zip(self.weights_of_parts, parts, strict=True)])
        return loss, embeddings[0]
