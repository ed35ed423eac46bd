"""Users alike by what is rare: customer A resembles customer B, so offer A what B bought.

What is kept is 16 bytes for each distinct purchase, by user and by item.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse as sp

from topkin.baselines.graph_filter import PurchaseGraph
from topkin.interactions import Interactions
from topkin.linalg import sparse_knn
from topkin.linalg.csr import Csr


@dataclass
class RarityKNN(PurchaseGraph):
    """An item scores the sum of the similarities of those of the user's neighbours who bought it.

    Similarity is the cosine of two users' sets of items, each item weighed by its rarity, ``log(1 + users / buyers)``
    (TF-IDF, Salton and Buckley 1988), without the asking user's own length, which orders nothing; an item is shared
    with those of its buyers who are looked at. The sum is divided by the item's buyers to the power ``beta``.

    Args:
        neighbours: of a user, the most similar ones of those fitted, ties by their order; the user too if among them.
        beta: how much what everybody buys is held back.
        most: buyers of an item that are looked at, evenly spaced: what more of them bought tells little.
    """

    neighbours: int = 500
    beta: float = 0.2
    most: int = 2_000
    rarity: np.ndarray = field(init=False, repr=False)
    lengths: np.ndarray = field(init=False, repr=False)
    lift: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Keep every user's set of items, and of every item's users at most ``most``."""
        super().fit(history)
        buyers = np.maximum(np.diff(self.item_indptr), 1).astype(np.float64)
        self.rarity = np.log1p(history.n_users / buyers)
        self.lift = (buyers**-self.beta).astype(np.float32)
        squares = np.add.reduceat(np.append((self.rarity**2)[self.items], 0), self.indptr[:-1])
        self.lengths = np.sqrt(np.where(np.diff(self.indptr) > 0, squares, 1.0))
        some = _spaced(Csr(self.item_indptr, self.users), self.most)
        return self.restore({"item_indptr": some.indptr, "users": some.indices})

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        return np.asarray(self.sparse_scores(history).toarray())

    def sparse_scores(self, history: Interactions) -> sp.csr_array:
        """See :class:`topkin.baselines.registry.Baseline`."""
        asked, known, by_item = self._weighed(history), self._known, self._by_item
        blocks = [self._near(asked[rows], by_item) @ known for rows in sparse_knn.row_blocks(asked, by_item)]
        scores = sp.csr_array(
            sp.vstack(blocks, format="csr") if blocks else sp.csr_array(asked.shape, dtype=np.float32)
        )
        scores.sort_indices()
        scores.data *= self.lift[scores.indices]
        return scores

    def explain(self, history: Interactions, ids: np.ndarray, most: int) -> np.ndarray:
        """The bought items that the user shares with the neighbours who bought a listed one, most first."""
        asked, known, by_item = self._weighed(history), self._known, self._by_item
        alike = by_item.T.tocsr()
        reasons = np.full((*ids.shape, most), -1, np.int32)
        for rows in sparse_knn.row_blocks(asked, by_item):
            near = self._near(asked[rows], by_item)
            for part in sparse_knn.row_blocks(near, known):  # of whose neighbours some bought much
                users = slice(rows.start + part.start, rows.start + part.stop)
                reasons[users] = self._reasons(asked[users], near[part], known, alike, ids[users], most)
        return reasons

    def _reasons(
        self,
        asked: sp.csr_array,
        near: sp.csr_array,
        known: sp.csr_array,
        alike: sp.csr_array,
        ids: np.ndarray,
        most: int,
    ) -> np.ndarray:
        """Those of some users by their neighbours. alike: what users bought as far as it counts for likeness."""
        reasons = np.full((*ids.shape, most), -1, np.int32)
        user, place = np.nonzero(ids >= 0)
        numbers = np.arange(1, len(user) + 1)
        pairs = sp.csr_array((numbers, (user, ids[user, place])), (len(ids), known.shape[1]))
        whose = np.repeat(np.arange(near.shape[0]), np.diff(near.indptr))  # asks, for each neighbour
        listed = pairs[whose].multiply(known[near.indices]).tocoo()
        shared = asked[whose].multiply(alike[near.indices]).tocsr()
        shared.data /= np.repeat(self.lengths[near.indices], np.diff(shared.indptr))
        ones = np.ones(len(listed.data), np.float32)
        whom = sp.csr_array((ones, (listed.data.astype(np.int64) - 1, listed.row)), (len(user), len(whose)))
        row, rank, named = sparse_knn.ranked_of_rows(sp.csr_array(whom @ shared), most)
        reasons[user[row], place[row], rank] = named
        return reasons

    def _near(self, asked: sp.csr_array, by_item: sp.csr_array) -> sp.csr_array:
        """The most similar users, (n_users asked, n_users fitted) float32."""
        alike = asked @ by_item
        alike.data = (alike.data / self.lengths[alike.indices]).astype(np.float32)
        return sparse_knn.top_k_of_rows(alike, self.neighbours)

    def _weighed(self, history: Interactions) -> sp.csr_array:
        """The squared rarities of what users bought, (n_users, n_items) float64."""
        asked = history.binary()
        return sp.csr_array((self.rarity[asked.indices] ** 2, asked.indices, asked.indptr), asked.shape)


def _spaced(rows: Csr, most: int) -> Csr:
    """At most so many entries of each row, evenly spaced."""
    lengths = rows.lengths
    long = np.repeat(lengths, lengths)
    place = np.arange(len(rows.indices)) - np.repeat(rows.indptr[:-1], lengths)
    return rows.keep(
        (long <= most) | (place * most // np.maximum(long, 1) != (place - 1) * most // np.maximum(long, 1))
    )
