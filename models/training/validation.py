"""The last days before the as-of date say how long to train, how blocks weigh, and how recency counts.

One cut holds some users as they were ``days`` ago and what they bought since. Blocks are weighed on candidates:
the best items of every block by itself are ranked by the weighted sum of z-scores, which is what the vectors
give (see ``topkin.encoding.blocks``), so a setting is tried in milliseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from topkin.encoding.blocks import RECENCY, Block, user_vectors
from topkin.interactions import Interactions, concatenate
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.models.data.histories import ItemCounts, PreparedHistories, after_cut, before_cut, fresh
from topkin.models.training.block_kinds import KINDS, BlockHyperparameters, Trial
from topkin.models.two_tower.encoder import Sides
from topkin.models.two_tower.recency_prior import by_sales, fitted, recency_lift
from topkin.recommend.repurchase.rates import counts_of, merge_counts
from topkin.search.topk import top_k, top_k_of_scores

AT = 20
METRIC = f"ndcg@{AT}"
CANDIDATES = 200


@dataclass(frozen=True)
class TemporalSplit:
    """Users with purchases before a cut and new items after it, and the items as counted before it.

    known: their purchases before the cut. truth: the items that each bought after it and not before, at least one.
    counts: of all purchases before the cut. later: all the items that each bought after it, bought before or not.
    habits: ``repurchase.rates.COUNTS`` of all purchases before the cut. rows: of each part, in its order, the rows of
    the users, (n,) int64.
    """

    known: Interactions
    truth: Csr
    counts: ItemCounts
    later: Csr
    habits: pa.Table
    rows: Sequence[np.ndarray] = ()

    def take(self, users: np.ndarray) -> "TemporalSplit":
        """Of some users, (m,) int, in their order; without their rows."""
        known, truth, later = self.known.take(users), self.truth.take(users), self.later.take(users)
        return TemporalSplit(known, truth, self.counts, later, self.habits)

    @property
    def sold(self) -> np.ndarray:
        """Which items were sold before the cut, (n_items,) bool."""
        return self.counts.events > 0


class BlockScores(Protocol):
    """The scores of one block over a split."""

    def best(self, lift: float) -> np.ndarray:
        """Each user's best items by this block alone, bought ones left out, (n_users, CANDIDATES) int32."""
        ...

    def factors(self, setting: BlockHyperparameters) -> tuple[np.ndarray, np.ndarray]:
        """Users (n_users, d) and items (n_items, d) whose inner products are the block's z-scores."""
        ...

    def scores(self, setting: BlockHyperparameters, candidates: np.ndarray) -> np.ndarray:
        """The block's z-scores of candidates, (n_users, n_candidates) float32."""
        ...


