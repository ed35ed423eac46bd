"""The lists of a part of the users: the best items that the rules leave, and why they are there.

A user whose history is usable gets the model's items and no others: a list that the rules make short stays
short, and the reason is told. Where bought items are kept or boosted, the user's own ones have a personal part
beside the score (``topkin.recommend.repurchase``). A user without a usable history gets what sells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.config.shop.columns import FINAL, SHARES
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr, indptr_of
from topkin.recommend.because_events import with_event_names
from topkin.recommend.bought import BOUGHT, excluded_items
from topkin.recommend.columns import ItemColumns, with_shares
from topkin.recommend.explain import VectorRows
from topkin.recommend.popular_fallback import SEGMENT_COUNTS, SegmentPopularity, popular_lists
from topkin.recommend.repurchase.blend import Repurchase
from topkin.recommend.repurchase.rates import RepeatHistory
from topkin.recommend.rules.deepen import lists_with_new
from topkin.recommend.rules.eligibility import cooldown_days
from topkin.recommend.rules.eligible import Audience
from topkin.recommend.rules.found import Found
from topkin.recommend.rules.shop import FEW_ELIGIBLE, FEW_SHOWN, FEW_VALID, REASONS, ShopRules
from topkin.recommend.searchers import FEW_SOLD, FEW_VECTORS, Searcher, UserQueries, of_rows
from topkin.recommend.second.stage import BlendedLists, SecondStage, no_blend
from topkin.recommend.shared_search import SharedSearcher

FEW_ITEMS = "the catalogue has fewer items than k"
FEW_ALLOWED = "availability, allow-list and deny-list leave fewer items than k"
SHORTFALLS = (
    *(FEW_ITEMS, FEW_ALLOWED, FEW_VECTORS, FEW_SOLD),
    *dict.fromkeys(rule.shortfall for rule in BOUGHT.values()),
)

NO_PURCHASES = "no purchases"
FEW_PURCHASES = "fewer purchases than recommend.min_history"
NO_VECTOR = "no vector: none was brought, or the encoder knows no item bought"
_FALLBACK = (NO_PURCHASES, FEW_PURCHASES, NO_VECTOR)


@dataclass(frozen=True, kw_only=True)
class ItemContext:
    """What the lists of any user need to know of the items, loaded once a worker.

    item_ids: (n_items,). allowed: (n_items,) bool, see ``eligibility.allowed_items``. cooldown: (n_items,) float32
    days. encoder: the hash of what made the vectors. vectors: (n_items, dim) float32, by which bought items are
    scored where ``repurchase`` ranks them, and candidates of ``second``; None where the searcher alone does. rules: of
    the shop, if there are some; allowed are then valid items alone. columns: of the items, which the lists have too.
    """

    item_ids: pa.Array
    allowed: np.ndarray
    cooldown: np.ndarray
    popularity: SegmentPopularity
    encoder: str
    vectors: VectorRows | None = None
    repurchase: Repurchase | None = None
    second: SecondStage | None = None
    rules: ShopRules | None = None
    columns: ItemColumns | None = None

    @classmethod
    def of_catalogue(
        cls,
        catalogue: pa.Table,
        settings: RecommendSettings,
        *,
        allowed: np.ndarray,
        encoder: str,
        vectors: VectorRows,
        segments: pa.Table | None = None,
        repurchase: Repurchase | None = None,
        second: SecondStage | None = None,
        rules: ShopRules | None = None,
    ) -> "ItemContext":
        """With what the catalogue and the rules say; segments: SEGMENT_COUNTS of all users, where they are counted."""
        events, recent = np.asarray(catalogue["events"]), np.asarray(catalogue["recent"])
        segments = SEGMENT_COUNTS.empty_table() if segments is None else segments
        return cls(
            item_ids=catalogue["item_id"].combine_chunks(),
            allowed=allowed if rules is None else allowed & rules.valid,
            cooldown=cooldown_days(catalogue["category"], settings.cooldown_days, settings.cooldown_by_category),
            popularity=SegmentPopularity(events, recent, segments),
            encoder=encoder,
            vectors=vectors,
            repurchase=repurchase,
            second=second,
            rules=rules,
            columns=ItemColumns.of(catalogue, settings.columns),
        )

    def searched(self, k: int) -> int:
        """How many items of the searcher lists of k begin with, under the shop's rules."""
        return self.depth(k if self.rules is None else longest(self.rules.depth(k), len(self.item_ids)))

    def depth(self, k: int) -> int:
        """How many of the searcher's best items lists of k are made from."""
        return longest(k if self.second is None else self.second.depth(k), len(self.item_ids))


