"""What each input must hold: which of its columns are read, of which types, in every one of its files.

The contract is asked of each file, for in a folder the first file's schema would otherwise win silently.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts import ids
from topkin.config.purchases import ROW_ORDER
from topkin.config.section import Section
from topkin.config.sections import Settings
from topkin.ending.expressions import Limits
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest import timestamps
from topkin.ingest.files import FILE, ROW, File, Files, Footer, InputFooters, batches, find, read_footers
from topkin.ingest.folders.dates import time_expression
from topkin.ingest.folders.faults import merge_alike
from topkin.ingest.folders.spans import Span, ends_of, spans_of
from topkin.ingest.readers import ACCEPTED, EVENT_ROLES, INPUT, ROLES, common_type, escape_invalid_utf8, key_of
from topkin.ingest.rules import Rules
from topkin.ingest.sql import literal, nearest, quoted_if_needed
from topkin.ingest.typed.source import event_source, made_weight
from topkin.ingest.values import features
from topkin.ingest.values.baskets import (
    PLACE,
    flat_schema,
    list_path,
    missing_path,
    rows_to_add,
    rows_to_add_by_footer,
    several_lists,
)
from topkin.ingest.values.id_faults import merged_floats
from topkin.ingest.values.type_cures import normalise_key, setting, type_cure
from topkin.privacy.forgotten import Forgotten


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """One input of the configuration: ``columns`` maps what topkin calls a column to what the file does.

    keep: which row of an item or a user counts that is listed several times, ``first`` or ``last``. record: whether
    rejects keep what was read. features: the kind
    of each feature by its name, None where its type says it; among the columns they have ``features.PREFIX``.
    unlearned: those of them that the encoder does not learn from.
    forgotten: users whose rows are passed over, where there are some.
    """

    name: str
    path: str
    columns: Mapping[str, str]
    rules: Rules = field(default_factory=Rules)
    time_unit: str = "auto"
    keep: str = "first"
    record: bool = True
    features: Mapping[str, str | None] = field(default_factory=dict)
    unlearned: frozenset[str] = frozenset()
    forgotten: Forgotten | None = None

    def column(self, role: str) -> str | None:
        """The file's name of a column; None where it is not configured."""
        return self.columns.get(role)

    @property
    def timed(self) -> bool:
        """Whether purchases have times; else they have an order, of a column or of rows."""
        return "timestamp" in self.columns

    @property
    def may_be_empty(self) -> bool:
        """Whether no rows are no fault: there are nights without a return."""
        return self.name.startswith("events.")


def _columns(section: Section, roles: Sequence[str]) -> dict[str, str]:
    """What the file calls the columns of the roles that are configured; an order of rows is no column."""
    columns = {r: c for r in roles if (c := getattr(section, r, None)) is not None}
    return {r: c for r, c in columns.items() if (r, c) != ("order", ROW_ORDER)}


