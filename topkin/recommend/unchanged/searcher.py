"""A searcher that has most of the lists already, from the night before."""

import numpy as np

from topkin.recommend.searchers import Searcher, UserQueries
from topkin.recommend.unchanged.carry import search_again
from topkin.recommend.unchanged.rows import OldLists
from topkin.search.topk import TopK


class CarryingSearcher:
    """The lists and reasons of another searcher, which it asks where those of the night before do not hold.

    Args:
        inner: The other, an exact one: what it finds depends on scores alone, and how it explains on the user alone.
        same: (n,) bool, the users asked for whose history and vector are what they were.
        old: Their lists of before; an item that is not what it was has the number -1.
        because: (n, k, most) int32, the reasons of before.
        changed: (n_items,) bool, the items that are not what they were.
    """

    def __init__(
        self, inner: Searcher, *, same: np.ndarray, old: OldLists, because: np.ndarray, changed: np.ndarray
    ) -> None:
        self.inner, self.same, self.old, self.because, self.changed = inner, same, old, because, changed
        self.shortfall = inner.shortfall

    def knows(self, users: UserQueries) -> np.ndarray:
        """See :class:`Searcher`."""
        return self.inner.knows(users)

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Searcher`."""
        return self.inner.n_candidates(allowed)

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """See :class:`Searcher`. Raises ValueError for other users than the lists are of."""
        if self.old.ids.shape != (len(users.vectors), k):
            raise ValueError(f"lists must be ({len(users.vectors)}, {k}), those of before are {self.old.ids.shape}")
        new = allowed & self.changed

        def fresh(some: np.ndarray) -> TopK:
            if not new.any() or not len(some):
                return np.full((len(some), k), -1, np.int32), np.full((len(some), k), -np.inf, np.float32)
            return self.inner.search(users.take(some), k, new)

        return search_again(
            self.same,
            (self.old.ids, self.old.scores),
            fresh,
            lambda some: self.inner.search(users.take(some), k, allowed),
            k,
        )

    def explain(self, users: UserQueries, ids: np.ndarray, most: int) -> np.ndarray:
        """See :class:`Searcher`."""
        because = self.because.copy()
        other = np.flatnonzero(~self.same | (ids != self.old.ids).any(axis=1))
        if len(other):
            because[other] = self.inner.explain(users.take(other), ids[other], most)
        return because

    def shares(self, users: UserQueries, ids: np.ndarray, named: np.ndarray) -> np.ndarray:
        """See :class:`Searcher`."""
        return self.inner.shares(users, ids, named)
