"""A source's scores of some users: of all items, or of the few that it knows where these are few."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from topkin.baselines.registry import Baseline
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.linalg.sparse_knn import top_k_of_rows
from topkin.search.topk import top_k_of_scores

FEW = 8
"""Of so many scores one at most may differ from 0, or all are looked at."""


class Scores(Protocol):
    """Scores of all items for some users."""

    def best(self, k: int, exclude: Csr, allowed: np.ndarray) -> np.ndarray:
        """The k allowed items of the highest scores above 0 that a user may get, (n_users, k) int32 padded -1.

        Ties by item number; in any order. exclude: a user's may not be got. allowed: (n_items,) bool.
        """

    def of(self, items: np.ndarray) -> np.ndarray:
        """The scores of some items of each user, (n_users, width) int, in float32."""


def scores_of(source: Baseline, history: Interactions) -> Scores:
    """What a fitted source says of users by their purchases."""
    common = source.common_scores()
    if common is not None:
        return CommonScores(common, history.n_users)
    some = source.sparse_scores(history)
    if some is None:
        return DenseScores(source.scores(history))
    if FEW * some.nnz > some.shape[0] * some.shape[1]:
        return DenseScores(some.toarray())
    return SparseScores(some)


@dataclass(frozen=True)
class DenseScores:
    """Scores as an array, (n_users, n_items) float32."""

    values: np.ndarray

    def best(self, k: int, exclude: Csr, allowed: np.ndarray) -> np.ndarray:
        """See :class:`Scores`."""
        known = np.where(self.values > 0, self.values, np.float32(-np.inf))
        return top_k_of_scores(known, k, exclude=exclude, allowed=allowed)[0]

    def of(self, items: np.ndarray) -> np.ndarray:
        """See :class:`Scores`."""
        return np.take_along_axis(self.values, items, axis=1)


@dataclass(frozen=True)
class CommonScores:
    """Scores that are the same for every user.

    Args:
        values: (n_items,) float32.
        n_users: how many ask.
    """

    values: np.ndarray
    n_users: int

    def best(self, k: int, exclude: Csr, allowed: np.ndarray) -> np.ndarray:
        """See :class:`Scores`."""
        longest = int(exclude.lengths.max(initial=0))
        known = np.where(allowed & (self.values > 0), self.values, np.float32(-np.inf))
        first = top_k_of_scores(known[None], min(k + longest, max(len(known), 1)))[0][0]
        first = first[first >= 0]
        place = np.full(len(known), -1)
        place[first] = np.arange(len(first))
        left = np.ones((self.n_users, len(first)), bool)
        places = place[exclude.indices]
        left[exclude.rows[places >= 0], places[places >= 0]] = False
        rank = np.cumsum(left, axis=1) - 1
        rows, columns = np.nonzero(left & (rank < k))
        ids = np.full((self.n_users, k), -1, np.int32)
        ids[rows, rank[rows, columns]] = first[columns]
        return ids

    def of(self, items: np.ndarray) -> np.ndarray:
        """See :class:`Scores`."""
        return self.values[items]


class SparseScores:
    """Scores of which most are 0.

    Args:
        matrix: those that are not, (n_users, n_items) float32, column numbers ascending, none twice.
    """

    def __init__(self, matrix: sp.csr_array) -> None:
        self.matrix = matrix
        self.cells = self._cells(Csr(matrix.indptr, matrix.indices).rows, matrix.indices)

    def _cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return rows * self.matrix.shape[1] + columns

    def _places(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where cells would stand among those with a score, and whether they do."""
        if not len(self.cells):
            return np.zeros(cells.shape, np.int64), np.zeros(cells.shape, bool)
        places = np.minimum(np.searchsorted(self.cells, cells), len(self.cells) - 1)
        return places, self.cells[places] == cells

    def best(self, k: int, exclude: Csr, allowed: np.ndarray) -> np.ndarray:
        """See :class:`Scores`."""
        matrix = self.matrix
        keep = (matrix.data > 0) & allowed[matrix.indices]
        places, there = self._places(self._cells(exclude.rows, exclude.indices))
        keep[places[there]] = False
        left = Csr(matrix.indptr, matrix.indices).keep(keep)
        few = top_k_of_rows(sp.csr_array((matrix.data[keep], left.indices, left.indptr), matrix.shape), k)
        pattern = Csr(few.indptr.astype(np.int64), few.indices)
        ids, rows = np.full((matrix.shape[0], k), -1, np.int32), pattern.rows
        ids[rows, np.arange(len(rows)) - pattern.indptr[rows]] = pattern.indices
        return ids

    def of(self, items: np.ndarray) -> np.ndarray:
        """See :class:`Scores`."""
        places, there = self._places(self._cells(np.arange(len(items))[:, None], items))
        return np.where(there, self.matrix.data[places] if len(self.cells) else np.float32(0), np.float32(0))
