"""Baselines that go by co-purchase: item-kNN, user-kNN and a linear filter of the purchase graph.

Neighbours are found from sparse products, a block of rows at a time, so that neither items nor users are
ever compared in a dense square. The work is done in a few times ``BLOCK_CELLS`` x 16 bytes; what is kept is
8 bytes for each neighbour of an item (40,000 items with 100 neighbours: 32 MB), or for each distinct
purchase, by user and by item.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse as sp

from topkin.baselines.popularity import Learned, popularity, recent_popularity
from topkin.interactions import Interactions
from topkin.search.sort_keys import PAD, keys_of

BLOCK_CELLS = 4 << 20


def binary_matrix(history: Interactions) -> sp.csr_array:
    """Whether each user bought each item, (n_users, n_items) float32 of ones, column numbers ascending."""
    once = history.distinct()
    ones = np.ones(len(once.items), np.float32)
    found = sp.csr_array((ones, once.items.copy(), once.indptr), (once.n_users, once.n_items))
    found.sort_indices()
    return found


def top_k_of_rows(found: sp.csr_array, k: int) -> sp.csr_array:
    """The k largest of the stored values of each row, ties by column number; column numbers ascending."""
    found.sort_indices()
    lengths = np.diff(found.indptr)
    keys = keys_of(found.data.astype(np.float32, copy=False), found.indices)
    last = np.full(len(lengths), PAD)
    for row in np.flatnonzero(lengths > k):
        last[row] = np.partition(keys[found.indptr[row] : found.indptr[row + 1]], k - 1)[k - 1]
    keep = keys <= np.repeat(last, lengths)
    indptr = np.concatenate([[0], np.cumsum(keep)])[found.indptr]
    return sp.csr_array((found.data[keep], found.indices[keep], indptr), found.shape)


def row_blocks(left: sp.csr_array, right: sp.csr_array) -> Iterator[slice]:
    """Consecutive rows of ``left`` whose product with ``right`` stores at most about BLOCK_CELLS values."""
    lengths = np.concatenate([[0], np.cumsum(np.diff(right.indptr)[left.indices])])
    cells = np.maximum(np.diff(lengths[left.indptr]), 1)
    number = (np.cumsum(cells) - 1) // BLOCK_CELLS
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(number)], strict=True):
        yield slice(int(start), int(stop))


def item_neighbours(purchases: sp.csr_array, k: int) -> sp.csr_array:
    """The k items whose sets of buyers have the highest cosine with each item's, (n_items, n_items) float32.

    Ties by item number; an item is not its own neighbour.
    """
    by_item = purchases.T.tocsr()
    buyers = np.maximum(np.diff(by_item.indptr), 1).astype(np.float64)
    blocks = []
    for rows in row_blocks(by_item, purchases):
        common = by_item[rows] @ purchases
        row = np.repeat(np.arange(rows.start, rows.stop), np.diff(common.indptr))
        similar = (common.data / np.sqrt(buyers[row] * buyers[common.indices])).astype(np.float32)
        keep = row != common.indices
        indptr = np.concatenate([[0], np.cumsum(keep)])[common.indptr]
        blocks.append(top_k_of_rows(sp.csr_array((similar[keep], common.indices[keep], indptr), common.shape), k))
    return sp.vstack(blocks, format="csr") if blocks else sp.csr_array((0, 0), dtype=np.float32)


@dataclass
class ItemKNN(Learned):
    """An item scores the sum of its similarities to those of its neighbours that the user bought.

    Similarity is the cosine between two items' sets of buyers (Sarwar et al. 2001). ``neighbours``: how many
    of the most similar items each item keeps, ties by item number. ``recency``: scores are multiplied by
    (recent popularity, at least .05, / popularity) to this power; 0 leaves them as they are.
    """

    neighbours: int = 100
    recency: float = 0.0
    days: float = 7.0
    indptr: np.ndarray = field(init=False, repr=False)
    items: np.ndarray = field(init=False, repr=False)
    similarities: np.ndarray = field(init=False, repr=False)
    lift: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Find each item's neighbours."""
        near = item_neighbours(binary_matrix(history), self.neighbours)
        of = near.T.tocsr()  # a row: the items that count it among their neighbours
        self.indptr, self.items, self.similarities = of.indptr, of.indices, of.data
        lately = np.maximum(recent_popularity(history, self.days), 0.05)
        self.lift = ((lately / np.maximum(popularity(history), 1)) ** self.recency).astype(np.float32)
        return self

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        return np.asarray((binary_matrix(history) @ self._whose).toarray() * self.lift)

    def reasons(self, history: Interactions, ids: np.ndarray, most: int) -> np.ndarray:
        """The bought items that add most to each listed item's score: (n_users, k, most) int32 padded -1.

        ids: (n_users, k) int32 padded -1. Most first, ties by item number; an item that adds nothing is not named.
        """
        known, near = binary_matrix(history), self._whose.T.tocsr()
        found = np.full((*ids.shape, most), -1, np.int32)
        step = max(1, BLOCK_CELLS // (ids.shape[1] * max(self.neighbours, 1)))
        for start in range(0, len(ids), step):
            user, place = np.nonzero(ids[start : start + step] >= 0)
            user += start
            parts = known[user].multiply(near[ids[user, place]]).tocsr()
            named = top_k_of_rows(parts, most)
            row = np.repeat(np.arange(len(user)), np.diff(named.indptr))
            order = np.lexsort((named.indices, -named.data, row))
            rank = np.arange(len(row)) - named.indptr[row]
            found[user[row], place[row], rank] = named.indices[order]
        return found

    @property
    def _whose(self) -> sp.csr_array:
        """Similarities, a row for each item: the items that count it among their neighbours."""
        n = len(self.lift)
        return sp.csr_array((self.similarities, self.items, self.indptr), (n, n))


@dataclass
class _Graph(Learned):
    """Who bought what, by user and by item."""

    indptr: np.ndarray = field(init=False, repr=False)
    items: np.ndarray = field(init=False, repr=False)
    item_indptr: np.ndarray = field(init=False, repr=False)
    users: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Keep every user's set of items, and every item's of users."""
        known = binary_matrix(history)
        by_item = known.T.tocsr()
        self.indptr, self.items = known.indptr, known.indices
        self.item_indptr, self.users = by_item.indptr, by_item.indices
        return self

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        n, m = len(self.indptr) - 1, len(self.item_indptr) - 1
        ones = np.ones(len(self.items), np.float32)
        known = sp.csr_array((ones, self.items, self.indptr), (n, m))
        by_item = sp.csr_array((ones, self.users, self.item_indptr), (m, n))
        asked = binary_matrix(history)
        out = np.zeros(asked.shape, np.float32)
        for rows in row_blocks(asked, by_item):
            out[rows] = self._scores(asked[rows], by_item, known)
        return out

    def _scores(self, asked: sp.csr_array, by_item: sp.csr_array, known: sp.csr_array) -> np.ndarray:
        raise NotImplementedError


@dataclass
class UserKNN(_Graph):
    """An item scores the sum of the similarities of those of the user's neighbours who bought it.

    Similarity is the cosine between two users' sets of items (Resnick et al. 1994, with sets for ratings). A
    user's neighbours are the ``neighbours`` most similar of the users fitted, ties by their order, the user
    too if among them: so the user's own items come first unless they are masked.
    """

    neighbours: int = 100

    def _scores(self, asked: sp.csr_array, by_item: sp.csr_array, known: sp.csr_array) -> np.ndarray:
        own, sizes = (np.maximum(np.diff(m.indptr), 1).astype(np.float64) for m in (asked, known))
        common = asked @ by_item
        row = np.repeat(np.arange(common.shape[0]), np.diff(common.indptr))
        common.data = (common.data / np.sqrt(own[row] * sizes[common.indices])).astype(np.float32)
        return np.asarray((top_k_of_rows(common, self.neighbours) @ known).toarray())


@dataclass
class GraphFilter(_Graph):
    """A linear low-pass filter of the purchase graph, in closed form: a user's items times A'A.

    A is the purchase matrix divided by the roots of both degrees; its Gram matrix is the linear part of GF-CF
    (Shen et al., How powerful is graph convolution for recommendation?, CIKM 2021). The two factors are kept
    and not their product, so nothing is cut off: 16 bytes for each distinct purchase, whatever the items.
    """

    def _scores(self, asked: sp.csr_array, by_item: sp.csr_array, known: sp.csr_array) -> np.ndarray:
        users, items = (np.maximum(np.diff(m.indptr), 1).astype(np.float64) for m in (known, by_item))
        roots = (1 / np.sqrt(items)).astype(np.float32)
        asked = sp.csr_array((roots[asked.indices], asked.indices, asked.indptr), asked.shape)
        reached = asked @ by_item
        reached.sort_indices()
        reached.data = (reached.data / users[reached.indices]).astype(np.float32)
        return np.asarray((reached @ known).toarray() * roots)