def sources(settings: Settings) -> dict[str, InputSource]:
    """The configured inputs by name: those of purchases, items, users and heldout that there are."""
    inputs, limits = dict[str, InputSource](), Limits(settings.prepare.rule_seconds, settings.prepare.rule_memory)
    for name, roles in ROLES.items():
        section, roles = getattr(settings, name), (*roles, *(EVENT_ROLES if "timestamp" in roles else ()))
        if section is not None and (settings.has_purchases or name != "purchases"):
            own = getattr(section, "features", {})
            columns = {features.PREFIX + feature: spec.column for feature, spec in own.items()}
            columns |= made_weight(getattr(section, "weight", None))
            inputs[name] = InputSource(
                name=name,
                path=section.path,
                columns={**_columns(section, roles), **{c.removeprefix("__"): c for c in columns}},
                rules=Rules.of(name, section.normalise, section.rules, columns, limits=limits),
                features={feature: spec.kind for feature, spec in own.items()},
                unlearned=frozenset(feature for feature, spec in own.items() if not spec.learned),
                time_unit=getattr(section, "time_unit", "auto"),
                keep=section.duplicates if name in ("items", "users") else "first",
                record=settings.rejects.record,
            )
    return inputs | {f"events.{name}": InputSource(**event_source(name, settings, limits)) for name in settings.events}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What the files of an input turned out to be.

    ``columns``: those that are read, in order. ``types``: what ids are kept as, by user_id and item_id, vectors of a
    fixed size, by vector, and features.
    ``earliest``: the first purchase as the files' own statistics say, naive UTC, where all do. ``latest``: the last,
    as those say that do.
    ``schema``: the columns of the first file with rows, those of folders' names among them. ``schemas``: of each such
    file, by its path.
    ``unnested``: rows that lists add to those of the files. ``passed_over``: the files that are not read, in words.
    ``findings``: what breaks the contract; where there are any, the rest is not to be relied on.
    """

    source: InputSource
    files: tuple[File, ...] = ()
    columns: tuple[str, ...] = ()
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    earliest: datetime | None = None
    latest: datetime | None = None
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    schemas: Mapping[str, pa.Schema] = field(default_factory=dict)
    unnested: int = 0
    passed_over: str = ""
    findings: tuple[TopkinError, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(f.rows for f in self.files)

    @property
    def rows_judged(self) -> int:
        """Rows in all files, and those that lists add."""
        return self.rows + self.unnested


def columns_read(source: InputSource, available: Sequence[str]) -> list[str]:
    """The columns to read from a file that has ``available``: the configured ones, then those of expressions.

    Configured columns that ``normalise`` makes need not be there. Raises ConfigError for a bad expression, and for
    one whose result nothing reads: the name of its column is misspelt.
    """
    for column in source.rules.unread([*available, *source.columns.values()]):
        raise ConfigError(
            f"{normalise_key(source.name, column)}: nothing reads {column!r}, it is no column of the file"
            f"{nearest(column, available)}: name a column as the file or {source.name} has it"
        )
    computed = {c for c, _ in source.rules.normalise}
    configured = [c for c in source.columns.values() if c in available or c not in computed]
    return list(dict.fromkeys([*configured, *sorted(source.rules.columns(available))]))


def _name_faults(
    source: InputSource, schema: pa.Schema, columns: Sequence[str], asking: Mapping[str, str] | None = None
) -> list[str]:
    """What the names of a file's columns break, for a message that begins with the file.

    asking: column -> key of what asks for it, where that is no key of the source.
    """
    names = schema.names
    own = [n for n in names if list_path(n) is None]
    if lists := several_lists(columns, own):
        one, other = map(quoted_if_needed, lists[:2])
        fields = f"{literal(lists[0])}: e, {literal(lists[1])}: {other}[i]"
        zipped = f"list_transform({one}, (e, i) -> {{{fields}}})"
        cure = f"write them as one list of structs, as DuckDB's {zipped} makes it, or leave one out"
        return [f": one list of a row can become rows, got {' and '.join(lists)}: {cure}"]
    if wrong := [text for c in columns if c not in names and (text := missing_path(c, schema)) is not None]:
        return [f": {text}" for text in wrong]
    keys = {c: key_of(source.name, r) for r, c in source.columns.items()}
    missing = " has no column {!r} ({}){}; its columns are {}: {}"
    twice = " has {} columns called {!r}: a name must mean one of them, rename the others"
    listed = ", ".join(names) or "none"
    expression = f"an expression of {source.name}"
    faults = [
        missing.format(
            c,
            keys.get(c) or (asking or {}).get(c, expression),
            nearest(c, names),
            listed,
            f"set {keys[c]} to one of them" if c in keys else "mend the expression",
        )
        for c in columns
        if c not in names
    ]
    faults += [twice.format(names.count(c), c) for c in columns if names.count(c) > 1]
    faults += [
        f": column {c!r} has a name that topkin keeps for itself: rename it"
        for c in columns
        if c.lower() in (FILE, ROW, PLACE)  # as SQL compares names
    ]
    clash = sorted(c for c in columns if sum(c.lower() == o.lower() for o in columns) > 1)
    if clash and not faults:
        return [f": columns {clash} differ in letter case only, which SQL cannot tell apart: rename one"]
    return faults


def _time_stand_in(source: InputSource, schema: pa.Schema, fault: str) -> str:
    """A fault, with what may stand in for a missing time: columns of year, month and day, or an order of purchases."""
    column = source.column("timestamp")
    if not column or not fault.startswith(f" has no column {column!r} "):
        return fault
    if time := time_expression(schema):
        return f"{fault}, or {setting(source.name, column, time)}"
    if source.name.startswith("events."):
        return fault
    return f'{fault}, or, where there are no times, {source.name}.order = "row" or to a column of positions'


def _type_faults(source: InputSource, bound: pa.Schema, lost: Mapping[str, str]) -> list[str]:
    """What the types of a file's columns, after ``normalise``, break, for a message that begins with the file.

    lost: why columns of floats hold ids no more.
    """
    faults = []
    for role, c in source.columns.items():
        if role.startswith(INPUT):  # the encoder says what it takes
            continue
        t = bound.field(c).type
        if role.startswith(features.PREFIX):
            name = role.removeprefix(features.PREFIX)
            fault = features.type_fault(source.name, name, source.features[name], t)
            faults += [] if fault is None else [fault]
            continue
        accepts, accepted = ACCEPTED[role]
        if role == "weight" and not accepts(t):
            faults.append(f": {source.name}.weight must be a number, got {t}: give TRY_CAST(… AS DOUBLE)")
        elif not accepts(t):
            came = lost[c] if c in lost else f"{t}: {type_cure(source.name, role, c, t)}"
            faults.append(f": column {c!r} ({source.name}.{role}) must be {accepted}, got {came}")
    return faults


def inspect(source: InputSource, files: Files, known: InputFooters | None = None) -> Inspection:
    """Find the files of an input and hold each to the contract, by its footer alone.

    A file without rows is held to nothing. known: what was read before, and is not read again.
    """
    try:
        listing = known.listing if known else find(f"{source.name}.path", source.path, files)
    except InputError as e:
        return Inspection(source=source, findings=(e,))

    if known is None:
        footers = read_footers(source.name, listing, files, lambda parquet, file: _look(parquet.metadata, file, source))
    else:
        footers = [replace(f, look=_look(f.look, f.file, source)) for f in known.footers]
    faults: list[tuple[str, TopkinError]] = [
        (file.path, e) for file, e in zip(listing.files, footers, strict=True) if isinstance(e, InputError)
    ]
    configured = source.columns.values()
    every = [replace(f, schema=flat_schema(f.schema, configured)) for f in footers if isinstance(f, Footer)]
    read = [f for f in every if f.file.rows]
    inspection = Inspection(
        source=source,
        files=tuple(f.file for f in every),
        schema=next((f.schema for f in [*read, *every]), pa.schema([])),
        passed_over=listing.passed_over,
        findings=merge_alike(faults),
    )
    if not read:
        fault = InputError(f"{source.name}.path: {source.path} holds no rows: write it again")
        empty = () if source.may_be_empty else (fault,)
        return inspection if inspection.findings else replace(inspection, findings=empty)
    try:
        names = list(dict.fromkeys(name for f in read for name in f.schema.names))
        columns = columns_read(source, _common(names, read[0].schema.names))
    except ConfigError as e:
        return replace(inspection, findings=(*inspection.findings, e))
    some = _first_values(source, read[0].file, _float_ids(source, read[0].schema), files)
    types = _check_files(source, [(f.file.path, f.schema) for f in read], columns, faults, some)
    spans = spans_of([f.look.span for f in read], source.time_unit)
    stated = [span for span in spans if span is not None]
    once: dict[pa.Schema, pa.Schema] = {}
    return replace(
        inspection,
        schemas={f.file.path: once.setdefault(f.schema, f.schema) for f in read},
        columns=tuple(columns),
        types=types,
        earliest=min((first for first, _ in stated), default=None) if len(stated) == len(read) else None,
        latest=max((last for _, last in stated), default=None),
        unnested=sum(f.look.unnested for f in read),
        findings=merge_alike(faults),
    )


def inspect_table(source: InputSource, rows: pa.Table) -> Inspection:
    """As :func:`inspect`, of rows that are in memory: messages name them by the source's path."""
    if source.may_be_empty and not len(rows):
        return Inspection(source=source)
    try:
        schema = flat_schema(rows.schema, source.columns.values())
        columns = columns_read(source, schema.names)
    except ConfigError as e:
        return Inspection(source=source, findings=(e,))
    faults: list[tuple[str, TopkinError]] = []
    some = {c: rows[c] for c in _float_ids(source, schema) if c in rows.column_names}
    types = _check_files(source, [(source.path, schema)], columns, faults, some)
    findings = [error for _, error in faults]
    if not findings and not len(rows):
        findings = [InputError(f"{source.name} must have rows, got none: look at how the table was made")]
    if findings:
        return Inspection(source=source, findings=tuple(findings))
    file = File(source.path, rows.nbytes, rows=len(rows))
    return Inspection(
        source=source,
        files=(file,),
        columns=tuple(columns),
        schema=schema,
        schemas={source.path: schema},
        types=types,
        unnested=rows_to_add(rows, columns),
    )


