"""Exact top-k with TensorFlow's products, on the GPU where there is one: the answers of :mod:`topkin.search.topk`.

The same search, the same lists and scores to the last bit; only the products and their comparison with the
floors run in TensorFlow. A product of factors that were rounded (bfloat16, or tf32 on a GPU) has one more
coordinate, of the query its length times the rounding, of the item its length: so it is never below the score, by
Cauchy and Schwarz, and near it however unlike the lengths of items are. What of it reaches a floor, few pairs, is
multiplied again in float32. The same code runs on a processor and on a GPU.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from topkin.search.kernels import Engine, Places, few_places, pair_products

Product = Literal["float32", "bfloat16"]

_ROUNDING = {
    # Both factors rounded to 8 bits, half a step of the last each, and the sum, of float32, likewise.
    "bfloat16": 3 * 2.0**-8,
    # A tensor core rounds both factors to 11 bits.
    "tf32": 2 * 2.0**-11,
    "float32": 0.0,
}
_ONE = np.int16(0x3F80)  # the bits of 1 in bfloat16
_ROOM = 1.02  # products of these errors, and the rounding of the coordinate that holds them


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
        self._gpu = gpu_visible()
        fast32 = self._gpu and tf.config.experimental.tensor_float_32_execution_enabled()
        self._rounding = _ROUNDING["tf32" if product == "float32" and fast32 else product] * _ROOM
        self._fine = tf.float64 if fast32 else tf.float32
        self._items, self._cuts = items, blocks
        self._blocks = [self._with_error(self._block(j), 1) for j in range(blocks)]

    def error_bounds(self, margins: np.ndarray) -> np.ndarray:
        """See :class:`topkin.search.kernels.Products`."""
        return margins

    def scores(self, queries: np.ndarray, j: int) -> np.ndarray:
        """See :class:`topkin.search.kernels.Products`."""
        near_one, exponents = _near_one(queries[:, : self._items.shape[1]])
        fine = _multiply(tf.cast(near_one, self._fine), tf.cast(self._block(j), self._fine))
        fast = np.array(tf.cast(fine, tf.float32))
        return np.ldexp(fast, (exponents + self._exponent)[:, None], out=fast)

    def scores_above(
        self, queries: np.ndarray, j: int, floors: np.ndarray | np.float32, barred: Places | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`topkin.search.kernels.Products`."""
        queries = queries[:, : self._items.shape[1]]
        block, w = self._blocks[j], self._blocks[j].shape[0]
        if isinstance(floors, np.ndarray):
            near_one, exponents = _near_one(queries)
            exponents = exponents + self._exponent
            with np.errstate(over="ignore", under="ignore"):
                near = np.ldexp(floors, -exponents[:, None])
            at, values = self._passing(self._with_error(near_one, self._rounding), block, near)
            values = np.ldexp(values, exponents[at // w])
        else:  # one floor, 1: the queries are divided by theirs, their products near one already
            near_one = np.ldexp(queries, self._exponent)
            at, values = self._passing(self._with_error(near_one, self._rounding), block, floors)
        if barred is not None and len(at):
            mine = barred[0] * w + barred[1]
            beside = np.minimum(at.searchsorted(mine), len(at) - 1)
            keep = np.ones(len(at), bool)
            keep[beside[at[beside] == mine]] = False
            at, values = at[keep], values[keep]
        if self._rounding:
            row, column = np.divmod(at, w)
            values = pair_products(queries, self._items, row, column * self._cuts + j)
            keep = values >= (floors[row, 0] if isinstance(floors, np.ndarray) else floors)
            at, values = at[keep], values[keep]
        return at, values

    def _passing(
        self, queries: tf.Tensor, block: tf.Tensor, floors: np.ndarray | np.float32
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places, int64 ascending, and values, float32, of the products not below the floors, (b, 1) or one, 1."""
        one = not isinstance(floors, np.ndarray)
        if self._gpu:
            at, values = (_passing if one else _passing_rows)(queries, block, tf.constant(floors))
            return at.numpy(), values.numpy()
        fast = _multiply(queries, block)
        if one and self._type == tf.bfloat16:  # positive numbers sort as their bits do, and negative ones are below 0
            bits = fast.numpy().view(np.int16)
            at = few_places(bits >= _ONE)
            return at, (bits.ravel().take(at).astype(np.int32) << 16).view(np.float32)
        values = tf.cast(fast, tf.float32).numpy()
        at = few_places(values >= floors)
        return at, values.ravel().take(at)

    def _block(self, j: int) -> np.ndarray:
        """The items of a block, times a power of two that brings the largest coordinate of all near one."""
        return np.ldexp(self._items[j :: self._cuts], -self._exponent)

    def _with_error(self, vectors: np.ndarray, times: float) -> tf.Tensor:
        """In the type of the product, with one more coordinate, the length times a number, if products are rounded."""
        if self._rounding:
            with np.errstate(over="ignore", under="ignore"):  # infinite: everything passes; zero: nothing can
                lengths = np.sqrt(np.vecdot(vectors, vectors)) * np.float32(times * _ROOM)
            vectors = np.concatenate([vectors, lengths[:, None]], axis=1)
        return tf.cast(vectors, self._type)


def _near_one(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Queries times powers of two, and the exponents that undo these."""
    exponents = np.frexp(np.abs(queries).max(axis=1, initial=0))[1]
    return np.ldexp(queries, -exponents[:, None]), exponents


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
