"""From the user's rows to topkin's: ids, times and numbers in their canonical types, and what is rejected.

A row is rejected for the first rule that it breaks: that its texts are UTF-8, then the schema's rules in the
order of the columns, then the configured ones in theirs.
"""

import html
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids, schemas
from topkin.artifacts.embeddings import vector_column
from topkin.artifacts.partition import hash_rows
from topkin.ingest import timestamps
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.rules import records
from topkin.ingest.utf8 import escape_invalid_utf8

ROW_HASH = "__row_hash"
"""Column that tells rows apart that are not equal in every column read, uint64."""

LISTED_TWICE = {"items": "item listed twice", "users": "user listed twice"}


def purchase_rows(user: pa.DataType, item: pa.DataType, *, row_hashes: bool) -> pa.Schema:
    """Accepted purchases: ``schemas.events``, and ROW_HASH."""
    found = schemas.events(user, item)
    return found.append(pa.field(ROW_HASH, pa.uint64(), False)) if row_hashes else found


_PLACE = [pa.field(FILE, pa.string(), False), pa.field(ROW, pa.int64(), False)]


def item_rows(item: pa.DataType, vector_dim: int | None = None) -> pa.Schema:
    """Accepted rows of the items' table, and where they stood."""
    told = schemas.catalogue(item, vector_dim)
    vector = [] if vector_dim is None else [told.field("vector")]
    return pa.schema([*list(told)[:5], *vector, *_PLACE])


def user_rows(user: pa.DataType) -> pa.Schema:
    """Accepted rows of the users' table, and where they stood."""
    return pa.schema([pa.field("user_id", user, False), pa.field("segment", pa.string()), *_PLACE])


class Cleaned(NamedTuple):
    """Accepted rows in canonical columns, and ``schemas.REJECTS``."""

    accepted: pa.Table
    rejects: pa.Table


class _Rejections:
    """The first rule that each row breaks."""

    def __init__(self, n: int, not_text: Mapping[str, np.ndarray]) -> None:
        self.broken = np.full(n, -1, np.int32)
        self.rejection_reasons: list[str] = []
        for column, where in not_text.items():
            self.reject(where, f"{column} is not UTF-8")

    def reject(self, where: np.ndarray, reason: str) -> None:
        self.broken[where & (self.broken < 0)] = len(self.rejection_reasons)
        self.rejection_reasons.append(reason)


def reject_table(source: str, rows: pa.Table, reasons: pa.Array) -> pa.Table:
    """``schemas.REJECTS`` of rows with FILE and ROW, and a reason for each."""
    columns = [
        pa.array([source] * len(rows), pa.string()),
        ids.decoded(rows[FILE]).cast(pa.string()),
        rows[ROW],
        reasons,
        records(rows.drop_columns([FILE, ROW])),
    ]
    return pa.table(columns, schema=schemas.REJECTS)


def _id(rows: pa.Table, column: str, rejections: _Rejections) -> pa.ChunkedArray:
    """An id column; null and too large ones rejected."""
    values = rows[column]
    kept = ids.canonical(values)
    null = np.asarray(pc.is_null(values))
    rejections.reject(null, f"{column} is null")
    if kept.null_count > int(null.sum()):
        rejections.reject(np.asarray(pc.is_null(kept)), f"{column} is above the largest int64")
    return kept


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Numbers as (n,) float32; null ones, and those that float32 cannot hold, are not finite."""
    found = np.asarray(pc.fill_null(ids.decoded(values).cast(pa.float64(), safe=False), np.nan))
    with np.errstate(over="ignore"):
        return found.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0


def _number_column(values: pa.ChunkedArray) -> pa.Array:
    """Numbers as float32, null where not finite."""
    found = _numbers(values)
    return pa.array(found, pa.float32(), mask=~np.isfinite(found))


def _label(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels as strings, nulls kept."""
    return ids.decoded(values).cast(pa.string())


