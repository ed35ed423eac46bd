"""What each input must hold: which of its columns are read, of which types, in every one of its files.

The contract is asked of each file, for in a folder the first file's schema would otherwise win silently.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts import ids, schemas
from topkin.config.sections import Settings
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest import timestamps
from topkin.ingest.files import FILE, ROW, File, Files, batches, find, opened
from topkin.ingest.rules import Rules
from topkin.ingest.sql import nearest
from topkin.ingest.utf8 import escape_invalid_utf8


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """One input of the configuration: ``columns`` maps what topkin calls a column to what the file does."""

    name: str
    path: str
    columns: Mapping[str, str]
    rules: Rules = field(default_factory=Rules)
    time_unit: str = "auto"

    def column(self, role: str) -> str | None:
        """The file's name of a column; None where it is not configured."""
        return self.columns.get(role)


ROLES = {
    "purchases": ("user_id", "item_id", "timestamp", "quantity", "price", "segment"),
    "items": ("item_id", "title", "category", "price", "available", "vector"),
    "users": ("user_id", "segment"),
}
ROLES["heldout"] = ROLES["purchases"]


def sources(settings: Settings) -> dict[str, InputSource]:
    """The configured inputs by name: purchases, then those of items, users and heldout that there are."""
    found = {}
    for name, roles in ROLES.items():
        section = getattr(settings, name)
        if section is not None:
            found[name] = InputSource(
                name=name,
                path=section.path,
                columns={r: getattr(section, r) for r in roles if getattr(section, r) is not None},
                rules=Rules.of(name, section.normalise, section.rules),
                time_unit=getattr(section, "time_unit", "auto"),
            )
    return found


def _is_number(t: pa.DataType) -> bool:
    t = ids.storage(t)
    return bool(pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t) or pa.types.is_null(t))


def _is_label(t: pa.DataType) -> bool:
    t = ids.storage(t)
    return bool(ids.canonical_type(t) in (pa.string(), pa.int64()) or pa.types.is_boolean(t) or pa.types.is_null(t))


def _is_vector(t: pa.DataType) -> bool:
    t = ids.storage(t)
    listed = pa.types.is_list(t) or pa.types.is_large_list(t) or (pa.types.is_fixed_size_list(t) and t.list_size > 0)
    return bool(listed and pa.types.is_floating(t.value_type))


def _kept_as(role: str, t: pa.DataType) -> pa.DataType | None:
    """The type in which all files' ids, and vectors whose length their type says, are kept."""
    if role != "vector":
        return ids.canonical_type(t)
    t = ids.storage(t)
    return schemas.vector(t.list_size) if pa.types.is_fixed_size_list(t) else None


