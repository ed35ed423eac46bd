"""How much the personal part weighs: the weights that rank validation's lists best."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.linalg.sort_keys import kth
from topkin.metrics.bootstrap import paired_bootstrap
from topkin.metrics.ranking import ndcg_of_ranks
from topkin.recommend.bought import BOUGHT
from topkin.recommend.explain import VectorRows
from topkin.recommend.repurchase.blend import BlendCandidates, Factors, Weights, own_scores, personal_part
from topkin.recommend.repurchase.rates import RepeatHistory, RepurchaseRates

AT = 10
FOLDS, TURNS = 2, 3
_GRID: Mapping[str, Sequence[float]] = {
    "personal": (0.0, 0.4, 0.7, 1.0, 1.5, 2.2, 3.3, 5.0),
    "fade": (0.0, 0.1, 0.2, 0.4, 0.8),
    "recent": (0.0, 0.125, 0.25, 0.4, 0.6),
    "repeat": (0.0, 0.25, 0.5, 0.75, 1.0),
    "due": (0.1, 0.25, 0.5, 1.0, 2.0),
}


@dataclass(frozen=True)
class RepurchaseCase:
    """Users whose later purchases say how the weights do: candidates, own items, what is typical, what came true.

    truth: of each user the distinct items bought in the validation period, bought before or not, at least one.
    """

    pairs: BlendCandidates
    own: RepeatHistory
    items: RepurchaseRates
    truth: Csr

    @classmethod
    def of(
        cls,
        ids: np.ndarray,
        scores: np.ndarray,
        *,
        known: Interactions,
        truth: Csr,
        queries: np.ndarray,
        vectors: VectorRows,
        allowed: np.ndarray,
        items: RepurchaseRates,
    ) -> "RepurchaseCase":
        """From the model's best AT or more of the allowed items, bought ones too, as for :meth:`Repurchase.ranked`.

        known: the users' purchases before the cut. items: of the purchases of all users before the cut.
        """
        own = RepeatHistory.of(known)
        pairs = BlendCandidates.of(ids, scores, own, own_scores(own, queries, vectors, allowed))
        return cls(pairs, own, items, truth)

    @classmethod
    def of_rows(
        cls, items: np.ndarray, scores: np.ndarray, *, known: Interactions, truth: Csr, rates: RepurchaseRates
    ) -> "RepurchaseCase":
        """From the candidates of a second stage and their scores, as for :meth:`Repurchase.raised`."""
        own = RepeatHistory.of(known)
        return cls(BlendCandidates.of_rows(items, scores, own), own, rates, truth)

    def judged(self, weights: Weights) -> np.ndarray:
        """The NDCG@10 of each user's list by these weights, (n_users,) float64."""
        return self._judge(weights)

    @cached_property
    def _judge(self) -> "_Judge":
        return _Judge(self.pairs, Factors.of(self.own, self.items), self.truth)


class _Judge:
    """The NDCG@10 of :meth:`RepurchaseCase.judged`, of what can change it alone, since hundreds of weights are tried.

    That is the own items, and the AT best of the others, of users with a true item among them.
    """

    def __init__(self, pairs: BlendCandidates, factors: Factors, truth: Csr) -> None:
        order = np.lexsort((pairs.items, pairs.users))  # ties go to the smaller item number
        users, items, own, shares = (a[order] for a in (pairs.users, pairs.items, pairs.own, pairs.shares()))
        new = np.flatnonzero(own < 0)
        keep = own >= 0
        keep[new[_ranks(users[new], shares[new]) <= AT]] = True
        width = int(max(items.max(initial=0), truth.indices.max(initial=0))) + 1
        true = np.isin(users * width + items, truth.rows * width + truth.indices)
        keep &= np.isin(users, users[keep & true])
        self.true, self.n_true = true[keep], truth.lengths
        self.users, self.shares, own = users[keep], shares[keep], own[keep]
        self.mine = np.flatnonzero(own >= 0)
        self.factors, self.powers = factors.take(own[self.mine]), dict[tuple[str, float], np.ndarray]()
        self.tables = list(_tables(self.users, pairs.n_users))

    def __call__(self, weights: Weights) -> np.ndarray:
        """The NDCG@10 of each user, (n_users,) float64."""
        part, users = personal_part(self.factors, weights, self._power), self.users[self.mine]
        most = np.zeros(len(self.n_true))
        np.maximum.at(most, users, part)
        values = np.append(self.shares, -np.inf)  # the last is the padding
        values[self.mine] += weights.personal * part / most[users]
        floors = np.full(len(self.n_true), -np.inf)
        for rows, places in self.tables:
            floors[rows] = kth(values[places], AT)
        listed = np.flatnonzero(values[:-1] >= floors[self.users])
        ranks = _ranks(self.users[listed], values[listed])
        hits = self.true[listed]
        return ndcg_of_ranks(self.users[listed[hits]], ranks[hits], self.n_true, AT)

    def _power(self, name: str, weights: Weights) -> np.ndarray:
        key = name, getattr(weights, name)
        if key not in self.powers:
            self.powers[key] = self.factors.power(name, weights)
        return self.powers[key]


