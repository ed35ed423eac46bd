"""The best items under the rules, by exact search, through the index, or by a baseline: one interface.

All list exactly as many items as the rules leave, up to k: the index is asked for more until it found
them, and what it does not find is searched exactly. Items without a vector are never found, nor by a baseline
items that were never sold.
"""

from typing import Protocol

import numpy as np

from topkin.baselines.knn import ItemKNN
from topkin.baselines.registry import Baseline, best_of
from topkin.interactions import Interactions
from topkin.recommend.eligibility import Exclusions, count_excluded, distinct
from topkin.search.hnsw import AnnIndex
from topkin.search.kernels import BLAS, Engine
from topkin.search.topk import TopK, top_k

_MOST_ASKED = 4096


class Search(Protocol):
    """Finds items for users, by their vectors or by their purchases."""

    def n_candidates(self, allowed: np.ndarray) -> int:
        """How many of the allowed items can be found. allowed: (n_items,) bool."""

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclusions,
        allowed: np.ndarray,
        history: Interactions | None = None,
    ) -> TopK:
        """The k best allowed items: ids (n, k) int32 padded -1, scores (n, k) float32 padded -inf.

        queries: (n, dim) float32. exclude: CSR of items that query r may not get. allowed: (n_items,) bool.
        history: the same users' purchases, which a baseline scores by. Ordered by score, highest first, then id.
        Raises ValueError for k below 1 or a NaN in a query.
        """


class ExactSearch:
    """Scores every item. vectors: (n_items, dim) float32, a zero row for an item without a vector.

    engine: what multiplies; the lists are the same with any.
    """

    def __init__(self, vectors: np.ndarray, engine: Engine = BLAS) -> None:
        self.vectors, self.engine = vectors, engine
        self.found = (vectors != 0).any(axis=1)

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Search`."""
        return int((allowed & self.found).sum())

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclusions,
        allowed: np.ndarray,
        history: Interactions | None = None,
    ) -> TopK:
        """See :class:`Search`."""
        return top_k(queries, self.vectors, k, exclude=exclude, allowed=allowed & self.found, engine=self.engine)


class IndexSearch:
    """Asks the index, for as many more items as the user's exclusions, then for twice as many and so on.

    vectors: (n_items, dim) float32, the table from which the index was built.
    """

    def __init__(self, index: AnnIndex, vectors: np.ndarray) -> None:
        self.index = index
        self.exact = ExactSearch(vectors)
        self.found = self.exact.found

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Search`."""
        return self.exact.n_candidates(allowed)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclusions,
        allowed: np.ndarray,
        history: Interactions | None = None,
    ) -> TopK:
        """See :class:`Search`; items that the graph misses may be replaced by the next best."""
        queries = np.asarray(queries, np.float32)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not np.isfinite(queries).all():
            raise ValueError("vectors must be finite: set aside those with a NaN or an infinity first")
        n, n_items = len(queries), len(allowed)
        ids, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
        allowed = allowed & self.found
        users = np.repeat(np.arange(n, dtype=np.int64), np.diff(exclude[0]))
        banned = distinct(users * n_items + exclude[1])
        exclude = _csr(banned, n, n_items)
        wanted = np.minimum(k, allowed.sum() - count_excluded(exclude, allowed))
        share = max(allowed.sum(), 1) / max(self.index.n_indexed, 1)  # the fewer are allowed, the more are asked for
        asked = (k + np.diff(exclude[0])) / share
        todo = wanted > 0
        most = min(_MOST_ASKED, self.index.n_indexed)
        for size in 2 ** np.arange(0, 1 + int(np.log2(2 * _MOST_ASKED))):
            rows = np.flatnonzero(todo & (asked <= size))
            if not len(rows) or size // 2 >= most:
                continue
            got, values = self.index.search(queries[rows], min(int(size), most))
            keep = (got >= 0) & allowed[np.maximum(got, 0)]
            keep &= ~np.isin(rows[:, None] * n_items + got, banned)
            rank = np.cumsum(keep, axis=1) - 1
            enough = rank[:, -1] + 1 >= wanted[rows]
            row, column = np.nonzero(keep & (rank < k) & enough[:, None])
            target = rows[row], rank[row, column]
            ids[target], scores[target] = got[row, column], values[row, column]
            todo[rows[enough]] = False
        rows = np.flatnonzero(todo)
        if len(rows):
            left = _csr(banned[np.isin(banned // n_items, rows)], n, n_items)
            indptr = np.r_[0, np.cumsum(np.diff(left[0])[rows])]
            ids[rows], scores[rows] = self.exact.search(queries[rows], k, exclude=(indptr, left[1]), allowed=allowed)
        return ids, scores


class BaselineSearch:
    """Ranks the items that were sold by a fitted baseline's scores. sold: (n_items,) bool."""

    def __init__(self, baseline: Baseline, sold: np.ndarray) -> None:
        self.baseline, self.sold = baseline, sold

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Search`."""
        return int((allowed & self.sold).sum())

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclusions,
        allowed: np.ndarray,
        history: Interactions | None = None,
    ) -> TopK:
        """See :class:`Search`; by the history alone. Raises ValueError without it."""
        if history is None:
            raise ValueError("a baseline ranks by the users' purchases: give their history")
        return best_of(self.baseline, history, k, exclude=exclude, allowed=allowed & self.sold)

    def reasons(self, history: Interactions, ids: np.ndarray, most: int) -> np.ndarray:
        """See ``ItemKNN.reasons``; no other baseline tells any."""
        if isinstance(self.baseline, ItemKNN):
            return self.baseline.reasons(history, ids, most)
        return np.full((*ids.shape, most), -1, np.int32)


def _csr(keys: np.ndarray, n: int, n_items: int) -> Exclusions:
    """Exclusions from ascending keys ``row * n_items + item``."""
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(keys // n_items, minlength=n), out=indptr[1:])
    return indptr, (keys % n_items).astype(np.int32)
