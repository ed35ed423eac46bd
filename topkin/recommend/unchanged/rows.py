"""Which rows of a table are what they were, and tables of lists as arrays."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def same_rows(here: pa.Table, before: pa.Table, key: str) -> np.ndarray:
    """The rows of a table that an earlier one has too, by their key and with equal values, (n,) bool.

    key: a column of distinct values. Tables of other columns or types have no row in common.
    """
    if not here.schema.equals(before.schema):
        return np.zeros(len(here), bool)
    row = pc.index_in(here[key], value_set=before[key].combine_chunks())
    same = np.asarray(pc.is_valid(row)).astype(bool)
    unchanged = np.flatnonzero(same)
    if not len(unchanged):
        return same
    now, then = here.take(pa.array(unchanged)), before.take(row.drop_null())
    for name in here.column_names:
        same[unchanged] &= _equal(_one(now[name]), _one(then[name]))
    return same


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array


def _equal(a: pa.Array, b: pa.Array) -> np.ndarray:
    """Whether two arrays of one type have equal values, nulls too, (n,) bool; lists are compared whole."""
    null = np.asarray(pc.is_null(a)).astype(bool), np.asarray(pc.is_null(b)).astype(bool)
    equal = null[0] == null[1]
    if pa.types.is_struct(a.type):
        for number in range(a.type.num_fields):
            equal &= _equal(pc.struct_field(a, [number]), pc.struct_field(b, [number])) | null[0]
        return equal
    if pa.types.is_list(a.type) or pa.types.is_large_list(a.type) or pa.types.is_fixed_size_list(a.type):
        lengths = [np.asarray(pc.fill_null(pc.list_value_length(x), 0)).astype(np.int64) for x in (a, b)]
        equal &= lengths[0] == lengths[1]
        rows = np.flatnonzero(equal)
        flat = [pc.list_flatten(x.take(pa.array(rows))) for x in (a, b)]
        owner = np.repeat(rows, lengths[0][rows])
        equal[owner[~_equal(*flat)]] = False
        return equal
    values = np.asarray(pc.fill_null(pc.equal(a, b), False)).astype(bool)
    return equal & (values | null[0])


class OldLists(NamedTuple):
    """Lists as a table has them, for tonight's owners.

    ids: (n, k) int32, tonight's numbers of what is listed, -1 where there is none. scores: (n, k) float32 padded -inf;
    of an entry with another number than -1 or without one. row: (n, k) int64, of the table, padded -1.
    """

    ids: np.ndarray
    scores: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, owners: pa.Array, numbers: np.ndarray, k: int) -> "OldLists":
        """From a table whose first column is the owner, with ``rank`` and ``score``.

        owners: (n,) tonight's. numbers: (len(table),) int32, tonight's number of
        each row's entry, -1 for one that is not what it was.
        """
        n = len(owners)
        ids, scores = np.full((n, k), -1, np.int32), np.full((n, k), -np.inf, np.float32)
        rows = np.full((n, k), -1, np.int64)
        owner = np.asarray(pc.fill_null(pc.index_in(table[0], value_set=owners), -1))
        rank = np.asarray(table["rank"])
        at = np.flatnonzero((owner >= 0) & (rank <= k))
        place = owner[at], rank[at] - 1
        ids[place], scores[place], rows[place] = numbers[at], np.asarray(table["score"])[at], at
        return cls(ids, scores, rows)


def numbers_of(ids: pa.Array | pa.ChunkedArray, names: pa.Array, same: np.ndarray | None = None) -> np.ndarray:
    """The row of each id among names, (n,) int32; -1 where there is none or the row is not ``same``, (m,) bool."""
    row = np.asarray(pc.fill_null(pc.index_in(ids, value_set=names), -1)).astype(np.int32)
    return row if same is None or not len(same) else np.where((row >= 0) & same[row], row, np.int32(-1))


def lists_column(column: pa.ChunkedArray, rows: np.ndarray, names: pa.Array, most: int) -> np.ndarray:
    """A column of lists of ids as numbers among names, (len(rows), most) int32 padded -1; rows may be -1."""
    out = np.full((len(rows), most), -1, np.int32)
    at = np.flatnonzero(rows >= 0)
    lists = _one(column.take(pa.array(rows[at])))
    lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
    owner = np.repeat(at, lengths)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    keep = place < most
    values = np.asarray(pc.fill_null(pc.index_in(pc.list_flatten(lists), value_set=names), -1)).astype(np.int32)
    out[owner[keep], place[keep]] = values[keep]
    return out


def column_at(column: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    """A column of numbers at some rows, of the shape of ``rows``; 0 where a row is -1."""
    return np.append(np.asarray(column), 0)[rows].astype(np.asarray(column).dtype)  # -1 is the last