def column_findings(inspection: Inspection, asking: Mapping[str, str]) -> tuple[TopkinError, ...]:
    """What is wrong where some file lacks a column, or has several of one name: column -> key of what asks for it."""
    faults: list[tuple[str, TopkinError]] = [
        (path, InputError(path + text))
        for path, schema in inspection.schemas.items()
        for text in _name_faults(inspection.source, schema, list(asking), asking)
    ]
    return merge_alike(faults)


def _float_ids(source: InputSource, schema: pa.Schema) -> list[str]:
    """The columns of ids that are floats as they came, and that no expression replaces."""
    computed = {c.lower() for c, _ in source.rules.normalise}
    columns = [c for role, c in source.columns.items() if role.endswith("_id") and c.lower() not in computed]
    own = [c for c in columns if schema.names.count(c) == 1]
    return [c for c in own if pa.types.is_floating(ids.storage(schema.field(c).type))]


def _first_values(source: InputSource, file: File, columns: Sequence[str], files: Files) -> dict[str, pa.ChunkedArray]:
    """The first values of some columns of a file; none where it cannot be read, which its reader tells."""
    try:
        return {c: next(batches(source.name, file, files, [c], rows=65_536))[c] for c in columns}
    except InputError:
        return {}


def _check_files(
    source: InputSource,
    schemas_read: Sequence[tuple[str, pa.Schema]],
    columns: Sequence[str],
    faults: list[tuple[str, TopkinError]],
    float_ids: Mapping[str, pa.ChunkedArray],
) -> dict[str, pa.DataType]:
    """Add the faults of each file of (path, schema) to ``faults``; the types that all files share, by role.

    float_ids: some values of columns of floats that should be ids.
    """
    lost = {c: why for c, values in float_ids.items() if (why := merged_floats(ids.decoded(values))) is not None}
    bind = cache(source.rules.bound)
    types: dict[str, tuple[pa.DataType, str]] = {}  # and the first file that has it
    anywhere = {name for _, schema in schemas_read for name in schema.names}
    for path, schema in schemas_read:
        broken = [_time_stand_in(source, schema, fault) for fault in _name_faults(source, schema, columns)]
        broken = [_lacking_here(fault, anywhere) for fault in broken]
        own = (c for role, c in source.columns.items() if not role.startswith((features.PREFIX, "weight")))
        known = list(dict.fromkeys([*schema.names, *columns, *own]))
        unknown = source.rules.column_faults(known, sides=source.name in ("purchases", "heldout"))
        faults.extend((path, e) for e in unknown)
        if unknown and not broken:
            continue
        try:
            bound = schema if broken else bind(pa.schema([schema.field(c) for c in columns]))
        except ConfigError as e:  # the same for each file
            faults.append((path, e))
            continue
        broken = broken or _type_faults(source, bound, lost)
        more = (role for role in source.columns if role.startswith((INPUT, features.PREFIX)))
        for role in ("user_id", "item_id", "vector", *more) if not broken else ():
            column = source.column(role)
            t = None if column is None else _shared_type(source, role, bound.field(column).type)
            common, first = types.setdefault(role, (t, path)) if t is not None else (t, path)
            if common != t:
                computed = role.startswith(features.PREFIX)
                set_key = key_of(source.name, role) if computed else normalise_key(source.name, source.columns[role])
                broken.append(
                    f": column {column!r} ({key_of(source.name, role)}) is {t}, but {common} in {first}: write all "
                    f"files with one type, or set {set_key}{' to a CAST of it' if computed else ''}"
                )
        faults.extend((path, InputError(path + text)) for text in broken)
    return {role: t for role, (t, _) in types.items()}


