"""SimCLR: the two views of a row are each other's positive, all other views of the batch negatives."""

from typing import Any

import keras
import tensorflow as tf

from topkin.models.metric_learning.losses.softmax import NTXent
from topkin.models.self_supervised.base import Augment, SelfSupervised, joined


class SimCLR(SelfSupervised):
    """NT-Xent over the projected views of a batch.

    temperature: lower looks at the hardest negatives only. Large batches give more negatives.

    Chen et al., A simple framework for contrastive learning of visual representations, ICML 2020.
    """

    def __init__(
        self,
        encoder: keras.Model,
        augment: Augment,
        *,
        temperature: float = 0.2,
        projector: keras.Model | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augment, projector=projector, **kwargs)
        self.contrast = NTXent(temperature, check=False)

    def loss_of(self, first: Any, second: Any, training: bool) -> tuple[Any, Any]:
        """See the class."""
        embedding = self.encoder(joined(first, second), training=training)
        projected = self.projector(embedding, training=training)
        rows = tf.range(tf.shape(projected)[0] // 2)
        return self.contrast(tf.concat([rows, rows], axis=0), projected), embedding
