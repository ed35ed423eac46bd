"""Learning from two views of each row, without labels: what SimCLR and its kind have in common.

    model = SimCLR(encoder, augment)
    model.compile("adam")
    model.fit(images, batch_size=256, callbacks=[StopAtCollapse()])
    search = model.encoder

``augment`` takes a batch and gives one random version of it, and is called twice a step: ``HistoryCrops`` for
purchase histories, or any function of yours. The projector that the loss reads
is thrown away after the training; the encoder's output is the embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from topkin.models.ops.encoders import embedding_dim
from topkin.models.self_supervised.collapse import spread

Augment = Callable[[tf.Tensor], tf.Tensor]


def mlp(dim: int, widths: Sequence[int], name: str, *, last_norm: bool = False) -> keras.Model:
    """A projector: dense layers of ``widths`` with batch normalisation and relu between, (n, dim) to (n, widths[-1]).

    last_norm: normalise the last layer's output over the batch too, as SimCLR and BYOL's variants do.
    """
    x = inputs = keras.Input((dim,))
    for width in widths[:-1]:
        x = keras.layers.Dense(width, use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dense(widths[-1], use_bias=not last_norm)(x)
    if last_norm:
        x = keras.layers.BatchNormalization(scale=False, center=False)(x)
    return keras.Model(inputs, x, name=name)


class SelfSupervised(keras.Model):
    """The interface: a subclass has :meth:`loss_of`, and may have :meth:`learned` and :meth:`after_step`.

    encoder: a built Keras model of one output (n, dim). augment: see the module. projector: (n, dim) to
    (n, any); a subclass has its paper's where None. Besides ``loss`` a step logs ``spread``, the encoder's
    spread over the batch (see ``topkin.models.self_supervised.collapse``): 0 is a collapse. Called like a model, it
    gives the encoder's output. Save ``model.encoder``, not the model: an augmenter may be any function.
    """

    widths: Sequence[int] = (256, 128)

    def __init__(
        self, encoder: keras.Model, augment: Augment, *, projector: keras.Model | None = None, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.dim = embedding_dim(encoder)
        if not callable(augment):
            raise TypeError(f"augment must be a function from a batch to a batch, got {type(augment).__name__}")
        self.encoder, self.augment = encoder, augment
        self.projector = projector or self.default_projector()
        self.seen_loss = keras.metrics.Mean(name="loss")
        self.seen_spread = keras.metrics.Mean(name="spread")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Raises TypeError: an augmenter may be any function, and is not saved."""
        kind = type(self).__name__
        raise TypeError(f"a {kind} cannot be saved, its augment may be any function: save its encoder, {kind}.encoder")

    def default_projector(self) -> keras.Model:
        """The projector of the method's paper, made small."""
        return mlp(self.dim, self.widths, "projector")

    def loss_of(self, first: tf.Tensor, second: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of a batch's two views, a scalar, and the encoder's output for some view, (n, dim)."""
        raise NotImplementedError

    def learned(self) -> list[keras.Variable]:
        """The variables that the gradient moves."""
        return self.trainable_variables

    def after_step(self) -> None:
        """What is done after the gradient's step."""

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Reset at the start of each epoch."""
        return [self.seen_loss, self.seen_spread]

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The embedding, (n, dim)."""
        return self.encoder(inputs, training=training)

    def train_step(self, data: object) -> dict[str, Any]:
        """One step on two views of a batch."""
        x = _only_inputs(data)
        first, second = self.augment(x), self.augment(x)
        with tf.GradientTape() as tape:
            loss, embedding = self.loss_of(first, second, training=True)
            total = self.optimizer.scale_loss(tf.add_n([loss, *self.losses]) if self.losses else loss)
        variables = self.learned()
        self.optimizer.apply(tape.gradient(total, variables), variables)
        self.after_step()
        return self._logged(loss, embedding)

    def test_step(self, data: object) -> dict[str, Any]:
        """The loss of a batch not trained on."""
        x = _only_inputs(data)
        return self._logged(*self.loss_of(self.augment(x), self.augment(x), training=False))

    def _logged(self, loss: object, embedding: tf.Tensor) -> dict[str, Any]:
        self.seen_loss.update_state(loss)
        self.seen_spread.update_state(spread(embedding))
        return {metric.name: metric.result() for metric in self.metrics}


def _only_inputs(data: object) -> tf.Tensor:
    x, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if labels is not None or weights is not None:
        raise ValueError("self-supervised training takes no labels and no weights, got some: give fit the inputs only")
    return x


def joined(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Two batches as one, the first's rows first; a dict or a tuple of arrays is joined array by array."""
    return tf.nest.map_structure(lambda a, b: tf.concat([a, b], axis=0), first, second)
