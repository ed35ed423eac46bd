"""Tables and ids as users have them: whatever has an Arrow C stream, prepared as the job prepares files."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids
from topkin.config.purchases import ROW_ORDER
from topkin.config.sections import Settings
from topkin.errors import ConfigError, InputError
from topkin.ingest import timestamps
from topkin.ingest.contract import ROLES, InputSource, inspect_table, sources, vector_dim
from topkin.ingest.files import FILE, ROW
from topkin.ingest.inference.columns import profile_columns
from topkin.ingest.inference.undated import has_time
from topkin.ingest.joins.read import table_joins
from topkin.ingest.judging.inputs import plan_of
from topkin.ingest.judging.limits import examples_of, faults_of_rejects, rejects_of_inputs, rows_judged
from topkin.ingest.judging.lookups import Lookup, lookup_rows
from topkin.ingest.prepare import Prepared, PreparePlan, prepare
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.sql import plain
from topkin.ingest.typed.counts import nothing_known
from topkin.ingest.values.baskets import file_columns, unnest
from topkin.ingest.values.findings import value_findings

_LOG = logging.getLogger(__name__)
_LOOKED_AT = 10_000
"""Rows in which a time is looked for."""


class ArrowStream(Protocol):
    """A table that gives its rows as an Arrow C stream: PyArrow, pandas from 2.2, Polars, a DuckDB relation."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The stream, in a capsule."""


Id = int | str | bytes
Ids: TypeAlias = Id | Sequence[Id] | np.ndarray | pa.Array | pa.ChunkedArray | ArrowStream
"""One id, or some: a list, an array, a series of pandas or Polars."""


def as_table(value: ArrowStream, name: str) -> pa.Table:
    """Any table as an Arrow table.

    Raises TypeError for what gives no Arrow C stream, and InputError for a DataFrame of pandas whose columns Arrow does
    not take.
    """
    try:
        if hasattr(value, "__arrow_c_stream__"):
            return pa.table(value)
    except (TypeError, ValueError, OverflowError) as e:  # a single column has a stream too
        if (columns := getattr(value, "columns", None)) is not None:
            raise InputError(_misfit(columns, name, e)) from e
    raise TypeError(
        f"{name} must be a table with the Arrow C stream interface (PyArrow, pandas from 2.2, Polars, a DuckDB "
        f"relation), got {type(value).__name__}: collect a lazy one, read a file with pyarrow.parquet.read_table"
    )


def _misfit(columns: Sequence[object], name: str, refusal: Exception) -> str:
    """Why a DataFrame is no Arrow table: rule, what came, cure."""
    names = [str(column) for column in columns]
    twice = next((column for n, column in enumerate(names) if column in names[:n]), None)
    if twice is not None:
        return f"{name} has several columns called {twice!r}: rename or drop all but one"
    return (
        f"{name}: each column must hold values of one type that Arrow has, got {'; '.join(map(str, refusal.args))}: "
        'make them so, as with df["item_id"] = df["item_id"].astype(str), or drop the column'
    )


def as_ids(values: Ids, kind: pa.DataType, name: str) -> pa.Array:
    """Ids as an array of the type that the purchases' have; a single id is one.

    Raises TypeError where they are of another type: an int 7 is not a string "7".
    """
    if isinstance(values, str | bytes | int | np.integer):
        values = [values]
    try:
        column = pa.chunked_array(values) if hasattr(values, "__arrow_c_stream__") else pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as e:
        raise TypeError(f"{name} must be {kind}, as in the purchases, got values that are not ({e}): cast them") from e
    if not len(column):
        return pa.array([], kind)
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if ids.canonical_type(column.type) != kind:
        raise TypeError(f"{name} must be {kind}, as in the purchases, got {column.type}: cast them")
    if column.null_count:
        raise TypeError(f"{name} must not be null, got {column.null_count} nulls: drop them")
    return ids.canonical(column).combine_chunks()


def named_by_columns(name: str, section: Mapping[str, Any], table: pa.Table) -> dict[str, Any]:
    """A section of the settings in which each column that the table has under topkin's own name is read.

    Purchases without a time, of which the section says nothing else, go by the order of their rows, and a warning says
    so.
    """
    given = ("order", "vector") if name == "users" else ("order",)  # never guessed: they change what a run is
    roles = [role for role in ROLES[name] if role not in given]
    named = {**{role: role for role in roles if role in table.column_names}, **section}
    if named.get("order") is not None and "timestamp" not in section:
        named.pop("timestamp", None)
    elif name == "purchases" and "timestamp" not in named and not has_time(profile_columns(table.slice(0, _LOOKED_AT))):
        named["order"] = ROW_ORDER
        warnings.warn(
            "purchases have no column timestamp and none that reads as a time: each user's go by the order of rows, "
            'and what goes by time is off; purchases={"order": "row"} says that this is meant, {"order": NAME} one',
            stacklevel=3,
        )
    return named


