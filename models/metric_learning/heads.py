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

from topkin.models.metric_learning.distances import root
from topkin.models.metric_learning.serialization import Tensor, serializable
from topkin.models.ops.cosine import cosine_matrix, unit_rows


class _ClassHead(keras.layers.Layer):
    """Weights and results in float32 at least, whatever the precision policy: margins are finer than float16."""

    def __init__(self, classes: int, *, seed: int | None = None, dtype: str | None = None, **kwargs: object) -> None:
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


class _SubProxies(_ClassHead):
    """Several trained vectors for each class: a subclass turns cosines with them, (n, classes, centres), into one."""

    def __init__(self, classes: int, centres: int = 3, **kwargs: Any) -> None:
        super().__init__(classes, **kwargs)
        if centres < 1:
            raise ValueError(f"centres must be at least 1, got {centres}")
        self.centres = centres

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the proxies, (classes · centres, d), those of a class one after the other."""
        start = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.proxies = self.add_weight((self.classes * self.centres, input_shape[-1]), start, name="proxies")

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(n, classes, centres)."""
        flat = cosine_matrix(embeddings, tf.convert_to_tensor(self.proxies))
        return tf.reshape(flat, (-1, self.classes, self.centres))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "centres": self.centres}


@serializable
class SubCentres(_SubProxies):
    """Several trained vectors for each class; gives the largest cosine of each class: (n, d) -> (n, classes)."""

    def call(self, embeddings: Tensor) -> Tensor:
        return tf.reduce_max(self.cosines(embeddings), axis=2)


@serializable
class SoftCentres(_SubProxies):
    """Several trained vectors for each class, the nearer the more they count: (n, d) -> (n, classes, 2) float32.

    [..., 0] are the means of the cosines of a class's vectors, weighted by softmax(cosines / temperature); [..., 1] how
    far apart the class's vectors are, the mean of their distances two by two, the same in each row.
    """

    def __init__(self, classes: int, centres: int = 10, temperature: float = 0.1, **kwargs: object) -> None:
        super().__init__(classes, centres, **kwargs)
        self.temperature = temperature

    def call(self, embeddings: Tensor) -> Tensor:
        cosines = self.cosines(embeddings)
        relaxed = tf.reduce_sum(tf.nn.softmax(cosines / self.temperature, axis=2) * cosines, axis=2)
        rows = unit_rows(tf.reshape(tf.convert_to_tensor(self.proxies), (self.classes, self.centres, -1)))
        apart = root(2.0 - 2.0 * tf.matmul(rows, rows, transpose_b=True))
        pairs = max(self.centres * (self.centres - 1), 1)
        apart = tf.reduce_sum(tf.linalg.set_diag(apart, tf.zeros(apart.shape[:-1], apart.dtype)), axis=(1, 2)) / pairs
        return tf.stack([relaxed, tf.broadcast_to(tf.cast(apart, relaxed.dtype), tf.shape(relaxed))], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


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
