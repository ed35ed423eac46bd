"""The user's SQL expressions: read, judged and evaluated by DuckDB over Arrow tables.

The engine sees one table, ``rows``, and nothing else: no file, no network, no Python variable, and no setting
can be changed. It has one thread and keeps the order of rows.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded, storage
from topkin.errors import ConfigError, nearest_name

_local = threading.local()


_CLOSED = (
    "enable_external_access",
    "autoinstall_known_extensions",
    "autoload_known_extensions",
    "python_enable_replacements",
)


def _engine() -> duckdb.DuckDBPyConnection:
    """This thread's engine."""
    engine: duckdb.DuckDBPyConnection | None = getattr(_local, "engine", None)
    if engine is None:
        engine = _local.engine = duckdb.connect(":memory:", config={"threads": 1, **dict.fromkeys(_CLOSED, False)})
        engine.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
    return engine


def query(sql: str, rows: pa.Table | None = None) -> pa.Table:
    """The result of a query over the table ``rows``, in order. Raises duckdb.Error."""
    engine = _engine()
    if rows is None:
        return engine.execute(sql).to_arrow_table()
    engine.register("rows", _in_range(_converted(plain(rows), _known_to_engine)))
    try:
        return engine.execute(sql).to_arrow_table()
    finally:
        engine.unregister("rows")


def plain(rows: pa.Table) -> pa.Table:
    """The rows with views, for which Arrow lacks functions, as what they view."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_list_view(field.type) or pa.types.is_large_list_view(field.type):
            lists = [_list_of_view(chunk) for chunk in rows.column(number).chunks]
            kind = pa.large_list(field.type.value_type)
            rows = rows.set_column(number, field.name, pa.chunked_array(lists, kind))
    return _converted(rows, _without_views)


def _list_of_view(view: pa.Array) -> pa.Array:
    """A view of lists as lists: Arrow's cast leaves out the last offset (pyarrow 25)."""
    ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(view), 0)).astype(np.int64))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pc.list_flatten(view), mask=pc.is_null(view))


def _converted(rows: pa.Table, convert: Callable[[pa.DataType], pa.DataType]) -> pa.Table:
    """The rows with each type as another that holds the same values; null where that is the type of nothing."""
    for number, field in enumerate(rows.schema):
        if (kind := _converted_type(field.type, convert)) != field.type:
            column = rows.column(number)
            column = pa.chunked_array([pa.nulls(len(rows))]) if pa.types.is_null(kind) else decoded(column).cast(kind)
            rows = rows.set_column(number, field.name, column)
    return rows