class Lists(NamedTuple):
    """Of a part of the users: the rows of both tables, and counts by kind and name."""

    recommendations: pa.Table
    short_lists: pa.Table
    counts: Mapping[str, Mapping[str, int]]


def recommend(
    histories: pa.Table,
    vectors: np.ndarray,
    context: ItemContext,
    searcher: Searcher,
    settings: RecommendSettings,
    as_of: datetime,
    shown: Csr | None = None,
) -> Lists:
    """The lists of some users, in their order.

    Args:
        histories: ``schemas.histories``.
        vectors: (n_users, dim) float32, theirs; zero for a user of whom the model knows nothing.
        context: The items.
        searcher: What finds the model's items, and explains them.
        settings: The rules.
        as_of: When purchases end.
        shown: Items that each user may not get because a list showed them lately.

    Raises:
        ValueError: Where histories and vectors do not fit or a vector is not finite.
    """
    users = build_queries(histories, vectors, context, settings, as_of, shown)
    part = PartUsers.of(histories, users, context, searcher, settings)
    return part.tables(*part.lists())


@dataclass(frozen=True, kw_only=True)
class PartUsers:
    """Some users, and what finds items for them.

    Args:
        histories: ``schemas.histories``.
        users: What is searched for, in the same order.
        why: (n,) int8, see :func:`fallback_reasons`.
        context: The items.
        searcher: What finds the model's items, and explains them: for the users of the model, in their order.
        settings: The rules.
    """

    histories: pa.Table
    users: UserQueries
    why: np.ndarray
    context: ItemContext
    searcher: Searcher
    settings: RecommendSettings

    @classmethod
    def of(
        cls,
        histories: pa.Table,
        users: UserQueries,
        context: ItemContext,
        searcher: Searcher,
        settings: RecommendSettings,
    ) -> "PartUsers":
        """users: what :func:`build_queries` made of the histories."""
        why = fallback_reasons(users.history, searcher.knows(users), settings.min_history)
        if isinstance(searcher, SharedSearcher):  # of all users, others of those of the model
            searcher = searcher.take(np.flatnonzero(why < 0))
        return cls(histories=histories, users=users, why=why, context=context, searcher=searcher, settings=settings)

    @property
    def k(self) -> int:
        """The width of the lists."""
        return longest(self.settings.k, len(self.context.item_ids))

    @cached_property
    def _served(self) -> UserQueries:
        return self.users.take(np.flatnonzero(self.why < 0))

    def lists(self) -> tuple[Found, np.ndarray]:
        """The lists, and why the rules of the shop made them short, see ``deepen.ruled_lists``."""
        rules, n, k = self.context.rules, len(self.why), self.k
        if rules is None:
            return self.find(np.arange(n), k), np.full(n, -1, np.int8)
        lists, few = no_lists(n, k, self.context), np.full(n, -1, np.int8)
        for of_model in (True, False):
            rows = np.flatnonzero((self.why < 0) == of_model)
            find = partial(self._find_some, rows)
            n_items = max(len(self.context.item_ids), 1)
            remade, few[rows] = lists_with_new(
                len(rows), k, n_items, rules, find, by_relevance=of_model, narrowed=self._alone
            )
            lists.put(rows, remade)
        return lists, few

    def _find_some(self, of: np.ndarray, rows: np.ndarray, depth: int, barred: np.ndarray | None = None) -> Found:
        return self.find(of[rows], depth, barred)

    @property
    def _alone(self) -> bool:
        """Whether the score of a pair is one, whatever other candidates there are."""
        return self.context.repurchase is None and self.context.second is None

    def find(self, rows: np.ndarray, depth: int, barred: np.ndarray | None = None) -> Found:
        """So many of the best items that users may get, in their order.

        rows: (m,) int, which users. barred: (n_items,) bool, items that need not be looked for.
        """
        result, of_model = no_lists(len(rows), depth, self.context), self.why[rows] < 0
        allowed = self.context.allowed
        if barred is not None and self._alone:
            allowed = allowed & ~barred
        if of_model.any():
            of = (np.cumsum(self.why < 0) - 1)[rows[of_model]]
            users, mine = self._served.take(of), np.flatnonzero(of_model)
            for some, mask in _by_audience(users, allowed):
                result.put(mine[some], self._of_model(users.take(some), depth, mask, of[some]))
        if not of_model.all():
            mine = np.flatnonzero(~of_model)
            users, segments = self.users.take(rows[mine]), self.histories["segment"].take(pa.array(rows[mine]))
            for some, mask in _by_audience(users, allowed):
                exclude, named = users.exclude.take(some), segments.take(pa.array(some))
                lists = popular_lists(named, exclude, self.context.popularity, mask, depth)
                result.put(mine[some], Found(*lists))
        return result

    def _of_model(self, users: UserQueries, k: int, allowed: np.ndarray, of: np.ndarray) -> Found:
        """The model's k best of the allowed items for users, which are ``of`` those that the searcher is for."""
        context = self.context if allowed is self.context.allowed else replace(self.context, allowed=allowed)
        ids, scores, blend = _model_lists(users, k, context, of_rows(self.searcher, of))
        return Found(ids, scores, np.where(ids >= 0, 0, -1).astype(np.int8), blend)

    def tables(self, lists: Found, few: np.ndarray) -> Lists:
        """The tables of lists, (n, k), with why each item is there. few: as of :meth:`lists`."""
        context, searcher, settings, why = self.context, self.searcher, self.settings, self.why
        (ids, scores, sources, blend), n = lists, len(self.why)
        known, times = np.flatnonzero(why < 0), np.zeros((n, self.k), np.int32)
        because = np.full((n, self.k, settings.because), -1, np.int32)
        if len(known) and settings.because:
            because[known] = searcher.explain(self._served, ids[known], settings.because)
            if blend is not None and context.second is not None:
                of_known = BlendedLists(*(values[known] for values in blend))
                because[known] = context.second.explain(because[known], of_known, self._served.history)
        if BOUGHT[settings.bought].counts:
            times = RepeatHistory.of(self.users.history).times_of(ids)
        if context.repurchase is not None and settings.because:
            because = _own_first(because, ids, times, why < 0)
        short, reason = _short(ids, why >= 0, searcher, context, settings)
        shortfalls = SHORTFALLS
        if context.rules is not None:
            shortfalls = (*SHORTFALLS, *REASONS)
            reason = _ruled_reasons(reason, few[short], self.users.take(short), context, settings)
        counts = {
            "users": {"all": n, "with_list": int((ids[:, :1] >= 0).sum()), **_few_new(ids, context.rules)},
            "source": _counts(sources, schemas.SOURCES),
            "reason": _counts(reason, shortfalls),
            "fallback": _counts(why, _FALLBACK),
        }
        table = _table(self.histories["user_id"], context, ids, scores, sources, times, because, blend)
        table = self._with_columns(with_event_names(table, self.histories), lists, because)
        return Lists(
            table,
            _short_table(self.histories["user_id"], context, short, reason, ids, settings.k),
            counts,
        )

    def _with_columns(self, table: pa.Table, lists: Found, because: np.ndarray) -> pa.Table:
        """With what ``recommend.columns`` asks for beside the table's own."""
        wanted, there = self.settings.columns, lists.ids >= 0
        if SHARES in wanted:
            shares, known = np.full(because.shape, np.nan, np.float32), np.flatnonzero(self.why < 0)
            shares[known] = self.searcher.shares(self._served, lists.ids[known], because[known])
            table = with_shares(table, shares[there])
        if FINAL in wanted and FINAL not in table.column_names:
            final = self._final(lists)[there]
            table = table.append_column(FINAL, pa.array(final, mask=~np.isfinite(final)))
        return table if self.context.columns is None else self.context.columns.joined(table, "item_id")

    def _final(self, lists: Found) -> np.ndarray:
        """What orders the lists without a second stage, (n, k) float32; -inf for items that sell."""
        final = np.where(lists.sources == 0, lists.scores, np.float32(-np.inf))
        repurchase, vectors, known = self.context.repurchase, self.context.vectors, np.flatnonzero(self.why < 0)
        if repurchase is None or vectors is None:
            return final
        for rows, allowed in _by_audience(self._served, self.context.allowed):
            users, mine = self._served.take(rows), known[rows]
            final[mine] = repurchase.finals(
                lists.ids[mine],
                best=of_rows(self.searcher, rows).search(users, 1, allowed),
                scores=lists.scores[mine],
                history=users.history,
                queries=users.vectors,
                vectors=vectors,
                allowed=allowed,
                exclude=users.exclude,
            )
        return final


