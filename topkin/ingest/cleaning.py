"""From the user's rows to topkin's: ids, times and numbers in their canonical types, and what is rejected.

A row is rejected for the first rule that it breaks: that its texts are UTF-8, then the schema's rules in the
order of the columns, then the configured ones in theirs.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids, schemas
from topkin.artifacts.ids import Values
from topkin.artifacts.partition import hash_rows
from topkin.config.shop.events import MOST_WEIGHT, EventType
from topkin.ingest import readers, timestamps
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.judging.lookups import joined
from topkin.ingest.positions import COLUMN_ORDER, ORDER, ORDER_REST, ROW_ORDER, order_keys
from topkin.ingest.readers import INPUT, LATEST, escape_invalid_utf8
from topkin.ingest.sql import plain
from topkin.ingest.typed.rows import COLUMNS as EVENT_COLUMNS
from topkin.ingest.typed.rows import EVENT, ORDER_ID, WEIGHT, type_codes
from topkin.ingest.values.baskets import PLACE, list_path
from topkin.ingest.values.features import PREFIX, feature_column
from topkin.ingest.values.records import records
from topkin.ingest.values.stand_ins import stand_ins
from topkin.privacy.forgotten import REASON as FORGOTTEN
from topkin.privacy.tables import NOTHING
from topkin.telemetry.secrets import masked

ROW_HASH = "__row_hash"
"""Column that tells rows apart that are not equal in every column read, uint64."""

LISTED_TWICE = {"items": "item listed twice", "users": "user listed twice", "queries": "query listed twice"}
_POSITION = {FILE: pa.string(), ROW: pa.int64()}
_OWN = (FILE, ROW, PLACE)  # columns that readers add


def purchase_rows(
    user: pa.DataType,
    item: pa.DataType,
    *,
    row_hashes: bool,
    order: pa.Schema | None = None,
    typed: bool = False,
    features: pa.StructType | None = None,
) -> pa.Schema:
    """Accepted purchases: ``schemas.events``, and ROW_HASH, or what orders those without times.

    typed: with the columns of events of several types before that. features: the type of a column of theirs.
    """
    schema = pa.schema([*schemas.events(user, item, features), *(EVENT_COLUMNS if typed else ())])
    if order is not None:
        return pa.schema([*schema, *order])
    return schema.append(pa.field(ROW_HASH, pa.uint64(), False)) if row_hashes else schema


def order_columns(source: InputSource) -> pa.Schema | None:
    """The columns that order purchases without times; None for those that have times."""
    if source.timed:
        return None
    return ROW_ORDER if source.column("order") is None else COLUMN_ORDER


def item_rows(
    item: pa.DataType, vector_dim: int | None = None, features: pa.StructType | None = None, *, latest: bool = False
) -> pa.Schema:
    """Accepted rows of the items' table, where they stood, and LATEST where there is a ``latest_by``."""
    catalogue = schemas.catalogue(item, vector_dim, features)
    more = [catalogue.field(name) for name in ("vector", "features") if name in catalogue.names]
    return pa.schema([*list(catalogue)[:5], *more, *_place(latest)])


def user_rows(
    user: pa.DataType, features: pa.StructType | None = None, vector_dim: int | None = None, *, latest: bool = False
) -> pa.Schema:
    """Accepted rows of the users' table, where they stood, and LATEST where there is a ``latest_by``."""
    histories = schemas.histories(user, pa.null(), features, vector_dim)
    own = [histories.field(name) for name in ("user_id", "segment", "features", "vector") if name in histories.names]
    return pa.schema([*own, *_place(latest)])


def _place(latest: bool) -> pa.Schema:
    return schemas.schema(**_POSITION, **({LATEST: pa.float64()} if latest else {}))


class Cleaned(NamedTuple):
    """Accepted rows in canonical columns, and ``schemas.REJECTS``."""

    accepted: pa.Table
    rejects: pa.Table


UNREADABLE, TWO_ORDERS = "is not readable as a time", "may have the day first or the month"
OTHER_FORM = "has a form that its expression does not read"
"""What is wrong with a text that should be a time, behind the column's name."""


