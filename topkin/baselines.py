"""What a model must beat: popularity, recent popularity, the user's own frequency, item-kNN.

Use: ``BASELINES[name]().fit(history).scores(rows)`` gives a dense block of scores, to be ranked by
``top_k_of_scores`` with the exclusions of the evaluation. Ties are left to that function's order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np
import scipy.sparse as sp

from topkin.interactions import Interactions

RECENT_DAYS = 7.0


class Baseline(Protocol):
    """A recommender without training."""

    def fit(self, history: Interactions) -> Self:
        """Learn from the purchases before the cut."""

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """The scores of all items for some users of the history: rows (b,) int give (b, n_items) float32."""


def popularity(history: Interactions) -> np.ndarray:
    """The number of distinct buyers of each item, (n_items,) float32."""
    return np.bincount(history.distinct().items, minlength=history.n_items).astype(np.float32)


def recent_popularity(history: Interactions, days: float = RECENT_DAYS) -> np.ndarray:
    """The number of purchases of each item in the last days, (n_items,) float32."""
    recent = history.items[history.ages <= days]
    return np.bincount(recent, minlength=history.n_items).astype(np.float32)


@dataclass
class Popularity:
    """Items by distinct buyers."""

    _scores: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Count each item's buyers."""
        self._scores = popularity(history)
        return self

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """The same scores for every user, (b, n_items) float32."""
        return np.repeat(self._scores[None], len(rows), axis=0)


@dataclass
class RecentPopularity(Popularity):
    """Items by purchases in the last days, then by distinct buyers."""

    days: float = RECENT_DAYS

    def fit(self, history: Interactions) -> Self:
        """Count each item's recent purchases."""
        whole = popularity(history)
        self._scores = recent_popularity(history, self.days) + whole / (whole.max(initial=0) + 1)
        return self


@dataclass
class OwnFrequency:
    """The user's own items by how often they were bought, then all items by popularity."""

    _counts: sp.csr_matrix = field(init=False, repr=False)
    _popularity: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Count what each user bought."""
        whole = popularity(history)
        self._counts, self._popularity = history.counts(), whole / (whole.max(initial=0) + 1)
        return self

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Counts, plus a popularity below 1, (b, n_items) float32."""
        return self._counts[rows].toarray() + self._popularity


@dataclass
class ItemKNN:
    """The sum over a user's items of their similarity to each item (Sarwar et al. 2001).

    neighbours: how many of the most similar items each item keeps (cosine of the items' sets of buyers).
    recency: scores are multiplied by (recent popularity / popularity) to this power.
    """

    neighbours: int = 100
    recency: float = 0.0
    days: float = RECENT_DAYS
    _bought: sp.csr_matrix = field(init=False, repr=False)
    _similar: sp.csr_matrix = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Find each item's neighbours."""
        self._bought = (history.counts() > 0).astype(np.float32)
        whole = popularity(history)
        X = self._bought @ sp.diags_array(1 / np.sqrt(np.maximum(whole, 1)))
        S = (X.T @ X).toarray().astype(np.float32)
        np.fill_diagonal(S, 0)
        order = np.argsort(-S, axis=0, kind="stable")[self.neighbours :]
        np.put_along_axis(S, order, 0, axis=0)
        factor = np.maximum(recent_popularity(history, self.days), 0.05) / np.maximum(whole, 1)
        self._similar = sp.csr_matrix(S * (factor**self.recency)[None].astype(np.float32))
        return self

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """(b, n_items) float32."""
        return (self._bought[rows] @ self._similar).toarray()


BASELINES: dict[str, Callable[[], Baseline]] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "own_frequency": OwnFrequency,
    "item_knn": ItemKNN,
    "item_knn_recent": lambda: ItemKNN(recency=0.65),
}
