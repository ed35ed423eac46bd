"""How a user's own items rank beside new ones: by the model's score and a personal part.

An item that the user bought gets a personal part of four factors,

    times * repeat ** r * lately ** l * due ** d

``times`` the item was bought (lines of one moment are one time); ``repeat`` the share of the item's buyers who
bought it again, the repeat customer probability of Bhagat et al. (Buy It Again, KDD 2018); ``lately`` the share
of its buyers who bought it in the last RECENT_DAYS; and ``due``, see :func:`hazard`, highest when the time since the
user's last purchase nears the user's own interval. Lists are then ranked by

    score / best score of the user + personal weight * part / best part of the user

which leaves the items not bought before in the model's order.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from topkin.interactions import Interactions
from topkin.recommend.explain import VectorRows
from topkin.recommend.repurchase.rates import MINUTES_A_DAY, TRUST, RepeatHistory, RepurchaseRates


@dataclass(frozen=True)
class Weights:
    """personal: weight of the personal part beside the model. repeat, recent, due: the powers of its factors."""

    personal: float = 1.5
    repeat: float = 0.5
    recent: float = 0.25
    due: float = 0.0

    def to_json(self) -> dict[str, float]:
        """The weights by name."""
        return asdict(self)


def hazard(last: np.ndarray, interval: np.ndarray) -> np.ndarray:
    """How due items are whose interval is known, within 0 and 1: 1 when the last purchase is one interval ago.

    With x = last / interval, 1 / (1 + 2 |1 - x|) up to x = 2 and 1 / (1 + x) from there: the shape that the
    modified Poisson-Gamma rate of Bhagat et al. (2018) has over the time since the last purchase. It is a third
    right after a purchase and falls off slowly when the item is overdue. 1 where the interval is not known.
    """
    x = last / np.maximum(interval, 1 / MINUTES_A_DAY)
    return np.where(np.isnan(x), 1.0, 1 / np.where(x < 2, 1 + 2 * np.abs(1 - x), 1 + x))


def personal_part(own: RepeatHistory, items: RepurchaseRates, weights: Weights) -> np.ndarray:
    """The personal part of each own item, (n,) float64, above 0.

    A user's interval for an item is the mean of the user's own and TRUST times the item's, as in
    :meth:`RepurchaseRates.of`.
    """
    part = own.times * items.repeat[own.items] ** weights.repeat * items.lately[own.items] ** weights.recent
    if weights.due:
        interval = (own.span + TRUST * items.interval[own.items]) / (own.times - 1 + TRUST)
        part = part * hazard(own.last, interval) ** weights.due
    return np.asarray(part)


class Candidates(NamedTuple):
    """Pairs of user and item that may be listed, each once: every own item, and the model's best k of all items.

    users: (n,) int64. items: (n,) int32. scores: (n,) float32, the model's. own: (n,) int64 place among the own
    items, -1 for an item that the user did not buy. n_users: how many users there are.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    own: np.ndarray
    n_users: int

    @classmethod
    def of(cls, ids: np.ndarray, scores: np.ndarray, own: RepeatHistory, own_scores: np.ndarray) -> "Candidates":
        """From the model's lists, (n_users, k) ids padded -1 and scores, and the score of each own item.

        own_scores: (n,) float32; -inf for an own item that may not be listed.
        """
        width = int(max(own.items.max(initial=0), ids.max(initial=0))) + 1
        row, column = np.nonzero(ids >= 0)
        listed = ids[row, column]
        bought = np.isin(row * width + listed, own.users * width + own.items)
        row, column, listed = row[~bought], column[~bought], listed[~bought]
        may = np.flatnonzero(own_scores > -np.inf)
        return cls(
            np.concatenate([own.users[may], row]),
            np.concatenate([own.items[may], listed]).astype(np.int32),
            np.concatenate([own_scores[may], scores[row, column]]).astype(np.float32),
            np.concatenate([may, np.full(len(row), -1, np.int64)]),
            len(ids),
        )

    def ranked(self, part: np.ndarray, weight: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best by the blend: ids (n_users, k) int32 padded -1, and the model's scores padded -inf.

        part: (n_own,) float64 personal parts. Ties go to the smaller item number. What is left out of the
        candidates would not be listed: at least k items not bought, or bought and so not lower in the blend than
        in the model, come before it.
        """
        best = np.full(self.n_users, -np.inf)
        np.maximum.at(best, self.users, self.scores)
        scale = np.where(np.isfinite(best) & (best != 0), np.abs(best), 1.0)
        value = self.scores / scale[self.users]
        mine = self.own >= 0
        most = np.zeros(self.n_users)
        np.maximum.at(most, self.users[mine], part[self.own[mine]])
        value[mine] += weight * part[self.own[mine]] / most[self.users[mine]]
        order = np.lexsort((self.items, -value, self.users))
        users = self.users[order]
        rank = np.arange(len(order)) - np.searchsorted(users, users)
        order, rank = order[rank < k], rank[rank < k]
        ids, scores = np.full((self.n_users, k), -1, np.int32), np.full((self.n_users, k), -np.inf, np.float32)
        ids[self.users[order], rank] = self.items[order]
        scores[self.users[order], rank] = self.scores[order]
        return ids, scores


def own_scores(own: RepeatHistory, queries: np.ndarray, vectors: VectorRows, allowed: np.ndarray) -> np.ndarray:
    """The model's score of each own item, (n,) float32: the very number that ``topk.top_k`` gives the pair.

    queries: (n_users, dim) float32. vectors: of all items. allowed: (n_items,) bool; -inf for an item that is
    not, or that has no vector.
    """
    scores = np.full(len(own.items), -np.inf, np.float32)
    may = np.flatnonzero(allowed[own.items])
    scores[may] = pair_scores_of(own.users[may], own.items[may], queries, vectors)
    return scores


def pair_scores_of(users: np.ndarray, items: np.ndarray, queries: np.ndarray, vectors: VectorRows) -> np.ndarray:
    """The model's score of pairs of a user and an item, (n,) float32: -inf for an item without a vector.

    users, items: (n,) int, rows of ``queries``, (n_users, dim) float32, and item numbers. vectors: of all items.
    """
    scores = np.full(len(items), -np.inf, np.float32)
    named, place = np.unique(items, return_inverse=True)
    if not len(named):
        return scores
    rows = vectors[named]
    known = np.asarray(rows.any(axis=1))
    step = max(1, (1 << 16) // max(queries.shape[1], 1))
    for start in range(0, len(items), step):
        pairs = slice(start, start + step)
        a, b = queries[users[pairs]].astype(np.float64), rows[place[pairs]].astype(np.float64)
        scores[pairs] = np.vecdot(a, b)
    scores[~known[place]] = -np.inf
    return scores


@dataclass(frozen=True)
class Repurchase:
    """How a policy that lists bought items ranks them: its weights, and what is typical of the items."""

    weights: Weights
    items: RepurchaseRates

    def ranked(
        self,
        ids: np.ndarray,
        scores: np.ndarray,
        *,
        history: Interactions,
        queries: np.ndarray,
        vectors: VectorRows,
        allowed: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lists by the blend, of the length of the model's: ids (n, k) int32 padded -1, the model's scores.

        ids, scores: the model's best k of the allowed items, bought ones too. history: the users' purchases.
        queries: (n, dim) float32. allowed: (n_items,) bool.
        """
        own = RepeatHistory.of(history)
        pairs = Candidates.of(ids, scores, own, own_scores(own, queries, vectors, allowed))
        return pairs.ranked(personal_part(own, self.items, self.weights), self.weights.personal, ids.shape[1])
