"""Item vectors smoothed over the items bought together with them, while they are learned.

A row of an id table is learned from the purchases of one item alone; most items have few. With
``v_i = (e_i + strength * sum_k share_ik e_k) / (1 + strength)`` over its nearest neighbours k, each purchase
moves the vectors around it too: one step of LightGCN's propagation (He et al., SIGIR 2020) on the item side,
with few neighbours, as in UltraGCN (Mao et al., CIKM 2021).
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from topkin.interactions import Interactions
from topkin.linalg.sparse_knn import cosine_neighbours


@dataclass(frozen=True)
class Smoothing:
    """The linear map from free id rows to smoothed ones.

    matrix: (rows + 1, rows + 1) float32 CSR over the rows of the id table, row 0 of none of them; its rows sum to 1.
    """

    matrix: sp.csr_array

    @classmethod
    def over(
        cls, history: Interactions, id_rows: np.ndarray, rows: int, *, neighbours: int, strength: float
    ) -> "Smoothing":
        """Over the ``neighbours`` items whose sets of buyers are nearest by cosine, shares in proportion to it.

        id_rows: (n_items,) the row of each item, 0 for none. An item without neighbours keeps its own row.
        """
        near = cosine_neighbours(history.binary(), neighbours).tocoo()
        whose, other = id_rows[near.row], id_rows[near.col]
        both = (whose > 0) & (other > 0)
        around = sp.csr_array((near.data[both], (whose[both], other[both])), (rows + 1, rows + 1))
        total = np.asarray(around.sum(axis=1)).ravel()
        has = total > 0
        around = sp.diags_array(strength / np.where(has, total * (1 + strength), 1)) @ around
        own = sp.diags_array(np.where(has, 1 / (1 + strength), 1.0))
        return cls(sp.csr_array(own + around).astype(np.float32))

    def of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What some rows of the id table are mixed of.

        ids: (c,) rows, 0 for none. Returns the distinct rows that take part, (m,) int32 ascending, and the
        entries of the (c, m) matrix: (n, 2) int32 row and column, in order, and (n,) float32 shares.
        """
        part = self.matrix[ids]
        rows_read = np.unique(part.indices)
        place = np.searchsorted(rows_read, part.indices)
        row = np.repeat(np.arange(len(ids)), np.diff(part.indptr))
        keep = rows_read[place] > 0
        entries = np.column_stack([row[keep], place[keep]]).astype(np.int32)
        return rows_read.astype(np.int32), entries, part.data[keep]

    def all(self, table: np.ndarray) -> np.ndarray:
        """The smoothed rows of a table, (rows + 1, dim) float32."""
        return np.asarray(self.matrix @ table, np.float32)