_ACCEPTED = {
    "user_id": (lambda t: ids.canonical_type(t) is not None, ids.ACCEPTED),
    "item_id": (lambda t: ids.canonical_type(t) is not None, ids.ACCEPTED),
    "timestamp": (timestamps.accepts, timestamps.ACCEPTED),
    "quantity": (_is_number, "a number"),
    "price": (_is_number, "a number"),
    "segment": (_is_label, "a string, an integer or a boolean"),
    "title": (_is_label, "a string"),
    "category": (_is_label, "a string, an integer or a boolean"),
    "available": (lambda t: pa.types.is_boolean(t), "a boolean"),
    "vector": (_is_vector, "a list of floats"),
}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What the files of an input turned out to be.

    ``columns``: those that are read, in order. ``types``: what ids are kept as, by user_id and item_id, and
    vectors of a fixed size, by vector.
    ``earliest``: the first purchase as the files' own statistics say, naive UTC, where all do. ``latest``: the last,
    as those say that do.
    ``findings``: what breaks the contract; where there are any, the rest is not to be relied on.
    """

    source: InputSource
    files: tuple[File, ...] = ()
    columns: tuple[str, ...] = ()
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    earliest: datetime | None = None
    latest: datetime | None = None
    findings: tuple[TopkinError, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(f.rows for f in self.files)


def columns_read(source: InputSource, available: Sequence[str]) -> list[str]:
    """The columns to read from a file that has ``available``: the configured ones, then those of expressions.

    Configured columns that ``normalise`` makes need not be there. Raises ConfigError for a bad expression, and for
    one whose result nothing reads: the name of its column is misspelt.
    """
    for column in source.rules.unread([*available, *source.columns.values()]):
        raise ConfigError(
            f"{source.name}.normalise.{column}: nothing reads {column!r}, it is no column of the file"
            f"{nearest(column, available)}: name a column as the file or {source.name} has it"
        )
    made = {c for c, _ in source.rules.normalise}
    wanted = [c for c in source.columns.values() if c in available or c not in made]
    return list(dict.fromkeys([*wanted, *sorted(source.rules.columns(available))]))


def _contract(
    source: InputSource, file: str, schema: pa.Schema, columns: Sequence[str], bind: Callable[[pa.Schema], pa.Schema]
) -> list[TopkinError]:
    """What a file's schema breaks; ``bind`` is the rules' ``bound``, remembered."""
    keys = {c: f"{source.name}.{r}" for r, c in source.columns.items()}
    found: list[TopkinError] = [
        InputError(
            f"{file} has no column {c!r} ({keys.get(c, 'an expression of ' + source.name)}){nearest(c, schema.names)}; "
            f"its columns are {', '.join(schema.names) or 'none'}"
        )
        for c in columns
        if c not in schema.names
    ]
    found += [
        InputError(
            f"{file} has {schema.names.count(c)} columns called {c!r}: a name must mean one of them, rename the others"
        )
        for c in columns
        if schema.names.count(c) > 1
    ]
    found += [
        InputError(f"{file}: column {c!r} has a name that topkin keeps for itself: rename it")
        for c in columns
        if c in (FILE, ROW)
    ]
    if found:
        return found
    clash = sorted(c for c in columns if sum(c.lower() == o.lower() for o in columns) > 1)
    if clash:
        return [
            InputError(f"{file}: columns {clash} differ in letter case only, which SQL cannot tell apart: rename one")
        ]
    try:
        bound = bind(pa.schema([schema.field(c) for c in columns]))
    except ConfigError as e:
        return [e]
    for role, c in source.columns.items():
        accepts, accepted = _ACCEPTED[role]
        t = bound.field(c).type
        if not accepts(t):
            cure = (
                ids.suggest_cast(c, t, source.name)
                if role.endswith("_id")
                else (f"set {source.name}.normalise.{c} to an SQL expression that gives {accepted}")
            )
            found.append(InputError(f"{file}: column {c!r} ({source.name}.{role}) must be {accepted}, got {t}: {cure}"))
    return found


def inspect(source: InputSource, files: Files) -> Inspection:
    """Find the files of an input and hold each to the contract, by its footer alone."""
    try:
        found = find(f"{source.name}.path", source.path, files)
    except InputError as e:
        return Inspection(source=source, findings=(e,))

    def footer(file: File) -> tuple[pa.Schema, int, tuple[datetime, datetime] | None] | InputError:
        try:
            with opened(source.name, file.path, files) as parquet:
                return parquet.schema_arrow, parquet.metadata.num_rows, _span(parquet, source)
        except InputError as e:
            return e

    with ThreadPoolExecutor(8) as pool:
        footers = list(pool.map(footer, found))
    faults = [(f.path, e) for f, e in zip(found, footers, strict=True) if isinstance(e, InputError)]
    read = [(f, *s) for f, s in zip(found, footers, strict=True) if not isinstance(s, InputError)]
    if not read:
        return Inspection(source=source, findings=_merge_alike(faults))
    try:
        names = list(dict.fromkeys(n for _, schema, *_ in read for n in schema.names))
        columns = columns_read(source, _common(names, read[0][1].names))
    except ConfigError as e:
        return Inspection(source=source, findings=(*_merge_alike(faults), e))
    bind = cache(source.rules.bound)
    types: dict[str, pa.DataType] = {}
    first: dict[str, str] = {}
    verdicts: dict[str, None] = {}
    for file, schema, *_ in read:
        broken = _contract(source, file.path, schema, columns, bind)
        faults.extend((file.path, b) for b in broken if isinstance(b, InputError))
        verdicts.update({str(b): None for b in broken if isinstance(b, ConfigError)})  # the same for each file
        if broken:
            continue
        bound = bind(pa.schema([schema.field(c) for c in columns]))
        for role in ("user_id", "item_id", "vector"):
            kind = _kept_as(role, bound.field(source.columns[role]).type) if role in source.columns else None
            if kind is not None:
                if types.setdefault(role, kind) != kind:
                    fault = InputError(
                        f"{file.path}: column {source.columns[role]!r} ({source.name}.{role}) is {kind}, but "
                        f"{types[role]} in {first[role]}: write all files with one type, or set "
                        f"{source.name}.normalise.{source.columns[role]}"
                    )
                    faults.append((file.path, fault))
                first.setdefault(role, file.path)
    findings: list[TopkinError] = [*_merge_alike(faults), *(ConfigError(message) for message in verdicts)]
    counted = tuple(File(f.path, f.bytes, f.modified, n) for f, _, n, _ in read)
    if not findings and not sum(f.rows for f in counted):
        findings.append(InputError(f"{source.name}.path: {source.path} holds no rows"))
    spans = [span for _, _, n, span in read if n]
    told = [span for span in spans if span is not None]
    return Inspection(
        source=source,
        files=counted,
        columns=tuple(columns),
        types=types,
        earliest=min((s[0] for s in told), default=None) if len(told) == len(spans) else None,
        latest=max((s[1] for s in told), default=None),
        findings=tuple(findings),
    )


def inspect_table(source: InputSource, rows: pa.Table) -> Inspection:
    """As :func:`inspect`, of rows that are in memory: messages name them by the source's path."""
    try:
        columns = columns_read(source, rows.schema.names)
    except ConfigError as e:
        return Inspection(source=source, findings=(e,))
    findings = _contract(source, source.path, rows.schema, columns, source.rules.bound)
    if not findings and not len(rows):
        findings = [InputError(f"{source.name} must have rows, got none: look at how the table was made")]
    if findings:
        return Inspection(source=source, findings=tuple(findings))
    bound = source.rules.bound(pa.schema([rows.schema.field(c) for c in columns]))
    types = {r: _kept_as(r, bound.field(c).type) for r, c in source.columns.items() if r in ("user_id", "item_id")}
    file = File(source.path, rows.nbytes, rows=len(rows))
    return Inspection(source=source, files=(file,), columns=tuple(columns), types=types)


