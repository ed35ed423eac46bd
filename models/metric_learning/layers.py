"""Layers of a metric encoder: a dense layer whose rows have length 1, and a pooling between mean and maximum."""

from typing import Any

import keras
import tensorflow as tf

from topkin.models.metric_learning.serialization import Tensor, serializable
from topkin.models.ops.cosine import unit_rows


@serializable
class MetricEmbedding(keras.layers.Layer):
    """The head of an encoder: a linear layer, then division by the length: (..., d) -> (..., dim).

    A zero vector stays zero. In mixed precision the result is float32: distances of float16 rows have three digits.

    Args:
        dim: coordinates of the embedding; None leaves the linear layer out.
        axis: what has length 1 in the result. -1, each vector; another one for inputs of more axes, such as 1
            for (n, places, dim), where each coordinate's values over the places get length 1.
        use_bias: of the linear layer.
        seed: of the first weights.

    Raises:
        ValueError: a dim below 1, or axis 0: a row's embedding would depend on the rows beside it.

    Examples:
        >>> from topkin.models import MetricEmbedding
        >>> rows = MetricEmbedding(8)(np.ones((2, 16)))
        >>> np.linalg.norm(rows, axis=1).round(4)
        array([1., 1.], dtype=float32)
    """

    def __init__(
        self,
        dim: int | None = None,
        axis: int = -1,
        use_bias: bool = False,
        *,
        seed: int | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if dim is not None and dim < 1:
            raise ValueError(f"dim must be at least 1, or None for no linear layer, got {dim}")
        if axis == 0:
            raise ValueError("axis must not be 0, the rows of a batch, got 0: take -1 for vectors of length 1")
        self.dim, self.axis, self.use_bias, self.seed = dim, axis, use_bias, seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights: (d, dim), and (dim,) with a bias."""
        rank = len(input_shape)
        if not 0 < self.axis % rank < rank or not -rank <= self.axis < rank:
            raise ValueError(f"axis must be one of the input's, 1 to {rank - 1} or below 0, got {self.axis}")
        if self.dim is not None:
            start = keras.initializers.GlorotUniform(seed=self.seed)
            self.kernel = self.add_weight((input_shape[-1], self.dim), start, name="kernel")
            if self.use_bias:
                self.bias = self.add_weight((self.dim,), "zeros", name="bias")

    def call(self, x: Tensor) -> Tensor:
        x = tf.convert_to_tensor(x)
        if self.dim is not None:
            x = tf.tensordot(x, tf.convert_to_tensor(self.kernel), 1)
            if self.use_bias:
                x = x + tf.convert_to_tensor(self.bias)
        if x.dtype.size < 4:
            x = tf.cast(x, tf.float32)
        axis = self.axis % x.shape.rank
        if axis == x.shape.rank - 1:
            return unit_rows(x)
        last = [i for i in range(x.shape.rank) if i != axis] + [axis]
        return tf.transpose(unit_rows(tf.transpose(x, last)), [last.index(i) for i in range(x.shape.rank)])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Tensor:
        return tuple(input_shape) if self.dim is None else (*input_shape[:-1], self.dim)

    def get_config(self) -> dict[str, Any]:
        mine = {"dim": self.dim, "axis": self.axis, "use_bias": self.use_bias, "seed": self.seed}
        return {**super().get_config(), **mine}


@serializable
class GeneralizedMeanPooling(keras.layers.Layer):
    """The generalised mean over all axes but the first and the last: (n, ..., d) -> (n, d), (mean of x^p)^(1/p).

    p = 1 is the mean, a large p nears the maximum; numbers below ``epsilon`` are taken as it, so it goes after a ReLU.
    Whole numbers give float32.

    Radenović, Tolias and Chum, Fine-tuning CNN image retrieval with no human annotation, TPAMI 2019.

    Args:
        p: above 0.
        epsilon: the least number, above 0, which keeps gradients finite.

    Raises:
        ValueError: a p or epsilon of 0 or below.

    Examples:
        >>> from topkin.models import GeneralizedMeanPooling
        >>> GeneralizedMeanPooling(p=3.0)(np.ones((2, 4, 4, 8))).shape
        TensorShape([2, 8])
    """

    def __init__(self, p: float = 3.0, epsilon: float = 1e-6, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if not p > 0 or not epsilon > 0:
            raise ValueError(f"p and epsilon must be above 0, got {p} and {epsilon}")
        self.p, self.epsilon = p, epsilon

    def call(self, x: Tensor) -> Tensor:
        x = tf.convert_to_tensor(x)
        x = x if x.dtype.is_floating else tf.cast(x, tf.float32)
        work = tf.maximum(tf.cast(x, tf.float32) if x.dtype.size < 4 else x, self.epsilon)
        # By the largest first: powers of large numbers overflow, those of small ones vanish.
        axes = list(range(1, x.shape.rank - 1))
        largest = tf.stop_gradient(tf.reduce_max(work, axis=axes, keepdims=True))
        mean = tf.reduce_mean((work / largest) ** self.p, axis=axes)
        return tf.cast(mean ** (1.0 / self.p) * tf.reshape(largest, tf.shape(mean)), x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Tensor:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "p": self.p, "epsilon": self.epsilon}
