"""How a user's own items rank beside new ones: by the model's score and a personal part.

An item that the user bought gets a personal part of five factors,

    times * repeat ** r * lately ** l * due ** d / (1 + last) ** f

``times`` the item was bought (lines of one moment are one time); ``repeat`` the share of the item's buyers who
bought it again, the repeat customer probability of Bhagat et al. (Buy It Again, KDD 2018); ``lately`` the share
of its buyers who bought it in the last RECENT_DAYS; ``due``, see :func:`hazard`, highest when the time since the user's
last purchase nears the user's own interval; and ``last`` the days since then, or the user's positions. Lists are then
ranked by

    score / best score of the user + personal weight * part / best part of the user

which leaves the items not bought before in the model's order. The score is the cosine, or that of a second stage.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.explain import VectorRows
from topkin.recommend.repurchase.rates import MINUTES_A_DAY, TRUST, RepeatHistory, RepurchaseRates


@dataclass(frozen=True)
class Weights:
    """personal: weight of the personal part beside the model. repeat, recent, due, fade: the powers of its factors."""

    personal: float = 1.5
    repeat: float = 0.5
    recent: float = 0.25
    due: float = 0.0
    fade: float = 0.0

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


class Factors(NamedTuple):
    """What the personal part of each own item is made of, (n,) float64 each; by ``fade`` it is divided.

    A user's interval for an item is the mean of the user's own and TRUST times the item's, as in
    :meth:`RepurchaseRates.of`.
    """

    times: np.ndarray
    repeat: np.ndarray
    recent: np.ndarray
    due: np.ndarray
    fade: np.ndarray

    @classmethod
    def of(cls, own: RepeatHistory, items: RepurchaseRates) -> "Factors":
        """Of own items, by what is typical of them."""
        interval = (own.span + TRUST * items.interval[own.items]) / (own.times - 1 + TRUST)
        return cls(
            own.times.astype(np.float64),
            items.repeat[own.items],
            items.lately[own.items],
            hazard(own.last, interval),
            1 + np.maximum(own.last, 0),
        )

    def take(self, places: np.ndarray) -> "Factors":
        """Those of some own items, (m,) int, in their order."""
        return Factors(*(values[places] for values in self))

    def power(self, name: str, weights: Weights) -> np.ndarray:
        """One of them to the power that its weight says, (n,) float64."""
        return np.asarray(getattr(self, name) ** getattr(weights, name))


def personal_part(
    factors: Factors, weights: Weights, power: Callable[[str, Weights], np.ndarray] | None = None
) -> np.ndarray:
    """The personal part of each own item, (n,) float64, above 0. power: in the place of ``Factors.power``."""
    power = power or factors.power
    part = factors.times * power("repeat", weights) * power("recent", weights)
    if weights.due:
        part = part * power("due", weights)
    return np.asarray(part / power("fade", weights))


class BlendCandidates(NamedTuple):
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
    def of(cls, ids: np.ndarray, scores: np.ndarray, own: RepeatHistory, own_scores: np.ndarray) -> "BlendCandidates":
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

    @classmethod
    def of_rows(cls, items: np.ndarray, scores: np.ndarray, own: RepeatHistory) -> "BlendCandidates":
        """From candidates with every own item that may be listed among them, row by row.

        items: (n_users, width) int32 padded -1. scores: likewise, float32.
        """
        users, column = np.nonzero(items >= 0)
        places = own.places_of(items)[users, column]
        return cls(users, items[users, column], scores[users, column], places, len(items))

    def valued(self, part: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """What each pair ranks by, (n,) float64, and how much of it is the personal part.

        part: (n_own,) float64 personal parts.
        """
        mine = self.own >= 0
        most, personal = np.zeros(self.n_users), np.zeros(len(self.users))
        np.maximum.at(most, self.users[mine], part[self.own[mine]])
        personal[mine] = weight * part[self.own[mine]] / most[self.users[mine]]
        return self.shares() + personal, personal

    def shares(self) -> np.ndarray:
        """The score of each pair as a share of the user's best, (n,) float64."""
        best = np.full(self.n_users, -np.inf)
        np.maximum.at(best, self.users, self.scores)
        scale = np.where(np.isfinite(best) & (best != 0), np.abs(best), 1.0)
        return np.asarray(self.scores / scale[self.users])

    def ranked(self, part: np.ndarray, weight: float, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best by the blend: ids (n_users, k) int32 padded -1, and the model's scores padded -inf.

        part: (n_own,) float64 personal parts. Ties go to the smaller item number. What is left out of the
        candidates would not be listed: at least k items not bought, or bought and so not lower in the blend than
        in the model, come before it.
        """
        value, _ = self.valued(part, weight)
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


def _excluded(own: RepeatHistory, exclude: Csr, n_items: int) -> np.ndarray:
    """Which own items their user may not get, (n,) bool."""
    return np.isin(own.users * n_items + own.items, exclude.rows * n_items + exclude.indices)


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
        exclude: Csr | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lists by the blend, of the length of the model's: ids (n, k) int32 padded -1, the model's scores.

        ids, scores: the model's best k of the allowed items, bought ones too. history: the users' purchases.
        queries: (n, dim) float32. allowed: (n_items,) bool. exclude: what each may not get, which ids have not.
        """
        own = RepeatHistory.of(history)
        of_own = own_scores(own, queries, vectors, allowed)
        if exclude is not None:
            of_own[_excluded(own, exclude, history.n_items)] = -np.inf
        pairs = BlendCandidates.of(ids, scores, own, of_own)
        return pairs.ranked(
            personal_part(Factors.of(own, self.items), self.weights), self.weights.personal, ids.shape[1]
        )

    def finals(
        self,
        ids: np.ndarray,
        *,
        best: tuple[np.ndarray, np.ndarray],
        scores: np.ndarray,
        history: Interactions,
        queries: np.ndarray,
        vectors: VectorRows,
        allowed: np.ndarray,
        exclude: Csr,
    ) -> np.ndarray:
        """What :meth:`ranked` ordered lists by, (n, k) float32, -inf where no item is; arguments as of it.

        best: the model's best of all that each user may get, (n, 1) each, to which scores are relative.
        """
        own = RepeatHistory.of(history)
        of_own = own_scores(own, queries, vectors, allowed)
        of_own[_excluded(own, exclude, history.n_items)] = -np.inf
        pairs = BlendCandidates.of(np.hstack([ids, best[0]]), np.hstack([scores, best[1]]), own, of_own)
        values, _ = pairs.valued(personal_part(Factors.of(own, self.items), self.weights), self.weights.personal)
        keys = pairs.users * history.n_items + pairs.items
        order = np.argsort(keys)
        row, column = np.nonzero(ids >= 0)
        final = np.full(ids.shape, -np.inf, np.float32)
        final[row, column] = values[order][np.searchsorted(keys[order], row * history.n_items + ids[row, column])]
        return final

    def raised(self, items: np.ndarray, scores: np.ndarray, history: Interactions) -> tuple[np.ndarray, np.ndarray]:
        """What candidates rank by, (n, width) float32, and how much of it is the personal part; arguments of one width.

        items, scores: as of :meth:`BlendCandidates.of_rows`. history: the users' purchases.
        """
        own = RepeatHistory.of(history)
        pairs = BlendCandidates.of_rows(items, scores, own)
        final, personal = np.zeros(items.shape, np.float32), np.zeros(items.shape, np.float32)
        at = items >= 0
        final[at], personal[at] = pairs.valued(
            personal_part(Factors.of(own, self.items), self.weights), self.weights.personal
        )
        return final, personal