FILES_NAMED = 4  # files named after the first that share its fault


def _merge_alike(faults: Sequence[tuple[str, InputError]]) -> tuple[TopkinError, ...]:
    """Each fault of (file, error) once, with the files that share it: some by name, the others by number."""
    alike: dict[str, list[tuple[str, InputError]]] = {}
    for path, error in faults:
        alike.setdefault(str(error).replace(path, "", 1), []).append((path, error))
    told = []
    for (_, error), *others in alike.values():
        if others:
            more = f", and {len(others) - FILES_NAMED:,} more" if len(others) > FILES_NAMED else ""
            error = InputError(f"{error}; likewise {', '.join(path for path, _ in others[:FILES_NAMED])}{more}")
        told.append(error)
    return tuple(told)


def _span(parquet: pq.ParquetFile, source: InputSource) -> tuple[datetime, datetime] | None:
    """The least and the greatest time of a file, by its statistics; None where they do not say it."""
    column = source.column("timestamp")
    meta, schema = parquet.metadata, parquet.schema_arrow
    made = {c.lower() for c, _ in source.rules.normalise}
    if column is None or schema.names.count(column) != 1 or column.lower() in made:
        return None
    kind = schema.field(column).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date32(kind)):
        return None
    at = [meta.schema.column(i).path for i in range(meta.num_columns)].index(column)
    ends = []
    for group in range(meta.num_row_groups):
        chunk = meta.row_group(group).column(at)
        found = chunk.statistics if chunk.is_stats_set else None
        if found is None or not found.has_min_max:
            return None
        try:
            ends += [found.min, found.max]
        except (OverflowError, ValueError):  # before the year 1 or after 9999
            return None
    if not ends:
        return None
    micros, _ = timestamps.to_micros(pa.chunked_array([pa.array(ends).cast(kind)]))
    first, last = (np.datetime64(int(m), "us").item() for m in (micros.min(), micros.max()))
    return first, last


def _common(names: list[str], first: list[str]) -> list[str]:
    """The column names of all files, those of the first winning over others that differ in letter case only."""
    lower = {n.lower() for n in first}
    return [*first, *(n for n in names if n not in first and n.lower() not in lower)]


def sample(inspection: Inspection, files: Files, rows: int = 8192) -> pa.Table | None:
    """The first rows of an input, as its reader gives them but their texts readable; None where it has none."""
    for file in inspection.files:
        for table in batches(inspection.source.name, file.path, files, inspection.columns, rows=rows):
            if len(table):
                return escape_invalid_utf8(table).rows
    return None


def vector_dim(inspection: Inspection, files: Files) -> int | None:
    """How many numbers a vector of the items has: as its type says, or as the first that is there; None for no column.

    Raises InputError where no row has one.
    """
    source = inspection.source
    column = source.column("vector")
    if column is None:
        return None
    if "vector" in inspection.types:
        return int(inspection.types["vector"].list_size)
    for file in inspection.files:
        for table in batches(source.name, file.path, files, inspection.columns, rows=8192):
            if (length := vector_length(source, table)) is not None:
                return length
    raise InputError(
        f"{inspection.files[0].path}: column {column!r} ({source.name}.vector) must hold a vector in some row, got "
        f"none: write the vectors, or drop {source.name}.vector"
    )


def vector_length(source: InputSource, rows: pa.Table) -> int | None:
    """How many numbers the first vector of an input's rows has; None where none has any."""
    values = source.rules.normalised(escape_invalid_utf8(rows).rows)[source.columns["vector"]]
    lengths = pc.list_value_length(ids.decoded(values))
    first = lengths.filter(pc.fill_null(pc.greater(lengths, 0), False))
    return int(first[0].as_py()) if len(first) else None


def time_unit_finding(inspection: Inspection, rows: pa.Table, clock: datetime) -> InputError | None:
    """What is wrong where epoch numbers are not in the configured unit; None where all is well."""
    source = inspection.source
    column = source.columns["timestamp"]
    seems = timestamps.unit_mistake(source.rules.normalised(rows)[column], source.time_unit, clock)
    if seems is None:
        return None
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
    return InputError(
        f"{inspection.files[0].path}: column {column!r} ({source.name}.timestamp) must be epoch "
        f"{words[source.time_unit]}, as {source.name}.time_unit says, got {words[seems]} such as {rows[column][0]}: "
        f"set {source.name}.time_unit = {seems!r} or 'auto'"
    )