def _lacking_here(fault: str, anywhere: Collection[str]) -> str:
    """A fault, with what mends a column that other files of the input have."""
    if any(fault.startswith(f" has no column {column!r} ") for column in anywhere):
        return f"{fault}; other files have the column: write this one with it too, or keep it out of the folder"
    return fault


def _shared_type(source: InputSource, role: str, t: pa.DataType) -> pa.DataType | None:
    """The type that all files of an input must share in a role; None where they need not."""
    name = role.removeprefix(features.PREFIX)
    return common_type(role, t) if name == role else features.kept_type(source.features[name], t)


class _Look(NamedTuple):
    """What a footer tells of a file: when its purchases were, see ``_span``, and how many rows its lists add."""

    span: Span | pa.Scalar | None
    unnested: int


def _look(meta: pq.FileMetaData, file: File, source: InputSource) -> _Look:
    available = file.schema(meta.schema.to_arrow_schema()).names
    return _Look(_span(meta, file, source), rows_to_add_by_footer(meta, list(source.columns.values()), available))


def _span(meta: pq.FileMetaData, file: File, source: InputSource) -> Span | pa.Scalar | None:
    """The least and the greatest time of a file by its statistics, or the one of its folder; None for neither."""
    column = source.column("timestamp")
    computed = {c.lower() for c, _ in source.rules.normalise}
    if column is None or column.lower() in computed:
        return None
    schema = meta.schema.to_arrow_schema()
    if (value := file.missing_from(schema).get(column)) is not None:
        return value if value.is_valid and timestamps.accepts(value.type) else None
    if schema.names.count(column) != 1:
        return None
    t = schema.field(column).type
    if not (pa.types.is_timestamp(t) or pa.types.is_date32(t)):
        return None
    number = [meta.schema.column(i).path for i in range(meta.num_columns)].index(column)
    ends = []
    for group in range(meta.num_row_groups):
        chunk = meta.row_group(group).column(number)
        statistics = chunk.statistics if chunk.is_stats_set else None
        if statistics is None or not statistics.has_min_max:
            return None
        try:
            ends += [statistics.min, statistics.max]
        except (OverflowError, ValueError):  # before the year 1 or after 9999
            return None
    if not ends:
        return None
    return ends_of(pa.chunked_array([pa.array(ends).cast(t)]))


