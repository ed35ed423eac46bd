"""The user's SQL expressions: read, judged and evaluated by DuckDB over Arrow tables.

The engine sees one table, ``rows``, and nothing else: no file, no network, no Python variable, and no setting
can be changed. It has one thread and keeps the order of rows.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded, storage
from topkin.ending.expressions import DEFAULT, ExceededError, Limits, within
from topkin.errors import ConfigError, nearest_name

_local = threading.local()

MAX_DIGITS = 38
"""Of a decimal that the engine has as a number."""

CLOSED = (
    "enable_external_access",
    "autoinstall_known_extensions",
    "autoload_known_extensions",
    "python_enable_replacements",
)


def _engine(limits: Limits | None = None) -> duckdb.DuckDBPyConnection:
    """This thread's engine; that for expressions of the user has a limit of memory."""
    engines: dict[float | None, duckdb.DuckDBPyConnection] = _local.__dict__.setdefault("engines", {})
    memory = None if limits is None else limits.memory
    if memory not in engines:
        more = {} if memory is None else {"memory_limit": f"{memory * 1e9:.0f}B", "temp_directory": ""}
        config = {"threads": 1, **dict.fromkeys(CLOSED, False), **more}
        engines[memory] = duckdb.connect(":memory:", config=config)
        engines[memory].execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
    return engines[memory]


def query(sql: str, rows: pa.Table | None = None, limits: Limits | None = None) -> pa.Table:
    """The result of a query over the table ``rows``, in order. Raises duckdb.Error; ExceededError over its limits."""
    engine = _engine(limits)
    if rows is None:
        return engine.execute(sql).to_arrow_table()
    engine.register("rows", _in_range(_converted(plain(rows), _known_to_engine)))
    try:
        with nullcontext() if limits is None else within(limits, engine.interrupt):
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
        return pa.decimal128(t.precision, t.scale) if t.precision <= MAX_DIGITS else pa.string()
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
    words = frozenset(k["word"] for k in known if k["kind"] in ("reserved", "type_function"))
    return words | _CLOCKS | {"at", "user"}


def number_form(t: pa.DataType) -> str:
    """The form, ``{}`` for the column, that SQL counts with: of decimals of over 38 digits DuckDB has but the text."""
    return "CAST({} AS DOUBLE)" if pa.types.is_decimal256(storage(t)) else "{}"


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


@cache
def _functions() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names of aggregates, of functions whose result is not given by their arguments, and of those over a row."""
    rows = query("SELECT function_name AS name, function_type AS kind, stability FROM duckdb_functions()").to_pylist()
    scalar = {f["name"] for f in rows if f["kind"] in ("scalar", "macro")}
    aggregates = {f["name"] for f in rows if f["kind"] == "aggregate"} - scalar
    unstable = {f["name"] for f in rows if f["kind"] == "scalar" and f["stability"] != "CONSISTENT"} | _CLOCKS
    return frozenset(aggregates), frozenset(unstable), frozenset(scalar - unstable)


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every object of a syntax tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


@cache
def _reserved_words() -> frozenset[str]:
    """The words that SQL keeps for itself, but those that stand between values."""
    words = query("SELECT keyword_name AS word FROM duckdb_keywords() WHERE keyword_category = 'reserved'")["word"]
    return frozenset(words.to_pylist()) - _BETWEEN


_BEFORE = "SELECT (\n"
_CLOCKS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""What gives the time without brackets; in double quotes it is a column."""
_BETWEEN = {"and", "or", "not", "is", "in", "null", "then", "else", "case", "from", "where"}
_TYPES = ("VARCHAR", "STRING", "TEXT", "INTEGER", "BIGINT", "DOUBLE", "DECIMAL", "BOOLEAN", "DATE", "TIMESTAMP", "BLOB")


@lru_cache(1024)
def _tree(text: str) -> dict[str, Any]:
    """The syntax tree of an expression, or what is wrong with it."""
    sql = literal(f"{_BEFORE}{text}\n)")
    tree: dict[str, Any] = json.loads(query(f"SELECT json_serialize_sql({sql}) AS tree")["tree"][0].as_py())
    return tree


