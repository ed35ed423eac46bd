"""The last days before the as-of date say how long to train, how blocks weigh, and how recency counts.

One cut holds some users as they were ``days`` ago and what they bought since. Blocks are weighed on candidates:
the best items of every block by itself are ranked by the weighted sum of z-scores, which is what the vectors
give (see ``topkin.encoding.blocks``), so a setting is tried in milliseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

from topkin.encoding.blocks import RECENCY, Block, credibility, user_vectors
from topkin.interactions import Interactions, concatenate
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import hits_of, ndcg_of_ranks, ranked_above
from topkin.models.data.histories import ItemCounts, PreparedHistories, after_cut, before_cut, fresh
from topkin.models.training.block_kinds import KINDS, BlockHyperparameters, Trial, taking_part
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
    the users, (n,) int64. drawn: they are some of those that there were.
    """

    known: Interactions
    truth: Csr
    counts: ItemCounts
    later: Csr
    habits: pa.Table
    rows: Sequence[np.ndarray] = ()
    drawn: bool = False

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

    def scores(self, setting: BlockHyperparameters, some: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """The block's z-scores of candidates of some users, (m, n_candidates) float32. some: (m,) int, their rows."""
        ...


class RecencyScores:
    """What sells now: the same z-scores for every user."""

    def __init__(self, cut: TemporalSplit, by_sales_first: bool = False) -> None:
        self.cut, counts = cut, cut.counts
        prior = (by_sales if by_sales_first else fitted)(counts.recent, counts.events)
        self.prior = prior.scaled(counts.recent, counts.events)
        self.z_scores = self.prior / max(float(self.prior[cut.sold].std()), 1e-9)
        self._last: np.ndarray | None = None

    def best(self, lift: float) -> np.ndarray:
        """See :class:`BlockScores`."""
        barred, sold = self.cut.known.distinct().pattern, np.flatnonzero(self.cut.sold)
        most = CANDIDATES + int(barred.lengths.max(initial=0))  # no list reaches beyond them
        some = np.sort(sold[np.argsort(-self.prior[sold], kind="stable")[:most]])
        numbers = np.full(len(self.prior), -1, np.int32)
        numbers[some] = np.arange(len(some))
        everyone = np.broadcast_to(self.prior[some], (barred.n_rows, len(some)))
        ids, _ = top_k_of_scores(everyone, CANDIDATES, exclude=barred.renumbered(numbers))
        return np.where(ids < 0, np.int32(-1), some.astype(np.int32)[ids])

    def factors(self, setting: BlockHyperparameters) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`BlockScores`."""
        return np.ones((self.cut.known.n_users, 1), np.float32), self.z_scores[:, None]

    def scores(self, setting: BlockHyperparameters, some: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """See :class:`BlockScores`; always of the same candidates."""
        if self._last is None:
            self._last = self.z_scores[candidates]
        return self._last


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
        self._products: dict[tuple[float | None, float], tuple[np.ndarray, np.ndarray]] = {}
        self._covariances: dict[float, np.ndarray] = {}
        self._last: tuple[tuple[float, float | None, float], np.ndarray] | None = None

    def best(self, lift: float) -> np.ndarray:
        """See :class:`BlockScores`."""
        distinct = self.cut.known.distinct()
        barred = distinct.pattern
        return top_k(self._users(None, 1.0), self._out(lift), CANDIDATES, exclude=barred, allowed=self.cut.sold)[0]

    def factors(self, setting: BlockHyperparameters) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`BlockScores`."""
        users = self._users(setting.half_life_days, setting.gate)
        return users * self._scale(setting.recency_lift, users)[:, None], self._out(setting.recency_lift)

    def scores(self, setting: BlockHyperparameters, some: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """See :class:`BlockScores`; always of the same candidates."""
        how = setting.recency_lift, setting.half_life_days, setting.gate
        if self._last is None or self._last[0] != how:  # one is kept, not one of each try
            users, products = self._raw(setting.half_life_days, setting.gate, some, candidates)
            lift = (self._surge**setting.recency_lift).astype(np.float32)[candidates]
            self._last = how, products * lift * self._scale(setting.recency_lift, users)[:, None]
        return self._last[1]

    def _raw(
        self, half_life_days: float | None, gate: float, some: np.ndarray, candidates: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pooled histories, and their inner products with the candidates before any recency lift."""
        if (half_life_days, gate) not in self._products:
            users, products = self._users(half_life_days, gate)[some], np.empty(candidates.shape, np.float32)
            for row in range(0, len(users), 64):
                part = slice(row, row + 64)
                products[part] = np.matmul(self.sides[0][candidates[part]], users[part, :, None])[:, :, 0]
            self._products[half_life_days, gate] = users, products
        return self._products[half_life_days, gate]

    def _out(self, lift: float) -> np.ndarray:
        out = self.sides[0]
        return out * (self._surge**lift).astype(np.float32)[:, None] if lift else out

    def _users(self, half_life_days: float | None, gate: float) -> np.ndarray:
        """The pooled histories, (n_users, d) float32 unit rows."""
        in_vectors = self.sides[1]
        block = Block.unscaled("", in_vectors.shape[1], self.inverse_popularity, half_life_days)
        block = replace(block, gate=gate)
        return user_vectors(self.cut.known, in_vectors, self.cut.counts.buyers, [block])

    def _scale(self, lift: float, users: np.ndarray) -> np.ndarray:
        """One divided by the standard deviation of each user's scores over the items sold, (n_users,) float32."""
        if lift not in self._covariances:  # not of each half-life tried
            out = self._out(lift)[self.cut.sold].astype(np.float64)
            centred = out - out.mean(axis=0)
            self._covariances[lift] = centred.T @ centred / max(len(out), 1)
        deviation = np.sqrt(np.maximum(((users @ self._covariances[lift]) * users).sum(axis=1), 0))
        return np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12).astype(np.float32)


class ProfileScores(PooledScores):
    """A block that knows users by their features. profiles: theirs, (n_users, d) float32."""

    def __init__(self, cut: TemporalSplit, sides: Sides, profiles: np.ndarray) -> None:
        super().__init__(cut, sides, 0.0)
        self.profiles, self.purchases = unit_rows(profiles), np.diff(cut.known.distinct().indptr)

    def factors(self, setting: BlockHyperparameters) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`BlockScores`."""
        users, items = super().factors(setting)
        return users * credibility(setting.prior_purchases, self.purchases)[:, None], items

    def scores(self, setting: BlockHyperparameters, some: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """See :class:`BlockScores`."""
        trust = credibility(setting.prior_purchases, self.purchases[some])
        return super().scores(setting, some, candidates) * trust[:, None]

    def _users(self, half_life_days: float | None, gate: float) -> np.ndarray:
        return self.profiles


@dataclass
class SplitBlocks:
    """The blocks of an encoder over the users of one split.

    Args:
        cut: the users and what they bought.
        sides: out-vectors and in-vectors of each block by name, the recency block apart.
        inverse_popularity: exponent of each block's histories, by name.
        by_sales: the recency block ranks by sales.
        profiles: (n_users, d) float32 of each block that knows users by their features, by name.
    """

    cut: TemporalSplit
    sides: dict[str, Sides]
    inverse_popularity: dict[str, float]
    by_sales: bool = False
    profiles: Mapping[str, np.ndarray] = field(default_factory=dict)
    blocks: dict[str, BlockScores] = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = {
            name: ProfileScores(self.cut, sides, self.profiles[name])
            if name in self.profiles
            else PooledScores(self.cut, sides, self.inverse_popularity[name])
            for name, sides in self.sides.items()
        }
        self.blocks[RECENCY] = RecencyScores(self.cut, self.by_sales)

    def over(self, cut: TemporalSplit) -> "SplitBlocks":
        """The computed blocks over other users of the same split."""
        return SplitBlocks(cut, self.sides, self.inverse_popularity, self.by_sales)

    def taking_part(self, settings: Mapping[str, BlockHyperparameters]) -> list[tuple[str, BlockHyperparameters]]:
        """The blocks that are there and have a weight, in their order."""
        return [(name, setting) for name, setting in taking_part(settings).items() if name in self.blocks]


Blocks = TypeVar("Blocks", bound=SplitBlocks)


@dataclass
class BlockWeightSearch(SplitBlocks):
    """The blocks of one split, ready to be weighed.

    lists: each user's best items by one block alone, by its name and a power of recency, filled in where they lack:
    another search over the same split may bring those of the blocks that they share.
    """

    lists: dict[tuple[str, float], np.ndarray] = field(default_factory=dict)
    _some: np.ndarray = field(init=False)
    _candidates: np.ndarray = field(init=False)
    _hits: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)
    _scratch: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lists = dict(self.lists)
        lifts = {kind.name: kind.candidate_lifts for kind in KINDS}
        keys = [(name, 0.0) for name in self.sides]
        if self.cut.counts.recent.any():
            keys = [(name, lift) for name in self.blocks for lift in lifts[name]]
        for name, lift in keys:
            if (name, lift) not in self.lists:
                self.lists[name, lift] = self.blocks[name].best(lift)
        candidates = np.sort(np.concatenate([self.lists[key] for key in keys], axis=1), axis=1)
        candidates[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = -1
        hits = hits_of(candidates, self.cut.truth)
        self._some = np.flatnonzero(hits.any(axis=1))  # no weights make the lists of the others worth anything
        rows, columns = np.nonzero(hits[self._some])
        self._candidates, self._hits = candidates[self._some], (rows, columns)
        self._scratch = np.empty(self._candidates.shape, np.float32), np.empty(self._candidates.shape, np.float32)

    def value(self, settings: Mapping[str, BlockHyperparameters]) -> float:
        """Mean NDCG@20 over the users of the lists by the weighted z-scores, bought items left out."""
        return float(self.values(settings).mean())

    def values(self, settings: Mapping[str, BlockHyperparameters]) -> np.ndarray:
        """The NDCG@20 of each user, (n_users,) float64, as :meth:`value` has their mean."""
        total, part = self._scratch  # of a search many are asked: fresh pages would take as long as the sums
        total[:] = 0
        for name, setting in self.taking_part(settings):
            scores = self.blocks[name].scores(setting, self._some, self._candidates)
            total += np.multiply(scores, np.float32(setting.weight), out=part)
        np.copyto(total, -np.inf, where=self._candidates < 0)
        rows, columns = self._hits
        ranks = 1 + ranked_above(total, rows, columns)
        return ndcg_of_ranks(self._some[rows], ranks, self.cut.truth.lengths, AT)


def _with(setting: BlockHyperparameters, name: str, value: float | None) -> BlockHyperparameters:
    return BlockHyperparameters(**{**vars(setting), name: value})


def mean_and_error(differences: Sequence[np.ndarray]) -> tuple[float, float]:
    """The mean over periods of the mean over users, and its standard error.

    differences: of each period, (n_users,) float64, such as those of two settings on the same users.
    """
    means = [float(d.mean()) for d in differences]
    errors = [float(d.var()) / max(len(d) - 1, 1) for d in differences]
    return float(np.mean(means)), float(np.sqrt(np.sum(errors)) / len(differences))


def is_better(own: np.ndarray, best: np.ndarray) -> bool:
    """Whether the metric of users, (n,), is above what it was by more than the standard error of the differences."""
    rise, error = mean_and_error([own - best])
    return bool(rise > error)


def rises(values: Sequence[float]) -> bool:
    """Whether the straight line of least squares through a curve goes up; values: one an epoch, at least two."""
    epochs = np.arange(len(values)) - (len(values) - 1) / 2
    return bool(epochs @ np.asarray(values) > 1e-12)


Tried = Sequence[Trial | tuple[str, str, Sequence[float | None]]]
Settings = dict[str, BlockHyperparameters]
_WIDENED = 4  # steps beyond the end of what is tried


def choose(
    searches: Sequence[BlockWeightSearch],
    start: Mapping[str, BlockHyperparameters],
    tried: Tried,
    *,
    errors: float = 1.0,
) -> tuple[Settings, list[np.ndarray]]:
    """The simplest settings that are no more than a standard error below the best, and each user's value at the best.

    The best is found by turns over what may be tried; where it lies at the end, values beyond are tried too. Then, by
    turns again, what is simpler is taken where the mean difference to the best, user by user, is within its standard
    error (Breiman et al., Classification and Regression Trees, 1984): no block, a lower weight, what ``start`` has.

    Args:
        searches: one of each split; all count alike.
        start: settings by block, in the order of the vectors.
        tried: what may be changed. Of equal values the earliest stays, what was there before first.
        errors: how many standard errors, where one is too few.
    """

    known: dict[tuple[tuple[str, BlockHyperparameters], ...], list[np.ndarray]] = {}  # turns come back to settings

    def values(settings: Mapping[str, BlockHyperparameters]) -> list[np.ndarray]:
        key = tuple((name, setting) for name, setting in settings.items() if setting.weight)
        if key not in known:
            known[key] = [search.values(settings) for search in searches]
        return known[key]

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
    highest, chosen = values(best), best  # what is simpler is taken by chance at times: a curve goes by the best
    for name, field_name, candidates in tried:
        for place, simpler in enumerate(_simpler(name, field_name, candidates, start, best) if name in best else ()):
            other = {**chosen, name: _with(chosen[name], field_name, simpler)}
            own = values(other)
            below, error = mean_and_error([a - b for a, b in zip(highest, own, strict=True)])
            if below <= errors * error:
                chosen = other
            if (below <= errors * error) == (place == 0):  # the simplest will do, or nothing simpler
                break
    return chosen, highest


def beyond(field_name: str, candidates: Sequence[float | None], steps: int) -> float:
    """The value so many steps past the one after the last: the same step again, or factor for weights and days."""
    last, before = (float(v or 0.0) for v in (candidates[-1], candidates[-2]))
    if field_name in ("recency_lift", "gate"):
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
    known, new, later, habits, rows, drawn = [], [], [], [], [], False
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
            users, drawn = np.sort(rng.choice(users, wanted, replace=False)), True
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
        drawn=drawn,
    )


def _sold(part: Interactions, counts: ItemCounts) -> Interactions:
    """The distinct items of each user that were sold before the cut."""
    once = part.distinct()
    return once.keep(counts.events[once.items] > 0)
