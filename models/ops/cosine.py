"""Cosine similarity in TensorFlow, row by row, all against all and batched, and a Keras layer of each.

The twins of ``topkin.linalg.cosine``: the same numbers, with gradients. A zero row scores 0 and its gradient is
zero, not NaN. Any float dtype comes back as it went in (float16 and bfloat16 are computed in float32 and
rounded once), integers are taken as float64. NaN stays NaN.
"""

from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

Array: TypeAlias = tf.Tensor | np.ndarray


def working(*tensors: Array) -> tuple[tf.DType, list[tf.Tensor]]:
    """The tensors in the dtype to compute in, at least float32, after the dtype that the result shall have.

    Raises TypeError where their dtypes differ: TensorFlow promotes none, and a guess would hide a cast.
    """
    converted = [tf.convert_to_tensor(t) for t in tensors]
    dtypes = {t.dtype for t in converted}
    if len(dtypes) > 1:
        raise TypeError(f"vectors must have one dtype, got {sorted(d.name for d in dtypes)}: cast one of them")
    out = dtypes.pop()
    if not (out.is_floating or out.is_integer):
        raise TypeError(f"vectors must be real numbers, got dtype {out.name}")
    out = out if out.is_floating else tf.float64
    work = tf.float32 if out.size < 4 else out
    return out, [tf.cast(t, work) for t in converted]


def _unit(x: tf.Tensor) -> tf.Tensor:
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(x), axis=-1, keepdims=True))
    # Divided by the largest coordinate first, the squares of huge and tiny vectors stay in range.
    x = x / tf.where(largest > 0, largest, tf.ones_like(largest))
    square = tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)
    # The square of what is left is 0 or at least 1, so the root is never taken where its slope is infinite.
    inverse = tf.math.rsqrt(tf.where(square > 0, square, tf.ones_like(square)))
    # Times 0 a zero row stays zero and a NaN stays NaN.
    return x * tf.where(square > 0, inverse, tf.zeros_like(inverse))


def unit_rows(x: Array) -> tf.Tensor:
    """Each vector along the last axis divided by its length, (..., d); a zero vector stays zero."""
    out, (x,) = working(x)
    return tf.cast(_unit(x), out)


def cosine_rows(a: Array, b: Array) -> tf.Tensor:
    """The cosine of each vector of ``a`` with the same of ``b``: (..., d) and (..., d) give (...,).

    The leading axes broadcast. Raises ValueError where d differs, TypeError where the dtypes do.
    """
    out, (a, b) = working(a, b)
    same_dim(a, b)
    return tf.cast(tf.reduce_sum(_unit(a) * _unit(b), axis=-1), out)


def cosine_matrix(a: Array, b: Array | None = None) -> tf.Tensor:
    """The cosine of every vector of ``a`` with every one of ``b`` (or of ``a``): (n, d), (m, d) give (n, m).

    Batched: (..., n, d) and (..., m, d) give (..., n, m), the leading axes broadcast. Raises ValueError
    where d differs or a tensor has fewer than two axes, TypeError where the dtypes differ.
    """
    out, (a, b) = working(a, a if b is None else b)
    if min(len(a.shape), len(b.shape)) < 2:
        raise ValueError(f"a cosine matrix needs tensors of rows, (..., n, d), got {a.shape} and {b.shape}")
    same_dim(a, b)
    return tf.cast(tf.matmul(_unit(a), _unit(b), transpose_b=True), out)


def same_dim(a: tf.Tensor, b: tf.Tensor) -> None:
    """Raise ValueError where the last axes are known to differ."""
    if None not in (a.shape[-1], b.shape[-1]) and a.shape[-1] != b.shape[-1]:
        raise ValueError(f"vectors must have the same number of coordinates, got {a.shape} and {b.shape}")


@keras.saving.register_keras_serializable("topkin")
class UnitRows(keras.layers.Layer):
    """:func:`unit_rows` as a layer.

    Examples:
        >>> from topkin.models import UnitRows
        >>> UnitRows()(np.array([[3.0, 4.0], [0.0, 0.0]])).numpy().round(1)
        array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """

    def call(self, x: Array) -> tf.Tensor:
        """(..., d) -> (..., d)."""
        return unit_rows(x)


@keras.saving.register_keras_serializable("topkin")
class CosineRows(keras.layers.Layer):
    """:func:`cosine_rows` as a layer of two inputs.

    Examples:
        >>> from topkin.models import CosineRows
        >>> CosineRows()(np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]])).numpy().round(2)
        array([0.6], dtype=float32)
    """

    def call(self, a: Array, b: Array) -> tf.Tensor:
        """(..., d), (..., d) -> (...,)."""
        return cosine_rows(a, b)


@keras.saving.register_keras_serializable("topkin")
class CosineMatrix(keras.layers.Layer):
    """:func:`cosine_matrix` as a layer of one input (A x A) or two (A x B); batched where they have more axes.

    Examples:
        >>> from topkin.models import CosineMatrix
        >>> CosineMatrix()(np.array([[1.0, 0.0], [3.0, 4.0]])).numpy().round(2)
        array([[1. , 0.6],
               [0.6, 1. ]], dtype=float32)
    """

    def call(self, a: Array, b: Array | None = None) -> tf.Tensor:
        """(..., n, d), (..., m, d) -> (..., n, m)."""
        return cosine_matrix(a, b)