class RecencyScores:
    """What sells now: the same z-scores for every user."""

    def __init__(self, cut: TemporalSplit, by_sales_first: bool = False) -> None:
        self.cut, counts = cut, cut.counts
        prior = (by_sales if by_sales_first else fitted)(counts.recent, counts.events)
        self.prior = prior.scaled(counts.recent, counts.events)
        self.z_scores = self.prior / max(float(self.prior[cut.sold].std()), 1e-9)

    def best(self, lift: float) -> np.ndarray:
        """See :class:`BlockScores`."""
        distinct = self.cut.known.distinct()
        everyone = np.broadcast_to(self.prior, (distinct.n_users, len(self.prior)))
        barred = distinct.pattern
        return top_k_of_scores(everyone, CANDIDATES, exclude=barred, allowed=self.cut.sold)[0]

    def factors(self, setting: BlockHyperparameters) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`BlockScores`."""
        return np.ones((self.cut.known.n_users, 1), np.float32), self.z_scores[:, None]

    def scores(self, setting: BlockHyperparameters, candidates: np.ndarray) -> np.ndarray:
        """See :class:`BlockScores`."""
        return self.z_scores[candidates]


class PooledScores:
    """A block whose in-vectors are pooled by histories.

    Args:
        cut: the users and what they bought.
        sides: out-vectors and in-vectors of the items.
        inverse_popularity: exponent by which histories are weighed.
    """

    def __init__(self, cut: TemporalSplit, sides: Sides, inverse_popularity: float) -> None:
        self.cut, self.sides, self.inverse_popularity = cut, sides, inverse_popularity
        self._surge = recency_lift(cut.counts.recent, cut.counts.events)
        self._products: dict[float | None, tuple[np.ndarray, np.ndarray]] = {}
        self._covariances: dict[float, np.ndarray] = {}
        self._last: tuple[tuple[float, float | None], np.ndarray] | None = None

    def best(self, lift: float) -> np.ndarray:
        """See :class:`BlockScores`."""
        distinct = self.cut.known.distinct()
        barred = distinct.pattern
        return top_k(self._users(None), self._out(lift), CANDIDATES, exclude=barred, allowed=self.cut.sold)[0]

    def factors(self, setting: BlockHyperparameters) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`BlockScores`."""
        users = self._users(setting.half_life_days)
        return users * self._scale(setting.recency_lift, users)[:, None], self._out(setting.recency_lift)

    def scores(self, setting: BlockHyperparameters, candidates: np.ndarray) -> np.ndarray:
        """See :class:`BlockScores`; always of the same candidates."""
        how = setting.recency_lift, setting.half_life_days
        if self._last is None or self._last[0] != how:  # one is kept, not one of each try
            users, products = self._raw(setting.half_life_days, candidates)
            lift = (self._surge**setting.recency_lift).astype(np.float32)[candidates]
            self._last = how, products * lift * self._scale(setting.recency_lift, users)[:, None]
        return self._last[1]

    def _raw(self, half_life_days: float | None, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pooled histories, and their inner products with the candidates before any recency lift."""
        if half_life_days not in self._products:
            users, products = self._users(half_life_days), np.empty(candidates.shape, np.float32)
            for row in range(0, len(users), 64):
                part = slice(row, row + 64)
                products[part] = np.matmul(self.sides[0][candidates[part]], users[part, :, None])[:, :, 0]
            self._products[half_life_days] = users, products
        return self._products[half_life_days]

    def _out(self, lift: float) -> np.ndarray:
        out = self.sides[0]
        return out * (self._surge**lift).astype(np.float32)[:, None] if lift else out

    def _users(self, half_life_days: float | None) -> np.ndarray:
        """The pooled histories, (n_users, d) float32 unit rows."""
        in_vectors = self.sides[1]
        block = Block.unscaled("", in_vectors.shape[1], self.inverse_popularity, half_life_days)
        return user_vectors(self.cut.known, in_vectors, self.cut.counts.buyers, [block])

    def _scale(self, lift: float, users: np.ndarray) -> np.ndarray:
        """One divided by the standard deviation of each user's scores over the items sold, (n_users,) float32."""
        if lift not in self._covariances:  # not of each half-life tried
            out = self._out(lift)[self.cut.sold].astype(np.float64)
            centred = out - out.mean(axis=0)
            self._covariances[lift] = centred.T @ centred / max(len(out), 1)
        deviation = np.sqrt(np.maximum(((users @ self._covariances[lift]) * users).sum(axis=1), 0))
        return np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12).astype(np.float32)