def _text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text for people: labels with HTML entities such as ``&amp;`` decoded and the ends trimmed; empty is null."""
    labels = pc.utf8_trim_whitespace(_label(values))
    encoded = pc.fill_null(pc.match_substring_regex(labels, "&#?[0-9A-Za-z]+;"), False)
    if pc.any(encoded).as_py():
        found = pc.unique(labels.filter(encoded))
        plain = pa.array([html.unescape(t) for t in found.to_pylist()], pa.string())
        labels = pc.coalesce(pc.take(plain, pc.index_in(labels, value_set=found)), labels)
    return pc.if_else(pc.equal(labels, ""), pa.scalar(None, pa.string()), labels)


def _vectors(values: pa.ChunkedArray, dim: int) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Lists of numbers as ``schemas.vector(dim)``, which have another length, and which a number that is none.

    The vectors of such rows are of no use; those of rows without a list are zeros.
    """
    given = ids.decoded(values).combine_chunks()
    null, lengths = np.asarray(pc.is_null(given)), np.asarray(pc.fill_null(pc.list_value_length(given), 0))
    numbers = np.asarray(pc.fill_null(pc.list_flatten(given).cast(pa.float64()), np.nan))
    wrong = ~null & (lengths != dim)
    vectors = np.zeros((len(given), dim), np.float32)
    with np.errstate(over="ignore"):
        vectors[~null & ~wrong] = numbers[~np.repeat(wrong | null, np.where(null, 0, lengths))].reshape(-1, dim)
    return vector_column(vectors), wrong, np.asarray(~np.isfinite(vectors).all(axis=1))


def _finished(
    source: InputSource,
    raw: pa.Table,
    rows: pa.Table,
    columns: Mapping[str, pa.Array | pa.ChunkedArray],
    rejections: _Rejections,
    schema: pa.Schema,
) -> Cleaned:
    """Ask the configured rules of the rows that broke none so far, and take accepted from rejected."""
    alive = np.flatnonzero(rejections.broken < 0)
    asked = rows if len(alive) == len(rows) else rows.take(pa.array(alive))
    broken = source.rules.broken(asked.drop_columns([FILE, ROW]))
    rejections.broken[alive] = np.where(broken < 0, -1, broken + len(rejections.rejection_reasons))
    reasons = [*rejections.rejection_reasons, *source.rules.rejection_reasons]
    good = rejections.broken < 0
    accepted = pa.table(dict(columns))
    if good.all():
        return Cleaned(accepted.cast(schema), schemas.REJECTS.empty_table())
    bad = pa.array(~good)
    why = pa.DictionaryArray.from_arrays(pa.array(rejections.broken[~good]), pa.array(reasons, pa.string()))
    accepted = accepted.filter(pa.array(good)).cast(schema)
    return Cleaned(accepted, reject_table(source.name, raw.filter(bad), why.cast(pa.string())))


def clean_purchases(raw: pa.Table, source: InputSource, clock: datetime, *, row_hashes: bool = True) -> Cleaned:
    """The purchases of a table with FILE and ROW: ``schemas.events`` in the order they came, and the rejects.

    With ``row_hashes`` a last column ROW_HASH hashes all that was read: equal rows are duplicates.
    ``clock``: naive UTC; a later purchase is in the future.
    """
    raw, not_text = escape_invalid_utf8(raw)
    rows = source.rules.normalised(raw)
    rejections = _Rejections(len(rows), not_text)
    columns = {"user_id": _id(rows, source.columns["user_id"], rejections)}
    columns["item_id"] = _id(rows, source.columns["item_id"], rejections)
    when = source.columns["timestamp"]
    micros, state = timestamps.to_micros(rows[when], source.time_unit)
    rejections.reject(state == timestamps.NULL, f"{when} is null")
    rejections.reject(state == timestamps.BROKEN, f"{when} is not readable as a time")
    rejections.reject(micros > np.datetime64(clock, "us").astype(np.int64), f"{when} is in the future")
    columns["timestamp"] = pa.array(micros).view(schemas.TIME)
    quantity = source.column("quantity")
    pieces = np.ones(len(rows), np.float32) if quantity is None else _numbers(rows[quantity])
    if quantity is not None:
        rejections.reject(~np.isfinite(pieces), f"{quantity} is null or not finite")
    columns["quantity"] = pa.array(pieces)
    price, segment = source.column("price"), source.column("segment")
    columns["price"] = pa.nulls(len(rows), pa.float32()) if price is None else _number_column(rows[price])
    columns["segment"] = pa.nulls(len(rows), pa.string()) if segment is None else _label(rows[segment])
    if row_hashes:
        columns[ROW_HASH] = pa.array(hash_rows(_flat(raw.drop_columns([FILE, ROW]))))
    schema = purchase_rows(columns["user_id"].type, columns["item_id"].type, row_hashes=row_hashes)
    return _finished(source, raw, rows, columns, rejections, schema)


