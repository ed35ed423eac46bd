"""Exact top-k by inner product: the k best items of each query, ties by item number.

The score of a pair is its exact inner product rounded to float32 (:mod:`topkin.search.pair_scores`): one number for
one pair, whatever else is asked, however the work is blocked and whichever BLAS multiplies. Lists are ordered
by score, highest first, then by item number, lowest first. What is excluded or not allowed never appears; a
list that gets short is padded with id -1 and score -inf.

How: BLAS multiplies a block of queries by blocks of items, every p-th item each, whose scores are compared,
while in cache, with a floor for each query: a rank among the items seen that hardly ever more than k of all
items lie above, guessed again after 1, 2, 4, 8, … blocks. What passes is cut to the k best, give or take the
error bound of a float32 product, and scored exactly. A query whose k-th score does not stand clear of its
floor is searched once more from that score down.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from topkin.linalg.blas import one_blas_thread, processors
from topkin.linalg.csr import Csr
from topkin.linalg.sort_keys import (
    LOWEST,
    PAD,
    above,
    best_keys,
    best_places,
    first_keys,
    keys_of,
    kth,
    lists_of,
    rank_among,
    scores_of,
)
from topkin.search.kernels import BLAS, Engine, Places, Products
from topkin.search.pair_scores import error_bounds, pair_scores

TopK = tuple[np.ndarray, np.ndarray]

BUDGET_BYTES = 256 << 20
_FEW = 16  # of so many scores one may be listed: to sort those is faster than to find the k-th of all


def top_k(
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    *,
    exclude: Csr | None = None,
    allowed: np.ndarray | None = None,
    budget_bytes: int = BUDGET_BYTES,
    threads: int | None = None,
    engine: Engine = BLAS,
) -> TopK:
    """The k items of highest inner product with each query; with unit vectors the score is the cosine.

    Args:
        queries: (n, d) float32.
        items: (m, d) float32; a zero vector scores 0 with everything.
        k: Items of a list.
        exclude: The items that each query must not get, n rows, in any order, repeats allowed.
        allowed: (m,) bool, the items that any query may get; all by default.
        budget_bytes: Bound of the working memory beside inputs and result (and the allowed items, if not all are).
        threads: How many at once, by default one a processor.
        engine: What multiplies; the answer is the same with any.

    Returns:
        ids (n, k) int32 and scores (n, k) float32, the best first, ties by id; padded with id -1 and score -inf.

    Raises:
        ValueError: k is below 1, shapes do not fit, a vector has a NaN or an infinity, or vectors are so long that a
            product leaves float32.

    Examples:
        >>> import numpy as np, topkin
        >>> queries, items = np.array([[1, 0]], np.float32), np.array([[0, 1], [1, 0], [0.6, 0.8]], np.float32)
        >>> ids, scores = topkin.top_k(queries, items, k=2)
        >>> ids.tolist(), scores.round(1).tolist() == [[1.0, np.float32(0.6)]]
        ([[1, 2]], True)
    """
    queries, items = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(items, np.float32)
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ValueError(f"queries and items must be (n, d) and (m, d), got {queries.shape} and {items.shape}")
    exclude = _checked(k, len(queries), len(items), exclude, allowed)
    numbers = None
    if allowed is not None and not allowed.all():
        numbers = np.flatnonzero(allowed).astype(np.int32)
        items = items[numbers]
        if exclude is not None:
            exclude = exclude.renumbered(np.where(allowed, np.cumsum(allowed) - 1, -1).astype(np.int32))
    margins = error_bounds(queries, items)
    threads = processors() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    n, m = len(queries), len(items)
    ids, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    if not n or not m:
        return ids, scores
    blocks = _blocks(m, engine.item_block)
    row_bytes = 6 * -(-m // blocks) + 24 * _width(m, k, blocks) + 40 * k
    rows = max(1, min(engine.query_block, budget_bytes // threads // row_bytes, -(-n // threads)))
    starts = iter(range(0, n, rows))  # the iterator is shared by the threads

    used = int(np.flatnonzero(queries.any(axis=0)).max(initial=0)) + 1  # beyond, users are 0: items' popularity
    products = engine.load(items[:, :used], blocks)

    def work(_: int) -> None:
        search = _Search(items, k, rows, blocks, products(rows))
        for start in starts:
            part = slice(start, start + rows)
            keys = search(queries[part], margins[part], None if exclude is None else _places(exclude, part))
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
    scores: np.ndarray, k: int, *, exclude: Csr | None = None, allowed: np.ndarray | None = None
) -> TopK:
    """The k best columns of each row of dense scores, (n, m) float32, as :func:`top_k` orders them.

    A column that scores -inf is never listed. Raises ValueError for a NaN, k below 1 or shapes that do not fit.
    """
    scores = np.asarray(scores, np.float32)
    if scores.ndim != 2:
        raise ValueError(f"scores must be (n, m), got {scores.shape}")
    n, m = scores.shape
    exclude = _checked(k, n, m, exclude, allowed)
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
                block[_places(exclude, part)] = -np.inf
        few = np.count_nonzero(block >= LOWEST) <= block.size // _FEW
        keep, at = above(block, np.full(len(block), -np.inf, np.float32)) if few else best_places(block, k)
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

    def __init__(self, items: np.ndarray, k: int, rows: int, blocks: int, products: Products) -> None:
        self.items, self.k, self.blocks, self.products = items, k, blocks, products
        self.width = _width(len(items), k, blocks)
        self.candidates = np.full((rows, self.width), -np.inf, np.float32)
        self.columns = np.empty((rows, self.width), np.int32)

    def __call__(self, queries: np.ndarray, margins: np.ndarray, barred: Places | None) -> np.ndarray:
        """The keys of the k best items of each query, (b, k) uint64 sorted; barred: rows and items."""
        if barred is not None:
            order = np.argsort(barred[1] % self.blocks, kind="stable")
            barred = barred[0][order], barred[1][order]
        far = self.products.error_bounds(margins)
        best, guesses = self._pass(queries, margins, np.full(len(queries), LOWEST), barred, guess=True)
        unsure = np.flatnonzero((scores_of(best[:, -1]) < guesses + far) & (guesses > LOWEST))
        if len(unsure):  # what was listed bounds the k-th score from below
            if barred is not None:
                place = np.full(len(queries), -1)
                place[unsure] = np.arange(len(unsure))
                again = place[barred[0]] >= 0
                barred = place[barred[0][again]], barred[1][again]
            floors = np.maximum(scores_of(best[unsure, -1]) - far[unsure], LOWEST)
            best[unsure], _ = self._pass(queries[unsure], margins[unsure], floors, barred, guess=False)
        return best

    def _rank(self, seen: int) -> int:
        """The rank among so many items, of all blocks alike, below which hardly ever more than k of all items are."""
        return rank_among(seen, self.k, len(self.items))

    def _pass(
        self, queries: np.ndarray, margins: np.ndarray, floors: np.ndarray, barred: Places | None, *, guess: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """The keys of the k best items not below their query's floor, and the highest floor guessed on the way."""
        b, number = len(queries), np.arange(len(queries) + 1)
        best, filled, guesses, seen = np.full((b, self.k), PAD), np.zeros(b, np.int64), floors, 0
        bars = None if barred is None else np.searchsorted(barred[1] % self.blocks, np.arange(self.blocks + 1))
        scaled, limit, unit = _scaled(queries, margins, floors)
        far = self.products.error_bounds(margins)
        for j in range(self.blocks):
            w = len(self.items[j :: self.blocks])
            mine = None
            if barred is not None and bars is not None:
                of = slice(bars[j], bars[j + 1])
                mine = barred[0][of], barred[1][of] // self.blocks
            if filled.max() + w > self.width:
                best = self._settle(queries, margins, unit, filled, best)
                filled[:] = 0
                floors = np.maximum(floors, scores_of(best[:, -1]) - far)
                scaled, limit, unit = _scaled(queries, margins, floors)
            if guess and not seen:
                fast = self.products.scores(scaled, j)
                if mine is not None:
                    fast[mine] = -np.inf
                guesses = floors = np.maximum(kth(fast, self._rank(w)) - 2 * far, LOWEST)
                at = np.flatnonzero(fast >= floors[:, None])
                values = fast.ravel().take(at)
            else:
                at, values = self.products.scores_above(scaled, j, limit, mine)
            ends = at.searchsorted(number * w)
            counts = ends[1:] - ends[:-1]
            place = (number[:-1] * self.width + filled - ends[:-1]).repeat(counts)
            place += np.arange(len(at))
            self.candidates.ravel()[place] = values
            at -= (number[:-1] * w).repeat(counts)
            at *= self.blocks
            at += j
            self.columns.ravel()[place] = at
            filled += counts
            seen += w
            if guess and not j & (j + 1) and j + 1 < self.blocks:  # 1, 2, 4, 8, … blocks are seen: guess better
                candidates = self.candidates[:b, : int(filled.max())]
                guesses = np.maximum(guesses, kth(candidates, self._rank(seen)) * unit[:, 0] - 2 * far)
                floors, old = np.maximum(floors, guesses), unit
                scaled, limit, unit = _scaled(queries, margins, floors)
                candidates *= old / unit
        return self._settle(queries, margins, unit, filled, best), guesses

    def _settle(
        self, queries: np.ndarray, margins: np.ndarray, unit: np.ndarray, filled: np.ndarray, best: np.ndarray
    ) -> np.ndarray:
        """The k best of ``best`` and what was found, scored exactly; empties ``candidates``."""
        b = len(queries)
        candidates = self.candidates[:b, : int(filled.max(initial=0))]
        row, at = above(candidates, kth(candidates, self.k) - 2 * self.products.error_bounds(margins) / unit[:, 0])
        column = self.columns[row, at]
        candidates[:] = -np.inf
        keys = keys_of(pair_scores(queries, self.items, margins, row, column), column)
        return best_keys(row, keys, b, self.k, best)