def _without_views(t: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(t):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(t) else t


def _known_to_engine(t: pa.DataType) -> pa.DataType:
    """A half float as a float, a decimal of over 128 bits as one of 128 or, with too many digits, as a string."""
    if pa.types.is_float16(t):
        return pa.float32()
    if pa.types.is_decimal256(t):
        return pa.decimal128(t.precision, t.scale) if t.precision <= 38 else pa.string()
    return pa.null() if pa.types.is_struct(t) and not t.num_fields else t


@cache
def _converted_type(t: pa.DataType, convert: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """A type with all that it is made of converted; a dictionary is its values' type where that changes."""
    inner = convert(storage(t))

    def field(f: pa.Field) -> pa.Field:
        return f.with_type(_converted_type(f.type, convert))

    kind = inner
    if pa.types.is_struct(inner):
        kind = pa.struct([field(inner.field(i)) for i in range(inner.num_fields)])
    elif pa.types.is_map(inner):
        kind = pa.map_(_converted_type(inner.key_type, convert), field(inner.item_field), inner.keys_sorted)
    elif pa.types.is_fixed_size_list(inner):
        kind = pa.list_(field(inner.value_field), inner.list_size)
    elif pa.types.is_list(inner):
        kind = pa.list_(field(inner.value_field))
    elif pa.types.is_large_list(inner):
        kind = pa.large_list(field(inner.value_field))
    return t if kind == storage(t) else kind


_TICKS = {"s": 1, "ms": 1_000}


def _in_range(rows: pa.Table) -> pa.Table:
    """The rows with null for times that the engine does not know, one of which would fail a query of all."""
    for number, field in enumerate(rows.schema):
        coarse = pa.types.is_timestamp(field.type) and field.type.unit in _TICKS
        if coarse or pa.types.is_date64(field.type):
            limit = 9_000_000_000_000 * _TICKS["ms" if pa.types.is_date64(field.type) else field.type.unit]
            ticks = rows.column(number).cast(pa.int64())
            far = pc.or_(pc.greater(ticks, limit), pc.less(ticks, -limit))
            if pc.any(far).as_py():
                column = pc.if_else(far, pa.scalar(None, field.type), rows.column(number))
                rows = rows.set_column(number, field.name, column)
    return rows


def quoted(name: str) -> str:
    """A column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted_if_needed(name: str) -> str:
    """A column's name as SQL, quoted where it is not a plain lower-case word or would mean something else."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _reserved() else quoted(name)


@cache
def _reserved() -> frozenset[str]:
    """Words that SQL takes for its own."""
    known = query("SELECT keyword_name AS word, keyword_category AS kind FROM duckdb_keywords()").to_pylist()
    return frozenset(k["word"] for k in known if k["kind"] in ("reserved", "type_function")) | {"at", "user"}


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


@cache
def _functions() -> tuple[frozenset[str], frozenset[str]]:
    """The names of aggregates, and of functions whose result is not given by their arguments."""
    rows = query("SELECT function_name AS name, function_type AS kind, stability FROM duckdb_functions()").to_pylist()
    scalar = {f["name"] for f in rows if f["kind"] in ("scalar", "macro")}
    aggregates = {f["name"] for f in rows if f["kind"] == "aggregate"} - scalar
    unstable = {f["name"] for f in rows if f["kind"] == "scalar" and f["stability"] != "CONSISTENT"}
    return frozenset(aggregates), frozenset(unstable | {"current_timestamp", "current_time", "localtimestamp"})


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a syntax tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


@dataclass(frozen=True)
class Expression:
    """One SQL expression over the columns of a row; ``key`` is its place in the configuration."""

    key: str
    text: str

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(f"{self.key}: {self.text!r} {why}")

    def names(self) -> set[str]:
        """The names that it mentions, in lower case: columns and the arguments of lambdas.

        Raises ConfigError where it is not one expression over a row: SQL has no column type for text that
        does not parse, and an aggregate, a window, a subquery or a clock would make a row's fate hang on
        the rows beside it or on the hour.
        """
        sql = literal(f"SELECT (\n{self.text}\n)")
        tree = json.loads(query(f"SELECT json_serialize_sql({sql}) AS tree")["tree"][0].as_py())
        if tree["error"]:
            raise self._refused(f"is not an SQL expression: {tree['error_message']}")
        select = tree["statements"][0]["node"]
        if len(tree["statements"]) != 1 or select["type"] != "SELECT_NODE" or len(select["select_list"]) != 1:
            raise self._refused("must be one SQL expression")
        if select["from_table"]["type"] != "EMPTY" or any(
            select.get(k) for k in ("where_clause", "group_expressions", "having", "qualify", "modifiers")
        ):
            raise self._refused("must be an SQL expression, not a query")
        aggregates, unstable = _functions()
        names = set()
        for node in _nodes(select["select_list"]):
            kind, function = node.get("class"), str(node.get("function_name", "")).lower()
            if kind in ("WINDOW", "SUBQUERY", "STAR") or function in aggregates or function == "unnest":
                what = function or {"STAR": "*", "SUBQUERY": "a subquery"}.get(str(kind), "a window")
                raise self._refused(f"must be about one row, got {what}: name the row's columns")
            if kind == "PARAMETER":
                raise self._refused("must hold its values, got a parameter")
            if kind == "COLUMN_REF":
                names.add(node["column_names"][0].lower())
                function = node["column_names"][0].lower()
            if function in unstable:
                raise self._refused(f"must give the same whenever it is asked, got {function}(): name a date instead")
        return names

    def evaluate(self, rows: pa.Table) -> pa.ChunkedArray:
        """Its value for each row.

        Raises ConfigError with DuckDB's words and the columns that there are.
        """
        try:
            values = query(f"SELECT (\n{self.text}\n) AS value FROM rows", rows)["value"]
        except duckdb.ConversionException as e:
            raise self._refused(
                f"fails on a row: {_words(e)}; TRY_CAST gives null where a value does not fit, and a null is rejected"
            ) from e
        except duckdb.Error as e:
            raise self._refused(f"cannot be asked: {_words(e)}; the columns are {', '.join(rows.column_names)}") from e
        if len(values) != len(rows):
            raise self._refused(f"must give one value for each row, got {len(values)} for {len(rows)}")
        return values


def _words(error: duckdb.Error) -> str:
    """DuckDB's message without the picture of the query, which is not the user's text."""
    lines = [line.strip() for line in str(error).split("\n\n")[0].splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("LINE", "^")))


def nearest(name: str, names: Sequence[str]) -> str:
    """ ", did you mean 'x'" where some name is near, else nothing."""
    near = nearest_name(name, names)
    return f", did you mean {near!r}" if near else ""
