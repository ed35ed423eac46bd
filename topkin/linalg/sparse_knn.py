"""Nearest neighbours from sparse products, a block of rows at a time: no dense square of all against all is made.

The work is done in a few times ``BLOCK_CELLS`` x 16 bytes.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from topkin.linalg.csr import indptr_of
from topkin.linalg.sort_keys import PAD, keys_of

BLOCK_CELLS = 4 << 20
FINE = 1 << 32


def top_k_of_rows(matrix: sp.csr_array, k: int) -> sp.csr_array:
    """The k largest of the stored values of each row, ties by column number; column numbers ascending."""
    matrix.sort_indices()
    lengths = np.diff(matrix.indptr)
    keys = keys_of(matrix.data.astype(np.float32, copy=False), matrix.indices)
    last = np.full(len(lengths), PAD)
    for row in np.flatnonzero(lengths > k):
        last[row] = np.partition(keys[matrix.indptr[row] : matrix.indptr[row + 1]], k - 1)[k - 1]
    keep = keys <= np.repeat(last, lengths)
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    kind = np.int32 if max(indptr[-1], *matrix.shape) < 1 << 31 else np.int64
    indices = matrix.indices[keep].astype(kind, copy=False)
    return sp.csr_array((matrix.data[keep], indices, indptr.astype(kind)), matrix.shape)


def ranked_of_rows(matrix: sp.csr_array, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, rank from 0 and column of the k largest stored values of each row, (n,) int each, ties by column number."""
    largest = top_k_of_rows(matrix, k)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(largest.indptr))
    order = np.lexsort((largest.indices, -largest.data, rows))
    return rows, np.arange(len(rows)) - largest.indptr[rows], largest.indices[order]


def row_blocks(left: sp.csr_array, right: sp.csr_array) -> Iterator[slice]:
    """Consecutive rows of ``left`` whose product with ``right`` stores at most about BLOCK_CELLS values."""
    lengths = np.concatenate([[0], np.cumsum(np.diff(right.indptr)[left.indices])])
    cells = np.maximum(np.diff(lengths[left.indptr]), 1)
    number = (np.cumsum(cells) - 1) // BLOCK_CELLS
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    for start, stop in pairwise([*starts.tolist(), len(number)]):
        yield slice(start, stop)