def _ranks(users: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The rank of each value among those of its user, from 1, highest first, ties by place. users: (n,) ascending."""
    order = np.lexsort((-values, users))
    ranks = np.empty(len(users), np.int64)
    ranks[order] = np.arange(len(users)) - np.searchsorted(users, users) + 1
    return ranks


def _tables(users: np.ndarray, n_users: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Users of about as many entries together: their rows (m,), and where their entries are (m, width), padded -1.

    users: (n,) int ascending, the user of each entry.
    """
    lengths = np.bincount(users, minlength=n_users)
    starts, size = np.cumsum(lengths) - lengths, np.ceil(np.log2(np.maximum(lengths, 1)))
    for some in np.unique(size[lengths > 0]):
        rows = np.flatnonzero((size == some) & (lengths > 0))
        place = np.arange(lengths[rows].max())
        yield rows, np.where(place < lengths[rows, None], starts[rows, None] + place, -1)


def choose(cases: Sequence[RepurchaseCase], *, start: Weights, fixed: Sequence[str] = ()) -> Weights:
    """The weights that rank the users of all cases best, or ``start`` where validation is not sure enough of them.

    Each weight goes to its best value in its turn, over and over. What that gains is measured on users who did not
    choose, each half by the weights of the other: its 95 % interval must lie above zero.

    Args:
        cases: Of each period.
        start: What stands without a validation.
        fixed: Names of weights that stay.
    """
    known: dict[Weights, np.ndarray] = {}

    @cache  # turns come back to weights
    def judged(weights: Weights) -> np.ndarray:
        if weights not in known:
            known[weights] = np.concatenate([case.judged(weights) for case in cases])
        return known[weights]

    fold = np.arange(len(judged(start))) % FOLDS
    best = _highest(judged, fold >= 0, start, fixed)
    if best == start or len(fold) < FOLDS:
        return start
    values = judged(start).copy()
    for number in range(FOLDS):
        others = fold != number
        highest = _highest(judged, others, start, fixed)
        values[~others] = judged(highest)[~others]
    return best if paired_bootstrap(values, judged(start))[0] > 0 else start


def _highest(
    judged: Callable[[Weights], np.ndarray], users: np.ndarray, start: Weights, fixed: Sequence[str]
) -> Weights:
    """The best weights for some users, (n,) bool, that TURNS turns over each grid find; of equal ones the first."""

    def value(weights: Weights) -> float:
        return float(judged(weights)[users].mean())

    best = start
    for _ in range(TURNS):
        before = best
        for name in (n for n in _GRID if n not in fixed):
            tried = [replace(best, **{name: option}) for option in _GRID[name]]
            highest = max(tried, key=value)
            if value(highest) > value(best) + 1e-9:
                best = highest
        if best == before:
            break
    return best


def chosen(cases: Sequence[RepurchaseCase], *, timed: bool = True) -> dict[str, dict[str, float]]:
    """The weights of every rule that ranks bought items, as ``bought.weights_of`` reads them; a case for each cut.

    timed: whether purchases have times; without, what goes by them has no power, see ``config.undated``.
    """
    none = {} if timed else {"recent": 0.0, "due": 0.0}
    return {
        name: choose(cases, start=replace(rule.weights, **none), fixed=(*rule.fixed, *none)).to_json()
        for name, rule in BOUGHT.items()
        if rule.weights is not None
    }
