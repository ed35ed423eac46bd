"""Layers put between an encoder and a loss that has weights of its own.

    loss = ArcFace()
    embedding = encoder(inputs)
    model = keras.Model(inputs, loss.head(classes=10)(embedding))
    model.compile("adam", loss=loss)
    model.fit(images, labels)
    search = keras.Model(inputs, embedding)

The weights belong to the model: the optimizer trains them and ``model.save`` keeps them, with nothing to remember.
"""

from typing import Any

import keras
import tensorflow as tf

from topkin.models.metric_learning.serialization import Tensor, serializable
from topkin.models.ops.cosine import cosine_matrix


class _ClassHead(keras.layers.Layer):
    """Weights and results in float32 at least, whatever the precision policy: margins are finer than float16."""

    def __init__(self, classes: int, *, seed: int | None = None, dtype: str | None = None, **kwargs: Any) -> None:
        narrow = keras.dtype_policies.get(dtype).compute_dtype in ("float16", "bfloat16")
        super().__init__(dtype="float32" if narrow else dtype, **kwargs)
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.classes, self.seed = classes, seed

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes, "seed": self.seed}


@serializable
class Proxies(_ClassHead):
    """One trained vector for each class; gives the cosines of the rows with them: (n, d) -> (n, classes) float32."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the proxies, (classes, d)."""
        start = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.proxies = self.add_weight((self.classes, input_shape[-1]), start, name="proxies")

    def call(self, embeddings: Tensor) -> Tensor:
        return cosine_matrix(embeddings, tf.convert_to_tensor(self.proxies))


@serializable
class Centres(_ClassHead):
    """A linear classifier and a centre for each class: (n, d) -> (n, classes, 2) float32.

    [..., 0] are logits, [..., 1] squared Euclidean distances to the centres.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the classifier's weights, (d, classes) and (classes,), and the centres, (classes, d)."""
        dim = input_shape[-1]
        start = keras.initializers.GlorotUniform(seed=self.seed)
        self.kernel = self.add_weight((dim, self.classes), start, name="kernel")
        self.bias = self.add_weight((self.classes,), "zeros", name="bias")
        self.centres = self.add_weight((self.classes, dim), "zeros", name="centres")

    def call(self, embeddings: Tensor) -> Tensor:
        x = tf.convert_to_tensor(embeddings)
        logits = tf.matmul(x, tf.convert_to_tensor(self.kernel)) + tf.convert_to_tensor(self.bias)
        apart = x[:, None, :] - tf.convert_to_tensor(self.centres)[None, :, :]
        return tf.stack([logits, tf.reduce_sum(tf.square(apart), axis=-1)], axis=-1)


@serializable
class TrainingMark(keras.layers.Layer):
    """Adds a last coordinate to each row: 1 in training, 0 otherwise. (n, d) -> (n, d + 1).

    A Keras loss is not told whether it trains; one with a memory must know, to keep validation rows out.
    """

    def call(self, embeddings: Tensor, training: bool | None = None) -> Tensor:
        embeddings = tf.convert_to_tensor(embeddings)
        mark = tf.ones_like(embeddings[:, :1]) if training else tf.zeros_like(embeddings[:, :1])
        return tf.concat([embeddings, mark], axis=1)
