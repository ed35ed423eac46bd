"""Purchases held in memory, for what is not a prepared folder: split files, tests, notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas
from topkin.interactions import Interactions
from topkin.models.data.histories import PreparedHistories

UNTIMED = datetime(2000, 1, 1)
SPAN_DAYS = 140.0  # so that 28 days of validation are a fifth, the share that public splits hold out


@dataclass(frozen=True)
class InMemoryInteractions(PreparedHistories):
    """Parts of histories as arrays, read in place of files. users: each part's histories, for features."""

    parts: Sequence[Interactions] = field(default=())
    users: Sequence[pa.Table] = field(default=())

    def names(self) -> list[str]:
        """The parts by number."""
        return [f"{number:05d}" for number in range(len(self.parts))]

    def part(self, name: str) -> Interactions:
        """One part, the last ``days`` included."""
        return self.parts[int(name)]

    def user_features(self, name: str) -> pa.Table:
        """As of :class:`PreparedHistories`."""
        if self.users:
            return self.users[int(name)]
        return pa.table({"user_id": pa.nulls(self.parts[int(name)].n_users)})


def without_times(users: np.ndarray, items: np.ndarray, item_ids: pa.Array, *, seed: int) -> InMemoryInteractions:
    """Pairs without times as purchases: each user's spread over ``SPAN_DAYS`` in the order of ids, from a random one.

    So the last days hold out a stretch of ids: where ids were given in some order, such as that of first sight,
    what is held out is no nearer to the rest than what comes later is; where they mean nothing, it is a random
    sample. Nothing that goes by time may be learned from them.
    users, items: (n,) int numbers from 0, users all there. item_ids: (n_items,) ascending.
    """
    rng = np.random.default_rng([seed, 2])
    order = np.lexsort((items, users))
    counts = np.bincount(users, minlength=int(users.max(initial=-1)) + 1)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.arange(len(users)) - starts + np.repeat(rng.integers(0, np.maximum(counts, 1)), counts)
    lengths = np.repeat(counts, counts)
    ages = ((place % lengths + rng.random(len(users))) / lengths * SPAN_DAYS).astype(np.float32)
    users, items = users[order], items[order]
    order = np.lexsort((-ages, users))
    indptr = np.zeros(int(users.max(initial=-1)) + 2, np.int64)
    np.cumsum(np.bincount(users, minlength=len(indptr) - 1), out=indptr[1:])
    ones = np.ones(len(users), np.float32)
    purchases = Interactions(indptr, items[order].astype(np.int32), ages[order], ones, len(item_ids))
    return InMemoryInteractions("", pa.chunked_array([item_ids]), UNTIMED, parts=(purchases,))


def bare_catalogue(purchases: InMemoryInteractions) -> pa.Table:
    """``schemas.catalogue`` of items of which nothing is known but their purchases."""
    n = len(purchases.item_ids)
    events, buyers = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for part in purchases.parts:
        events += np.bincount(part.items, minlength=n)
        buyers += np.bincount(part.distinct().items, minlength=n)
    first = purchases.as_of - np.timedelta64(int(SPAN_DAYS * 86_400), "s").astype(object)
    schema = schemas.catalogue(purchases.item_ids.type)
    columns = {
        "item_id": purchases.item_ids,
        "available": pa.array(np.ones(n, bool)),
        "events": pa.array(events),
        "users": pa.array(buyers),
        "recent": pa.array(np.zeros(n, np.int64)),
        "first_sale": pa.array([first] * n, schema.field("first_sale").type),
        "last_sale": pa.array([purchases.as_of] * n, schema.field("last_sale").type),
    }
    return pa.table({f.name: columns.get(f.name, pa.nulls(n, f.type)) for f in schema}, schema)
