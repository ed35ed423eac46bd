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
from topkin.linalg.csr import Csr
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
        has_vector = (vectors != 0).any(axis=1)
        if not has_vector.all():
            numbers, vectors = numbers[has_vector], vectors[has_vector]
        return cls(numbers.astype(np.int32), vectors)

    def search(
        self, queries: np.ndarray, exclude: Csr, k: int, engine: Engine = BLAS, allowed: np.ndarray | None = None
    ) -> pa.Table:
        """The k best of these items for each query, see :func:`lists_table`.

        queries: (n, dim) float32. exclude: the items, of all, that each may not get. engine: what multiplies. allowed:
        (n_items,) bool, those of all that these queries may get; all without it.
        """
        allowed = None if allowed is None else allowed[self.numbers]
        if not len(self.numbers):
            none = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
            return lists_table(none, 0)
        ids, scores = top_k(
            queries, self.vectors, k, exclude=self._among_these(exclude), allowed=allowed, engine=engine
        )
        return lists_table((np.where(ids < 0, np.int32(-1), self.numbers[ids]), scores), len(self.numbers))

    def _among_these(self, exclude: Csr) -> Csr:
        """The exclusions among these items, by their place here."""
        place = np.searchsorted(self.numbers, exclude.indices).astype(np.int32)
        inside = self.numbers[np.minimum(place, len(self.numbers) - 1)] == exclude.indices
        return Csr(exclude.indptr, place).keep(inside)


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
    merged = lists_table(merge_top_k([lists_of(table) for table in tables], k), 0).select(["ids", "scores"])
    for name in tables[0].column_names[2:]:  # how many items were offered, to each of several lists
        merged = merged.append_column(name, pa.array(sum(np.asarray(table[name]) for table in tables)))
    return merged