def clean_items(raw: pa.Table, source: InputSource, vector_dim: int | None = None) -> Cleaned:
    """The items of a table with FILE and ROW: :func:`item_rows`; the rejects.

    An item of which it is not said whether it is available is. vector_dim: how many numbers a vector has, where the
    source has a column of them; an item may have none.
    """
    raw, not_text = escape_invalid_utf8(raw)
    rows = source.rules.normalised(raw)
    rejections = _Rejections(len(rows), not_text)
    columns = {"item_id": _id(rows, source.columns["item_id"], rejections)}
    for role in ("title", "category"):
        c = source.column(role)
        columns[role] = pa.nulls(len(rows), pa.string()) if c is None else _text(rows[c])
    price, available = source.column("price"), source.column("available")
    columns["price"] = pa.nulls(len(rows), pa.float32()) if price is None else _number_column(rows[price])
    yes = pa.array(np.ones(len(rows), bool))
    columns["available"] = yes if available is None else pc.fill_null(ids.decoded(rows[available]), True)
    vector = source.column("vector")
    if vector is not None and vector_dim is not None:
        columns["vector"], wrong, not_finite = _vectors(rows[vector], vector_dim)
        rejections.reject(wrong, f"{vector} has not {vector_dim} numbers")
        rejections.reject(not_finite, f"{vector} has a number that is null or not finite")
    columns.update({FILE: ids.decoded(raw[FILE]), ROW: raw[ROW]})
    return _finished(source, raw, rows, columns, rejections, item_rows(columns["item_id"].type, vector_dim))


def clean_users(raw: pa.Table, source: InputSource) -> Cleaned:
    """The users of a table with FILE and ROW: user_id, segment, FILE, ROW; the rejects."""
    raw, not_text = escape_invalid_utf8(raw)
    rows = source.rules.normalised(raw)
    rejections = _Rejections(len(rows), not_text)
    columns = {"user_id": _id(rows, source.columns["user_id"], rejections)}
    segment = source.column("segment")
    columns["segment"] = pa.nulls(len(rows), pa.string()) if segment is None else _label(rows[segment])
    columns.update({FILE: ids.decoded(raw[FILE]), ROW: raw[ROW]})
    return _finished(source, raw, rows, columns, rejections, user_rows(columns["user_id"].type))


def first_of_each_id(rows: pa.Table, source: InputSource) -> Cleaned:
    """Of accepted items or users the first listed of each id, sorted by id; the others rejected.

    First is the one whose file, then row, sorts first. Their record shows the columns that topkin keeps, under
    the names of the configuration.
    """
    key = rows.column_names[0]
    plain = rows.sort_by([(key, "ascending"), (FILE, "ascending"), (ROW, "ascending")])
    again = np.zeros(len(plain), bool)
    sorted_ids = plain[key].combine_chunks()
    if len(plain) > 1:
        again[1:] = np.asarray(pc.equal(sorted_ids[1:], sorted_ids[:-1]))
    kept = plain.drop_columns([FILE, ROW])
    if not again.any():
        return Cleaned(kept, schemas.REJECTS.empty_table())
    twice = plain.filter(pa.array(again)).select([*(r for r in source.columns if r in plain.column_names), FILE, ROW])
    names = {r: c for r, c in source.columns.items() if list(source.columns.values()).count(c) == 1}
    twice = twice.rename_columns([names.get(c, c) for c in twice.column_names])
    why = pa.array([LISTED_TWICE[source.name]] * len(twice), pa.string())
    return Cleaned(kept.filter(pa.array(~again)), reject_table(source.name, twice, why))


def _flat(rows: pa.Table) -> pa.Table:
    """The rows with nested columns as JSON."""
    for number, f in enumerate(rows.schema):
        if pa.types.is_nested(ids.storage(f.type)):
            rows = rows.set_column(number, f.name, records(rows.select([f.name])))
    return rows