@dataclass(frozen=True)
class Expression:
    """One SQL expression over the columns of a row; ``key`` is its place in the configuration."""

    key: str
    text: str
    limits: Limits = DEFAULT

    def refused(self, why: str) -> ConfigError:
        """The error that says what is wrong with it."""
        return ConfigError(f"{self.key}: {self.text!r} {why}")

    def names(self) -> set[str]:
        """The names that it mentions, in lower case: columns and the arguments of lambdas. Raises as references."""
        return {path[0].lower() for path in self._paths()[0]}

    def references(self) -> list[tuple[str, ...]]:
        """The columns that it mentions, each with the fields after it, as written: ``item.category`` has two parts.

        Raises ConfigError where it is not one expression over a row: SQL has no column type for text that
        does not parse, and an aggregate, a window, a subquery or a clock would make a row's fate hang on
        the rows beside it or on the hour.
        """
        paths, arguments = self._paths()
        return [path for path in paths if path[0].lower() not in arguments]

    def _paths(self) -> tuple[list[tuple[str, ...]], set[str]]:
        """All names with what is taken of them, and in lower case those that may be arguments of lambdas."""
        tree = _tree(self.text)
        if tree["error"]:
            quoted = '"' + self.text.replace('"', '""') + '"'
            column = "" if re.search(r"[()*/+<>=,']", self.text) else f"; a column called so is written {quoted!r}"
            raise self.refused(f"is not an SQL expression: {self._syntax_error(tree)}{column}")
        select = tree["statements"][0]["node"]
        if len(tree["statements"]) != 1 or select["type"] != "SELECT_NODE" or len(select["select_list"]) != 1:
            raise self.refused("must be one SQL expression")
        if select["from_table"]["type"] != "EMPTY" or any(
            select.get(k) for k in ("where_clause", "group_expressions", "having", "qualify", "modifiers")
        ):
            raise self.refused("must be an SQL expression, not a query")
        aggregates, unstable, _ = _functions()
        paths, arguments, text = [], set(), f"{_BEFORE}{self.text}".encode()
        for node in _nodes(select["select_list"]):
            kind, function = node.get("class"), str(node.get("function_name", "")).lower()
            if kind in ("WINDOW", "SUBQUERY", "STAR") or function in aggregates or function == "unnest":
                what = function or {"STAR": "*", "SUBQUERY": "a subquery"}.get(str(kind), "a window")
                raise self.refused(f"must be about one row, got {what}: name the row's columns")
            if kind == "PARAMETER":
                raise self.refused("must hold its values, got a parameter")
            if kind == "LAMBDA":
                arguments |= {n["column_names"][0].lower() for n in _nodes(node["lhs"]) if n["class"] == "COLUMN_REF"}
            if kind == "COLUMN_REF":
                paths.append(tuple(node["column_names"]))
                at = node["query_location"]
                if text[at : at + 1] != b'"' and node["column_names"][0].lower() in _CLOCKS:
                    function = node["column_names"][0].lower()
            if function in unstable:
                raise self.refused(f"must give the same whenever it is asked, got {function}(): name a date instead")
        return paths, arguments

    def _syntax_error(self, tree: dict[str, Any]) -> str:
        """Where the text cannot be read on: the word, its place, and what stands before it."""
        rule = "syntax error" if tree["error_message"].startswith("syntax error") else "a quotation does not end"
        at = int(tree.get("position") or 0) - len(_BEFORE)
        before = self.text[: max(at, 0)].strip()
        if not 0 <= at < len(self.text.rstrip()):
            return f"{rule} at its end, after {before!r}: something is missing there, or a bracket is too many"
        word = (re.match(r"\w+|\S", self.text[at:]) or [""])[0]
        quote = f'; a column that is called so is written "{word}"' if word.lower() in _reserved_words() else ""
        return f"{rule} at {word!r} (character {at + 1}), {f'after {before!r}' if before else 'its start'}{quote}"

    def check_columns(self, columns: Sequence[str], *, sides: bool = False) -> None:
        """Raises ConfigError where it mentions a column that is none of the file's ``columns``, with the nearest.

        sides: whether it may ask the item and the user, ``item.category``, see SIDES.
        """
        known = {c.lower() for c in columns}
        for name, *rest in self.references():
            if name.lower() in known or (sides and rest and name.lower() in SIDES):
                continue
            why = f"names a column {name!r}, which is not there{nearest(name, columns)}"
            if rest and name.lower() in SIDES:
                why = f"asks the {name.lower()}, which only rules over purchases can"
            elif name.lower() in SIDES.values() and sides:
                side = next(s for s, section in SIDES.items() if section == name.lower())
                why += f"; a column of [{name.lower()}] is written {'.'.join([side, *(rest or ['x'])])}"
            elif not rest and f'"{name}"' in self.text:
                why += f"; a text is written {literal(name)}"
            raise self.refused(f"{why}; the columns are {_listed(columns)}")

    def evaluate(self, rows: pa.Table) -> pa.ChunkedArray:
        """Its value for each row. Raises ConfigError that says the rule, the columns' types and the cure.

        Where the rows have a column ``side_column("item")``, ``item.category`` is a field of that one.
        """
        try:
            values = query(f"SELECT (\n{self._beside(rows.column_names)}\n) AS value FROM rows", rows, self.limits)[
                "value"
            ]
        except ExceededError as e:
            raise self.refused(self.limits.exceeded(e.what, len(rows))) from e
        except duckdb.Error as e:
            raise self.refused(self._failure(e, rows)) from e
        if len(values) != len(rows):
            raise self.refused(f"must give one value for each row, got {len(values)} for {len(rows)}")
        return values

    def _beside(self, columns: Sequence[str]) -> str:
        """The text with the columns of the item and the user under the name that the rows have them by."""
        sides = {side for side in SIDES if side_column(side) in columns}
        text, arguments = f"{_BEFORE}{self.text}".encode(), self._paths()[1] if sides else set()
        nodes = _nodes(_tree(self.text)["statements"][0]["node"]["select_list"]) if sides else ()
        named = [n for n in nodes if n.get("class") == "COLUMN_REF" and len(n["column_names"]) > 1]
        for node in sorted(named, key=lambda n: -n["query_location"]):
            side, at = node["column_names"][0], node["query_location"]
            if side.lower() in sides - arguments:
                after = at + len(side.encode()) + (2 if text[at : at + 1] == b'"' else 0)
                text = text[:at] + quoted(side_column(side.lower())).encode() + text[after:]
        return text.decode()[len(_BEFORE) :]

    def _failure(self, error: duckdb.Error, rows: pa.Table) -> str:
        """Why it cannot be asked of rows, in topkin's words where they are known."""
        if isinstance(error, duckdb.OutOfMemoryException | MemoryError):
            return self.limits.exceeded("memory", len(rows))
        words = error_words(error)
        types = {c.lower(): rows.schema.field(c).type for c in rows.column_names}
        mentioned = dict.fromkeys(path[0] for path in self.references())
        typed = ", ".join(f"{c} is {types[c.lower()]}" for c in mentioned if c.lower() in types) or "it names no column"
        if len(rows) and isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException):
            return f"fails on a row: {words}; TRY_CAST gives null where a value does not fit, and a null is rejected"
        if missing := re.search(r"Referenced (?:column|table) \"(.+?)\" not found", words):
            name = missing[1]
            return (
                f"names a column {name!r}, which is not there{nearest(name, rows.column_names)}; the columns are "
                f"{_listed(rows.column_names)}"
            )
        if re.search(r"__(pre|post)fix\"? does not exist", words):
            return "is no expression that SQL can read: look at its signs"
        if missing := re.search(r"Function with name \"?(.+?)\"? does not exist", words):
            return f"calls a function {missing[1]!r} that DuckDB does not have{nearest(missing[1], _functions()[2])}"
        if missing := re.search(r"(Type|Collation) with name \"?(.+?)\"? does not exist", words):
            near = nearest(missing[2].upper(), _TYPES) if missing[1] == "Type" else ""
            return f"names a {missing[1].lower()} {missing[2]!r} that DuckDB does not have{near}"
        if missing := re.search(r"Could not find key \"(.+?)\" in struct", words):
            fields = [f.name for t in types.values() if pa.types.is_struct(t) for f in t]
            wins = [c for c in mentioned if c.lower() in SIDES and c.lower() in types]
            why = f"; the file's own column {wins[0]!r} is meant before the {wins[0].lower()}'s" if wins else ""
            return f"names a field {missing[1]!r}, which is not there{nearest(missing[1], fields)}; {typed}{why}"
        if field := re.search(r"Cannot extract field '(.+?)'", words):
            return f"asks for a field {field[1]!r} of a column that has none; {typed}"
        if call := re.search(r"(?:argument types '|function call \")(.+?)\(", words):
            name = {"~~": "LIKE", "!~~": "NOT LIKE"}.get(call[1], call[1])
            return (
                f"gives {name} values that it does not take; {typed}: write all of them, in its order, and cast them, "
                "as in CAST(x AS VARCHAR)"
            )
        if "Cannot compare" in words:
            return f"compares values of two types; {typed}: cast one, as in TRY_CAST(x AS DOUBLE), or quote the other"
        return f"cannot be asked: {words}; {typed}"