def _by_audience(users: UserQueries, allowed: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of users, and which of the allowed items, (n_items,) bool, these may get."""
    if users.audience is None:
        return [(np.arange(users.history.n_users), allowed)]
    return [(rows, allowed & mask) for rows, mask in users.audience.groups()]


def build_queries(
    histories: pa.Table,
    vectors: np.ndarray,
    context: ItemContext,
    settings: RecommendSettings,
    as_of: datetime,
    shown: Csr | None = None,
) -> UserQueries:
    """What :func:`recommend` searches for: the same for one search over all items and for one over a shard."""
    if len(histories) != len(vectors):
        raise ValueError(f"vectors must be as many as histories ({len(histories)}), got {len(vectors)}")
    history = Interactions.from_histories(histories, context.item_ids, as_of)
    exclude = excluded_items(history, settings.bought, context.cooldown)
    eligible = () if context.rules is None else context.rules.eligible
    if shown is not None:
        exclude = exclude.union(shown, len(context.item_ids))
    return UserQueries(history, vectors, exclude, Audience.of(eligible, histories) if eligible else None)


def fallback_reasons(history: Interactions, known: np.ndarray, min_history: int) -> np.ndarray:
    """Why a user gets popular items, as a number in _FALLBACK, (n_users,) int8; -1 for users of the model.

    known: (n_users,) bool, of ``Searcher.knows``.
    """
    purchases = np.diff(history.pooled.indptr)
    why = np.where(known, -1, 2)
    why[purchases < min_history] = 1
    why[(purchases == 0) & (why >= 0)] = 0
    return why.astype(np.int8)


def longest(k: int, n_items: int) -> int:
    """The width of the lists: k, but no list is longer than the catalogue."""
    return min(k, max(n_items, 1))


def no_lists(n: int, k: int, context: ItemContext) -> Found:
    """Empty lists of n users."""
    none = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32), np.full((n, k), -1, np.int8)
    return Found(*none, None if context.second is None else no_blend(n, k))


def _model_lists(
    users: UserQueries, k: int, context: ItemContext, searcher: Searcher
) -> tuple[np.ndarray, np.ndarray, BlendedLists | None]:
    """The searcher's lists by the second stage, and with bought items where their personal part puts them.

    The last is what the second stage says of them, where there is one.
    """
    ids, scores = searcher.search(users, context.depth(k), context.allowed)
    if context.vectors is not None and context.second is not None:
        blended = context.second.ranked(
            ids,
            k,
            history=users.history,
            exclude=users.exclude,
            queries=users.vectors,
            vectors=context.vectors,
            allowed=context.allowed,
            repurchase=context.repurchase,
        )
        return blended.ids, blended.cosines, blended
    if context.repurchase is None or context.vectors is None:
        return ids, scores, None
    ranked = context.repurchase.ranked(
        ids,
        scores,
        history=users.history,
        queries=users.vectors,
        vectors=context.vectors,
        allowed=context.allowed,
        exclude=users.exclude,
    )
    return *ranked, None


def _few_new(ids: np.ndarray, rules: ShopRules | None) -> dict[str, int]:
    """How many lists have fewer new items than the rules ask for, where these do."""
    quota = None if rules is None else rules.quota
    return {} if quota is None else {"few_new": int((quota.count(ids) < quota.at_least).sum())}


def _counts(numbers: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """How often each name's number occurs."""
    return {name: int((numbers == number).sum()) for number, name in enumerate(names)}


def _own_first(because: np.ndarray, ids: np.ndarray, times: np.ndarray, of_model: np.ndarray) -> np.ndarray:
    """The reasons, (n, k, most) int32, with an item that the user bought itself as its only reason."""
    own = (times > 0) & of_model[:, None]
    because = np.where(own[:, :, None], np.int32(-1), because)
    because[:, :, 0] = np.where(own, ids, because[:, :, 0])
    return because


def _short(
    ids: np.ndarray, fallback: np.ndarray, searcher: Searcher, context: ItemContext, settings: RecommendSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The users with fewer than k items, ascending, and the first rule that left too few, as a number in SHORTFALLS."""
    k = settings.k
    short = np.flatnonzero(ids[:, -1] < 0) if ids.shape[1] == k else np.arange(len(ids))
    if len(context.allowed) < k:
        return short, np.full(len(short), SHORTFALLS.index(FEW_ITEMS))
    if context.allowed.sum() < k:
        return short, np.full(len(short), SHORTFALLS.index(FEW_ALLOWED))
    own = SHORTFALLS.index(BOUGHT[settings.bought].shortfall)
    sold = (context.popularity.events > 0) | (context.popularity.recent > 0)
    of_model = own if searcher.n_candidates(context.allowed) >= k else SHORTFALLS.index(searcher.shortfall)
    of_popular = own if (context.allowed & sold).sum() >= k else SHORTFALLS.index(FEW_SOLD)
    return short, np.where(fallback[short], of_popular, of_model)


def _ruled_reasons(
    reason: np.ndarray, few: np.ndarray, users: UserQueries, context: ItemContext, settings: RecommendSettings
) -> np.ndarray:
    """The reasons of short lists, (n,) numbers in SHORTFALLS, then REASONS, with those that are the shop's rules'.

    few: why the rules made them short, in REASONS, -1 where they did not. users: of these lists.
    """
    rules, k, first, out = context.rules, settings.k, len(SHORTFALLS), reason.copy()
    assert rules is not None, "it is asked with rules alone"
    if (out == SHORTFALLS.index(FEW_ALLOWED)).any() and context.allowed.sum() + rules.outside >= k:
        out[:] = first + REASONS.index(FEW_VALID)
        return out
    own = (out != SHORTFALLS.index(FEW_ITEMS)) & (out != SHORTFALLS.index(FEW_ALLOWED))
    if rules.shown:
        out[out == SHORTFALLS.index(BOUGHT[settings.bought].shortfall)] = first + REASONS.index(FEW_SHOWN)
    for rows, mask in users.audience.groups() if users.audience is not None else []:
        if (context.allowed & mask).sum() < k:
            out[rows[own[rows]]] = first + REASONS.index(FEW_ELIGIBLE)
    return np.where(own & (few >= 0), first + few, out)


def _table(
    user_ids: pa.ChunkedArray,
    context: ItemContext,
    ids: np.ndarray,
    scores: np.ndarray,
    sources: np.ndarray,
    times: np.ndarray,
    because: np.ndarray,
    blend: BlendedLists | None,
) -> pa.Table:
    columns = schemas.recommendations(user_ids.type, context.item_ids.type, second_stage=blend is not None)
    schema = schemas.with_encoder(columns, context.encoder)
    row, column = np.nonzero(ids >= 0)
    named = because[row, column]
    offsets = indptr_of((named >= 0).sum(axis=1)).astype(np.int32)
    values = [
        user_ids.take(pa.array(row)),
        pa.array((column + 1).astype(np.int32)),
        context.item_ids.take(pa.array(ids[row, column])),
        pa.array(scores[row, column]),
        pa.array(schemas.SOURCES).take(pa.array(sources[row, column])),
        pa.array(times[row, column]),
        pa.ListArray.from_arrays(pa.array(offsets), context.item_ids.take(pa.array(named[named >= 0]))),
    ]
    if blend is not None and context.second is not None:
        final, decided = blend.final[row, column], blend.decided[row, column]
        names = pa.array([None, *context.second.deciders], pa.string())
        values += [pa.array(final, mask=decided < 0), names.take(pa.array(decided.astype(np.int32) + 1))]
    return pa.Table.from_arrays(values, schema=schema)


def _short_table(
    user_ids: pa.ChunkedArray, context: ItemContext, short: np.ndarray, reason: np.ndarray, ids: np.ndarray, wanted: int
) -> pa.Table:
    columns = [
        user_ids.take(pa.array(short)),
        pa.array(np.full(len(short), min(wanted, np.iinfo(np.int32).max), np.int32)),
        pa.array((ids[short] >= 0).sum(axis=1).astype(np.int32)),
        pa.array((*SHORTFALLS, *REASONS)).take(pa.array(reason)),
    ]
    schema = schemas.with_encoder(schemas.short_lists(user_ids.type), context.encoder)
    return pa.Table.from_arrays(columns, schema=schema)
