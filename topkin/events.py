"""Purchases of one partition of users: sorted, without duplicates, split by time, as histories."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin import schemas
from topkin.cleaning import PRINT


def ranks(values: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """The rank of each value among the distinct ones, (n,) int64 and nulls last, and those, sorted."""
    distinct = values.unique()
    distinct = distinct.take(pc.sort_indices(distinct))
    return np.asarray(pc.index_in(values, value_set=distinct)).astype(np.int64), distinct


def _float_key(values: pa.ChunkedArray) -> np.ndarray:
    """Floats as sortable numbers, nulls last."""
    return np.asarray(pc.fill_null(values, np.inf))


def settle(rows: pa.Table) -> tuple[pa.Table, int]:
    """The purchases sorted by user_id, timestamp, item_id, quantity, price and segment, and how many were dropped.

    Rows equal in user_id, timestamp, item_id and PRINT are one purchase; without a column PRINT all are kept.
    """
    users, _ = ranks(rows["user_id"])
    items, _ = ranks(rows["item_id"])
    times = np.asarray(rows["timestamp"].cast(pa.int64()))
    order = np.lexsort((items, times, users))
    keys = [users, times, items]
    tied = np.zeros(len(order), bool)
    same = np.logical_and.reduce([k[order[1:]] == k[order[:-1]] for k in keys]) if len(order) > 1 else tied[1:]
    tied[1:] |= same
    tied[:-1] |= same
    if tied.any():  # only ties need the other columns
        at = order[tied]
        few = rows.take(pa.array(at))
        more = [_float_key(few["quantity"]), _float_key(few["price"]), ranks(few["segment"])[0]]
        if PRINT in rows.column_names:
            more.append(np.asarray(few[PRINT]))
        order[tied] = at[np.lexsort((*reversed(more), items[at], times[at], users[at]))]
    dropped = 0
    if PRINT in rows.column_names:
        prints = np.asarray(rows[PRINT])
        keys.append(prints)
        again = np.zeros(len(order), bool)
        if len(order) > 1:
            again[1:] = np.logical_and.reduce([k[order[1:]] == k[order[:-1]] for k in keys])
        dropped = int(again.sum())
        order = order[~again]
        rows = rows.drop_columns([PRINT])
    schema = schemas.events(rows.schema.field("user_id").type, rows.schema.field("item_id").type)
    return rows.take(pa.array(order)).cast(schema).combine_chunks(), dropped


def split_by_time(events: pa.Table, as_of: datetime) -> tuple[pa.Table, pa.Table]:
    """The purchases before ``as_of`` (naive UTC), and the others."""
    before = pc.less(events["timestamp"], pa.scalar(as_of, schemas.TIME))
    return events.filter(before).combine_chunks(), events.filter(pc.invert(before)).combine_chunks()


def histories(events: pa.Table, users: pa.Table | None = None) -> pa.Table:
    """``schemas.histories`` of settled events and of a users' table (user_id sorted and distinct, segment).

    A user's segment is the users' table's; without one there, the latest that the purchases name (of purchases
    at one time, the last in their order).
    """
    codes, who = ranks(events["user_id"])
    if users is not None and len(users):
        who = pa.chunked_array([who, *users["user_id"].chunks]).unique()
        who = who.take(pc.sort_indices(who))
        codes = np.asarray(pc.index_in(events["user_id"], value_set=who)).astype(np.int64)
    offsets = np.zeros(len(who) + 1, np.int32)
    np.cumsum(np.bincount(codes, minlength=len(who)), out=offsets[1:])
    segment = _latest(events["segment"], codes, len(who))
    if users is not None and len(users):
        listed = users["segment"].combine_chunks().take(pc.index_in(who, value_set=users["user_id"].combine_chunks()))
        segment = pc.coalesce(listed, segment)
    schema = schemas.histories(events.schema.field("user_id").type, events.schema.field("item_id").type)
    columns = [who]
    for name, column in (("items", "item_id"), ("times", "timestamp"), ("weights", "quantity")):
        values = events[column].combine_chunks()
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), values).cast(schema.field(name).type))
    return pa.table([*columns, segment], schema=schema)


def _latest(values: pa.ChunkedArray, codes: np.ndarray, n: int) -> pa.Array:
    """The last value that is not null in each group of (n_rows,) ascending codes, null where there is none."""
    known = np.flatnonzero(np.asarray(pc.is_valid(values)))
    last = np.full(n, -1, np.int64)
    last[codes[known]] = known  # the last assignment wins
    return values.combine_chunks().take(pa.array(last, mask=last < 0))
