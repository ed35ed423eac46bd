"""What a user buys again: the personal part of a list, and how much it weighs beside the model.

An item that the user bought gets a personal part of four factors,

    times * repeat ** r * lately ** l * due ** d

``times`` the item was bought (lines of one moment are one time); ``repeat`` the share of the item's buyers who
bought it again, the repeat customer probability of Bhagat et al. (Buy It Again, KDD 2018); ``lately`` the share
of its buyers who bought it in the last RECENT_DAYS; and ``hazard``, see :func:`hazard`, highest when the time since the
user's last purchase nears the user's own interval. Lists are then ranked by

    score / best score of the user + personal weight * part / best part of the user

which leaves the items not bought before in the model's order.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.interactions import Interactions
from topkin.metrics.ranking import ranking_metrics

FILE = "repurchase.parquet"
RECENT_DAYS = 14.0
TRUST = 2.0
"""Buyers, or intervals, of its own at which an item counts as much as what is known more widely."""
POLICIES = ("keep", "boost")
METRIC, AT = "ndcg", 10
_MINUTES = 1440.0
_GRID: Mapping[str, Sequence[float]] = {
    "personal": (0.0, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.3, 5.0),
    "repeat": (0.0, 0.25, 0.5, 0.75, 1.0),
    "recent": (0.0, 0.125, 0.25, 0.4, 0.6),
    "due": (0.1, 0.25, 0.5, 1.0, 2.0),
}

COUNTS = pa.schema(
    [
        pa.field("item", pa.int32(), False),  # row in the catalogue
        pa.field("buyers", pa.int64(), False),  # distinct
        pa.field("again", pa.int64(), False),  # those of them who bought it at two moments or more
        pa.field("lately", pa.int64(), False),  # those of them who bought it in the last RECENT_DAYS
        pa.field("intervals", pa.int64(), False),  # between two purchases of one user that follow each other
        pa.field("minutes", pa.int64(), False),  # the sum of these intervals
    ]
)
"""What all users together tell of each item's repurchase, in whole numbers: sums are the same in any order."""


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


DEFAULTS: Mapping[str, Weights] = {"keep": Weights(), "boost": Weights(due=1.0)}


def weights_for(policy: str, chosen: Mapping[str, Mapping[str, float]], fixed: Mapping[str, float | None]) -> Weights:
    """The weights that one of POLICIES ranks by.

    chosen: what :func:`chosen` found on validation, by policy; empty without one. fixed: weights that the
    configuration sets, which win; None for those it leaves open.
    """
    known = {**DEFAULTS[policy].to_json(), **chosen.get(policy, {})}
    return Weights(**known | {name: value for name, value in fixed.items() if value is not None})


@dataclass(frozen=True)
class RepeatHistory:
    """Users' own items, CSR by user, items ascending within a user.

    indptr: (n_users + 1,) int64. items: (n,) int32. times: (n,) int64, distinct moments of purchase. last: (n,)
    float64 days from the latest to the as-of date. span: (n,) float64 days from the first to the latest.
    """

    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray
    last: np.ndarray
    span: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """The user row of each own item, (n,) int64."""
        return np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int64), np.diff(self.indptr))

    @classmethod
    def of(cls, history: Interactions) -> "RepeatHistory":
        """From purchases."""
        users, ages = history.users, history.ages.astype(np.float64)
        order = np.lexsort((ages, history.items, users))
        u, i, a = users[order], history.items[order], ages[order]
        first = np.ones(len(order), bool)
        first[1:] = (u[1:] != u[:-1]) | (i[1:] != i[:-1])
        moment = first.copy()
        moment[1:] |= a[1:] != a[:-1]
        starts = np.flatnonzero(first)
        ends = np.append(starts[1:], len(order))[: len(starts)] - 1
        times = np.add.reduceat(moment.astype(np.int64), starts) if len(starts) else np.zeros(0, np.int64)
        indptr = np.zeros(history.n_users + 1, np.int64)
        np.cumsum(np.bincount(u[starts], minlength=history.n_users), out=indptr[1:])
        return cls(indptr, i[starts], times, a[starts], a[ends] - a[starts])

    def times_of(self, ids: np.ndarray) -> np.ndarray:
        """How often each user bought each listed item, (n_users, k) int32. ids: (n_users, k) int32 padded -1."""
        width = int(max(self.items.max(initial=0), ids.max(initial=0))) + 1
        keys = self.users * width + self.items
        asked = (np.arange(len(ids))[:, None] * width + ids).ravel()
        if not len(keys):
            return np.zeros(ids.shape, np.int32)
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        found = (keys[at] == asked) & (ids.ravel() >= 0)
        return np.where(found, self.times[at], 0).reshape(ids.shape).astype(np.int32)


