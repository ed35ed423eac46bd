"""The lists of a part of the users: the best items that the rules leave, and why they are there.

A user whose history is usable gets the model's items and no others: a list that the rules make short stays
short, and the reason is told. Where bought items are kept or boosted, the user's own ones have a personal part
beside the score (``topkin.recommend.repurchase``). A user without a usable history gets what sells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.interactions import Interactions
from topkin.linalg.csr import indptr_of
from topkin.recommend.bought import BOUGHT, excluded_items
from topkin.recommend.eligibility import cooldown_days
from topkin.recommend.explain import VectorRows
from topkin.recommend.popular_fallback import SEGMENT_COUNTS, SegmentPopularity, popular_lists
from topkin.recommend.repurchase.blend import Repurchase
from topkin.recommend.repurchase.rates import RepeatHistory
from topkin.recommend.searchers import FEW_SOLD, FEW_VECTORS, Searcher, UserQueries
from topkin.recommend.second.stage import BlendedLists, SecondStage, no_blend

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
    scored where ``repurchase`` ranks them, and candidates of ``second``; None where the searcher alone does.
    """

    item_ids: pa.Array
    allowed: np.ndarray
    cooldown: np.ndarray
    popularity: SegmentPopularity
    encoder: str
    vectors: VectorRows | None = None
    repurchase: Repurchase | None = None
    second: SecondStage | None = None

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
    ) -> "ItemContext":
        """With what the catalogue and the rules say; segments: SEGMENT_COUNTS of all users, where they are counted."""
        events, recent = np.asarray(catalogue["events"]), np.asarray(catalogue["recent"])
        segments = SEGMENT_COUNTS.empty_table() if segments is None else segments
        return cls(
            item_ids=catalogue["item_id"].combine_chunks(),
            allowed=allowed,
            cooldown=cooldown_days(catalogue["category"], settings.cooldown_days, settings.cooldown_by_category),
            popularity=SegmentPopularity(events, recent, segments),
            encoder=encoder,
            vectors=vectors,
            repurchase=repurchase,
            second=second,
        )

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
) -> Lists:
    """The lists of some users, in their order.

    Args:
        histories: ``schemas.histories``.
        vectors: (n_users, dim) float32, theirs; zero for a user of whom the model knows nothing.
        context: The items.
        searcher: What finds the model's items, and explains them.
        settings: The rules.
        as_of: When purchases end.

    Raises:
        ValueError: Where histories and vectors do not fit or a vector is not finite.
    """
    users = build_queries(histories, vectors, context, settings, as_of)
    why = fallback_reasons(users.history, searcher.knows(users), settings.min_history)
    known, unknown = np.flatnonzero(why < 0), np.flatnonzero(why >= 0)
    n, k = len(histories), longest(settings.k, len(context.item_ids))
    ids, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    sources = np.full((n, k), -1, np.int8)
    because = np.full((n, k, settings.because), -1, np.int32)
    times = np.zeros((n, k), np.int32)
    blend = None if context.second is None else no_blend(n, k)
    if len(known):
        served = users.take(known)
        ids[known], scores[known], blended = _model_lists(served, k, context, searcher)
        sources[known] = np.where(ids[known] >= 0, 0, -1)
        if settings.because:
            because[known] = searcher.explain(served, ids[known], settings.because)
        if blend is not None and blended is not None and context.second is not None:
            blend.put(known, blended)
            if settings.because:
                because[known] = context.second.explain(because[known], blended, served.history)
    if len(unknown):
        ids[unknown], scores[unknown], sources[unknown] = popular_lists(
            histories["segment"].take(pa.array(unknown)),
            users.exclude.take(unknown),
            context.popularity,
            context.allowed,
            k,
        )
    if BOUGHT[settings.bought].counts:
        times = RepeatHistory.of(users.history).times_of(ids)
    if context.repurchase is not None and settings.because:
        because = _own_first(because, ids, times, why < 0)
    short, reason = _short(ids, why >= 0, searcher, context, settings)
    counts = {
        "users": {"all": n, "with_list": int((ids[:, :1] >= 0).sum())},
        "source": _counts(sources, schemas.SOURCES),
        "reason": _counts(reason, SHORTFALLS),
        "fallback": _counts(why, _FALLBACK),
    }
    return Lists(
        _table(histories["user_id"], context, ids, scores, sources, times, because, blend),
        _short_table(histories["user_id"], context, short, reason, ids, settings.k),
        counts,
    )


def build_queries(
    histories: pa.Table, vectors: np.ndarray, context: ItemContext, settings: RecommendSettings, as_of: datetime
) -> UserQueries:
    """What :func:`recommend` searches for: the same for one search over all items and for one over a shard."""
    if len(histories) != len(vectors):
        raise ValueError(f"vectors must be as many as histories ({len(histories)}), got {len(vectors)}")
    history = Interactions.from_histories(histories, context.item_ids, as_of)
    return UserQueries(history, vectors, excluded_items(history, settings.bought, context.cooldown))


def fallback_reasons(history: Interactions, known: np.ndarray, min_history: int) -> np.ndarray:
    """Why a user gets popular items, as a number in _FALLBACK, (n_users,) int8; -1 for users of the model.

    known: (n_users,) bool, of ``Searcher.knows``.
    """
    purchases = np.diff(history.indptr)
    why = np.where(known, -1, 2)
    why[purchases < min_history] = 1
    why[(purchases == 0) & (why >= 0)] = 0
    return why.astype(np.int8)


def longest(k: int, n_items: int) -> int:
    """The width of the lists: k, but no list is longer than the catalogue."""
    return min(k, max(n_items, 1))


def _model_lists(
    users: UserQueries, k: int, context: ItemContext, searcher: Searcher
) -> tuple[np.ndarray, np.ndarray, BlendedLists | None]:
    """The searcher's lists by the second stage, or with bought items in the places that their personal part gives them.

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
    )
    return *ranked, None


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
        names = pa.array([None, *context.second.rankers], pa.string())
        values += [pa.array(final, mask=decided < 0), names.take(pa.array(decided.astype(np.int32) + 1))]
    return pa.Table.from_arrays(values, schema=schema)


def _short_table(
    user_ids: pa.ChunkedArray, context: ItemContext, short: np.ndarray, reason: np.ndarray, ids: np.ndarray, wanted: int
) -> pa.Table:
    columns = [
        user_ids.take(pa.array(short)),
        pa.array(np.full(len(short), wanted, np.int32)),
        pa.array((ids[short] >= 0).sum(axis=1).astype(np.int32)),
        pa.array(SHORTFALLS).take(pa.array(reason)),
    ]
    schema = schemas.with_encoder(schemas.short_lists(user_ids.type), context.encoder)
    return pa.Table.from_arrays(columns, schema=schema)
