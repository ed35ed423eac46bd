"""Exact top-k by inner product: the k best items of each query, ties by item number.

The score of a pair is its inner product in float64 (the products exact, summed pairwise over the
coordinates), rounded to float32: one number for one pair, whatever else is asked, however the work is
blocked and whichever BLAS multiplies. Lists are ordered by score, highest first, then by item number,
lowest first. What is excluded or not allowed never appears; a list that gets short is padded with id -1
and score -inf.

How: BLAS multiplies a block of queries by blocks of items, whose scores are compared, while in cache, with
a threshold a query: the rank in a sample of the items that k of all are likely to pass. What passes is
cut to the k best, give or take the error bound of a float32 product, and scored again exactly. A query
whose k-th score does not stand clear of its threshold is done again without one.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from topkin.blas import one_blas_thread
from topkin.rank_keys import LOWEST, PAD, above, best_keys, first_keys, keys_of, kth, lists_of, scores_of

Exclude = tuple[np.ndarray, np.ndarray]
TopK = tuple[np.ndarray, np.ndarray]

BUDGET_BYTES = 256 << 20
QUERY_BLOCK = 256
ITEM_BLOCK = 2048
SAMPLE = 4096


def top_k(
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    *,
    exclude: Exclude | None = None,
    allowed: np.ndarray | None = None,
    budget_bytes: int = BUDGET_BYTES,
    threads: int | None = None,
) -> TopK:
    """The k items of highest inner product with each query: ids (n, k) int32, scores (n, k) float32.

    queries: (n, d) float32. items: (m, d) float32. exclude: CSR ``(indptr (n + 1,), items)``, the items that
    query r must not get are ``items[indptr[r]:indptr[r + 1]]``, in any order, repeats allowed.
    allowed: (m,) bool, the items that any query may get. budget_bytes: bound of the working memory beside
    inputs and result (and the allowed items, if not all are). threads: how many at once, by default one a
    processor.

    With unit vectors the score is the cosine; a zero vector scores 0 with everything. Raises ValueError
    for k below 1, shapes that do not fit, a NaN or an infinity in a vector, or vectors so long that a
    product leaves float32.
    """
    queries, items = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(items, np.float32)
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ValueError(f"queries and items must be (n, d) and (m, d), got {queries.shape} and {items.shape}")
    _check(k, len(queries), len(items), exclude, allowed)
    numbers = None
    if allowed is not None and not allowed.all():
        numbers = np.flatnonzero(allowed).astype(np.int32)
        items = items[numbers]
        if exclude is not None:
            exclude = _renumber(exclude, allowed)
    margins = _margins(queries, items)
    threads = _processors() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    n, m = len(queries), len(items)
    ids, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    if not n or not m:
        return ids, scores
    rng = np.random.default_rng(0)
    sample = np.sort(rng.choice(m, SAMPLE, replace=False)) if m > SAMPLE else np.arange(m)
    row_bytes = 5 * min(m, ITEM_BLOCK) + 8 * len(sample) + 24 * _width(m, k) + 40 * k
    rows = max(1, min(QUERY_BLOCK, budget_bytes // threads // row_bytes, -(-n // threads)))
    sampled, starts = items[sample], iter(range(0, n, rows))  # the iterator is shared by the threads

    def work(_: int) -> None:
        search = _Search(items, sampled, sample, k, rows)
        for start in starts:
            part = slice(start, start + rows)
            keys = search(queries[part], margins[part], None if exclude is None else _rows_of(exclude, part))
            ids[part], scores[part] = lists_of(keys)

    with one_blas_thread():
        if threads == 1 or n <= rows:
            work(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, range(threads)))
    if numbers is not None:
        ids = np.where(ids < 0, np.int32(-1), numbers[ids])
    return ids, scores


def top_k_of_scores(
    scores: np.ndarray, k: int, *, exclude: Exclude | None = None, allowed: np.ndarray | None = None
) -> TopK:
    """The k best columns of each row of dense scores, (n, m) float32, as :func:`top_k` orders them.

    A column that scores -inf is never listed. Raises ValueError for a NaN, k below 1 or shapes that do not fit.
    """
    scores = np.asarray(scores, np.float32)
    if scores.ndim != 2:
        raise ValueError(f"scores must be (n, m), got {scores.shape}")
    n, m = scores.shape
    _check(k, n, m, exclude, allowed)
    ids, best = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    rows = max(1, BUDGET_BYTES // (24 * max(m, 1)))
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        block = scores[part]
        if np.isnan(block).any():
            raise ValueError("scores must be numbers, got NaN")
        if exclude is not None or allowed is not None:
            block = block if allowed is None else np.where(allowed, block, np.float32(-np.inf))
            block = block.copy() if allowed is None else block
            if exclude is not None:
                block[_rows_of(exclude, part)] = -np.inf
        keep, at = above(block, kth(block, k))
        keys = best_keys(keep, keys_of(block[keep, at], at), len(block), k)
        ids[part], best[part] = lists_of(keys)
    return ids, best


def merge_top_k(parts: Sequence[TopK], k: int) -> TopK:
    """One list a row out of lists over disjoint items: ids (n, k) int32 and scores (n, k) float32.

    Associative and commutative: shards may be merged in any order, in any grouping. Raises ValueError
    for no parts, k below 1, or parts with different numbers of rows.
    """
    if not parts or k < 1:
        raise ValueError(f"a merge needs parts and a k of at least 1, got {len(parts)} parts and k = {k}")
    keys = np.concatenate([keys_of(scores, ids) for ids, scores in parts], axis=1)
    return lists_of(first_keys(keys, k))


class _Search:
    """The scratch arrays of one thread, and the search of a block of queries in them."""

    def __init__(self, items: np.ndarray, sampled: np.ndarray, sample: np.ndarray, k: int, rows: int):
        self.items, self.sampled, self.sample, self.k = items, sampled, sample, k
        self.block = min(len(items), ITEM_BLOCK)
        self.width = _width(len(items), k)
        self.fast = np.empty(rows * self.block, np.float32)
        self.passed = np.empty(rows * self.block, bool)
        self.found = np.full((rows, self.width), -np.inf, np.float32)
        self.columns = np.empty((rows, self.width), np.int32)

    def __call__(self, queries: np.ndarray, margins: np.ndarray, barred: Exclude | None) -> np.ndarray:
        """The keys of the k best items of each query, (b, k) uint64 sorted; barred: rows and items."""
        if barred is not None:
            order = np.argsort(barred[1], kind="stable")
            barred = barred[0][order], barred[1][order]
        thresholds = self._thresholds(queries, margins, barred)
        best = self._pass(queries, margins, thresholds, barred)
        unsure = np.flatnonzero((scores_of(best[:, -1]) <= thresholds + margins) & (thresholds > LOWEST))
        if len(unsure):
            if barred is not None:
                place = np.full(len(queries), -1)
                place[unsure] = np.arange(len(unsure))
                again = place[barred[0]] >= 0
                barred = place[barred[0][again]], barred[1][again]
            lowest = np.full(len(unsure), LOWEST, np.float32)
            best[unsure] = self._pass(queries[unsure], margins[unsure], lowest, barred)
        return best

    def _thresholds(self, queries: np.ndarray, margins: np.ndarray, barred: Exclude | None) -> np.ndarray:
        s, m = len(self.sample), len(self.items)
        rank = self.k if s == m else math.ceil((1.5 + math.sqrt(2.25 + self.k * s / m)) ** 2)
        if 2 * rank > s:
            return np.full(len(queries), LOWEST, np.float32)
        fast = queries @ self.sampled.T
        if barred is not None:
            at = np.minimum(np.searchsorted(self.sample, barred[1]), s - 1)
            hit = self.sample[at] == barred[1]
            fast[barred[0][hit], at[hit]] = -np.inf
        floors = kth(fast, rank)
        return np.maximum(floors - 2 * margins if s == m else floors, LOWEST)

    def _pass(
        self, queries: np.ndarray, margins: np.ndarray, thresholds: np.ndarray, barred: Exclude | None
    ) -> np.ndarray:
        b = len(queries)
        best, filled = np.full((b, self.k), PAD), np.zeros(b, np.int64)
        for start in range(0, len(self.items), self.block):
            block = self.items[start : start + self.block]
            w = len(block)
            fast, passed = (a[: b * w].reshape(b, w) for a in (self.fast, self.passed))
            np.matmul(queries, block.T, out=fast)
            if barred is not None:
                lo, hi = np.searchsorted(barred[1], [start, start + w])
                fast[barred[0][lo:hi], barred[1][lo:hi] - start] = -np.inf
            if filled.max() + w > self.width:
                best = self._settle(queries, margins, filled, best)
                thresholds = np.maximum(thresholds, scores_of(best[:, -1]) - margins)
                filled[:] = 0
            at = np.flatnonzero(np.greater_equal(fast, thresholds[:, None], out=passed))
            row = at // w
            counts = np.bincount(row, minlength=b)
            place = np.arange(len(at)) + (filled - np.cumsum(counts) + counts + np.arange(b) * self.width)[row]
            self.found.ravel()[place] = fast.ravel()[at]
            self.columns.ravel()[place] = at - row * w + start
            filled += counts
        return self._settle(queries, margins, filled, best)

    def _settle(self, queries: np.ndarray, margins: np.ndarray, filled: np.ndarray, best: np.ndarray) -> np.ndarray:
        """The k best of ``best`` and what was found, scored exactly; empties ``found``."""
        b = len(queries)
        found = self.found[:b, : int(filled.max(initial=0))]
        row, at = above(found, kth(found, self.k) - 2 * margins)
        column = self.columns[row, at]
        found[:] = -np.inf
        keys = keys_of(_exact(queries, self.items, row, column), column)
        return best_keys(row, keys, b, self.k, best)


def _width(m: int, k: int) -> int:
    """How many items found a query can hold before they are cut to the k best."""
    return min(m, ITEM_BLOCK + 4 * k + 1024)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _exact(queries: np.ndarray, items: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The score of each pair, (n,) float32, as the module defines it."""
    out = np.empty(len(row), np.float32)
    step = max(1, (1 << 16) // max(queries.shape[1], 1))
    for s in range(0, len(row), step):
        e = s + step
        a, b = queries.take(row[s:e], 0), items.take(column[s:e], 0)
        out[s:e] = np.vecdot(a.astype(np.float64), b.astype(np.float64))
    return out


def _margins(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How far a float32 product in any order may lie from the score, (n,) float32 (Higham 2002, 3.1)."""
    d = queries.shape[1]
    with np.errstate(invalid="ignore"):
        reach = np.sqrt(_squares(queries)) * np.sqrt(_squares(items).max(initial=0))
    if not (reach < np.finfo(np.float32).max / 2).all():
        raise ValueError(
            "vectors must be finite and their products within float32: set aside those with a NaN or an infinity first"
        )
    return ((d + 8) * 2.0**-24 * reach + 2 * d * 2.0**-126).astype(np.float32)


def _squares(x: np.ndarray) -> np.ndarray:
    out = np.empty(len(x))
    for s in range(0, len(x), 8192):
        block = x[s : s + 8192].astype(np.float64)
        out[s : s + 8192] = np.einsum("nd,nd->n", block, block)
    return out


def _rows_of(exclude: Exclude, part: slice) -> Exclude:
    """Row, from 0, and item of each exclusion of some rows."""
    indptr = exclude[0][part.start : part.stop + 1]
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), exclude[1][indptr[0] : indptr[-1]]


def _renumber(exclude: Exclude, allowed: np.ndarray) -> Exclude:
    """The exclusions among the allowed items, by their number among these."""
    indptr, items = exclude
    keep = allowed[items]
    return np.concatenate([[0], np.cumsum(keep)])[indptr], (np.cumsum(allowed) - 1)[items[keep]]


def _check(k: int, n: int, m: int, exclude: Exclude | None, allowed: np.ndarray | None) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if m >= 2**31:
        raise ValueError(f"item numbers must fit int32, got {m} items: shard them and merge with merge_top_k")
    if allowed is not None and (allowed.shape != (m,) or allowed.dtype != bool):
        raise ValueError(f"allowed must be ({m},) bool, got {allowed.shape} {allowed.dtype}")
    if exclude is not None:
        indptr, items = exclude
        if len(indptr) != n + 1 or indptr[0] != 0 or indptr[-1] != len(items):
            raise ValueError(f"exclude must be CSR with {n} rows, got {len(indptr) - 1} rows, {len(items)} items")
        if len(items) and not 0 <= items.min() <= items.max() < m:
            raise ValueError(f"excluded items must be from 0 to {m - 1}, got {items.min()} to {items.max()}")
