"""Products of queries and blocks of items, of which only what is not below a floor is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Places = tuple[np.ndarray, np.ndarray]
"""Row and column of some places, each (n,)."""


class Products(Protocol):
    """Multiplies queries and the items of block j: every ``blocks``-th item, from item j."""

    def error_bounds(self, margins: np.ndarray) -> np.ndarray:
        """How far a product may lie from the score, (n,) float32; margins: the same of float32 products."""

    def scores(self, queries: np.ndarray, j: int) -> np.ndarray:
        """All products, (b, w) float32, to be overwritten. queries: (b, d) float32."""

    def scores_above(
        self, queries: np.ndarray, j: int, floors: np.ndarray | np.float32, barred: Places | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The places, read row by row, ascending, and the values of the products not below the floors.

        floors: (b, 1) float32, or one. barred: places that never pass.
        """


@dataclass(frozen=True)
class Engine:
    """What multiplies. query_block, item_block: the most queries and items at once, as its caches like it.

    load: takes items (m, d) float32 and the number of blocks, once; what it returns takes the most queries at once and
    gives a thread its :class:`Products`. Queries may have more coordinates than these items, which are 0.
    """

    query_block: int
    item_block: int
    load: Callable[[np.ndarray, int], Callable[[int], Products]]


def few_places(passed: np.ndarray) -> np.ndarray:
    """Where a bool array is true, read row by row, ascending; quick where few are."""
    flags = passed.ravel()
    whole = len(flags) // 8 * 8
    words = flags[:whole].view(np.uint64)
    rest = whole + flags[whole:].nonzero()[0]
    return np.concatenate([_places_of(words, np.empty(len(words), bool)), rest])


def _places_of(words: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Where the bytes of uint64 words are true, ascending. scratch: (len(words),) bool, to be overwritten."""
    (word,) = np.not_equal(words, 0, out=scratch).nonzero()  # few pass: look at eight at once
    (near,) = words.take(word).view(bool).nonzero()
    return (word.take(near >> 3) << 3) + (near & 7)


_PAIRS_VALUES = 1 << 15  # of each factor, so that they stay in a cache


def pair_products(queries: np.ndarray, items: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The product of each pair (queries[row], items[column]) in float32, (len(row),); all (n, d) float32."""
    out, dim = np.empty(len(row), np.float32), queries.shape[1]
    step = max(1, _PAIRS_VALUES // max(dim, 1))
    for s in range(0, len(row), step):
        part = slice(s, s + step)
        np.vecdot(queries[row[part]], items[column[part]], out=out[part])
    return out


class BlasProducts:
    """Products by NumPy's BLAS, in scratch arrays that stay in cache: an object for each thread."""

    def __init__(self, items: np.ndarray, blocks: int, rows: int):
        self._items, self._blocks = items, blocks
        size = rows * -(-len(items) // blocks)
        self._fast, self._passed = np.empty(size, np.float32), np.empty(size + 8, bool)
        self._words = np.empty(size // 8 + 1, bool)

    def error_bounds(self, margins: np.ndarray) -> np.ndarray:
        """The same."""
        return margins

    def scores(self, queries: np.ndarray, j: int) -> np.ndarray:
        """See :class:`Products`."""
        block = self._items[j :: self._blocks]
        fast = self._fast[: len(queries) * len(block)].reshape(len(queries), len(block))
        return np.matmul(queries[:, : block.shape[1]], block.T, out=fast)

    def scores_above(
        self, queries: np.ndarray, j: int, floors: np.ndarray | np.float32, barred: Places | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Products`."""
        fast = self.scores(queries, j)
        if barred is not None:
            fast[barred] = -np.inf
        size = fast.size
        words = self._passed[: -(-size // 8) * 8].view(np.uint64)
        self._passed[size : size + 7] = False
        np.greater_equal(fast, floors, out=self._passed[:size].reshape(fast.shape))
        at = _places_of(words, self._words[: len(words)])
        return at, fast.ravel().take(at)


BLAS = Engine(512, 2048, lambda items, blocks: lambda rows: BlasProducts(items, blocks, rows))

EngineOf = Callable[[int], Engine]
"""The engine for items of so many coordinates in all."""


def blas(coordinates: int) -> Engine:
    """An :data:`EngineOf`: NumPy's BLAS for all."""
    return BLAS