def _common(names: list[str], first: list[str]) -> list[str]:
    """The column names of all files, those of the first winning over others that differ in letter case only."""
    lower = {n.lower() for n in first}
    return [*first, *(n for n in names if n not in first and n.lower() not in lower)]


def vector_dim(inspection: Inspection, tables: Iterable[pa.Table]) -> int | None:
    """How many numbers a vector of the items or users has: by its type or the first vector; None for no column.

    tables: of their rows, their texts readable, of which no more are taken than are needed. Raises InputError
    where no row has a vector.
    """
    source = inspection.source
    column = source.column("vector")
    if column is None:
        return None
    if "vector" in inspection.types:
        return int(inspection.types["vector"].list_size)
    for table in tables:
        lengths = pc.list_value_length(ids.decoded(source.rules.normalised(table)[column]))
        first = lengths.filter(pc.fill_null(pc.greater(lengths, 0), False))
        if len(first):
            return int(first[0].as_py())
    raise InputError(
        f"{inspection.files[0].path}: column {column!r} ({source.name}.vector) must hold a vector in some row, got "
        f"none: write the vectors, or drop {source.name}.vector"
    )


def readable_rows(inspection: Inspection, files: Files, rows: int = 8192) -> Iterator[pa.Table]:
    """The rows of an input's files, in tables of at most ``rows``, their texts readable."""
    for file in inspection.files:
        for table in batches(inspection.source.name, file, files, inspection.columns, rows=rows):
            yield escape_invalid_utf8(table).rows
