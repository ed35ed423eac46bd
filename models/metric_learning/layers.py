"""The head of a metric encoder: a dense layer whose rows have length 1."""

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
        self, dim: int | None = None, axis: int = -1, use_bias: bool = False, *, seed: int | None = None, **kwargs: Any
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
