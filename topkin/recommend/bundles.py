"""Items that are bought together: pairs in one basket more often than by chance.

A basket is what a user bought at one moment. The lift of a pair is the share of baskets that have both over the product
of the shares that have either; its logarithm is their pointwise mutual information (Brin et al., Dynamic itemset
counting and implication rules for market basket data, SIGMOD 1997; Church and Hanks, Word association norms, 1990).
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from topkin.artifacts import schemas
from topkin.interactions import encode_ids
from topkin.linalg.csr import Csr

MOST = 200
"""Distinct items of a basket; one with more is no choice of things that go together, and is left out."""


class PairCounts(NamedTuple):
    """Of some baskets: how many, how many have each item, (n_items,) int64, and each pair, (n_items, n_items) CSR."""

    baskets: int
    items: np.ndarray
    pairs: sp.csr_matrix

    def lists(self, allowed: np.ndarray, k: int, min_support: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k items of highest lift of each item, as rows: (item, other) int32, baskets int32 and lift float32.

        Ties go to the pair in more baskets, then to the lower number. Rows are by item, best first.

        Args:
            allowed: (n_items,) bool, those that may be listed.
            k: Items per item.
            min_support: Baskets that a pair is in, at least.
        """
        pairs = self.pairs.tocoo()
        some = (pairs.row != pairs.col) & (pairs.data >= min_support) & allowed[pairs.col]
        item, other, support = (values[some].astype(np.int64) for values in (pairs.row, pairs.col, pairs.data))
        lift = support * self.baskets / (self.items[item] * self.items[other])
        order = np.lexsort((other, -support, -lift, item))
        item, other, support, lift = (values[order] for values in (item, other, support, lift))
        rank = np.arange(len(item)) - np.searchsorted(item, item)
        best = rank < k
        both = np.stack([item[best], other[best]], axis=1).astype(np.int32)
        return both, support[best].astype(np.int32), lift[best].astype(np.float32)


def baskets_of(histories: pa.Table, item_ids: pa.Array | pa.ChunkedArray) -> Csr:
    """The distinct items of each basket, by user and time. histories: ``schemas.histories``."""
    user = np.asarray(pc.list_parent_indices(histories["items"]))
    time = np.asarray(pc.list_flatten(histories["times"]).cast(pa.int64()))
    items = encode_ids(pc.list_flatten(histories["items"]), item_ids)
    new = np.concatenate([[True], (user[1:] != user[:-1]) | (time[1:] != time[:-1])])[: len(user)]
    return Csr.of_pairs(np.cumsum(new) - 1, items, int(new.sum()), len(item_ids))


def count_pairs(baskets: Iterable[Csr], n_items: int) -> PairCounts:
    """Of baskets in parts, in any order and grouping."""
    number, items, pairs = 0, np.zeros(n_items, np.int64), sp.csr_matrix((n_items, n_items), dtype=np.int64)
    for part in baskets:
        part = part.take(np.flatnonzero(part.lengths <= MOST))
        held = sp.csr_matrix((np.ones(len(part.indices), np.int64), part.indices, part.indptr), (part.n_rows, n_items))
        number += part.n_rows
        items += np.bincount(part.indices, minlength=n_items)
        pairs = pairs + (held.T @ held).tocsr()
    return PairCounts(number, items, pairs)


def bundles_table(counts: PairCounts, item_ids: pa.Array, allowed: np.ndarray, k: int, min_support: int) -> pa.Table:
    """``schemas.bundles`` of all items."""
    both, support, lift = counts.lists(allowed, k, min_support)
    rank = np.arange(len(both)) - np.searchsorted(both[:, 0], both[:, 0]) + 1
    item, other = (item_ids.take(pa.array(column)) for column in both.T)
    values = [item, pa.array(rank.astype(np.int32)), other, pa.array(support), pa.array(lift)]
    return pa.Table.from_arrays(values, schema=schemas.bundles(item_ids.type))