@dataclass
class BlockWeightSearch:
    """The blocks of one split, ready to be weighed.

    Args:
        cut: the users and what they bought.
        sides: out-vectors and in-vectors of each block by name, the recency block apart.
        inverse_popularity: exponent of each block's histories, by name.
        lists: each user's best items by one block alone, by its name and a power of recency, filled in where they
            lack: another search over the same split may bring those of the blocks that they share.
        by_sales: the recency block ranks by sales.
    """

    cut: TemporalSplit
    sides: dict[str, Sides]
    inverse_popularity: dict[str, float]
    lists: dict[tuple[str, float], np.ndarray] = field(default_factory=dict)
    by_sales: bool = False
    blocks: dict[str, BlockScores] = field(init=False)
    _candidates: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = {
            name: PooledScores(self.cut, sides, self.inverse_popularity[name]) for name, sides in self.sides.items()
        }
        self.blocks[RECENCY] = RecencyScores(self.cut, self.by_sales)
        lifts = {kind.name: kind.candidate_lifts for kind in KINDS}
        keys = [(name, 0.0) for name in self.sides]
        if self.cut.counts.recent.any():
            keys = [(name, lift) for name in self.blocks for lift in lifts[name]]
        for name, lift in keys:
            if (name, lift) not in self.lists:
                self.lists[name, lift] = self.blocks[name].best(lift)
        self._candidates = np.sort(np.concatenate([self.lists[key] for key in keys], axis=1), axis=1)
        repeated = self._candidates[:, 1:] == self._candidates[:, :-1]
        self._candidates[:, 1:][repeated] = -1

    def taking_part(self, settings: Mapping[str, BlockHyperparameters]) -> list[tuple[str, BlockHyperparameters]]:
        """The blocks that are there and have a weight, in their order."""
        return [(name, setting) for name, setting in settings.items() if setting.weight and name in self.blocks]

    def value(self, settings: Mapping[str, BlockHyperparameters]) -> float:
        """Mean NDCG@20 over the users of the lists by the weighted z-scores, bought items left out."""
        return float(self.values(settings).mean())

    def values(self, settings: Mapping[str, BlockHyperparameters]) -> np.ndarray:
        """The NDCG@20 of each user, (n_users,) float64, as :meth:`value` has their mean."""
        total = np.zeros(self._candidates.shape, np.float32)
        for name, setting in self.taking_part(settings):
            total += np.float32(setting.weight) * self.blocks[name].scores(setting, self._candidates)
        total[self._candidates < 0] = -np.inf
        places, _ = top_k_of_scores(total, AT)
        ids = np.where(places < 0, -1, np.take_along_axis(self._candidates, np.maximum(places, 0), axis=1))
        return ranking_metrics(ids.astype(np.int32), self.cut.truth, (AT,))[METRIC]


def _with(setting: BlockHyperparameters, name: str, value: float | None) -> BlockHyperparameters:
    return BlockHyperparameters(**{**vars(setting), name: value})


def mean_and_error(differences: Sequence[np.ndarray]) -> tuple[float, float]:
    """The mean over periods of the mean over users, and its standard error.

    differences: of each period, (n_users,) float64, such as those of two settings on the same users.
    """
    means = [float(d.mean()) for d in differences]
    errors = [float(d.var()) / max(len(d) - 1, 1) for d in differences]
    return float(np.mean(means)), float(np.sqrt(np.sum(errors)) / len(differences))


Tried = Sequence[Trial | tuple[str, str, Sequence[float | None]]]
Settings = dict[str, BlockHyperparameters]
_WIDENED = 4  # steps beyond the end of what is tried


def choose(
    searches: Sequence[BlockWeightSearch],
    start: Mapping[str, BlockHyperparameters],
    tried: Tried,
    *,
    errors: float = 1.0,
) -> tuple[Settings, float]:
    """The simplest settings that are no more than a standard error below the best, and their mean value.

    The best is found by turns over what may be tried; where it lies at the end, values beyond are tried too. Then, by
    turns again, what is simpler is taken where the mean difference to the best, user by user, is within its standard
    error (Breiman et al., Classification and Regression Trees, 1984): no block, a lower weight, what ``start`` has.

    Args:
        searches: one of each split; all count alike.
        start: settings by block, in the order of the vectors.
        tried: what may be changed. Of equal values the earliest stays, what was there before first.
        errors: how many standard errors, where one is too few.
    """

    def values(settings: Mapping[str, BlockHyperparameters]) -> list[np.ndarray]:
        return [search.values(settings) for search in searches]

    def mean_of(settings: Mapping[str, BlockHyperparameters]) -> float:
        return mean_and_error(values(settings))[0]

    best = dict(start)
    value = mean_of(best)
    for _ in range(2):
        before = value
        for name, field_name, candidates in tried:
            if name not in best:
                continue
            grid, widened = list(candidates), 0
            while grid:
                candidate = grid.pop(0)
                other = {**best, name: _with(best[name], field_name, candidate)}
                if other[name] != best[name] and (reached := mean_of(other)) > value:
                    best, value = other, reached
                    if not grid and widened < _WIDENED and None not in candidates[-2:]:
                        grid, widened = [beyond(field_name, candidates, widened)], widened + 1
        if value == before:
            break
    highest, found = values(best), best
    for name, field_name, candidates in tried:
        for place, simpler in enumerate(_simpler(name, field_name, candidates, start, best) if name in best else ()):
            other = {**found, name: _with(found[name], field_name, simpler)}
            own = values(other)
            below, error = mean_and_error([a - b for a, b in zip(highest, own, strict=True)])
            if below <= errors * error:
                found, value = other, mean_and_error(own)[0]
            if (below <= errors * error) == (place == 0):  # the simplest will do, or nothing simpler
                break
    return found, value