def counts_of(history: Interactions) -> pa.Table:
    """COUNTS of some users, one row per item bought, ascending."""
    own, n = RepeatHistory.of(history), history.n_items
    minutes = np.zeros(n, np.int64)
    np.add.at(minutes, own.items, np.rint(own.span * _MINUTES).astype(np.int64))
    intervals = np.zeros(n, np.int64)
    np.add.at(intervals, own.items, own.times - 1)
    buyers = np.bincount(own.items, minlength=n)
    again = np.bincount(own.items[own.times > 1], minlength=n)
    lately = np.bincount(own.items[own.last <= RECENT_DAYS], minlength=n)
    bought = np.flatnonzero(buyers)
    columns = [a[bought] for a in (buyers, again, lately, intervals, minutes)]
    return pa.table([bought.astype(np.int32), *columns], schema=COUNTS)


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """The sum of tables of COUNTS, in any order and grouping."""
    names = COUNTS.names[1:]
    whole = pa.concat_tables([COUNTS.empty_table(), *tables])
    summed = whole.group_by("item", use_threads=False).aggregate([(name, "sum") for name in names])
    table = summed.rename_columns({f"{name}_sum": name for name in names}).select(COUNTS.names)
    return table.cast(COUNTS).sort_by("item")


@dataclass(frozen=True)
class RepurchaseRates:
    """What is typical of each item, (n_items,) float64 each.

    repeat: share of its buyers who bought it again. lately: share who bought it in the last RECENT_DAYS.
    interval: days from a purchase to the next; NaN where nobody bought anything twice.
    """

    repeat: np.ndarray
    lately: np.ndarray
    interval: np.ndarray

    @classmethod
    def of(
        cls, counts: pa.Table, n_items: int, categories: pa.Array | pa.ChunkedArray | None = None
    ) -> "RepurchaseRates":
        """From COUNTS of all users; an item of which little is known is like its category, a category like the shop.

        The mean of what is typical more widely counts as TRUST observations of the item's own, which is the mean of
        a Gamma posterior whose prior has TRUST observations. categories: (n_items,) string with nulls.
        """
        buyers, again, lately, intervals, minutes = (
            np.bincount(np.asarray(counts["item"]), weights=np.asarray(counts[name]), minlength=n_items)
            for name in COUNTS.names[1:]
        )
        share = (again.sum() + 1) / (buyers.sum() + 2)  # never 0: a part of 0 could not be told from none
        group = np.zeros(n_items, np.int64)
        if categories is not None:
            words = categories.combine_chunks() if isinstance(categories, pa.ChunkedArray) else categories
            group = np.asarray(pc.fill_null(words.dictionary_encode().indices, -1)).astype(np.int64) + 1
        days = minutes / _MINUTES
        typical = days.sum() / intervals.sum() if intervals.sum() else np.nan
        in_group = np.bincount(group, weights=days), np.bincount(group, weights=intervals)
        of_group = ((in_group[0] + TRUST * typical) / (in_group[1] + TRUST))[group]
        return cls(
            repeat=(again + TRUST * share) / (buyers + TRUST),
            lately=(lately + 1) / (buyers + 5),
            interval=(days + TRUST * of_group) / (intervals + TRUST),
        )


