"""Baselines that go by co-purchase: item-kNN, random walks and user-kNN.

What item-kNN keeps is 8 bytes for each neighbour of an item (40,000 items with 100 neighbours: 32 MB).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse as sp

from topkin.baselines.graph_filter import PurchaseGraph
from topkin.baselines.popularity import Learned, popularity, recent_popularity
from topkin.interactions import Interactions
from topkin.linalg import sparse_knn
from topkin.linalg.csr import indptr_of


@dataclass
class ItemKNN(Learned):
    """An item scores the sum of its similarities to those of its neighbours that the user bought.

    Similarity is the cosine between two items' sets of buyers (Sarwar et al. 2001). ``neighbours``: how many
    of the most similar items each item keeps, ties by item number. ``recency``: scores are multiplied by
    (recent popularity, at least .05, / popularity) to this power; 0 leaves them as they are. ``position``: a bought
    item counts 1 / (1 + p) to this power, where p is its place from the user's latest, each item at its latest purchase
    and items of one moment at one place; 0 counts all alike. ``window``: items are alike by how near each other they
    were bought, at most so many distinct items apart, see ``sparse_knn.following_neighbours``; 0 goes by the sets.
    """

    neighbours: int = 100
    recency: float = 0.0
    position: float = 0.0
    window: int = 0
    days: float = 7.0
    indptr: np.ndarray = field(init=False, repr=False)
    items: np.ndarray = field(init=False, repr=False)
    similarities: np.ndarray = field(init=False, repr=False)
    lift: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions, others: Iterable[object] = ()) -> Self:
        """Find each item's neighbours, or take them of another of the same that was fitted on this history."""
        lately = np.maximum(recent_popularity(history, self.days), 0.05)
        self.lift = ((lately / np.maximum(popularity(history), 1)) ** self.recency).astype(np.float32)
        alike = (near for near in others if isinstance(near, ItemKNN) and type(near) is type(self))
        same = (near for near in alike if near._kind == self._kind)
        if (other := next(same, None)) is not None:
            self.indptr, self.items, self.similarities = other.indptr, other.items, other.similarities
            return self
        of = self._similar(history)
        self.indptr, self.items, self.similarities = of.indptr, of.indices, of.data
        return self

    @property
    def _kind(self) -> tuple[float, ...]:
        """What decides the similarities, beside the history."""
        return self.neighbours, self.window

    def _similar(self, history: Interactions) -> sp.csr_array:
        """Similarities, a row for each item: the items that count it among their neighbours."""
        if self.window:
            once = history.distinct()
            near = sparse_knn.following_neighbours(
                once.indptr, once.items, once.positions(), once.n_items, window=self.window, k=self.neighbours
            )
        else:
            near = sparse_knn.cosine_neighbours(history.binary(), self.neighbours)
        return near.T.tocsr()

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        return np.asarray(self.sparse_scores(history).toarray())

    def sparse_scores(self, history: Interactions) -> sp.csr_array:
        """See :class:`topkin.baselines.registry.Baseline`."""
        scores = self._weighed(history) @ self._whose
        scores.sort_indices()
        scores.data *= self.lift[scores.indices]
        return scores

    def explain(self, history: Interactions, ids: np.ndarray, most: int) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`; an item that adds nothing is not named."""
        known, near = self._weighed(history), self._whose.T.tocsr()
        reasons = np.full((*ids.shape, most), -1, np.int32)
        listed = ids >= 0
        asked = sp.csr_array((listed[listed], ids[listed], indptr_of(listed.sum(axis=1))), (len(ids), near.shape[0]))
        for rows in sparse_knn.row_blocks(asked, near):
            user, place = np.nonzero(listed[rows])
            user += rows.start
            parts = known[user].multiply(near[ids[user, place]]).tocsr()
            row, rank, named = sparse_knn.ranked_of_rows(parts, most)
            reasons[user[row], place[row], rank] = named
        return reasons

    def _weighed(self, history: Interactions) -> sp.csr_array:
        """What each bought item counts, (n_users, n_items) float32, column numbers ascending."""
        if not self.position:
            return history.binary()
        once = history.distinct()
        weights = ((1.0 + once.positions()) ** -self.position).astype(np.float32)
        matrix = sp.csr_array((weights, once.items, once.indptr), (history.n_users, history.n_items))
        matrix.sort_indices()
        return matrix

    @property
    def _whose(self) -> sp.csr_array:
        """Similarities as of :meth:`_similar`, (n_items, n_items)."""
        n = len(self.lift)
        return sp.csr_array((self.similarities, self.items, self.indptr), (n, n))


@dataclass
class RandomWalk(ItemKNN):
    """An item scores the sum of what comes to it of walks from the items that the user bought: RP3beta.

    See ``sparse_knn.walk_neighbours``; ``neighbours``: how many items walks from each item come to.
    """

    alpha: float = 0.8
    beta: float = 0.1

    @property
    def _kind(self) -> tuple[float, ...]:
        return self.neighbours, self.alpha, self.beta

    def _similar(self, history: Interactions) -> sp.csr_array:
        return sparse_knn.walk_neighbours(history.binary(), self.neighbours, alpha=self.alpha, beta=self.beta)


@dataclass
class NextItems(ItemKNN):
    """An item scores the sum of how often, and how soon, it followed the items that the user bought.

    See ``sparse_knn.following_neighbours``; ``neighbours``: how many items each item keeps of those that followed it.
    """

    window: int = 30
    decay: float = 0.5
    before: float = 0.5
    alpha: float = 0.7
    beta: float = 0.3

    @property
    def _kind(self) -> tuple[float, ...]:
        return self.neighbours, self.window, self.decay, self.before, self.alpha, self.beta

    def _similar(self, history: Interactions) -> sp.csr_array:
        once = history.distinct()
        return sparse_knn.following_neighbours(
            *(once.indptr, once.items, once.positions(), once.n_items),
            window=self.window,
            k=self.neighbours,
            decay=self.decay,
            before=self.before,
            alpha=self.alpha,
            beta=self.beta,
        )


@dataclass
class UserKNN(PurchaseGraph):
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
        return np.asarray((sparse_knn.top_k_of_rows(common, self.neighbours) @ known).toarray())