def beyond(field_name: str, candidates: Sequence[float | None], steps: int) -> float:
    """The value so many steps past the one after the last: the same step again, or factor for weights and days."""
    last, before = (float(v or 0.0) for v in (candidates[-1], candidates[-2]))
    if field_name == "recency_lift":
        return last + (last - before) * (steps + 1)
    return float(last * (last / before) ** (steps + 1))


def _simplest(name: str, field_name: str, start: Mapping[str, BlockHyperparameters]) -> float | None:
    """No weight; of what sells, and of all else, what ``start`` has."""
    if field_name == "weight" and name != RECENCY:
        return 0.0
    value: float | None = getattr(start[name], field_name)
    return value


def _simpler(
    name: str,
    field_name: str,
    candidates: Sequence[float | None],
    start: Mapping[str, BlockHyperparameters],
    best: Mapping[str, BlockHyperparameters],
) -> list[float | None]:
    """The simplest value, if it may be tried, then those between it and the best, the nearest to that first."""
    simplest, chosen = _simplest(name, field_name, start), getattr(best[name], field_name)
    if chosen == simplest:
        return []
    order = [v for v in candidates if v != chosen]
    if simplest not in order:
        return []
    at = candidates.index(chosen) if chosen in candidates else len(candidates)
    end = candidates.index(simplest)
    between = list(candidates[end + 1 : at])[::-1] if end < at else list(candidates[at + 1 : end])
    return [simplest, *between]


def sample(
    purchases: PreparedHistories, counts: ItemCounts, most: int, seed: int, *, until: float = 0.0
) -> TemporalSplit | None:
    """At most ``most`` users to validate on, drawn from all parts alike; None where there are none.

    purchases: those before the cut; what came in its ``days`` after it is the truth, but for the last ``until``
    days. counts: of the purchases before the cut.
    """
    rng = np.random.default_rng([seed, 1])
    names = purchases.names()
    known, new, later, habits, rows = [], [], [], [], []
    for name in names:
        part = purchases.part(name)
        if until:
            part = before_cut(part, until)
        days = purchases.days - until
        before, after = before_cut(part, days), fresh(part, days)
        habits.append(counts_of(before))
        users = np.flatnonzero((np.diff(before.indptr) > 0) & (np.diff(after.indptr) > 0))
        wanted = -(-most // len(names))
        if len(users) > wanted:
            users = np.sort(rng.choice(users, wanted, replace=False))
        rows.append(users)
        known.append(before.take(users))
        new.append(after.take(users))
        later.append(_sold(after_cut(part, days).take(users), counts))
    if not known or sum(k.n_users for k in known) == 0:
        return None
    truth, again = concatenate(new), concatenate(later)
    return TemporalSplit(
        known=concatenate(known),
        truth=truth.pattern,
        counts=counts,
        later=again.pattern,
        habits=merge_counts(habits),
        rows=rows,
    )


def _sold(part: Interactions, counts: ItemCounts) -> Interactions:
    """The distinct items of each user that were sold before the cut."""
    once = part.distinct()
    keep = counts.events[once.items] > 0
    indptr = np.concatenate([[0], np.cumsum(keep)])[once.indptr].astype(np.int64)
    return Interactions(indptr, once.items[keep], once.ages[keep], once.weights[keep], part.n_items)
