"""Purchases without times: what orders them, and the times that stand for positions.

A user's purchases are ordered by a number or by where their rows stood; those that are equal in it are one basket, a
position. Counted from a user's last, position p lies p + 1/2 days before the as-of date, so that ages are positions.
"""

from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids, schemas
from topkin.ingest.files import FILE, ROW

ORDER, ORDER_REST = "__order", "__order_rest"
"""The number that orders a purchase as float64, and what int64 holds beyond it."""

COLUMN_ORDER = schemas.schema(**{ORDER: pa.float64(), ORDER_REST: pa.int64()})
ROW_ORDER = schemas.schema(**{FILE: pa.string(), ROW: pa.int64()})
"""The columns that order purchases: by a column, or by file and row."""

_EXACT, _BITS = 2.0**53, 11
DAY_US = 86_400_000_000
MOST = 36_000
"""Positions of a user that are told apart; all before them are one."""


class OrderKeys(NamedTuple):
    """Numbers of any type that sort as they are: (n,) float64 and (n,) int64; not finite where there is none."""

    number: np.ndarray
    rest: np.ndarray


def order_keys(values: pa.ChunkedArray) -> OrderKeys:
    """The keys of a column of numbers, which sort alike whatever the type; null ones are not finite.

    No digit of a whole number is lost: from 2**53 on its last bits are the rest.
    """
    numbers = ids.decoded(values)
    if pa.types.is_decimal(numbers.type) and numbers.type.scale == 0:
        with suppress(pa.ArrowInvalid):  # above the largest int64
            numbers = numbers.cast(pa.int64())
    wide = np.asarray(pc.fill_null(numbers.cast(pa.float64(), safe=False), np.nan)).astype(np.float64)
    rest = np.zeros(len(wide), np.int64)
    large = np.abs(wide) >= _EXACT
    if pa.types.is_integer(numbers.type):
        exact = np.asarray(pc.fill_null(numbers, 0))[large]
        wide[large], rest[large] = (exact >> _BITS << _BITS).astype(np.float64), exact & ((1 << _BITS) - 1)
    else:
        large &= np.isfinite(wide)
        high = np.floor(wide[large] / (1 << _BITS)) * (1 << _BITS)
        wide[large], rest[large] = high, (wide[large] - high).astype(np.int64)
    return OrderKeys(wide, rest)


def _ranks(rows: pa.Table) -> np.ndarray:
    """The rank of each row's place among the distinct ones, (n,) int64: equal ones are one position."""
    if ORDER in rows.column_names:
        keys = [np.asarray(rows[ORDER_REST]), np.asarray(rows[ORDER])]
    else:
        files = rows[FILE].combine_chunks().dictionary_encode()
        files = files.combine_chunks() if isinstance(files, pa.ChunkedArray) else files
        rank = np.empty(len(files.dictionary), np.int64)
        rank[np.asarray(pc.sort_indices(files.dictionary))] = np.arange(len(rank))
        keys = [np.asarray(rows[ROW]), rank[np.asarray(files.indices)]]
    order = np.lexsort(keys)
    new = np.zeros(len(order), np.int64)
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(new)
    return ranks


def positions(rows: pa.Table) -> np.ndarray:
    """How many positions of its user come after each row's, (n,) int64, at most ``MOST``.

    rows: user_id, and the columns of ``COLUMN_ORDER`` or ``ROW_ORDER``; in any order.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    users = np.asarray(pc.rank(rows["user_id"], tiebreaker="dense")).astype(np.int64)
    ranks = _ranks(rows)
    order = np.lexsort((-ranks, users))
    u, r = users[order], ranks[order]
    same_user = u[1:] == u[:-1]
    step = np.concatenate([[0], same_user & (r[1:] != r[:-1])])
    place = np.cumsum(step)
    starts = np.concatenate([[True], ~same_user])
    place -= np.maximum.accumulate(np.where(starts, place, 0))
    places = np.empty(len(order), np.int64)
    places[order] = np.minimum(place, MOST)
    return places


def with_times(rows: pa.Table, as_of: datetime, *, after: bool = False) -> pa.Table:
    """Accepted purchases with the times that stand for their positions, without the columns that ordered them.

    as_of: naive UTC; the last position of each user lies half a day before it. after: the first lies half a day after
    it instead.
    """
    places = positions(rows)
    if after:
        users = np.asarray(pc.rank(rows["user_id"], tiebreaker="dense")) if len(rows) else np.zeros(0, np.int64)
        deepest = np.zeros(int(users.max(initial=0)) + 1, np.int64)
        np.maximum.at(deepest, users, places)
        places = places - deepest[users] - 1
    now = np.datetime64(as_of, "us").astype(np.int64)
    times = pa.array(now - places * DAY_US - DAY_US // 2).view(schemas.TIME)
    at = rows.schema.get_field_index("timestamp")
    rows = rows.set_column(at, rows.schema.field("timestamp"), times)
    return rows.drop_columns([c for c in (ORDER, ORDER_REST, FILE, ROW) if c in rows.column_names])


def hold_out_last_position(before: pa.Table, heldout: pa.Table, as_of: datetime) -> tuple[pa.Table, pa.Table]:
    """What ``splits.hold_out_last`` parted, both with the times of their positions again.

    The last one known is half a day before the as-of date, as if what is held out had not been; that is half a day
    after it.
    """
    shifted = pc.is_in(before["user_id"], value_set=heldout["user_id"].combine_chunks())
    times = np.asarray(before["timestamp"].cast(pa.int64())) + np.asarray(shifted).astype(np.int64) * DAY_US
    at = before.schema.get_field_index("timestamp")
    before = before.set_column(at, before.schema.field(at), pa.array(times).view(schemas.TIME))
    later = np.full(len(heldout), np.datetime64(as_of, "us").astype(np.int64) + DAY_US // 2)
    heldout = heldout.set_column(at, heldout.schema.field(at), pa.array(later).view(schemas.TIME))
    return before.combine_chunks(), heldout.combine_chunks()
