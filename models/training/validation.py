"""The last days before the as-of date say how long to train, how blocks weigh, and how recency counts.

One cut holds some users as they were ``days`` ago and what they bought since. Blocks are weighed on candidates:
the best items of every block by itself are ranked by the weighted sum of z-scores, which is what the vectors
give (see ``topkin.encoding.blocks``), so a setting is tried in milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from topkin.encoding.blocks import RECENCY, SVD, Block, user_vectors
from topkin.encoding.recurrent import Gru
from topkin.interactions import Interactions, concatenate
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.models.data.histories import ItemCounts, PreparedHistories, after_cut, before_cut, fresh
from topkin.models.two_tower.encoder import Sides
from topkin.models.two_tower.recency_prior import fitted, recency_lift
from topkin.recommend.repurchase.rates import RepurchaseRates, counts_of, merge_counts
from topkin.recommend.repurchase.tuning import Case
from topkin.search.topk import top_k, top_k_of_scores

AT = 20
METRIC = f"ndcg@{AT}"
CANDIDATES = 200
WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 12.0, 18.0, 27.0, 40.0)
RECENCY_LIFTS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8)
HALF_LIVES = (None, 180.0, 90.0, 45.0)


@dataclass(frozen=True)
class TemporalSplit:
    """Users with purchases before a cut and new items after it, and the items as counted before it.

    known: their purchases before the cut. truth: the items that each bought after
    it and not before, at least one. counts: of all purchases before the cut. later: all the items that each
    bought after it, bought before or not. habits: ``repurchase.COUNTS`` of all purchases before the cut. users: (n,)
    int64, the number of each user, counted part after part.
    """

    known: Interactions
    truth: Csr
    counts: ItemCounts
    later: Csr
    habits: pa.Table
    users: np.ndarray


@dataclass(frozen=True)
class BlockHyperparameters:
    """How a block takes part: its weight, the power of recent sales in its lengths, the half-life of its histories."""

    weight: float = 1.0
    recency_lift: float = 0.0
    half_life_days: float | None = None


@dataclass
class BlockWeightSearch:
    """The blocks of one cut, ready to be weighed.

    sides: out-vectors and in-vectors of each block by name, the prior apart. inverse_popularity: of each block's
    histories.
    network: of the block ``sequence``. own: rows of the cut's users for the block ``trained``, where it has some.
    lists: each user's best items by one block alone, by its name and a power of recency, filled in where they lack:
    another contest over the same cut may bring those of the blocks that they share.
    """

    cut: TemporalSplit
    sides: dict[str, Sides]
    inverse_popularity: dict[str, float]
    network: Gru | None = None
    own: np.ndarray | None = None
    lists: dict[tuple[str, float], np.ndarray] = field(default_factory=dict)
    _candidates: np.ndarray = field(init=False)
    _products: dict[tuple[str, float | None], tuple[np.ndarray, np.ndarray]] = field(init=False, default_factory=dict)
    _scores: dict[str, tuple[tuple[float, float | None], np.ndarray]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        counts = self.cut.counts
        self.prior = fitted(counts.recent, counts.events).scaled(counts.recent, counts.events)
        self.sold = counts.events > 0
        self._surge = recency_lift(counts.recent, counts.events)
        keys = [(name, 0.0) for name in self.sides]
        if counts.recent.any():
            keys += [(RECENCY, 0.0), *((name, 0.65) for name in self.sides if name == SVD)]
        for key in keys:
            if key not in self.lists:
                self.lists[key] = self._best(*key)
        lists = [self.lists[key] for key in keys]
        self._candidates = np.sort(np.concatenate(lists, axis=1), axis=1)
        repeated = self._candidates[:, 1:] == self._candidates[:, :-1]
        self._candidates[:, 1:][repeated] = -1

    def _best(self, name: str, power: float) -> np.ndarray:
        """The items sold, but for those bought, that one block ranks first, (n_users, CANDIDATES) int32."""
        known = self.cut.known.distinct()
        barred = known.pattern
        if name == RECENCY:
            everyone = np.broadcast_to(self.prior, (known.n_users, len(self.prior)))
            return top_k_of_scores(everyone, CANDIDATES, exclude=barred, allowed=self.sold)[0]
        out, users = self._out(name, power), self._users(name, None)
        return top_k(users, out, CANDIDATES, exclude=barred, allowed=self.sold)[0]

    def _out(self, name: str, power: float) -> np.ndarray:
        out = self.sides[name][0]
        return out * (self._surge**power).astype(np.float32)[:, None] if power else out

    def _users(self, name: str, half_life_days: float | None) -> np.ndarray:
        """The block's pooled histories, (n_users, d) float32 unit rows."""
        pooled = self.sides[name][1]
        block = Block(
            name=name,
            dim=pooled.shape[1],
            weight=1.0,
            inverse_popularity=self.inverse_popularity[name],
            half_life_days=half_life_days,
            spread=(1.0,) * pooled.shape[1],
        )
        known, buyers = self.cut.known, self.cut.counts.buyers
        return user_vectors(known, pooled, buyers, [block], sequence=self.network, own=self.own)

    def _deviation(self, name: str, power: float, users: np.ndarray) -> np.ndarray:
        """The standard deviation of each user's scores over the items sold, (n_users,)."""
        out = self._out(name, power)[self.sold].astype(np.float64)
        centred = out - out.mean(axis=0)
        spread = centred.T @ centred / max(len(out), 1)
        return np.sqrt(np.maximum(((users @ spread) * users).sum(axis=1), 0))

    def _raw(self, name: str, half_life_days: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Pooled histories, and their inner products with the candidates before any recency_lift."""
        key = name, half_life_days
        if key not in self._products:
            users, out = self._users(name, half_life_days), self.sides[name][0]
            made = np.empty(self._candidates.shape, np.float32)
            for row in range(0, len(users), 64):
                part = slice(row, row + 64)
                made[part] = np.matmul(out[self._candidates[part]], users[part, :, None])[:, :, 0]
            self._products[key] = users, made
        return self._products[key]

    def factors(self, name: str, setting: BlockHyperparameters) -> tuple[np.ndarray, np.ndarray]:
        """Users (n_users, d) and items (n_items, d) whose inner products are the block's z-scores."""
        users = self._users(name, setting.half_life_days)
        deviation = self._deviation(name, setting.recency_lift, users)
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12)
        return users * scale.astype(np.float32)[:, None], self._out(name, setting.recency_lift)

    def scores(self, name: str, setting: BlockHyperparameters) -> np.ndarray:
        """The block's z-scores of the candidates, (n_users, n_candidates) float32."""
        if name == RECENCY:
            return (self.prior / max(float(self.prior[self.sold].std()), 1e-9))[self._candidates]
        how = setting.recency_lift, setting.half_life_days
        if name not in self._scores or self._scores[name][0] != how:  # one of each block is kept, not one of each try
            users, products = self._raw(name, setting.half_life_days)
            deviation = self._deviation(name, setting.recency_lift, users)
            scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-12)
            lately = (self._surge**setting.recency_lift).astype(np.float32)[self._candidates]
            self._scores[name] = how, products * lately * scale.astype(np.float32)[:, None]
        return self._scores[name][1]

    def value(self, settings: dict[str, BlockHyperparameters]) -> float:
        """Mean NDCG@20 over the users of the lists by the weighted z-scores, bought items left out."""
        total = np.zeros(self._candidates.shape, np.float32)
        for name, setting in settings.items():
            if setting.weight and (name == RECENCY or name in self.sides):
                total += np.float32(setting.weight) * self.scores(name, setting)
        total[self._candidates < 0] = -np.inf
        places, _ = top_k_of_scores(total, AT)
        ids = np.where(places < 0, -1, np.take_along_axis(self._candidates, np.maximum(places, 0), axis=1))
        return float(ranking_metrics(ids.astype(np.int32), self.cut.truth, (AT,))[METRIC].mean())


