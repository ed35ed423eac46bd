"""The best items under the rules and why they are listed: by exact search, the index, merged shards or a baseline.

All list exactly as many items as the rules leave, up to k. Items without a vector are never listed, nor by a baseline
items that were never sold.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from topkin.baselines.fitted import best_of
from topkin.baselines.registry import Baseline
from topkin.encoding.blocks import by_purchases
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.explain import ExplainableScores
from topkin.recommend.rules.eligible import Audience
from topkin.recommend.sharded import lists_of
from topkin.search.hnsw.index import AnnIndex, index_top_k
from topkin.search.kernels import BLAS, Engine
from topkin.search.topk import TopK, top_k

FEW_VECTORS = "of the items that may be listed, fewer than k have a vector"
FEW_SOLD = "of the items that may be listed, fewer than k were ever sold"


class UserQueries(NamedTuple):
    """Some users: their purchases, their vectors, (n, dim) float32, and the items that each may not get.

    audience: which others each may get, where that depends on the user.
    """

    history: Interactions
    vectors: np.ndarray
    exclude: Csr
    audience: Audience | None = None

    def take(self, rows: np.ndarray) -> "UserQueries":
        """Some of them, in the order of ``rows``."""
        if len(rows) == len(self.vectors) and (rows == np.arange(len(rows))).all():
            return self
        audience = None if self.audience is None else self.audience.take(rows)
        return UserQueries(self.history.take(rows), self.vectors[rows], self.exclude.take(rows), audience)


class Searcher(Protocol):
    """Finds items for users, and says why.

    shortfall: why a list is short where the searcher can list fewer than k of the allowed items.
    """

    shortfall: str

    def knows(self, users: UserQueries) -> np.ndarray:
        """The users for whom it has any item, (n,) bool, as far as that is seen without their purchases."""

    def n_candidates(self, allowed: np.ndarray) -> int:
        """How many of the allowed items, (n_items,) bool, can be found."""

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """The k best allowed items of each user, ordered by score, highest first, then item number.

        Args:
            users: The n users that it knows.
            k: Items per user.
            allowed: (n_items,) bool.

        Returns:
            ids (n, k) int32 padded -1 and scores (n, k) float32 padded -inf.

        Raises:
            ValueError: For k below 1 or a NaN in a vector.
        """

    def explain(self, users: UserQueries, ids: np.ndarray, most: int) -> np.ndarray:
        """The bought items that carry most of each listed item's score, (n, k, most) int32 padded -1.

        ids: (n, k) int32 padded -1, of the same users.
        """

    def shares(self, users: UserQueries, ids: np.ndarray, named: np.ndarray) -> np.ndarray:
        """How much of each listed item's score each named item gave, (n, k, most) float32, NaN where that is unknown.

        ids: as of :meth:`explain`. named: (n, k, most) int32 padded -1, as of it, or others that the user bought.
        """


WholeSearch = Callable[[UserQueries, int, np.ndarray], TopK]


def of_rows(searcher: Searcher, rows: np.ndarray) -> Searcher:
    """The searcher for some users of those that it was made for, in the order of ``rows``."""
    take: Callable[[np.ndarray], Searcher] | None = getattr(searcher, "take", None)
    return searcher if take is None else take(rows)


class _VectorSearcher:
    """Of a search by vectors. scores: how these were pooled; it is needed for explanations alone."""

    shortfall = FEW_VECTORS

    def __init__(self, scores: ExplainableScores | None) -> None:
        self._scores = scores

    def knows(self, users: UserQueries) -> np.ndarray:
        """See :class:`Searcher`: those with a vector."""
        return np.asarray(users.vectors.any(axis=1))

    def explain(self, users: UserQueries, ids: np.ndarray, most: int) -> np.ndarray:
        """See :class:`Searcher`."""
        if self._scores is None:
            raise ValueError("a search by vectors explains nothing without ExplainableScores: make it with them")
        return self._scores.explain(users.history, ids, most)

    def shares(self, users: UserQueries, ids: np.ndarray, named: np.ndarray) -> np.ndarray:
        """See :class:`Searcher`."""
        if self._scores is None:
            raise ValueError("a search by vectors explains nothing without ExplainableScores: make it with them")
        of_purchases = by_purchases(users.vectors, self._scores.blocks)  # the rest is of the user's features
        return self._scores.shares_of(users.history, ids, named) * of_purchases[:, None, None]


class ExactSearcher(_VectorSearcher):
    """Scores every item. vectors: (n_items, dim) float32, a zero row for an item without a vector.

    engine: what multiplies; the lists are the same with any.
    """

    def __init__(self, vectors: np.ndarray, scores: ExplainableScores | None = None, engine: Engine = BLAS) -> None:
        super().__init__(scores)
        self.vectors, self.engine = vectors, engine
        self.has_vector = (vectors != 0).any(axis=1)

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Searcher`."""
        return int((allowed & self.has_vector).sum())

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """See :class:`Searcher`."""
        allowed = allowed & self.has_vector
        return top_k(users.vectors, self.vectors, k, exclude=users.exclude, allowed=allowed, engine=self.engine)


