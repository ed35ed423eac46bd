"""Tall float32 arrays as strips of a few columns each, which lie side by side in memory.

A product with purchases goes through a strip at a time: it reads and writes rows of one cache line or four, in place.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
import scipy.sparse as sp

from topkin.encoding.svd import COLUMNS, gram_product


def cut(width: int) -> Iterator[slice]:
    """The columns of each strip."""
    return (slice(start, min(start + COLUMNS, width)) for start in range(0, width, COLUMNS))


def strips_of(array: np.ndarray) -> list[np.ndarray]:
    """The columns of an array by strips, which are its own memory."""
    return [array[:, columns] for columns in cut(array.shape[1])]


def split(flat: np.ndarray, rows: int) -> list[np.ndarray]:
    """The strips that lie one behind the other in an array of one axis, (rows, columns of it) each."""
    parts = (flat[rows * columns.start : rows * columns.stop] for columns in cut(flat.size // max(rows, 1)))
    return [part.reshape(rows, -1) for part in parts]


def joined(strips: Sequence[np.ndarray]) -> np.ndarray:
    """The array of which these are the strips."""
    return np.concatenate(strips, axis=1)


def multiply(matrix: sp.csr_matrix, strips: Sequence[np.ndarray], scale: np.ndarray | None, *, threads: int) -> None:
    """``A' A Z`` in the place of the strips, where Z is what they are times ``scale`` by rows, 1 where there is none.

    matrix: A, (users, m) float32. strips: (m, columns) each, contiguous. scale: (m,) float32. A thread holds what
    users meet of a strip, (users, columns).
    """
    users = matrix.shape[0]
    idle = SimpleQueue[np.ndarray]()
    for _ in range(min(threads, len(strips))):
        idle.put(np.empty(users * COLUMNS, np.float32))

    def work(strip: np.ndarray) -> None:
        mine, columns = idle.get(), strip.shape[1]
        try:
            if scale is not None:
                strip *= scale[:, None]
            gram_product(matrix, strip, mine[: users * columns].reshape(users, columns), strip)
        finally:  # or the other threads would wait for it
            idle.put(mine)

    if idle.qsize() < 2:
        list(map(work, strips))
    else:
        with ThreadPoolExecutor(idle.qsize()) as pool:
            list(pool.map(work, strips))
