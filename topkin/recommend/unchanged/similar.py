"""Neighbours where the night before is known: only who changed is compared with everybody again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.config.shop.similar import SimilarSettings
from topkin.interactions import Interactions
from topkin.recommend.similar import (
    bought_by_neighbours,
    bought_table,
    nearest,
    nearest_users,
    users_of,
    users_table,
)
from topkin.recommend.unchanged.carry import search_again
from topkin.recommend.unchanged.rows import OldLists, column_at, numbers_of
from topkin.search.topk import TopK

Blocks = Callable[[], Iterable[tuple[int, np.ndarray]]]
Tables = Callable[[], Iterable[tuple[int, pa.Table]]]


@dataclass(frozen=True)
class NeighbourCandidates:
    """Who can be a neighbour: ids in the order of their numbers, and who is what it was, (n,) bool.

    changed: (m,) ascending numbers of the others that may be neighbours; vectors: (m, dim) float32, theirs.
    """

    ids: pa.Array
    same: np.ndarray
    changed: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(
        cls, ids: pa.Array, same: np.ndarray, vectors: np.ndarray, may: np.ndarray | None = None
    ) -> "NeighbourCandidates":
        """From all vectors in memory. may: (n,) bool, who may be a neighbour."""
        changed = np.flatnonzero(~same if may is None else ~same & may)
        return cls(ids, same, changed, vectors[changed])

    def fresh(self, vectors: np.ndarray, k: int) -> TopK:
        """The k best of those that changed, for queries that did not."""
        known = (self.vectors != 0).any(axis=1)
        ids, scores = nearest(vectors, self.vectors, np.full(len(vectors), -1), known, k)
        return np.where(ids < 0, np.int32(-1), self.changed.astype(np.int32)[ids] if len(self.changed) else ids), scores


def similar_items_again(
    vectors: np.ndarray, rows: np.ndarray, items: NeighbourCandidates, allowed: np.ndarray, before: pa.Table, k: int
) -> TopK:
    """``similar.similar_items`` of some rows, most from the table of the night before.

    items: of which one is the same whose vector and leave to be listed are.
    """
    known = (vectors != 0).any(axis=1)
    numbers = numbers_of(before["neighbour_id"], items.ids, items.same & allowed)
    old = OldLists.of(before, items.ids.take(pa.array(rows)), numbers, k)
    return search_again(
        items.same[rows],
        (old.ids, old.scores),
        lambda some: items.fresh(vectors[rows[some]], k),
        lambda some: nearest(vectors[rows[some]], vectors, rows[some], allowed & known, k),
        k,
    )


def similar_part_again(
    histories: pa.Table,
    vectors: np.ndarray,
    first: int,
    users: NeighbourCandidates,
    before: tuple[pa.Table, pa.Table],
    *,
    same_rules: bool,
    blocks: Blocks,
    tables: Tables,
    item_ids: pa.Array,
    allowed: np.ndarray,
    as_of: datetime,
    settings: SimilarSettings,
    encoder: str,
) -> tuple[pa.Table, pa.Table]:
    """``similar.similar_part``, most from the tables of the night before.

    users: of which one is the same whose vector and history are. before: the part's tables of neighbours and of what
    they bought. same_rules: whether every item that was bought may be listed where it might be before.
    """
    k, own = settings.users, np.arange(first, first + len(histories))
    same, owners = users.same[own], users.ids.take(pa.array(own))
    old = OldLists.of(before[0], owners, numbers_of(before[0]["neighbour_id"], users.ids, users.same), k)
    neighbours = search_again(
        same,
        (old.ids, old.scores),
        lambda some: users.fresh(vectors[some], k),
        lambda some: nearest_users(vectors[some], own[some], blocks(), k),
        k,
    )
    ids, scores, support, redo = _bought_before(before[1], owners, item_ids, max(settings.bought, 1))
    lost = (old.ids < 0) & np.isfinite(old.scores)  # a neighbour that changed or is gone
    redo |= ~same | (lost | (neighbours[0] != old.ids)).any(axis=1) | (not same_rules)
    rows = np.flatnonzero(redo)
    near = np.unique(neighbours[0][rows])
    near = near[near >= 0]
    theirs = users_of(near, tables())
    ids[rows], scores[rows], support[rows] = bought_by_neighbours(
        np.where(neighbours[0][rows] < 0, -1, np.searchsorted(near, neighbours[0][rows])).astype(np.int32),
        neighbours[1][rows],
        Interactions.from_histories(theirs, item_ids, as_of),
        Interactions.from_histories(histories.take(pa.array(rows)), item_ids, as_of),
        allowed,
        max(settings.bought, 1),
        settings.min_support,
    )
    table = users_table(histories["user_id"], users.ids, neighbours, encoder)
    bought = bought_table(histories["user_id"], item_ids, (ids, support, scores), encoder)
    return table, bought if settings.bought else bought.slice(0, 0)


def _bought_before(
    table: pa.Table, owners: pa.Array, item_ids: pa.Array, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the table says: ids, scores, support, (n, k) each, and (n,) bool, the rows with an item that is gone."""
    numbers = numbers_of(table["item_id"], item_ids)
    old = OldLists.of(table, owners, numbers, k)
    gone = ((old.ids < 0) & np.isfinite(old.scores)).any(axis=1)
    return old.ids, old.scores, column_at(table["support"], old.row), gone
