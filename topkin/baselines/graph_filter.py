"""Baselines that keep the graph of purchases, and a linear filter of it.

Kept are 16 bytes for each distinct purchase, half of them by user and half by item.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import scipy.sparse as sp

from topkin.baselines.popularity import Learned
from topkin.interactions import Interactions
from topkin.linalg import sparse_knn


@dataclass
class PurchaseGraph(Learned):
    """Who bought what, by user and by item."""

    indptr: np.ndarray = field(init=False, repr=False)
    items: np.ndarray = field(init=False, repr=False)
    item_indptr: np.ndarray = field(init=False, repr=False)
    users: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Keep every user's set of items, and every item's of users."""
        known = history.binary()
        by_item = known.T.tocsr()
        self.indptr, self.items = known.indptr, known.indices.astype(np.int32)
        self.item_indptr, self.users = by_item.indptr, by_item.indices.astype(np.int32)
        return self.restore({})

    def restore(self, state: dict[str, np.ndarray]) -> Self:
        """See :class:`topkin.baselines.registry.Baseline`."""
        for name in ("_known", "_by_item"):
            self.__dict__.pop(name, None)  # made of other arrays
        return super().restore(state)

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        asked, known, by_item = history.binary(), self._known, self._by_item
        out = np.zeros(asked.shape, np.float32)
        for rows in sparse_knn.row_blocks(asked, by_item):
            out[rows] = self._scores(asked[rows], by_item, known)
        return out

    @cached_property
    def _known(self) -> sp.csr_array:
        """Ones where a user bought an item, (n_users, n_items) float32."""
        shape = len(self.indptr) - 1, len(self.item_indptr) - 1
        return sp.csr_array((np.ones(len(self.items), np.float32), self.items, self.indptr), shape)

    @cached_property
    def _by_item(self) -> sp.csr_array:
        """The same, (n_items, n_users)."""
        shape = len(self.item_indptr) - 1, len(self.indptr) - 1
        return sp.csr_array((np.ones(len(self.users), np.float32), self.users, self.item_indptr), shape)

    def _scores(self, asked: sp.csr_array, by_item: sp.csr_array, known: sp.csr_array) -> np.ndarray:
        raise NotImplementedError


@dataclass
class GraphFilter(PurchaseGraph):
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
