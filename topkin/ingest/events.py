"""Purchases of one partition of users: sorted, without duplicates, split by time, as histories."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.artifacts.embeddings import vector_column, vectors_of
from topkin.ingest.cleaning import ROW_HASH
from topkin.ingest.typed.rows import COLUMNS as EVENT_COLUMNS
from topkin.ingest.typed.rows import EVENT


def dense_ranks(values: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """The rank of each value among the distinct ones, (n,) int64 and nulls last, and those, sorted."""
    distinct = values.unique()
    distinct = distinct.take(pc.sort_indices(distinct))
    return np.asarray(pc.index_in(values, value_set=distinct)).astype(np.int64), distinct


def _dense(key: np.ndarray) -> np.ndarray:
    """The rank of each number among the distinct ones, (n,) int64."""
    return np.unique(key, return_inverse=True)[1].astype(np.int64, copy=False)


def pack_keys(keys: Sequence[np.ndarray]) -> np.ndarray:
    """One number for each row that sorts as the rows do by the first key, then the second and so on.

    keys: (n,) int64 each. Two rows have the same number where all keys are the same; (n,) int64. Sorting one
    number is several times as fast as ``np.lexsort``. Where the keys' bits are too many, ranks take their place.
    """
    packed = np.zeros(len(keys[0]), np.int64)
    for key in keys if len(packed) else ():
        if not _fits(int(key.max()) - int(key.min())):
            key = _dense(key)
        key = key - key.min()
        if not _fits(int(packed.max()), int(key.max())):
            packed = _dense(packed)
        if not _fits(int(packed.max()), int(key.max())):
            key = _dense(key)
        packed = packed << int(key.max()).bit_length() | key
    return packed


def _fits(*highest: int) -> bool:
    return sum(h.bit_length() for h in highest) < 64


def _float_key(values: pa.ChunkedArray) -> np.ndarray:
    """Floats as sortable numbers, nulls last."""
    return np.asarray(pc.fill_null(values, np.inf))


def sort_and_deduplicate(rows: pa.Table) -> tuple[pa.Table, int]:
    """The purchases sorted by user_id, timestamp, item_id, quantity, price and segment, and how many were dropped.

    Rows equal in user_id, timestamp, item_id and ROW_HASH are one purchase; without a column ROW_HASH all are kept.
    Events of several types are sorted by that after the item, and keep the columns that they have more.
    """
    users, items = rows["user_id"], rows["item_id"]
    codes = [users if pa.types.is_int64(users.type) else dense_ranks(users)[0], rows["timestamp"].cast(pa.int64())]
    more_keys = [np.asarray(rows[EVENT]).astype(np.int64)] if EVENT in rows.column_names else []
    key = pack_keys([*map(np.asarray, codes), dense_ranks(items)[0], *more_keys])
    order = np.argsort(key)
    same = key[order]
    same = same[1:] == same[:-1]
    tied = np.zeros(len(order), bool)
    if len(order) > 1:
        tied[1:] |= same
        tied[:-1] |= same
    row_hashes = np.asarray(rows[ROW_HASH]) if ROW_HASH in rows.column_names else None
    if tied.any():  # only ties need the other columns
        at = order[tied]
        few = rows.take(pa.array(at))
        more = [key[at], _float_key(few["quantity"]), _float_key(few["price"]), dense_ranks(few["segment"])[0]]
        if row_hashes is not None:
            more.append(row_hashes[at])
        order[tied] = at[np.lexsort(more[::-1])]
    dropped = 0
    if row_hashes is not None:
        again = np.zeros(len(order), bool)
        again[1:] = same & (row_hashes[order[1:]] == row_hashes[order[:-1]]) if len(order) > 1 else False
        dropped = int(again.sum())
        order = order[~again] if dropped else order
        rows = rows.drop_columns([ROW_HASH])
    features = rows["features"].type if "features" in rows.column_names else None
    schema = pa.schema([*schemas.events(users.type, items.type, features), *(EVENT_COLUMNS if more_keys else ())])
    return rows.combine_chunks().take(pa.array(order)).cast(schema).combine_chunks(), dropped


def split_by_time(events: pa.Table, as_of: datetime) -> tuple[pa.Table, pa.Table]:
    """The purchases before ``as_of`` (naive UTC), and the others."""
    before = pc.less(events["timestamp"], pa.scalar(as_of, schemas.TIME))
    return events.filter(before).combine_chunks(), events.filter(pc.invert(before)).combine_chunks()


def histories(events: pa.Table, users: pa.Table | None = None, others: pa.ChunkedArray | None = None) -> pa.Table:
    """``schemas.histories`` of settled events and of a users' table, user_id sorted and distinct.

    A user's segment is the users' table's; without one there, the latest that the purchases name (of purchases
    at one time, the last in their order). others: ids of users who have a row too.
    """
    codes, user_ids = dense_ranks(events["user_id"])
    more_ids = [*(users["user_id"].chunks if users is not None else ()), *(others.chunks if others is not None else ())]
    if sum(map(len, more_ids)):
        user_ids = pa.chunked_array([user_ids, *more_ids]).unique()
        user_ids = user_ids.take(pc.sort_indices(user_ids))
        codes = np.asarray(pc.index_in(events["user_id"], value_set=user_ids)).astype(np.int64)
    offsets = np.zeros(len(user_ids) + 1, np.int32)
    np.cumsum(np.bincount(codes, minlength=len(user_ids)), out=offsets[1:])
    segment = _latest(events["segment"], codes, len(user_ids))
    own = {} if users is None else {f.name: f.type for f in users.schema if f.name in ("features", "vector")}
    features, dim = own.get("features"), own["vector"].list_size if "vector" in own else None
    more = [] if features is None else [pa.nulls(len(user_ids), features)]
    vectors = [] if dim is None else [vector_column(np.zeros((len(user_ids), dim)))]
    if users is not None and len(users):
        row = pc.index_in(user_ids, value_set=users["user_id"].combine_chunks())
        segment = pc.coalesce(users["segment"].combine_chunks().take(row), segment)
        more = [] if features is None else [users["features"].take(row)]
        if dim is not None:
            theirs = np.pad(vectors_of(users), ((0, 1), (0, 0)))  # of users that the table lacks
            vectors = [vector_column(theirs[np.asarray(pc.fill_null(row, len(users)))])]
    user, item = (events.schema.field(name).type for name in ("user_id", "item_id"))
    kind = events["features"].type if "features" in events.column_names else None
    schema = schemas.histories(user, item, features, dim, kind)
    columns, listed = [user_ids], [("items", "item_id"), ("times", "timestamp"), ("weights", "quantity")]
    for name, column in [*listed, *([] if kind is None else [("purchase_features", "features")])]:
        values = events[column].combine_chunks()
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), values).cast(schema.field(name).type))
    return pa.table([*columns, segment, *more, *vectors], schema=schema)


def _latest(values: pa.ChunkedArray, codes: np.ndarray, n: int) -> pa.Array:
    """The last value that is not null in each group of (n_rows,) ascending codes, null where there is none."""
    valid = np.flatnonzero(np.asarray(pc.is_valid(values)))
    last = np.full(n, -1, np.int64)
    last[codes[valid]] = valid  # the last assignment wins
    return values.combine_chunks().take(pa.array(last, mask=last < 0))
