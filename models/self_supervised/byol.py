"""BYOL: predict a slowly moving copy's projection of the other view; no negatives."""

import math

import keras
import tensorflow as tf

from topkin.models.ops.cosine import cosine_rows
from topkin.models.self_supervised.base import Augment, SelfSupervised, joined, mlp


def byol_loss(predictions: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The mean of 2 - 2 cosine(prediction, target), 0 to 4; the targets get no gradient. (n, d) each."""
    predictions, targets = tf.cast(predictions, tf.float32), tf.cast(targets, tf.float32)
    return tf.reduce_mean(2.0 - 2.0 * cosine_rows(predictions, tf.stop_gradient(targets)))


class BYOL(SelfSupervised):
    """An online encoder, projector and predictor learn to predict the target's projection of the other view.

    The target is a copy of encoder and projector whose weights are moved a little to the online ones' after
    each step: momentum * own + (1 - momentum) * online. The encoder must be one that
    ``keras.models.clone_model`` can copy.

    Grill et al., Bootstrap your own latent, NeurIPS 2020.

    Args:
        encoder: a built Keras model with one output (n, dim).
        augment: from a batch to a random version of it, called twice a step; see :mod:`base`.
        momentum: at least 0, below 1.
        steps: of the whole training; where given the momentum rises to 1 on a cosine over them, as in the paper.
        predictor: (n, out) to (n, out) of the projector's output.
        **kwargs: ``projector``, see :class:`SelfSupervised`; of ``keras.Model``.

    Raises:
        ValueError: another momentum, steps below 1, or an encoder that is not built.

    Examples:
        >>> from topkin.models import HistoryCrops, BYOL
        >>> items = keras.Input((6,), dtype="int64")
        >>> pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8, mask_zero=True)(items))
        >>> learner = BYOL(keras.Model(items, pooled), HistoryCrops(), steps=10)
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
        momentum: float = 0.99,
        steps: int | None = None,
        predictor: keras.Model | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(encoder, augment, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}: at 1 the target never moves")
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.momentum, self.steps = momentum, steps
        out = self.projector.output_shape[-1]
        self.predictor = predictor or mlp(out, (self.widths[0], out), "predictor")
        self.target_encoder = _copy(self.encoder)
        self.target_projector = _copy(self.projector)
        self.done = self.add_weight((), "zeros", dtype="float32", trainable=False, name="steps_done")

    def learned(self) -> list[keras.Variable]:
        """The online half's variables."""
        return [v for part in (self.encoder, self.projector, self.predictor) for v in part.trainable_variables]

    def loss_of(self, first: tf.Tensor, second: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Both ways round, averaged."""
        embedding = self.encoder(joined(first, second), training=training)
        predictions = self.predictor(self.projector(embedding, training=training), training=training)
        swapped = self.target_encoder(joined(second, first), training=training)
        targets = self.target_projector(swapped, training=training)
        return byol_loss(predictions, targets), embedding

    def after_step(self) -> None:
        """Move the target; what batch normalisation has seen is copied, not averaged."""
        share = 1.0 - self._momentum()
        for own, online in ((self.target_encoder, self.encoder), (self.target_projector, self.projector)):
            for target, source in zip(own.trainable_variables, online.trainable_variables, strict=True):
                target.assign_add(tf.cast(share, target.dtype) * (source.value - target.value))
            for target, source in zip(own.non_trainable_variables, online.non_trainable_variables, strict=True):
                target.assign(source.value)
        self.done.assign_add(1.0)

    def _momentum(self) -> tf.Tensor:
        if self.steps is None:
            return tf.constant(self.momentum)
        share = tf.minimum(self.done.value / float(self.steps), 1.0)
        return 1.0 - (1.0 - self.momentum) * (tf.cos(math.pi * share) + 1.0) / 2.0


def _copy(model: keras.Model) -> keras.Model:
    """A model of the same layers and weights, which shares none of them."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
