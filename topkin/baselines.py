"""What a model must beat: popularity, recent popularity, the user's own frequency, item-kNN.

Use: ``BASELINES[name]().fit(history).scores(rows)`` gives a dense block of scores, to be ranked by
``top_k_of_scores`` with the exclusions of the evaluation. ``history`` holds the purchases before the cut,
aged at the cut; everything, recency too, is computed from it. On Online Retail, as its readme splits it,
they give the figures printed there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, Self

import numpy as np
import scipy.sparse as sp

from topkin.interactions import Interactions
from topkin.topk import top_k_of_scores

BLOCK_BYTES = 32 << 20


class Baseline(Protocol):
    """A recommender without training."""

    def fit(self, history: Interactions) -> Self:
        """Learn from the purchases before the cut; gives itself back."""

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Scores of all items for some users of the history: rows (b,) int give (b, n_items) float32.

        A score orders the items of one user and means nothing else; all are finite. The array is the
        caller's own.
        """


def popularity(history: Interactions) -> np.ndarray:
    """The number of distinct buyers of each item, (n_items,) float32."""
    return np.bincount(history.distinct().items, minlength=history.n_items).astype(np.float32)


def recent_popularity(history: Interactions, days: float = 7.0, most: float = 1.5) -> np.ndarray:
    """How much each item sells lately, (n_items,) float32: the sum of ``exp(-age / days)`` over its purchases.

    One user adds at most ``most`` to an item, so that nobody makes an item popular alone.
    """
    weights = np.exp(-np.maximum(history.ages, 0).astype(np.float64) / days)
    shape = (history.n_users, history.n_items)
    by_user = sp.coo_array((weights, (history.users, history.items)), shape).tocsr()
    by_user.data = np.minimum(by_user.data, most)
    return np.asarray(by_user.sum(axis=0)).astype(np.float32)


def _bought(history: Interactions) -> sp.csr_array:
    """Whether each user bought each item, (n_users, n_items) float32 of ones."""
    once = history.distinct()
    return sp.csr_array((np.ones(len(once.items), np.float32), once.items, once.indptr), (once.n_users, once.n_items))


def _dense_rank(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The rank, from 0, by ``first`` and within it by ``then``; equal pairs get equal ranks. (n,) float32."""
    order = np.lexsort((then, first))
    rises = (np.diff(first[order]) != 0) | (np.diff(then[order]) != 0)
    ranks = np.empty(len(order), np.float32)
    ranks[order] = np.concatenate([[0], np.cumsum(rises)])[: len(order)]
    return ranks


@dataclass
class Popularity:
    """Items by their number of distinct buyers, the same for every user."""

    _scores: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Count each item's buyers."""
        self._scores = popularity(history)
        return self

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """See :class:`Baseline`."""
        return np.repeat(self._scores[None], len(rows), axis=0)


@dataclass
class RecentPopularity(Popularity):
    """Items by :func:`recent_popularity`, ties by distinct buyers, the same for every user."""

    days: float = 7.0

    def fit(self, history: Interactions) -> Self:
        """Weigh each item's purchases by their age."""
        self._scores = _dense_rank(recent_popularity(history, self.days), popularity(history))
        return self


@dataclass
class OwnFrequency:
    """The user's own items by how many times they were bought, ties and all others by distinct buyers.

    Lines of one moment, such as those of one basket, are one time.
    """

    _times: sp.csr_array = field(init=False, repr=False)
    _rank: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Count what each user bought."""
        users = history.users
        order = np.lexsort((history.ages, history.items, users))
        parts = users[order], history.items[order], history.ages[order]
        new = np.ones(len(order), bool)
        new[1:] = np.any([p[1:] != p[:-1] for p in parts], axis=0)
        cells = parts[0][new], parts[1][new]
        ones = np.ones(len(cells[0]), np.float32)
        self._times = sp.coo_array((ones, cells), (history.n_users, history.n_items)).tocsr()
        whole = popularity(history)
        self._rank = _dense_rank(whole, whole)
        return self

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """See :class:`Baseline`."""
        levels = self._rank.max(initial=0) + 1
        return self._times[rows].toarray() * levels + self._rank


@dataclass
class ItemKNN:
    """An item scores the sum of its similarities to those of its neighbours that the user bought.

    Similarity is the cosine between two items' sets of buyers (Sarwar et al. 2001). ``neighbours``: how many
    of the most similar items each item keeps, ties by item number. ``recency``: scores are multiplied by
    (recent popularity, at least .05, / popularity) to this power; 0 leaves them as they are.
    """

    neighbours: int = 100
    recency: float = 0.0
    days: float = 7.0
    _bought: sp.csr_array = field(init=False, repr=False)
    _similar: sp.csr_array = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Find each item's neighbours, a block of items at a time."""
        self._bought = _bought(history)
        buyers = popularity(history)
        n = history.n_items
        block = max(1, BLOCK_BYTES // (8 * max(n, 1)))
        lists = [self._neighbours(np.arange(s, min(s + block, n)), buyers) for s in range(0, n, block)]
        ids = np.concatenate([i for i, _ in lists]) if lists else np.empty((0, 1), np.int32)
        sims = np.concatenate([s for _, s in lists]) if lists else np.empty((0, 1), np.float32)
        if self.recency:
            lately = np.maximum(recent_popularity(history, self.days), 0.05)
            sims = sims * ((lately / np.maximum(buyers, 1)) ** self.recency)[:, None]
        keep = ids >= 0
        indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
        by_item = sp.csc_array((sims[keep].astype(np.float32), ids[keep], indptr), (n, n))
        self._similar = by_item.tocsr()
        return self

    def _neighbours(self, block: np.ndarray, buyers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        common = (self._bought[:, block].T @ self._bought).toarray()
        common[np.arange(len(block)), block] = 0
        similar = common / np.sqrt(np.maximum(buyers[block], 1)[:, None] * np.maximum(buyers, 1))
        similar[common == 0] = -np.inf
        return top_k_of_scores(similar, self.neighbours)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """See :class:`Baseline`."""
        return (self._bought[rows] @ self._similar).toarray()


BASELINES: dict[str, Callable[[], Baseline]] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "own_frequency": OwnFrequency,
    "item_knn": ItemKNN,
    "item_knn_recent": partial(ItemKNN, recency=0.65),
}