def events_by_columns(
    sections: Mapping[str, Mapping[str, Any]], tables: Mapping[str, ArrowStream] | None, *, by_name: bool
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """The sections of events and their tables, ``events.NAME`` each; columns of topkin's own names are read as such.

    Raises ConfigError where a section has no table, TypeError where the tables are not by type.
    """
    tables = {} if tables is None else tables
    if not isinstance(tables, Mapping):
        raise TypeError(
            f'events must be a mapping of types to tables, got {type(tables).__name__}: give {{"view": table}} with '
            "the name of the type"
        )
    for name in sections.keys() - tables.keys():
        raise ConfigError(f"the settings have a section [events.{name}]: give fit its table, or leave the section out")
    arrow = {name: as_table(value, f"events[{name!r}]") for name, value in tables.items()}
    own = ("user_id", "item_id", "timestamp") if by_name else ()
    values = {
        name: {**{c: c for c in own if c in table.column_names}, **sections.get(name, {}), "path": name}
        for name, table in arrow.items()
    }
    return values, {f"events.{name}": table for name, table in arrow.items()}


def prepare_tables(
    settings: Settings, tables: Mapping[str, pa.Table], as_of: datetime | None
) -> tuple[Prepared, datetime]:
    """What the job ``prepare`` makes of files, of tables in memory; and the as-of date, naive UTC.

    tables: those of ``purchases``, ``items`` and ``users`` that there are. as_of: just after the last purchase
    where it is None. Raises InputError or ConfigError with all that is wrong with the tables.
    """
    if settings.purchases.features:
        raise ConfigError("purchases.features are learned by topkin run, not by a recommender in memory: drop them")
    if settings.vectors_given:
        raise ConfigError(
            "a recommender is trained, and users.vector leaves nothing to train: topkin run makes lists of such vectors"
        )
    clock = datetime.now(UTC).replace(tzinfo=None)
    inputs = {s.name: inspect_table(s, tables[s.name]) for s in sources(settings).values() if s.name in tables}
    findings = [finding for inspection in inputs.values() for finding in inspection.findings]
    inputs = {name: inspection for name, inspection in inputs.items() if inspection.rows or inspection.findings}
    for name in tables.keys() - inputs.keys():
        warnings.warn(f"{name} has no rows: there are no events of this type", stacklevel=3)
    purchases = inputs["purchases"]
    rows: dict[str, pa.Table] = {}
    if not findings:
        rows = {name: _read(tables[name], name, i.columns) for name, i in inputs.items()}
    readable = {name: escape_invalid_utf8(table).rows for name, table in rows.items()}
    if not findings:
        findings = [f for name, i in inputs.items() for f in value_findings(i, readable[name], clock)]
    roles = [(name, role) for name in settings.events for role in ("user_id", "item_id")]
    joined_by = [("items", "item_id"), ("users", "user_id"), *((f"events.{name}", role) for name, role in roles)]
    for name, role in joined_by:
        if not findings and name in inputs and inputs[name].types[role] != purchases.types[role]:
            one, other = inputs[name].types[role], purchases.types[role]
            findings = [InputError(f"{name} must have ids of the purchases' type {other}, got {one}: cast the column")]
    if not findings:
        findings = [fault for joined in table_joins(inputs, readable) if (fault := joined.fault) is not None]
    if findings:
        raise type(findings[0])("\n".join(str(finding) for finding in findings))
    if as_of is None and not purchases.source.timed:
        as_of = clock.replace(hour=0, minute=0, second=0, microsecond=0)
    elif as_of is None:
        as_of = _after_the_last(readable["purchases"], purchases.source, clock)
    items = inputs.get("items")
    dim = None if items is None else vector_dim(items, [readable["items"]])
    plan = plan_of(settings, inputs, as_of, clock, dim)
    lookups = {side: _looked_up(lookup, tables[lookup.source.name]) for side, lookup in plan.lookups.items()}
    prepared = prepare(rows, plan, lookups)
    _refuse_rejects(settings, prepared, plan)
    for line in rejects_of_inputs(prepared.statistics["sources"]):
        _LOG.warning("%s", line)
    if not len(prepared.events):
        raise InputError(
            f"there must be a purchase before {as_of.isoformat()}, got none: "
            f"{prepared.statistics['sources']['purchases']}; look at the data, the rules and as_of"
        )
    if unknown := nothing_known(prepared.statistics):
        raise InputError(unknown)
    return prepared, as_of


def _looked_up(lookup: Lookup, rows: pa.Table) -> pa.Table:
    return lookup_rows(_read(rows, lookup.source.name, lookup.read), lookup)


def _refuse_rejects(settings: Settings, prepared: Prepared, plan: PreparePlan) -> None:
    """Raises InputError where more rows were rejected than ``[prepare]`` allows."""
    faults: list[str] = []
    for name, counts in prepared.statistics["sources"].items():
        source = plan.sources[name]
        examples = examples_of(prepared.rejects.filter(pc.equal(prepared.rejects["source"], name)), source)
        faults += faults_of_rejects(source, counts["rejected"], rows_judged(counts), settings.prepare, examples)
    if faults:
        raise InputError("\n".join(faults))


def _after_the_last(rows: pa.Table, source: InputSource, clock: datetime) -> datetime:
    times = source.rules.normalised(rows)[source.columns["timestamp"]]
    micros, state = timestamps.to_micros(times, source.time_unit)
    past = micros[(state == timestamps.READ) & (micros <= np.datetime64(clock, "us").astype(np.int64))]
    return np.datetime64(int(past.max(initial=-1)) + 1, "us").item()


def _read(table: pa.Table, name: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a table, with where their rows stood, as a reader of files gives them."""
    rows = plain(table)
    rows = rows.select(file_columns(columns, rows.column_names))
    place = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), np.int32)), pa.array([name]))
    rows = rows.append_column(FILE, place).append_column(ROW, pa.array(np.arange(len(rows))))
    return unnest(rows, columns, keep=(FILE, ROW))