def hazard(last: np.ndarray, interval: np.ndarray) -> np.ndarray:
    """How due items are whose interval is known, within 0 and 1: 1 when the last purchase is one interval ago.

    With x = last / interval, 1 / (1 + 2 |1 - x|) up to x = 2 and 1 / (1 + x) from there: the shape that the
    modified Poisson-Gamma rate of Bhagat et al. (2018) has over the time since the last purchase. It is a third
    right after a purchase and falls off slowly when the item is overdue. 1 where the interval is not known.
    """
    x = last / np.maximum(interval, 1 / _MINUTES)
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


class VectorRows(Protocol):
    """Vectors by item number."""

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        """The rows of ascending item numbers, (n, dim) float32."""


def own_scores(own: RepeatHistory, queries: np.ndarray, vectors: VectorRows, allowed: np.ndarray) -> np.ndarray:
    """The model's score of each own item, (n,) float32: the very number that ``topk.top_k`` gives the pair.

    queries: (n_users, dim) float32. vectors: of all items. allowed: (n_items,) bool; -inf for an item that is
    not, or that has no vector.
    """
    scores = np.full(len(own.items), -np.inf, np.float32)
    may = np.flatnonzero(allowed[own.items])
    named, place = np.unique(own.items[may], return_inverse=True)
    if not len(named):
        return scores
    rows = vectors[named]
    users, known = own.users, np.asarray(rows.any(axis=1))
    step = max(1, (1 << 16) // max(queries.shape[1], 1))
    for start in range(0, len(may), step):
        pairs = may[start : start + step]
        a, b = queries[users[pairs]].astype(np.float64), rows[place[start : start + step]].astype(np.float64)
        scores[pairs] = np.vecdot(a, b)
    scores[may[~known[place]]] = -np.inf
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


class Case(NamedTuple):
    """Users whose later purchases say how the weights do: candidates, own items, what is typical, what came true.

    truth: CSR, of each user the distinct items bought in the validation period, bought before or not, at least one.
    """

    pairs: Candidates
    own: RepeatHistory
    items: RepurchaseRates
    truth: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        scores: np.ndarray,
        *,
        known: Interactions,
        truth: tuple[np.ndarray, np.ndarray],
        queries: np.ndarray,
        vectors: VectorRows,
        allowed: np.ndarray,
        items: RepurchaseRates,
    ) -> "Case":
        """From the model's best AT or more of the allowed items, bought ones too, as for :meth:`Repurchase.ranked`.

        known: the users' purchases before the cut. items: of the purchases of all users before the cut.
        """
        own = RepeatHistory.of(known)
        pairs = Candidates.of(ids, scores, own, own_scores(own, queries, vectors, allowed))
        return cls(pairs, own, items, truth)

    def judged(self, weights: Weights) -> np.ndarray:
        """The NDCG@10 of each user's list by these weights, (n_users,) float64."""
        ids, _ = self.pairs.ranked(personal_part(self.own, self.items, weights), weights.personal, AT)
        return ranking_metrics(ids, self.truth, (AT,))[f"{METRIC}@{AT}"]


def choose(cases: Sequence[Case], *, start: Weights, fixed: Sequence[str] = ()) -> Weights:
    """From ``start``, one weight at a time to its best value, while NDCG@10 over the users of all cases clearly rises.

    A step is taken where the mean gain is above two of its standard errors: few users change little. fixed: names of
    weights that stay.
    """

    def judged(weights: Weights) -> np.ndarray:
        return np.concatenate([case.judged(weights) for case in cases])

    best, values, rising = start, judged(start), True
    while rising:
        rising = False
        for name in (n for n in _GRID if n not in fixed):
            tried = [replace(best, **{name: option}) for option in _GRID[name]]
            found = [judged(weights) for weights in tried]
            number = int(np.argmax([one.mean() for one in found]))
            gain = found[number] - values
            if gain.mean() > 2 * gain.std() / math.sqrt(len(gain)) + 1e-9:
                best, values, rising = tried[number], found[number], True
    return best


def chosen(cases: Sequence[Case]) -> dict[str, dict[str, float]]:
    """The weights of every policy by validation, a case for each cut, as :func:`weights_for` reads them."""
    fixed: Mapping[str, Sequence[str]] = {"keep": ("due",), "boost": ()}
    return {p: choose(cases, start=DEFAULTS[p], fixed=fixed[p]).to_json() for p in POLICIES}
