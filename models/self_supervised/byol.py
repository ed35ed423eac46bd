"""BYOL: predict a slowly moving copy's projection of the other view; no negatives."""

import math
from typing import Any

import keras
import tensorflow as tf

from topkin.models.ops.cosine import cosine_rows
from topkin.models.self_supervised.base import Augment, SelfSupervised, joined, mlp


def byol_loss(predictions: Any, targets: Any) -> Any:
    """The mean of 2 - 2 cosine(prediction, target), 0 to 4; the targets get no gradient. (n, d) each."""
    predictions, targets = tf.cast(predictions, tf.float32), tf.cast(targets, tf.float32)
    return tf.reduce_mean(2.0 - 2.0 * cosine_rows(predictions, tf.stop_gradient(targets)))


class BYOL(SelfSupervised):
    """An online encoder, projector and predictor learn to predict the target's projection of the other view.

    The target is a copy of encoder and projector whose weights are moved a little to the online ones' after
    each step: momentum * own + (1 - momentum) * online. steps: of the whole training; where given the
    momentum rises to 1 on a cosine over them, as in the paper. The encoder must be one that
    ``keras.models.clone_model`` can copy.

    Grill et al., Bootstrap your own latent, NeurIPS 2020.
    """

    def __init__(
        self,
        encoder: keras.Model,
        augment: Augment,
        *,
        momentum: float = 0.99,
        steps: int | None = None,
        projector: keras.Model | None = None,
        predictor: keras.Model | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, augment, projector=projector, **kwargs)
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

    def learned(self) -> list[Any]:
        """The online half's variables."""
        return [v for part in (self.encoder, self.projector, self.predictor) for v in part.trainable_variables]

    def loss_of(self, first: Any, second: Any, training: bool) -> tuple[Any, Any]:
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

    def _momentum(self) -> Any:
        if self.steps is None:
            return tf.constant(self.momentum)
        share = tf.minimum(self.done.value / float(self.steps), 1.0)
        return 1.0 - (1.0 - self.momentum) * (tf.cos(math.pi * share) + 1.0) / 2.0


def _copy(model: keras.Model) -> keras.Model:
    """A model of the same layers and weights, which shares none of them."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
