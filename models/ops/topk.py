"""Exact top-k with TensorFlow's products, on the GPU where there is one: the answers of :mod:`topkin.search.topk`.

The same search, the same lists and scores to the last bit; only the products and their comparison with the
floors run in TensorFlow. Products may be float32 or bfloat16: the search allows for the error of either,
and what could be among the k best is scored exactly. The same code runs on a processor and on a GPU.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from topkin.search.kernels import Engine, Places

Product = Literal["float32", "bfloat16"]

_ROUNDING = {
    # Both factors rounded to 8 bits, their product, and the sum, of float32, rounded to 8 bits.
    "bfloat16": 3 * 2.0**-9 + 2.0**-16,
    # A tensor core rounds both factors to 11 bits.
    "tf32": 2 * 2.0**-11 + 2.0**-20,
    "float32": 0.0,
}


def gpu_visible() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def tensorflow_engine(product: Product = "bfloat16") -> Engine:
    """An engine for :func:`topkin.search.topk.top_k`: the device holds the items in the type of the product.

    bfloat16 sums in float32 and is the faster where the hardware multiplies it. Raises ValueError for another product.
    """
    if product not in ("float32", "bfloat16"):
        raise ValueError(f"product must be float32 or bfloat16, got {product!r}")

    def load(items: np.ndarray, blocks: int) -> Callable[[int], TensorFlowProducts]:
        loaded = TensorFlowProducts(items, blocks, product)
        return lambda rows: loaded

    return Engine(*((4096, 8192) if gpu_visible() else (1024, 2048)), load)


class TensorFlowProducts:
    """See :class:`topkin.search.kernels.Products`; one object for all threads.

    Factors are multiplied by powers of two that bring the largest coordinates near one, so that what TensorFlow
    takes for zero (below 2**-126) or bfloat16 for infinite is too small to matter, and nothing is too large.
    """

    def __init__(self, items: np.ndarray, blocks: int, product: Product):
        self._type = tf.as_dtype(product)
        self._exponent = int(np.frexp(np.abs(items).max(initial=0))[1])
        self._blocks = [tf.cast(np.ldexp(items[j::blocks], -self._exponent), self._type) for j in range(blocks)]
        fast32 = gpu_visible() and tf.config.experimental.tensor_float_32_execution_enabled()
        rounding = _ROUNDING["tf32" if product == "float32" and fast32 else product]
        self._wider = np.float32(1 + 1.01 * rounding / ((items.shape[1] + 12) * 2.0**-24))

    def error_bounds(self, margins: np.ndarray) -> np.ndarray:
        """See :class:`topkin.search.kernels.Products`."""
        return margins * self._wider

    def scores(self, queries: np.ndarray, j: int) -> np.ndarray:
        """See :class:`topkin.search.kernels.Products`."""
        near_one, exponents = self._near_one(queries)
        fast = np.array(tf.cast(_multiply(near_one, self._blocks[j]), tf.float32))
        return np.ldexp(fast, exponents[:, None], out=fast)

    def scores_above(
        self, queries: np.ndarray, j: int, floors: np.ndarray | np.float32, barred: Places | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`topkin.search.kernels.Products`."""
        block, w = self._blocks[j], self._blocks[j].shape[0]
        if isinstance(floors, np.ndarray):
            near_one, exponents = self._near_one(queries)
            with np.errstate(over="ignore", under="ignore"):
                floors = np.ldexp(floors, -exponents[:, None])
            at, values = (x.numpy() for x in _passing_rows(near_one, block, floors))
            values = np.ldexp(values, exponents[at // w])
        else:  # one floor, 1: the queries are divided by theirs, their products near one already
            near_one = tf.cast(np.ldexp(queries, self._exponent), self._type)
            at, values = (x.numpy() for x in _passing(near_one, block, tf.constant(floors)))
        if barred is not None and len(at):
            mine = barred[0] * w + barred[1]
            near = np.minimum(at.searchsorted(mine), len(at) - 1)
            keep = np.ones(len(at), bool)
            keep[near[at[near] == mine]] = False
            at, values = at[keep], values[keep]
        return at, values

    def _near_one(self, queries: np.ndarray) -> tuple[tf.Tensor, np.ndarray]:
        """Queries times powers of two, and the exponents that undo these and the items'."""
        exponents = np.frexp(np.abs(queries).max(axis=1))[1]
        return tf.cast(np.ldexp(queries, -exponents[:, None]), self._type), exponents + self._exponent


def _multiply(queries: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
    return tf.matmul(queries, block, transpose_b=True)


@tf.function(reduce_retracing=True)
def _passing(queries: tf.Tensor, block: tf.Tensor, floor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Places, int64 ascending, and values, float32, of the products not below one floor."""
    fast = _multiply(queries, block)
    return _places(fast, fast >= tf.cast(floor, fast.dtype))


@tf.function(reduce_retracing=True)
def _passing_rows(queries: tf.Tensor, block: tf.Tensor, floors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The same, with a floor for each row, (b, 1) float32."""
    fast = tf.cast(_multiply(queries, block), tf.float32)
    return _places(fast, fast >= floors)


def _places(fast: tf.Tensor, passed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    flags = tf.reshape(tf.cast(passed, tf.uint8), [-1])
    flags = tf.reshape(tf.pad(flags, [[0, -tf.size(flags) % 8]]), [-1, 8])
    word = tf.where(tf.bitcast(flags, tf.int64) != 0)[:, 0]  # few pass: look at eight at once
    near = tf.where(tf.reshape(tf.gather(flags, word), [-1]) != 0)[:, 0]
    at = tf.gather(word, near // 8) * 8 + near % 8
    return at, tf.cast(tf.gather(tf.reshape(fast, [-1]), at), tf.float32)
