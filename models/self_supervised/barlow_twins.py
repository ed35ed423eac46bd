"""Barlow Twins: each coordinate of one view is that of the other view, and no two coordinates are alike."""

import keras
import tensorflow as tf

from topkin.models.self_supervised.base import Augment, SelfSupervised, mlp


def barlow_loss(first: tf.Tensor, second: tf.Tensor, *, redundancy: float, epsilon: float = 1e-6) -> tf.Tensor:
    """Σ_i (1 - C_ii)² + redundancy · Σ_{i≠j} C_ij², C the correlations of two projected views over the batch.

    (n, d) each, n at least 2. A coordinate that is the same in every row correlates with nothing: C is 0 there.
    """
    views = []
    for view in (tf.cast(first, tf.float32), tf.cast(second, tf.float32)):
        centred = view - tf.reduce_mean(view, axis=0)
        views.append(centred * tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=0) + epsilon))
    correlations = tf.matmul(*views, transpose_a=True) / tf.cast(tf.shape(first)[0], tf.float32)
    own = tf.linalg.diag_part(correlations)
    others = tf.reduce_sum(tf.square(correlations)) - tf.reduce_sum(tf.square(own))
    return tf.reduce_sum(tf.square(1.0 - own)) + redundancy * others


class BarlowTwins(SelfSupervised):
    """Correlations of the two views' coordinates near the identity; no negatives, no momentum; see :func:`barlow_loss`.

    Zbontar et al., Barlow Twins: self-supervised learning via redundancy reduction, ICML 2021.

    Args:
        encoder: a built Keras model with one output (n, dim).
        augment: from a batch to a random version of it, called twice a step; see :mod:`base`.
        redundancy: weight of what different coordinates share, at least 0.
        **kwargs: ``projector``, see :class:`SelfSupervised`; of ``keras.Model``.

    Raises:
        ValueError: a redundancy below 0.

    Examples:
        >>> from topkin.models import BarlowTwins, HistoryCrops
        >>> items = keras.Input((6,), dtype="int64")
        >>> pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8, mask_zero=True)(items))
        >>> learner = BarlowTwins(keras.Model(items, pooled), HistoryCrops())
        >>> learner.compile("adam")
        >>> history = learner.fit(np.arange(1, 19).reshape(3, 6), verbose=0)
        >>> sorted(history.history)
        ['loss', 'spread']
    """

    widths = (512, 512)

    def __init__(self, encoder: keras.Model, augment: Augment, *, redundancy: float = 0.005, **kwargs: object) -> None:
        super().__init__(encoder, augment, **kwargs)
        if redundancy < 0:
            raise ValueError(f"redundancy must be at least 0, got {redundancy}")
        self.redundancy = redundancy

    def default_projector(self) -> keras.Model:
        """The paper's: wider than the embedding."""
        return mlp(self.dim, self.widths, "projector")

    def loss_of(self, first: tf.Tensor, second: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """See the class; each view has its own batch statistics."""
        embeddings = [self.encoder(view, training=training) for view in (first, second)]
        projected = [self.projector(e, training=training) for e in embeddings]
        return barlow_loss(*projected, redundancy=self.redundancy), embeddings[0]
