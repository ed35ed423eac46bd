"""One search for several lists of each user.

It finds a user's best items among those that any of the lists may have. A list's own best are the first of these that
it may have: what is found is proof where there are as many as the list is made from, or where all there are were found.
Where they are fewer the list's own search is asked. So lists are those of a search for each of them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from topkin.linalg.csr import Csr
from topkin.recommend.rules.columns import rows_of
from topkin.recommend.rules.greedy import first
from topkin.recommend.searchers import Searcher, UserQueries
from topkin.recommend.sharded import lists_of
from topkin.search.topk import TopK

SLACK = 2
"""Times as many items are searched for as the deepest list needs, where lists may have other items."""

Find = Callable[[np.ndarray, Csr, np.ndarray], TopK]
"""From users' vectors, (m, dim) float32, the items that each may not get and those all may get, (n_items,) bool."""


class JointQueries(NamedTuple):
    """The n users of a part, and what any of several lists may have.

    vectors: (n, dim) float32, zero for a user who is not searched for. exclude: the items that no list of the user may
    have. groups: rows of users with vectors, and which items some list of theirs may have, (n_items,) bool.
    """

    vectors: np.ndarray
    exclude: Csr
    groups: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, queries: Sequence[UserQueries], allowed: Sequence[np.ndarray]) -> "JointQueries":
        """Of the queries of each list, of the same users in the same order. allowed: (n_items,) bool, of each list."""
        vectors, n_items = queries[0].vectors, len(allowed[0])
        known = np.flatnonzero(vectors.any(axis=1))
        none = np.zeros(len(vectors), np.int64)
        group = [none if q.audience is None else q.audience.group for q in queries]
        distinct, number = rows_of([of[known] for of in group])
        groups = []
        for one, labels in enumerate(distinct):
            masks = [
                may if q.audience is None else may & q.audience.mask(int(label))
                for q, may, label in zip(queries, allowed, labels, strict=True)
            ]
            groups.append((known[number == one], np.logical_or.reduce(masks)))
        return cls(vectors, _common([q.exclude for q in queries], n_items), groups)

    def search(self, depth: int, find: Find) -> TopK:
        """The best items of each user, (n, depth) int32 padded -1, and their scores, float32 padded -inf."""
        n = len(self.vectors)
        ids, scores = np.full((n, depth), -1, np.int32), np.full((n, depth), -np.inf, np.float32)
        for rows, mask in self.groups:
            ids[rows], scores[rows] = find(self.vectors[rows], self.exclude.take(rows), mask)
        return ids, scores


def _common(excludes: Sequence[Csr], n_items: int) -> Csr:
    """The entries that all have, each distinct within a row."""
    one, *others = excludes
    if all(np.array_equal(a, b) for other in others for a, b in zip(one, other, strict=True)):
        return one
    keys, times = np.unique(np.concatenate([e.rows * n_items + e.indices for e in excludes]), return_counts=True)
    rows, items = np.divmod(keys[times == len(excludes)], max(n_items, 1))
    return Csr.of_pairs(rows, items, one.n_rows, n_items)


def own_lists(neighbours: TopK, k: int, exclude: Csr, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first k items of each row that a list may have, and whether they are its best ones.

    Args:
        found: Of a search for several lists: ids (n, depth) int32 padded -1 and scores float32 padded -inf.
        k: Items per user.
        exclude: The items that each user may not get.
        allowed: (n_items,) bool, those that the list may have.

    Returns:
        ids (n, k) int32 padded -1, scores (n, k) float32 padded -inf, and (n,) bool.
    """
    ids, scores = neighbours
    may, width = (ids >= 0) & allowed[ids], max(len(allowed), 1)
    if len(exclude.indices):
        out = exclude.rows * width + exclude.indices  # ascending
        keys = np.arange(len(ids))[:, None] * width + ids
        may &= out[np.minimum(np.searchsorted(out, keys), len(out) - 1)] != keys
    places = first(np.where(may, ids, np.int32(-1)), k)
    at, none = np.maximum(places, 0), places < 0
    proven = ~none[:, -1] | (ids[:, -1] < 0) | (ids.shape[1] >= len(allowed))
    return (
        np.where(none, np.int32(-1), np.take_along_axis(ids, at, axis=1)),
        np.where(none, np.float32(-np.inf), np.take_along_axis(scores, at, axis=1)),
        proven,
    )


class SharedSearcher:
    """Takes a list's items from what was found for several, and asks the list's own searcher for the rest.

    Args:
        table: ``sharded.lists_table`` of a :class:`JointQueries` search of these users, all of a part.
        inner: An exact searcher of all items.
    """

    def __init__(self, table: pa.Table, inner: Searcher) -> None:
        self.neighbours, self.inner, self.shortfall = lists_of(table), inner, inner.shortfall

    def take(self, rows: np.ndarray) -> "SharedSearcher":
        """For some of the users, in the order of ``rows``."""
        some = SharedSearcher.__new__(SharedSearcher)
        some.neighbours, some.inner, some.shortfall = (
            (self.neighbours[0][rows], self.neighbours[1][rows]),
            self.inner,
            self.shortfall,
        )
        return some

    def knows(self, users: UserQueries) -> np.ndarray:
        """See :class:`Searcher`."""
        return self.inner.knows(users)

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See :class:`Searcher`."""
        return self.inner.n_candidates(allowed)

    def search(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """See :class:`Searcher`. Raises ValueError for other users than were searched for."""
        if len(self.neighbours[0]) != len(users.vectors):
            raise ValueError(f"{len(self.neighbours[0])} users were searched for, got {len(users.vectors)}")
        ids, scores, proven = own_lists(self.neighbours, k, users.exclude, allowed)
        if len(rest := np.flatnonzero(~proven)):
            ids[rest], scores[rest] = self.inner.search(users.take(rest), k, allowed)
        return ids, scores

    def explain(self, users: UserQueries, ids: np.ndarray, most: int) -> np.ndarray:
        """See :class:`Searcher`."""
        return self.inner.explain(users, ids, most)

    def shares(self, users: UserQueries, ids: np.ndarray, named: np.ndarray) -> np.ndarray:
        """See :class:`Searcher`."""
        return self.inner.shares(users, ids, named)
