"""How often users buy items again: of each user's own items, and of each item over all users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.interactions import Interactions
from topkin.linalg.csr import indptr_of

FILE = "repurchase.parquet"
RECENT_DAYS = 14.0
TRUST = 2.0
"""Buyers, or intervals, of its own at which an item counts as much as what is known more widely."""
MINUTES_A_DAY = 1440.0

COUNTS = pa.schema(
    [
        pa.field("item", pa.int32(), False),  # row in the catalogue
        pa.field("buyers", pa.int64(), False),  # distinct
        pa.field("again", pa.int64(), False),  # those of them who bought it at two moments or more
        pa.field("lately", pa.int64(), False),  # those of them who bought it in the last RECENT_DAYS
        pa.field("intervals", pa.int64(), False),  # between two purchases of one user that follow each other
        pa.field("minutes", pa.int64(), False),  # the sum of these intervals
    ]
)
"""What all users together tell of each item's repurchase, in whole numbers: sums are the same in any order."""


@dataclass(frozen=True)
class RepeatHistory:
    """Users' own items, CSR by user, items ascending within a user.

    indptr: (n_users + 1,) int64. items: (n,) int32. times: (n,) int64, distinct moments of purchase. last: (n,)
    float64 days from the latest to the as-of date. span: (n,) float64 days from the first to the latest.
    """

    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray
    last: np.ndarray
    span: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """The user row of each own item, (n,) int64."""
        return np.repeat(np.arange(len(self.indptr) - 1, dtype=np.int64), np.diff(self.indptr))

    @classmethod
    def of(cls, history: Interactions) -> "RepeatHistory":
        """From purchases."""
        users, ages = history.users, history.ages.astype(np.float64)
        order = np.lexsort((ages, users.astype(np.int64) * history.n_items + history.items))
        u, i, a = users[order], history.items[order], ages[order]
        first = np.ones(len(order), bool)
        first[1:] = (u[1:] != u[:-1]) | (i[1:] != i[:-1])
        moment = first.copy()
        moment[1:] |= a[1:] != a[:-1]
        starts = np.flatnonzero(first)
        ends = np.append(starts[1:], len(order))[: len(starts)] - 1
        times = np.add.reduceat(moment.astype(np.int64), starts) if len(starts) else np.zeros(0, np.int64)
        indptr = indptr_of(np.bincount(u[starts], minlength=history.n_users))
        return cls(indptr, i[starts], times, a[starts], a[ends] - a[starts])

    def places_of(self, ids: np.ndarray) -> np.ndarray:
        """Where each listed item is among the own items, (n_users, k) int64; -1 where it is not.

        ids: (n_users, k) int32 padded -1.
        """
        width = int(max(self.items.max(initial=0), ids.max(initial=0))) + 1
        keys = self.users * width + self.items
        asked = (np.arange(len(ids))[:, None] * width + ids).ravel()
        if not len(keys):
            return np.full(ids.shape, -1, np.int64)
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        bought = (keys[at] == asked) & (ids.ravel() >= 0)
        return np.where(bought, at, -1).reshape(ids.shape)

    def times_of(self, ids: np.ndarray) -> np.ndarray:
        """How often each user bought each listed item, (n_users, k) int32. ids: (n_users, k) int32 padded -1."""
        places = self.places_of(ids)
        return np.where(places < 0, 0, np.append(self.times, 0)[places]).astype(np.int32)


def counts_of(history: Interactions) -> pa.Table:
    """COUNTS of some users, one row per item bought, ascending."""
    own, n = RepeatHistory.of(history), history.n_items
    minutes = np.zeros(n, np.int64)
    np.add.at(minutes, own.items, np.rint(own.span * MINUTES_A_DAY).astype(np.int64))
    intervals = np.zeros(n, np.int64)
    np.add.at(intervals, own.items, own.times - 1)
    buyers = np.bincount(own.items, minlength=n)
    again = np.bincount(own.items[own.times > 1], minlength=n)
    lately = np.bincount(own.items[own.last <= RECENT_DAYS], minlength=n)
    bought = np.flatnonzero(buyers)
    columns = [a[bought] for a in (buyers, again, lately, intervals, minutes)]
    return pa.table([bought.astype(np.int32), *columns], schema=COUNTS)


def merge_counts(tables: Sequence[pa.Table]) -> pa.Table:
    """The sum of tables of COUNTS, in any order and grouping."""
    names = COUNTS.names[1:]
    whole = pa.concat_tables([COUNTS.empty_table(), *tables])
    summed = whole.group_by("item", use_threads=False).aggregate([(name, "sum") for name in names])
    table = summed.rename_columns({f"{name}_sum": name for name in names}).select(COUNTS.names)
    return table.cast(COUNTS).sort_by("item")


@dataclass(frozen=True)
class RepurchaseRates:
    """What is typical of each item, (n_items,) float64 each.

    repeat: share of its buyers who bought it again. lately: share who bought it in the last RECENT_DAYS.
    interval: days from a purchase to the next; NaN where nobody bought anything twice.
    """

    repeat: np.ndarray
    lately: np.ndarray
    interval: np.ndarray

    @classmethod
    def of(
        cls, counts: pa.Table, n_items: int, categories: pa.Array | pa.ChunkedArray | None = None
    ) -> "RepurchaseRates":
        """From COUNTS of all users; an item of which little is known is like its category, a category like the shop.

        The mean of what is typical more widely counts as TRUST observations of the item's own, which is the mean of
        a Gamma posterior whose prior has TRUST observations. categories: (n_items,) string with nulls.
        """
        buyers, again, lately, intervals, minutes = (
            np.bincount(np.asarray(counts["item"]), weights=np.asarray(counts[name]), minlength=n_items)
            for name in COUNTS.names[1:]
        )
        share = (again.sum() + 1) / (buyers.sum() + 2)  # never 0: a part of 0 could not be told from none
        group = np.zeros(n_items, np.int64)
        if categories is not None:
            words = categories.combine_chunks() if isinstance(categories, pa.ChunkedArray) else categories
            group = np.asarray(pc.fill_null(words.dictionary_encode().indices, -1)).astype(np.int64) + 1
        days = minutes / MINUTES_A_DAY
        typical = days.sum() / intervals.sum() if intervals.sum() else np.nan
        in_group = np.bincount(group, weights=days), np.bincount(group, weights=intervals)
        of_group = ((in_group[0] + TRUST * typical) / (in_group[1] + TRUST))[group]
        return cls(
            repeat=(again + TRUST * share) / (buyers + TRUST),
            lately=(lately + 1) / (buyers + 5),
            interval=(days + TRUST * of_group) / (intervals + TRUST),
        )