def reject_table(source: str, rows: pa.Table, reasons: pa.Array, *, record: bool = True) -> pa.Table:
    """``schemas.REJECTS`` of rows with FILE and ROW, and a reason for each; ``record``: with what was read."""
    read = [c for c in rows.column_names if c not in _OWN] if record else []
    columns = [
        pa.array([source] * len(rows), pa.string()),
        _masked(ids.decoded(rows[FILE]).cast(pa.string())),
        rows[ROW],
        reasons,
        records(rows.select(read)) if read else pa.array(["{}"] * len(rows), pa.string()),
    ]
    return pa.table(columns, schema=schemas.REJECTS)


def _masked(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Paths without the credentials of URIs."""
    known = pc.unique(paths).to_pylist()
    shown = pa.array([masked(path) for path in known], pa.string())
    return shown.take(pc.index_in(paths, pa.array(known, pa.string()))) if known else paths


class _Cleaner:
    """Reads the columns of a table with FILE and ROW by their roles, and notes the first rule that each row breaks."""

    def __init__(self, table: pa.Table, source: InputSource) -> None:
        self.source = source
        self.raw, invalid = escape_invalid_utf8(plain(table))
        self.rows = source.rules.normalised(self.raw)
        self._broken = np.full(len(table), -1, np.int32)
        self._reasons: list[str] = []
        self._forgotten = np.zeros(len(table), bool)
        for column, where in invalid.items():
            self.reject(where, f"{column} is not UTF-8")
        if PLACE in self.raw.column_names:
            lists = {path.column for path in map(list_path, source.columns.values()) if path}
            self.reject(np.asarray(pc.less(self.raw[PLACE], 0)), f"{', '.join(lists)} is null or an empty list")

    def reject(self, where: np.ndarray, reason: str) -> None:
        """Reject rows, (n,) bool, that no earlier reason rejects."""
        self._broken[where & (self._broken < 0)] = len(self._reasons)
        self._reasons.append(reason)

    def values(self, role: str) -> pa.ChunkedArray | None:
        """The column of a role, None where it is not configured."""
        column = self.source.column(role)
        return None if column is None else self.rows[column]

    def ids(self, role: str) -> pa.ChunkedArray:
        """An id column; null and too large ones rejected."""
        column = self.source.columns[role]
        canonical = ids.canonical(self.rows[column])
        null = np.asarray(pc.is_null(self.rows[column]))
        self.reject(null, f"{column} is null")
        if canonical.null_count > int(null.sum()):
            self.reject(np.asarray(pc.is_null(canonical)), f"{column} is above the largest int64")
        if role == "user_id" and self.source.forgotten is not None:
            self._forgotten = self.source.forgotten.among(canonical)
            self._broken[self._forgotten] = -1  # of all that is wrong with such a row this is what is told
            self.reject(self._forgotten, FORGOTTEN)
        return canonical

    def times(self, clock: datetime) -> pa.Array:
        """The timestamps; null, unreadable and future ones rejected."""
        column = self.source.columns["timestamp"]
        micros, state = timestamps.to_micros(self.rows[column], self.source.time_unit)
        null = state == timestamps.NULL
        if column in self.raw.column_names and column in dict(self.source.rules.normalise):
            self.reject(null & np.asarray(pc.is_valid(self.raw[column])), f"{column} {OTHER_FORM}")
        self.reject(null, f"{column} is null")
        self.reject(state == timestamps.BROKEN, f"{column} {UNREADABLE}")
        self.reject(state == timestamps.TWO_DAYS, f"{column} {TWO_ORDERS}")
        for day, where in stand_ins(micros).items():
            self.reject(where & (state == timestamps.READ), f"{column} is a stand-in for none: {day}")
        self.reject(micros > np.datetime64(clock, "us").astype(np.int64), f"{column} is in the future")
        return pa.array(micros).view(schemas.TIME)

    def order(self) -> dict[str, Values]:
        """The columns that order purchases without times, and no time; those without a number rejected."""
        no_time = pa.array(np.zeros(len(self.rows), np.int64)).view(schemas.TIME)
        values = self.values("order")
        if values is None:
            return {"timestamp": no_time, FILE: ids.decoded(self.raw[FILE]), ROW: self.raw[ROW]}
        keys = order_keys(values)
        self.reject(~np.isfinite(keys.number), f"{self.source.column('order')} is null or not finite")
        return {"timestamp": no_time, ORDER: pa.array(keys.number), ORDER_REST: pa.array(keys.rest)}

    def event(self, types: Sequence[EventType]) -> dict[str, Values]:
        """The type, weight and order of events; those of no type, or of a wrong weight, rejected.

        A return has no weight, whatever an expression makes of its row.
        """
        if (values := self.values("event_type")) is None:
            own = next(number for number, t in enumerate(types) if t.source == self.source.name)
            codes = np.full(len(self.rows), own, np.int8)
        else:
            codes, rejected = type_codes(self.source.columns["event_type"], readers.labels(values), types)
            for where, reason in rejected:
                self.reject(where, reason)
        weights = np.array([t.weight for t in types], np.float32)[codes]
        if (values := self.values("weight")) is not None:
            returned = np.array([t.role == "return" for t in types])[codes]
            weights = np.where(returned, np.float32(0), weights * readers.numbers(values))
            self.reject(~((weights >= 0) & (weights <= MOST_WEIGHT)), f"{self.source.name}.weight is not from 0 to 1e6")
        values = self.values("order_id")
        order = pa.nulls(len(self.rows), pa.string()) if values is None else readers.labels(values)
        return {EVENT: pa.array(codes), WEIGHT: pa.array(weights), ORDER_ID: order}

    def quantities(self) -> pa.Array:
        """The quantities, 1 where there is no such column; those that are no numbers rejected."""
        values = self.values("quantity")
        if values is None:
            return pa.array(np.ones(len(self.rows), np.float32))
        quantities = readers.numbers(values)
        self.reject(~np.isfinite(quantities), f"{self.source.column('quantity')} is null or not finite")
        return pa.array(quantities)

    def vectors(self, dim: int) -> pa.Array:
        """The vectors of items or users; those of another length or with a value that is no number rejected."""
        column = self.source.columns["vector"]
        vectors, wrong, not_finite = readers.vectors(self.rows[column], dim)
        self.reject(wrong, f"{column} has not {dim} numbers")
        self.reject(not_finite, f"{column} has a number that is null or not finite")
        return vectors

    def features(self, kept: pa.StructType | None) -> dict[str, Values]:
        """The column ``features``, where there is one."""
        if kept is None:
            return {}
        return {"features": feature_column({f.name: self.rows[PREFIX + f.name] for f in kept}, kept)}

    def prices(self) -> pa.Array:
        """The prices, null where there is none."""
        values = self.values("price")
        return pa.nulls(len(self.rows), pa.float32()) if values is None else readers.finite_numbers(values)

    def labels(self, role: str) -> pa.ChunkedArray:
        """Labels as strings, titles and categories as text for people; null where there is no such column."""
        values = self.values(role)
        if values is None:
            return pa.nulls(len(self.rows), pa.string())
        return readers.labels(values) if role == "segment" else readers.texts(values)

    def position(self) -> dict[str, Values]:
        """The columns FILE and ROW, and LATEST where the input has a column ``latest_by``."""
        place = {FILE: ids.decoded(self.raw[FILE]), ROW: self.raw[ROW]}
        order = self.values("latest_by")
        return place if order is None else {**place, LATEST: readers.order_keys(order)}

    def leave_out_long(self) -> None:
        """Show no images and no lists in rejects."""
        long = [f.name for f in self.raw.schema if pa.types.is_nested(ids.storage(f.type)) or _is_bytes(f.type)]
        self.raw = self.raw.drop_columns([c for c in long if c not in (FILE, ROW, self.source.columns["item_id"])])

    def finish(
        self, columns: Mapping[str, Values], schema: pa.Schema, lookups: Mapping[str, pa.Table] | None = None
    ) -> Cleaned:
        """Ask the configured rules of the rows that broke none so far, and part accepted from rejected."""
        alive = np.flatnonzero(self._broken < 0)
        at = pa.array(alive)
        rows = self.rows if len(alive) == len(self.rows) else self.rows.take(at)
        rows = rows.drop_columns([c for c in _OWN if c in rows.column_names])
        if lookups:
            rows = joined(rows, {f"{side}_id": columns[f"{side}_id"].take(at) for side in lookups}, lookups)
        broken = self.source.rules.broken(rows)
        self._broken[alive] = np.where(broken < 0, -1, broken + len(self._reasons))
        good = self._broken < 0
        accepted = pa.table(dict(columns))
        if good.all():
            return Cleaned(accepted.cast(schema), schemas.REJECTS.empty_table())
        reasons = pa.array([*self._reasons, *self.source.rules.rejection_reasons], pa.string())
        rejected = self.raw.filter(pa.array(~good))
        rejects = reject_table(
            self.source.name, rejected, reasons.take(pa.array(self._broken[~good])), record=self.source.record
        )
        if (theirs := self._forgotten[~good]).any():
            shown = pc.if_else(pa.array(theirs), NOTHING, rejects["record"])
            rejects = rejects.set_column(rejects.num_columns - 1, schemas.REJECTS.field("record"), shown)
        return Cleaned(accepted.filter(pa.array(good)).cast(schema), rejects)


def clean_purchases(
    raw: pa.Table,
    source: InputSource,
    clock: datetime,
    *,
    row_hashes: bool = True,
    lookups: Mapping[str, pa.Table] | None = None,
    types: Sequence[EventType] = (),
    features: pa.StructType | None = None,
) -> Cleaned:
    """The purchases of a table with FILE and ROW.

    Args:
        raw: the columns read, FILE and ROW.
        source: the input, whose rules are asked.
        clock: naive UTC; a later purchase is in the future.
        row_hashes: whether a last column ROW_HASH hashes all that was read: equal rows are duplicates. Never of
            purchases without times.
        lookups: the tables of what the rules ask the item and the user, see :mod:`topkin.ingest.judging.lookups`.
        types: of the events, where they are of several types or have weights.
        features: the type of the column of features, where the source has some.

    Returns:
        :func:`purchase_rows` in the order in which they came, and the rejects. The times of purchases that have none
        mean nothing, see :func:`topkin.ingest.positions.with_times`.
    """
    cleaner = _Cleaner(raw, source)
    user, item = cleaner.ids("user_id"), cleaner.ids("item_id")
    columns = {
        "user_id": user,
        "item_id": item,
        **({"timestamp": cleaner.times(clock)} if source.timed else cleaner.order()),
        "quantity": cleaner.quantities(),
        "price": cleaner.prices(),
        "segment": cleaner.labels("segment"),
        **(cleaner.event(types) if types else {}),
        **cleaner.features(features),
    }
    if row_hashes and source.timed:
        columns[ROW_HASH] = pa.array(hash_rows(_flat(cleaner.raw.drop_columns([FILE, ROW]))))
    more: dict[str, Any] = {"order": order_columns(source), "typed": bool(types), "features": features}
    schema = purchase_rows(user.type, item.type, row_hashes=row_hashes, **more)
    return cleaner.finish({name: columns[name] for name in schema.names}, schema, lookups)


def clean_items(
    raw: pa.Table, source: InputSource, vector_dim: int | None = None, features: pa.StructType | None = None
) -> Cleaned:
    """The items of a table with FILE and ROW.

    Args:
        raw: the columns read, FILE and ROW.
        source: the input, whose rules are asked.
        vector_dim: how many numbers a vector has, where the source has a column of them; an item may have none.
        features: the type of the column of features, where the source has some.

    Returns:
        :func:`item_rows`, an item available where the input does not say, and the rejects.
    """
    cleaner = _Cleaner(raw, source)
    columns = {"item_id": cleaner.ids("item_id")}
    columns |= {"title": cleaner.labels("title"), "category": cleaner.labels("category"), "price": cleaner.prices()}
    available = cleaner.values("available")
    yes = pa.array(np.ones(len(raw), bool))
    columns["available"] = yes if available is None else pc.fill_null(ids.decoded(available), True)
    if source.column("vector") is not None and vector_dim is not None:
        columns["vector"] = cleaner.vectors(vector_dim)
    schema = item_rows(columns["item_id"].type, vector_dim, features, latest="latest_by" in source.columns)
    return cleaner.finish({**columns, **cleaner.features(features), **cleaner.position()}, schema)


def encoder_item_rows(item: pa.DataType, inputs: Mapping[str, pa.DataType], *, latest: bool = False) -> pa.Schema:
    """As :func:`item_rows` with the items' label and, under their roles, what feeds an encoder.

    inputs: the type of each by its role.
    """
    rows = item_rows(item, latest=latest)
    feeds = [pa.field(role, t) for role, t in inputs.items()]
    return pa.schema([*list(rows)[:5], pa.field("label", pa.string()), *feeds, *list(rows)[5:]])


def clean_encoder_items(raw: pa.Table, source: InputSource, schema: pa.Schema, paths: Sequence[str]) -> Cleaned:
    """The items of a table with FILE and ROW, with what feeds an encoder.

    Args:
        raw: the columns read, FILE and ROW.
        source: the input, whose rules are asked.
        schema: :func:`encoder_item_rows`.
        paths: the roles whose texts are paths of files, relative ones beginning where the table's file lies.

    Returns:
        Rows of the schema, and the rejects without what is long: images and vectors.
    """
    cleaner = _Cleaner(raw, source)
    columns: dict[str, Values] = {"item_id": cleaner.ids("item_id")}
    columns |= {"title": cleaner.labels("title"), "category": cleaner.labels("category"), "price": cleaner.prices()}
    available = cleaner.values("available")
    yes = pa.array(np.ones(len(raw), bool))
    columns["available"] = yes if available is None else pc.fill_null(ids.decoded(available), True)
    columns["label"] = cleaner.labels("label")
    for field in schema:
        if field.name.startswith(INPUT):
            values = ids.decoded(cleaner.rows[source.columns[field.name]])
            columns[field.name] = _beside(values, raw[FILE]) if field.name in paths else values
    cleaner.leave_out_long()
    return cleaner.finish(columns | cleaner.position(), schema)


def _beside(paths: pa.ChunkedArray, files: pa.ChunkedArray) -> pa.ChunkedArray:
    """Paths with the folder of the file that names them, but for absolute ones and URIs."""
    folders = pc.replace_substring_regex(ids.decoded(files).cast(pa.string()), "[^/]*$", "")
    whole = pc.match_substring_regex(paths, "^/|^[A-Za-z][A-Za-z0-9+.-]*://")
    return pc.if_else(whole, paths, pc.binary_join_element_wise(folders, paths.cast(pa.string()), ""))


def clean_users(
    raw: pa.Table, source: InputSource, features: pa.StructType | None = None, vector_dim: int | None = None
) -> Cleaned:
    """The users of a table with FILE and ROW: :func:`user_rows`, and the rejects. features, vector_dim: as of items."""
    cleaner = _Cleaner(raw, source)
    columns = {"user_id": cleaner.ids("user_id"), "segment": cleaner.labels("segment")}
    if source.column("vector") is not None and vector_dim is not None:
        columns["vector"] = cleaner.vectors(vector_dim)
    schema = user_rows(columns["user_id"].type, features, vector_dim, latest="latest_by" in source.columns)
    return cleaner.finish({**columns, **cleaner.features(features), **cleaner.position()}, schema)


def one_of_each_id(rows: pa.Table, source: InputSource) -> Cleaned:
    """Of accepted items or users one row of each id, sorted by id; the others rejected.

    It is the one with the greatest LATEST, where the input has a ``latest_by``; among equals the first, or by
    ``source.keep`` the last, by file, then row. The record of the others shows the columns that topkin keeps, under the
    names of the configuration.
    """
    key = rows.column_names[0]
    latest = [(LATEST, "descending")] if LATEST in rows.column_names else []
    order = "descending" if source.keep == "last" else "ascending"
    rows = rows.sort_by([(key, "ascending"), *latest, (FILE, order), (ROW, order)])
    rows = rows.drop_columns([LATEST]) if latest else rows
    again = np.zeros(len(rows), bool)
    sorted_ids = rows[key].combine_chunks()
    if len(rows) > 1:
        again[1:] = np.asarray(pc.equal(sorted_ids[1:], sorted_ids[:-1]))
    kept = rows.drop_columns([FILE, ROW])
    if not again.any():
        return Cleaned(kept, schemas.REJECTS.empty_table())
    shown = [r for r in source.columns if r in rows.column_names and not r.startswith(INPUT)]
    twice = rows.filter(pa.array(again)).select([*shown, FILE, ROW])
    names = {r: c for r, c in source.columns.items() if list(source.columns.values()).count(c) == 1}
    twice = twice.rename_columns([names.get(c, c) for c in twice.column_names])
    reasons = pa.array([LISTED_TWICE[source.name]] * len(twice), pa.string())
    return Cleaned(kept.filter(pa.array(~again)), reject_table(source.name, twice, reasons, record=source.record))


def _is_bytes(t: pa.DataType) -> bool:
    return ids.value_kind(t) == "binary"


def _flat(rows: pa.Table) -> pa.Table:
    """The rows with nested columns as JSON."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_nested(ids.storage(field.type)):
            rows = rows.set_column(number, field.name, records(rows.select([field.name])))
    return rows
