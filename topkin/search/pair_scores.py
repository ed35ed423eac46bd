"""The score of a pair of vectors: their exact inner product, rounded once, to the nearest float32.

One number for one pair, on any machine, with any BLAS and in any order of adding. A float64 product is within
a known distance of the exact one; where all that lies so near rounds to one float32, that is the score. The
few pairs left are summed again in twice the precision (Ogita, Rump and Oishi 2005, algorithm 4.1), and those of them
whose terms all but cancel by exact partial sums (Shewchuk 1997, as math.fsum does).
"""

import itertools
import math

import numpy as np

_STEP_VALUES = 1 << 16  # of float64, so that they stay in a cache
_FEW = 64


def error_bounds(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How far a float32 product in any order may lie from the score, (n,) float32 (Higham 2002, 3.1).

    queries: (n, d) float32. items: (m, d) float32. It also covers the rounding of a few operations after the
    product, and of a query divided by a number. Raises ValueError for vectors that are not finite, or so long
    that a product leaves float32.
    """
    d = queries.shape[1]
    with np.errstate(invalid="ignore"):
        reach = np.sqrt(_squares(queries)) * np.sqrt(_squares(items).max(initial=0))
    if not (reach < np.finfo(np.float32).max / 2).all():
        raise ValueError(
            "vectors must be finite and their products within float32: set aside those with a NaN or an infinity first"
        )
    return ((d + 12) * 2.0**-24 * reach + 2 * d * 2.0**-126).astype(np.float32)


def pair_scores(
    queries: np.ndarray, items: np.ndarray, margins: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """The score of each pair (queries[row], items[column]), (len(row),) float32.

    queries: (n, d) float32. items: (m, d) float32. margins: theirs, see :func:`error_bounds`. Quickest where the
    pairs of a query stand side by side.
    """
    queries = queries.astype(np.float64)
    near = _products(queries, items, row, column)
    room = margins.astype(np.float64)[row] * 2.0**-28  # a float64 product has 29 bits more than a float32 one
    low, high = (near - room).astype(np.float32), (near + room).astype(np.float32)
    (unsure,) = (low != high).nonzero()
    step = max(1, _STEP_VALUES // max(queries.shape[1], 1))
    for s in range(0, len(unsure), step):
        of = unsure[s : s + step]
        low[of] = _rounded_sum(queries[row[of]] * items[column[of]])
    return low


def _products(queries: np.ndarray, items: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The float64 product of each pair; of pairs of one query side by side, by one product of matrix and vector."""
    out, dim = np.empty(len(row)), queries.shape[1]
    step = max(1, _STEP_VALUES // max(dim, 1))
    narrow, wide = np.empty((step, dim), np.float32), np.empty((step, dim))
    firsts = np.flatnonzero(np.append(True, row[1:] != row[:-1])).tolist() if len(row) else []
    for first, end in itertools.pairwise([*firsts, len(row)]):
        query = queries[row[first]]
        for s in range(first, end, step):
            stop = min(s + step, end)
            some = wide[: stop - s]
            some[:] = items.take(column[s:stop], 0, out=narrow[: stop - s], mode="clip")  # raise would copy
            np.matmul(some, query, out=out[s:stop])
    return out


def _rounded_sum(terms: np.ndarray) -> np.ndarray:
    """The sum of each row of float64 terms, rounded once to float32."""
    if len(terms) <= _FEW:  # a pass over their columns costs more
        return _rounded(*_exact_sums(terms))
    high, low, inexact = np.zeros(len(terms)), np.zeros(len(terms)), np.zeros(len(terms), bool)
    for term in terms.T:
        high, lost = _two_sum(high, term)
        low += lost
        inexact |= lost != 0
    high, low = _two_sum(high, low)
    error = terms.shape[1] ** 2 * 2.0**-106 * np.abs(terms).sum(axis=1)
    (again,) = (inexact & (np.abs(high) * 2.0**-54 < error)).nonzero()  # so much cancels that low is not enough
    high[again], low[again] = _exact_sums(terms[again])
    return _rounded(high, low)


def _exact_sums(terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The float64 nearest to the sum of each row, and that nearest to what is left."""
    high = [math.fsum(values) for values in terms.tolist()]
    low = [math.fsum([*values, -top]) for values, top in zip(terms.tolist(), high, strict=True)]
    return np.array(high), np.array(low)


def _rounded(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The sums high + low, rounded once to float32."""
    even = high.view(np.int64) & 1 == 0  # to odd first: then what was cut off cannot turn a tie of float32
    return np.where((low != 0) & even, np.nextafter(high, np.copysign(np.inf, low)), high).astype(np.float32)


def _two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _squares(x: np.ndarray) -> np.ndarray:
    out = np.empty(len(x))
    for s in range(0, len(x), 8192):
        block = x[s : s + 8192].astype(np.float64)
        out[s : s + 8192] = np.einsum("nd,nd->n", block, block)
    return out
