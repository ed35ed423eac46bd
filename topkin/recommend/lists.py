"""The lists of a part of the users: the best items that the rules leave, and why they are there.

A user whose history is usable gets the model's items and no others: a list that the rules make short stays
short, and the reason is told. Where bought items are kept or boosted, the user's own ones have a personal part
beside the score (``topkin.recommend.repurchase``). A user without a usable history gets what sells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.encoding.blocks import Block, factors
from topkin.interactions import Interactions
from topkin.recommend.eligibility import Exclusions, excluded_items
from topkin.recommend.explain import explain
from topkin.recommend.popular_fallback import SegmentPopularity, popular_lists
from topkin.recommend.repurchase import RepeatHistory, Repurchase
from topkin.recommend.searchers import BaselineSearch, Search

FEW_ITEMS = "the catalogue has fewer items than k"
FEW_ALLOWED = "availability, allow-list and deny-list leave fewer items than k"
FEW_VECTORS = "of the items that may be listed, fewer than k have a vector"
FEW_SOLD = "of the items that may be listed, fewer than k were ever sold"
FEW_UNBOUGHT = "without the items that the user bought, fewer than k are left"
FEW_COOL = "without the items that the user bought within their cool-down, fewer than k are left"
SHORTFALLS = (FEW_ITEMS, FEW_ALLOWED, FEW_VECTORS, FEW_SOLD, FEW_UNBOUGHT, FEW_COOL)

NO_PURCHASES = "no purchases"
FEW_PURCHASES = "fewer purchases than recommend.min_history"
NO_VECTOR = "no vector: the encoder knows none of the items bought"


class Rows(Protocol):
    """Vectors by item number."""

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray:
        """The rows of ascending item numbers, (n, dim) float32."""


@dataclass(frozen=True, kw_only=True)
class ItemContext:
    """All that recommending knows of the items, loaded once a worker.

    item_ids: (n_items,). in_vectors, vectors: (n_items, dim) float32, or what looks rows up by item number, as
    ``embeddings.StoredRows`` does. buyers: (n_items,) distinct buyers.
    allowed: (n_items,) bool, see ``policy.allowed_items``. cooldown: (n_items,) float32 days.
    blocks, history_length: how the encoder pooled the histories. encoder: its hash.
    repurchase: how bought items are ranked where they are kept or boosted; by the model alone without it.
    """

    item_ids: pa.Array
    vectors: Rows
    in_vectors: Rows
    buyers: np.ndarray
    allowed: np.ndarray
    cooldown: np.ndarray
    popularity: SegmentPopularity
    blocks: Sequence[Block]
    history_length: int
    encoder: str
    repurchase: Repurchase | None = None


class Lists(NamedTuple):
    """Of a part of the users: the rows of both tables, and counts by kind and name."""

    recommendations: pa.Table
    short_lists: pa.Table
    counts: Mapping[str, Mapping[str, int]]


def recommend(
    histories: pa.Table,
    vectors: np.ndarray,
    shelf: ItemContext,
    search: Search,
    settings: RecommendSettings,
    as_of: datetime,
) -> Lists:
    """The lists of some users, in their order.

    histories: ``schemas.histories``. vectors: (n_users, dim) float32, theirs; zero for a user of whom the model
    knows nothing. Raises ValueError where the two do not fit or a vector is not finite.
    """
    history, exclude, why = build_queries(histories, vectors, shelf.item_ids, shelf.cooldown, settings, as_of)
    known, unknown = np.flatnonzero(why < 0), np.flatnonzero(why >= 0)
    n, k = len(histories), longest(settings.k, len(shelf.item_ids))
    ids, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
    sources = np.full((n, k), -1, np.int8)
    if len(known):
        theirs = history.take(known)
        ids[known], scores[known] = search.search(
            vectors[known], k, history=theirs, exclude=take(exclude, known), allowed=shelf.allowed
        )
        if shelf.repurchase is not None:
            ids[known], scores[known] = shelf.repurchase.ranked(
                ids[known],
                scores[known],
                history=theirs,
                queries=vectors[known],
                vectors=shelf.vectors,
                allowed=shelf.allowed,
            )
        sources[known] = np.where(ids[known] >= 0, 0, -1)
    if len(unknown):
        ids[unknown], scores[unknown], sources[unknown] = popular_lists(
            histories["segment"].take(pa.array(unknown)), take(exclude, unknown), shelf.popularity, shelf.allowed, k
        )
    because = np.full((n, k, 0), -1, np.int32)
    if settings.because and len(known) and isinstance(search, BaselineSearch):
        because = np.full((n, k, settings.because), -1, np.int32)
        because[known] = search.reasons(theirs, ids[known], settings.because)
    elif settings.because and len(known):
        because = np.full((n, k, settings.because), -1, np.int32)
        pooled = theirs.distinct().latest(shelf.history_length)
        named, bought, listed = _named(pooled.items, ids[known], len(shelf.item_ids))
        pooled, in_vectors = replace(pooled, items=bought, n_items=len(named)), shelf.in_vectors[named]
        weights = factors(pooled, in_vectors, shelf.buyers[named], shelf.blocks)
        places, _ = explain(pooled, weights, shelf.blocks, in_vectors, shelf.vectors[named], listed, settings.because)
        because[known] = np.where(places < 0, np.int32(-1), named[places])
    times = np.zeros((n, k), np.int32) if settings.bought == "exclude" else RepeatHistory.of(history).times_of(ids)
    if shelf.repurchase is not None and settings.because and len(known):
        because = _own_first(because, ids, times, why < 0)
    short, reason = _short(ids, why >= 0, search.n_candidates(shelf.allowed), shelf, settings)
    counts = {
        "users": {"all": n, "with_list": int((ids[:, :1] >= 0).sum())},
        "source": {name: int((sources == number).sum()) for number, name in enumerate(schemas.SOURCES)},
        "reason": {name: int((reason == number).sum()) for number, name in enumerate(SHORTFALLS)},
        "fallback": {name: int((why == number).sum()) for number, name in enumerate(_FALLBACK)},
    }
    return Lists(
        _table(histories["user_id"], shelf, ids, scores, sources, times, because),
        _short_table(histories["user_id"], shelf, short, reason, ids, settings.k),
        counts,
    )


class UserQueries(NamedTuple):
    """What the search for some users is given: their purchases, what they may not get, and why not the model's items.

    why: (n_users,) int8, a number in _FALLBACK; -1 for a user who gets the model's items.
    """

    history: Interactions
    exclude: Exclusions
    why: np.ndarray


def build_queries(
    histories: pa.Table,
    vectors: np.ndarray,
    item_ids: pa.Array,
    cooldown: np.ndarray,
    settings: RecommendSettings,
    as_of: datetime,
) -> UserQueries:
    """What :func:`recommend` searches for: the same for one search over all items and for one over a shard."""
    if len(histories) != len(vectors):
        raise ValueError(f"vectors must be as many as histories ({len(histories)}), got {len(vectors)}")
    history = Interactions.from_histories(histories, item_ids, as_of)
    exclude = excluded_items(history, settings.bought, cooldown)
    return UserQueries(history, exclude, _why_fallback(history, vectors, settings.min_history))


def longest(k: int, n_items: int) -> int:
    """The width of the lists: k, but no list is longer than the catalogue."""
    return min(k, max(n_items, 1))


def _named(bought: np.ndarray, lists: np.ndarray, n_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The items that reasons are about, ascending, and both arrays with their places among these for numbers.

    bought: (m,) int32. lists: (n, k) int32 padded -1. Only the named items' vectors are then looked up.
    """
    place = np.zeros(n_items + 1, np.int32)  # the last one is the padding's
    place[bought] = place[lists] = 1
    place[-1] = 0
    named = np.flatnonzero(place).astype(np.int32)
    place[named] = np.arange(len(named))
    place[-1] = -1
    return named, place[bought], place[lists]