def _scaled(
    queries: np.ndarray, margins: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray | np.float32, np.ndarray]:
    """Queries, floors and units (b, 1): products and floors are those of the thresholds, divided by the units."""
    unit = thresholds[:, None]
    if (thresholds > 64 * margins).all():  # nearer zero a quotient could leave float32; one floor is 3 times as fast
        with np.errstate(under="ignore"):
            scaled = queries / unit
        if (np.abs(scaled).max(axis=1) > 2.0**-80).all():
            return scaled, np.float32(1), unit
    return queries, unit, np.ones_like(unit)


def _blocks(m: int, size: int) -> int:
    """Into how many blocks m items are cut: a prime, so that no pattern in their order makes the blocks differ."""
    blocks = -(-m // size)
    while any(blocks % other == 0 for other in range(2, math.isqrt(blocks) + 1)):
        blocks += 1
    return blocks


def _width(m: int, k: int, blocks: int) -> int:
    """How many items found a query can hold before they are cut to the k best."""
    return min(m, -(-m // blocks) + 4 * k + 1024)


def _places(exclude: Csr, part: slice) -> Places:
    """Row, from 0, and item of each exclusion of some rows."""
    some = exclude.slice(part.start, part.stop)
    return some.rows, some.indices


def _checked(k: int, n: int, m: int, exclude: Csr | None, allowed: np.ndarray | None) -> Csr | None:
    """The exclusions, after the arguments were found to fit."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if m >= 2**31:
        raise ValueError(f"item numbers must fit int32, got {m} items: shard them and merge with merge_top_k")
    if allowed is not None and (allowed.shape != (m,) or allowed.dtype != bool):
        raise ValueError(f"allowed must be ({m},) bool, got {allowed.shape} {allowed.dtype}")
    if exclude is None:
        return None
    indptr, items = exclude
    if len(indptr) != n + 1 or indptr[0] != 0 or indptr[-1] != len(items):
        raise ValueError(f"exclude must be CSR with {n} rows, got {len(indptr) - 1} rows, {len(items)} items")
    if len(items) and not 0 <= items.min() <= items.max() < m:
        raise ValueError(f"excluded items must be from 0 to {m - 1}, got {items.min()} to {items.max()}")
    return exclude