SIDES = {"item": "items", "user": "users"}
"""What a rule calls the purchase's item and user, and the section that has their columns."""


def side_column(side: str) -> str:
    """The struct column by which rows have what rules ask of their item or user."""
    return f"__{side}"


def _listed(columns: Sequence[str], most: int = 40) -> str:
    more = f", and {len(columns) - most} more" if len(columns) > most else ""
    return ", ".join(columns[:most]) + more


def error_words(error: duckdb.Error) -> str:
    """What DuckDB says of the user's text, without its own kind, its candidates and the picture of the query."""
    text = re.split(r"\n\s*(?:Candidate|Did you mean|LINE |\n)|, expected format is|You might need to", str(error))[0]
    return re.sub(r"^[\w ]+ Error: ", "", " ".join(text.split()))


def nearest(name: str, names: Iterable[str]) -> str:
    """ ", did you mean 'x'" where some name is near, else nothing."""
    near = nearest_name(name, names)
    return f", did you mean {near!r}" if near else ""


def type_in(schema: pa.Schema, text: str, key: str) -> pa.DataType | None:
    """The type of a column, or of an expression over the row; None for a name that is no column.

    key: where the text stands in the configuration. Raises ConfigError for an expression that does not fit the columns.
    """
    if text in schema.names:
        return schema.field(text).type
    if text.isidentifier():
        return None
    expression = Expression(key, text)
    expression.names()
    return expression.evaluate(schema.empty_table()).type