def _own_first(because: np.ndarray, ids: np.ndarray, times: np.ndarray, of_model: np.ndarray) -> np.ndarray:
    """The reasons, (n, k, most) int32, with an item that the user bought itself as its only reason."""
    own = (times > 0) & of_model[:, None]
    because = np.where(own[:, :, None], np.int32(-1), because)
    because[:, :, 0] = np.where(own, ids, because[:, :, 0])
    return because


_FALLBACK = (NO_PURCHASES, FEW_PURCHASES, NO_VECTOR)


def _why_fallback(history: Interactions, vectors: np.ndarray, min_history: int) -> np.ndarray:
    """Why a user gets popular items, as a number in _FALLBACK, (n_users,) int8; -1 for users of the model."""
    bought = np.diff(history.indptr)
    why = np.where((vectors != 0).any(axis=1), -1, 2)
    why[bought < min_history] = 1
    why[bought == 0] = 0
    return why.astype(np.int8)


def take(exclude: Exclusions, rows: np.ndarray) -> Exclusions:
    """The exclusions of some users."""
    indptr, items = exclude
    lengths = np.diff(indptr)[rows]
    taken = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=taken[1:])
    at = np.arange(taken[-1]) - np.repeat(taken[:-1], lengths) + np.repeat(indptr[:-1][rows], lengths)
    return taken, items[at]


