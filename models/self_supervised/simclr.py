"""SimCLR: the two views of a row are each other's positive, all other views of the batch negatives."""

import keras
import tensorflow as tf

from topkin.models.metric_learning.losses.softmax import NTXent
from topkin.models.self_supervised.base import Augment, SelfSupervised, joined


class SimCLR(SelfSupervised):
    """NT-Xent over the projected views of a batch: a row's two views are each other's positive, all others negatives.

    Large batches give more negatives.

    Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020.

    Args:
        encoder: a built Keras model with one output (n, dim).
        augment: from a batch to a random version of it, called twice a step; see :mod:`base`.
        temperature: lower looks at the hardest negatives only.
        **kwargs: ``projector``, see :class:`SelfSupervised`; of ``keras.Model``.

    Examples:
        >>> from topkin.models import HistoryCrops, SimCLR
        >>> items = keras.Input((6,), dtype="int64")
        >>> pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8, mask_zero=True)(items))
        >>> learner = SimCLR(keras.Model(items, pooled), HistoryCrops())
        >>> learner.compile("adam")
        >>> history = learner.fit(np.arange(1, 19).reshape(3, 6), verbose=0)
        >>> sorted(history.history)
        ['loss', 'spread']
    """

    def __init__(
        self,
        encoder: keras.Model,
        augment: Augment,
        *,
        temperature: float = 0.2,
        **kwargs: object,
    ) -> None:
        super().__init__(encoder, augment, **kwargs)
        self.contrast = NTXent(temperature, check=False)

    def loss_of(self, first: tf.Tensor, second: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """See the class."""
        embedding = self.encoder(joined(first, second), training=training)
        projected = self.projector(embedding, training=training)
        rows = tf.range(tf.shape(projected)[0] // 2)
        return self.contrast(tf.concat([rows, rows], axis=0), projected), embedding