def cosine_neighbours(purchases: sp.csr_array, k: int) -> sp.csr_array:
    """The k items whose sets of buyers have the highest cosine with each item's, (n_items, n_items) float32.

    Ties by item number; an item is not its own neighbour.
    """
    buyers = _buyers(purchases)

    def similar(common: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return common / np.sqrt(buyers[row] * buyers[column])

    return _neighbours(purchases.T.tocsr(), purchases, similar, k)


def walk_neighbours(purchases: sp.csr_array, k: int, *, alpha: float, beta: float) -> sp.csr_array:
    """The k items that walks from each item come to most, (n_items, n_items) float32; a row is where they start.

    RP3beta (Paudel et al., Updatable, accurate, diverse, and scalable recommendations for interactive applications,
    ACM TiiS 2017). A walk goes from an item to one of its buyers and on to one of what these bought; from i to j come

        1 / (buyers_i^alpha * buyers_j^beta) * sum over the buyers of both of 1 / items_of_the_buyer^alpha

    Sums over buyers are of whole numbers, so that the order of the users changes nothing. Ties and the item itself as
    in :func:`cosine_neighbours`.

    Args:
        purchases: (n_users, n_items), a 1 for each item of a user.
        k: neighbours of an item.
        alpha: 1 for probabilities as they are; less makes less of rare items and of users with few.
        beta: more makes less of what many buy.
    """
    buyers = _buyers(purchases)
    leaving, coming = buyers**-alpha, buyers**-beta
    sizes = np.maximum(np.diff(purchases.indptr), 1).astype(np.float64)
    by_item = purchases.T.tocsr()
    steps = np.rint(sizes**-alpha * FINE).astype(np.int64)[by_item.indices]
    by_item = sp.csr_array((steps, by_item.indices, by_item.indptr), by_item.shape)

    def come(common: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return common / FINE * leaving[row] * coming[column]

    return _neighbours(by_item, purchases.astype(np.int64), come, k)


def _buyers(purchases: sp.csr_array) -> np.ndarray:
    """The number of buyers of each item, (n_items,) float64, 1 at least."""
    return np.maximum(np.bincount(purchases.indices, minlength=purchases.shape[1]), 1).astype(np.float64)


def _neighbours(
    by_item: sp.csr_array,
    purchases: sp.csr_array,
    similarity: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    k: int,
) -> sp.csr_array:
    """The k largest of each row of ``by_item`` times ``purchases``, without the diagonal, by what ``similarity`` makes
    of its values, rows and columns."""
    blocks = []
    for rows in row_blocks(by_item, purchases):
        common = by_item[rows] @ purchases
        row = np.repeat(np.arange(rows.start, rows.stop), np.diff(common.indptr))
        similar = similarity(common.data, row, common.indices).astype(np.float32)
        keep = row != common.indices
        indptr = np.concatenate([[0], np.cumsum(keep)])[common.indptr]
        blocks.append(top_k_of_rows(sp.csr_array((similar[keep], common.indices[keep], indptr), common.shape), k))
    return sp.vstack(blocks, format="csr") if blocks else sp.csr_array((0, 0), dtype=np.float32)


def following_neighbours(
    indptr: np.ndarray,
    items: np.ndarray,
    positions: np.ndarray,
    n_items: int,
    *,
    window: int,
    k: int,
    decay: float = 1.0,
    before: float = 1.0,
    alpha: float = 0.5,
    beta: float = 0.5,
) -> sp.csr_array:
    """The k items that stand nearest to each item in the rows, (n_items, n_items) float32.

    To j from i comes, over the rows that hold both at most ``window`` entries apart, at positions p and q,

        1 / (rows_i^alpha * rows_j^beta) * sum of (1 + |p - q|)^-decay, times ``before`` where j stands before i

    as in sequential rules (Ludewig and Jannach, Evaluation of session-based recommendation algorithms, UMUAI 2018),
    with what came before beside what followed. Sums are of whole numbers, so that the order of the rows changes
    nothing. Ties and the item itself as in :func:`cosine_neighbours`.

    Args:
        indptr: (n_rows + 1,) int64.
        items: (n,) int32, distinct within a row, in its order.
        positions: (n,) int64 from the last entry of the row on, entries of equal ones have no order.
        n_items: How many items there are.
        window: Entries.
        k: Neighbours of an item.
        decay: 0 counts all within the window alike.
        before: 1 knows no order.
        alpha: more makes less of what follows items of many rows.
        beta: more makes less of items of many rows.
    """
    kind = np.int32 if len(items) + window < 1 << 31 else np.int64
    indptr, positions = indptr.astype(kind), positions.astype(kind)
    lengths, places = np.diff(indptr), np.arange(len(items), dtype=kind)
    lows = np.maximum(np.repeat(indptr[:-1], lengths), places - window)  # of its row, near each entry
    near = np.minimum(np.repeat(indptr[1:], lengths), places + window + 1) - lows
    del places
    holders = np.bincount(items, minlength=n_items)
    by_item, starts = np.argsort(items, kind="stable").astype(kind), indptr_of(holders)
    rows = np.maximum(holders, 1).astype(np.float64)
    leaving, coming = rows**-alpha, rows**-beta
    most = int(positions.max(initial=0))
    apart = np.arange(-most, most + 1)
    shares = np.rint(FINE * (1.0 + np.abs(apart)) ** -decay * np.where(apart < 0, before, 1.0)).astype(np.int64)
    pairs = np.maximum(np.bincount(items, near, n_items).astype(np.int64), 1)
    firsts = np.flatnonzero(np.diff((np.cumsum(pairs) - 1) // BLOCK_CELLS, prepend=-1))
    blocks = []
    for first, end in zip(firsts, [*firsts[1:], n_items], strict=True):
        entries = by_item[starts[first] : starts[end]]
        counts = sp.csr_array((end - first, n_items), dtype=np.int64)
        for some in np.array_split(entries, max(1, -(-int(near[entries].sum()) // BLOCK_CELLS))):
            each = np.repeat(some, near[some])
            other = np.arange(len(each)) + np.repeat(lows[some] - (np.cumsum(near[some]) - near[some]), near[some])
            each, other = each[other != each], other[other != each]
            ahead = shares[positions[each] - positions[other] + most]
            counts += sp.coo_array((ahead, (items[each] - first, items[other])), counts.shape).tocsr()
        row = np.repeat(np.arange(first, end), np.diff(counts.indptr))
        similar = (counts.data / FINE * leaving[row] * coming[counts.indices]).astype(np.float32)
        blocks.append(top_k_of_rows(sp.csr_array((similar, counts.indices, counts.indptr), counts.shape), k))
    return sp.vstack(blocks, format="csr") if blocks else sp.csr_array((0, 0), dtype=np.float32)