def repurchase_case(
    contest: BlockWeightSearch, settings: dict[str, BlockHyperparameters], categories: pa.ChunkedArray
) -> Case | None:
    """What a cut says of the weights of bought items beside the blocks as they are set.

    None where nobody came back, or no block is there. Lists are of all items sold before the cut, by the weighted
    z-scores, which rank as the vectors do.
    """
    cut, n = contest.cut, contest.cut.known.n_users
    some = np.flatnonzero(cut.later.lengths)
    if not len(some) or not any(settings[name].weight for name in contest.sides if name in settings):
        return None
    queries: list[np.ndarray] = []
    vectors: list[np.ndarray] = []
    for name, setting in settings.items():
        if setting.weight and name == RECENCY:
            queries.append(np.full((n, 1), setting.weight, np.float32))
            spread = max(float(contest.prior[contest.sold].std()), 1e-9)
            vectors.append((contest.prior / spread)[:, None].astype(np.float32))
        elif setting.weight and name in contest.sides:
            users, out = contest.factors(name, setting)
            queries.append(np.float32(setting.weight) * users)
            vectors.append(out)
    asked, listed = np.hstack(queries)[some], np.hstack(vectors)
    ids, scores = top_k(asked, listed, AT, allowed=contest.sold)
    return Case.of(
        ids,
        scores,
        known=cut.known.take(some),
        truth=cut.later.take(some),
        queries=asked,
        vectors=listed,
        allowed=contest.sold,
        items=RepurchaseRates.of(cut.habits, cut.known.n_items, categories),
    )


