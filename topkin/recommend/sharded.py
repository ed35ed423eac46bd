"""A catalogue too large for one worker: its vectors read in pieces, searched piece by piece, the lists merged.

A shard is a run of the item table's rows, loaded for a search; the reasons look up the rows of the items that
they name (``embeddings.StoredItems``). Lists of shards merge by ``topk.merge_top_k`` into the lists of
one search over all items, to the last bit, in whatever order and grouping the shards come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topkin.artifacts.embeddings import StoredItems
from topkin.interactions import Interactions
from topkin.recommend.eligibility import Exclusions
from topkin.recommend.lists import UserQueries, take
from topkin.search.kernels import BLAS, Engine
from topkin.search.topk import TopK, merge_top_k, top_k


def shard_bounds(n_items: int, shards: int) -> np.ndarray:
    """The first row of each shard, then the one after the last: (shards + 1,) int64."""
    return np.arange(shards + 1, dtype=np.int64) * n_items // shards


@dataclass(frozen=True)
class Shard:
    """The items of a run of rows that may be listed. numbers: (m,) int32 ascending. vectors: (m, dim) float32."""

    numbers: np.ndarray
    vectors: np.ndarray

    @classmethod
    def load(cls, items: StoredItems, first: int, end: int, allowed: np.ndarray) -> "Shard":
        """From the rows ``first`` to ``end``, those that are allowed, (n_items,) bool, and have a vector."""
        numbers = first + np.flatnonzero(allowed[first:end])
        vectors = items.read("vector", numbers)
        found = (vectors != 0).any(axis=1)
        if not found.all():
            numbers, vectors = numbers[found], vectors[found]
        return cls(numbers.astype(np.int32), vectors)

    def search(self, asked: UserQueries, vectors: np.ndarray, k: int, engine: Engine = BLAS) -> pa.Table:
        """The k best of these items for each user of ``asked`` who gets the model's, see :func:`lists_table`.

        vectors: (n_users, dim) float32, of all users of ``asked``. engine: what multiplies.
        """
        known = np.flatnonzero(asked.why < 0)
        if not len(self.numbers):
            none = np.full((len(known), k), -1, np.int32), np.full((len(known), k), -np.inf, np.float32)
            return lists_table(none, 0)
        exclude = self._exclude(take(asked.exclude, known))
        ids, scores = top_k(vectors[known], self.vectors, k, exclude=exclude, engine=engine)
        return lists_table((np.where(ids < 0, np.int32(-1), self.numbers[ids]), scores), len(self.numbers))

    def _exclude(self, exclude: Exclusions) -> Exclusions:
        """The exclusions among these items, by their place here."""
        indptr, items = exclude
        place = np.searchsorted(self.numbers, items)
        here = self.numbers[np.minimum(place, len(self.numbers) - 1)] == items
        return np.concatenate([[0], np.cumsum(here)])[indptr], place[here].astype(np.int32)


def lists_table(lists: TopK, offered: int) -> pa.Table:
    """Lists as they travel: a row a user, ids and scores (k each), and from how many items they were chosen."""
    ids, scores = lists
    k = ids.shape[1]
    columns = {
        "ids": pa.FixedSizeListArray.from_arrays(pa.array(ids.reshape(-1)), k),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1)), k),
        "offered": pa.array(np.full(len(ids), offered, np.int64)),
    }
    return pa.table(columns)


def lists_of(table: pa.Table) -> TopK:
    """The ids, (n, k) int32 padded -1, and scores, (n, k) float32 padded -inf, of a :func:`lists_table`."""
    k = table.schema.field("ids").type.list_size
    ids, scores = (np.asarray(table[name].combine_chunks().flatten()).reshape(-1, k) for name in ("ids", "scores"))
    return ids, scores


def merge_lists(tables: Sequence[pa.Table]) -> pa.Table:
    """One table out of tables over disjoint items, for the same users; a table without columns adds nothing."""
    tables = [table for table in tables if table.num_columns]
    if len(tables) < 2:
        return tables[0] if tables else pa.table({})
    k = tables[0].schema.field("ids").type.list_size
    merged = lists_table(merge_top_k([lists_of(table) for table in tables], k), 0)
    offered = sum(np.asarray(table["offered"]) for table in tables)
    return merged.set_column(2, "offered", pa.array(offered))


class MergedSearch:
    """A ``search.Search`` that hands out what the shards found. table: :func:`lists_table` of all shards merged."""

    def __init__(self, table: pa.Table) -> None:
        self.lists = lists_of(table)
        self._offered = int(table["offered"][0].as_py()) if len(table) else 0

    def n_candidates(self, allowed: np.ndarray) -> int:
        """See ``search.Search``; 0 where no user was searched for."""
        return self._offered

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exclude: Exclusions,
        allowed: np.ndarray,
        history: Interactions | None = None,
    ) -> TopK:
        """What was found for these queries under these rules. Raises ValueError where it was for others."""
        if self.lists[0].shape != (len(queries), k):
            raise ValueError(f"lists must be ({len(queries)}, {k}), the shards gave {self.lists[0].shape}")
        return self.lists