class IndexSearcher(ExactSearcher):
    """Asks the index, and searches exactly what it does not find. vectors: from which the index was built."""

    def __init__(self, index: AnnIndex, vectors: np.ndarray, scores: ExplainableScores | None = None) -> None:
        super().__init__(vectors, scores)
        self.index = index

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """See :class:`Searcher`; items that the graph misses may be replaced by the next best."""
        allowed = allowed & self.has_vector
        return index_top_k(self.index, self.vectors, users.vectors, k, exclude=users.exclude, allowed=allowed)


class MergedSearcher(_VectorSearcher):
    """Hands out what the shards found. table: ``sharded.lists_table`` of all shards merged.

    whole: searches all shards for another number of items.
    """

    def __init__(
        self, table: pa.Table, scores: ExplainableScores | None = None, whole: WholeSearch | None = None
    ) -> None:
        super().__init__(scores)
        self._lists, self._whole = lists_of(table), whole
        self._offered = int(table["offered"][0].as_py()) if len(table) else 0

    def take(self, rows: np.ndarray) -> "MergedSearcher":
        """Of some of the users, in the order of ``rows``."""
        some = copy.copy(self)
        some._lists = self._lists[0][rows], self._lists[1][rows]
        return some

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Searcher`; 0 where no user was searched for."""
        return self._offered

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """What was found for these users under these rules. Raises ValueError where it was for others."""
        ids = self._lists[0]
        if self._whole is not None and (ids.shape[1] != k or not (allowed[ids] | (ids < 0)).all()):
            return self._whole(users, k, allowed)
        if self._lists[0].shape != (len(users.vectors), k):
            raise ValueError(f"lists must be ({len(users.vectors)}, {k}), the shards gave {self._lists[0].shape}")
        return self._lists


class WholeSearcher(_VectorSearcher):
    """Searches shards one after the other. search: of all shards. offered: items that they have."""

    def __init__(self, search: WholeSearch, offered: int, scores: ExplainableScores | None = None) -> None:
        super().__init__(scores)
        self._search, self._offered = search, offered

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Searcher`."""
        return self._offered

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """See :class:`Searcher`."""
        return self._search(users, k, allowed)


class BaselineSearcher:
    """Ranks the items that were sold by a fitted baseline's scores. sold: (n_items,) bool."""

    shortfall = FEW_SOLD

    def __init__(self, baseline: Baseline, sold: np.ndarray) -> None:
        self.baseline, self.sold = baseline, sold

    def knows(self, users: UserQueries) -> np.ndarray:
        """See :class:`Searcher`: a baseline's users are their histories, of purchases alone."""
        history = users.history
        return np.ones(history.n_users, bool) if history.inputs is None else np.diff(history.indptr) > 0

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Searcher`."""
        return int((allowed & self.sold).sum())

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """See :class:`Searcher`; by the purchases alone."""
        return best_of(self.baseline, users.history, k, exclude=users.exclude, allowed=allowed & self.sold)

    def explain(self, users: UserQueries, ids: np.ndarray, most: int) -> np.ndarray:
        """See :class:`Searcher`; nothing for a baseline that does not explain."""
        return self.baseline.explain(users.history, ids, most)

    def shares(self, users: UserQueries, ids: np.ndarray, named: np.ndarray) -> np.ndarray:
        """See :class:`Searcher`; a baseline tells none."""
        return np.full(named.shape, np.nan, np.float32)