def choose(
    contests: Sequence[BlockWeightSearch],
    start: dict[str, BlockHyperparameters],
    tried: Sequence[tuple[str, str, Sequence[float | None]]],
) -> tuple[dict[str, BlockHyperparameters], float]:
    """The settings of highest mean value over the contests, by turns over what may be tried, and that value.

    start: settings by block, in the order of the vectors. tried: (block, field of Setting, values). Of equal
    values the earliest stays, what was there before first.
    """
    best = dict(start)
    value = mean_value(contests, best)
    for _ in range(2):
        before = value
        for name, what, values in tried:
            if name not in best:
                continue
            for candidate in values:
                other = {**best, name: _with(best[name], what, candidate)}
                if other[name] != best[name] and (reached := mean_value(contests, other)) > value:
                    best, value = other, reached
        if value == before:
            break
    return best, value


def mean_value(contests: Sequence[BlockWeightSearch], settings: dict[str, BlockHyperparameters]) -> float:
    """The mean of the contests' values."""
    return float(np.mean([contest.value(settings) for contest in contests]))


def _with(setting: BlockHyperparameters, what: str, value: float | None) -> BlockHyperparameters:
    return BlockHyperparameters(**{**setting.__dict__, what: value})


def sample(
    purchases: PreparedHistories, counts: ItemCounts, most: int, seed: int, *, until: float = 0.0
) -> TemporalSplit | None:
    """At most ``most`` users to validate on, drawn from all parts alike; None where there are none.

    purchases: those before the cut; what came in its ``days`` after it is the truth, but for the last ``until``
    days. counts: of the purchases before the cut.
    """
    rng = np.random.default_rng([seed, 1])
    names = purchases.names()
    known, new, later, habits, numbers, first = [], [], [], [], [], 0
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
        numbers.append(first + users)
        first += before.n_users
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
        users=np.concatenate(numbers),
    )


def _sold(part: Interactions, counts: ItemCounts) -> Interactions:
    """The distinct items of each user that were sold before the cut."""
    once = part.distinct()
    keep = counts.events[once.items] > 0
    indptr = np.concatenate([[0], np.cumsum(keep)])[once.indptr].astype(np.int64)
    return Interactions(indptr, once.items[keep], once.ages[keep], once.weights[keep], part.n_items)