def _short(
    ids: np.ndarray, fallback: np.ndarray, offered: int, shelf: ItemContext, settings: RecommendSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The users with fewer than k items, ascending, and the first rule that left too few, as a number in REASONS.

    offered: how many of the allowed items the model can list.
    """
    k = settings.k
    short = np.flatnonzero(ids[:, -1] < 0) if ids.shape[1] == k else np.arange(len(ids))
    if len(shelf.allowed) < k:
        return short, np.full(len(short), SHORTFALLS.index(FEW_ITEMS))
    if shelf.allowed.sum() < k:
        return short, np.full(len(short), SHORTFALLS.index(FEW_ALLOWED))
    own = SHORTFALLS.index(FEW_COOL if settings.bought == "cooldown" else FEW_UNBOUGHT)
    sold = (shelf.popularity.events > 0) | (shelf.popularity.recent > 0)
    few = FEW_VECTORS if settings.model == "encoder" else FEW_SOLD
    of_model = own if offered >= k else SHORTFALLS.index(few)
    of_popular = own if (shelf.allowed & sold).sum() >= k else SHORTFALLS.index(FEW_SOLD)
    return short, np.where(fallback[short], of_popular, of_model)


def _table(
    user_ids: pa.ChunkedArray,
    shelf: ItemContext,
    ids: np.ndarray,
    scores: np.ndarray,
    sources: np.ndarray,
    times: np.ndarray,
    because: np.ndarray,
) -> pa.Table:
    schema = schemas.with_encoder(schemas.recommendations(user_ids.type, shelf.item_ids.type), shelf.encoder)
    row, column = np.nonzero(ids >= 0)
    named = because[row, column]
    offsets = np.zeros(len(row) + 1, np.int32)
    np.cumsum((named >= 0).sum(axis=1), out=offsets[1:])
    columns = [
        user_ids.take(pa.array(row)),
        pa.array((column + 1).astype(np.int32)),
        shelf.item_ids.take(pa.array(ids[row, column])),
        pa.array(scores[row, column]),
        pa.array(schemas.SOURCES).take(pa.array(sources[row, column])),
        pa.array(times[row, column]),
        pa.ListArray.from_arrays(pa.array(offsets), shelf.item_ids.take(pa.array(named[named >= 0]))),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _short_table(
    user_ids: pa.ChunkedArray, shelf: ItemContext, short: np.ndarray, reason: np.ndarray, ids: np.ndarray, wanted: int
) -> pa.Table:
    columns = [
        user_ids.take(pa.array(short)),
        pa.array(np.full(len(short), wanted, np.int32)),
        pa.array((ids[short] >= 0).sum(axis=1).astype(np.int32)),
        pa.array(SHORTFALLS).take(pa.array(reason)),
    ]
    schema = schemas.with_encoder(schemas.short_lists(user_ids.type), shelf.encoder)
    return pa.Table.from_arrays(columns, schema=schema)
