"""``topkin query``: SQL over the tables of a run, by DuckDB, which can reach nothing else and change nothing.

The tables are views by the names of ``topkin.open_run``. There is no file beside them, no network and no setting, one
statement that reads, and a limit of memory. The files of a table that a query names are verified first, each byte by
the manifest above it; then rows are read from them as the query needs them.
"""

import csv
import json
import math
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from rich.console import Console
from rich.text import Text

from topkin.artifacts import lookup, manifest, storage
from topkin.artifacts.runs import Run
from topkin.ending import signals
from topkin.errors import ArtifactError, ConfigError
from topkin.ingest.sql import CLOSED, error_words, nearest
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.read.runs import run_of
from topkin.pipelines.cli.show import plain_text
from topkin.pipelines.cli.terminal.tables import Sheet
from topkin.planning.estimate import size
from topkin.telemetry.profiling import machine_memory

FORMATS = ("table", "csv", "json")
SHOWN = 100
"""Rows of the format table, in which a screen shows them."""
BATCH_ROWS = 10_000
BLOCK = 1 << 22
PIVOT = re.compile(r"\bpivot\b", re.IGNORECASE)
NO_COLUMN = "user is in SQL the name of whoever asks, the same in every row: the column of users is user_id"


def main(options: CommandOptions, words: Sequence[str], form: str, run_id: str | None) -> None:
    """Ask and print. Raises ConfigError for SQL that cannot be asked."""
    if len(words) != 1:
        raise ConfigError(
            f"topkin query takes its SQL as one argument, got {len(words)}: put quotes around it, as in "
            'topkin query "SELECT * FROM recommendations"'
        )
    sql = words[0]
    if form not in FORMATS:
        raise ConfigError(f"--format must be {', '.join(FORMATS)}, got {form!r}{nearest(form, FORMATS)}")
    run = run_of(options, run_id)
    schema, rows = query(run, sql)
    if options.json or form == "json":
        _print_json(rows)
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(schema.names)
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    else:
        _print_table(schema, rows)


def query(run: Run, sql: str, memory: float | None = None) -> tuple[pa.Schema, Iterator[dict[str, Any]]]:
    """The columns of a query's result, and its rows as JSON can hold them, read while they are taken.

    Args:
        run: Its tables are the views.
        sql: One statement that reads.
        memory: Bytes that it may take, half of this machine's without it.

    Raises:
        ConfigError: The SQL is wrong, or takes more memory.
    """
    limit = machine_memory() / 2 if memory is None else memory
    closed = {**dict.fromkeys(CLOSED, False), "memory_limit": f"{limit:.0f}B", "temp_directory": ""}
    engine = duckdb.connect(":memory:", config=closed)
    columns, words = {}, sql.lower()
    copies = os.path.join(tempfile.gettempdir(), f"topkin-query-{uuid.uuid4().hex}")
    remove = partial(shutil.rmtree, copies, ignore_errors=True)
    signals.at_end(remove)
    for place in lookup.tables(run):
        name, path = place.replace("/", "_"), lookup.table_path(run, place)
        files = [path] if path.endswith(".parquet") else storage.parquet_files(path)
        with storage.open_parquet(files[0]) as file:
            schema = file.schema_arrow
        named = name.lower() in words or "query" in words  # query_table and its kind put names together
        engine.register(name, _dataset(files, schema, f"{copies}/{name}") if named else schema.empty_table())
        columns[name] = schema.names
    engine.execute(f"""CREATE MACRO "user"() AS error('{NO_COLUMN}')""")
    engine.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
    try:
        statements = engine.extract_statements(sql)
        if len(statements) != 1 or statements[0].type not in (
            duckdb.StatementType.SELECT,
            duckdb.StatementType.EXPLAIN,
        ):
            kinds = ", ".join(str(s.type).rpartition(".")[2] for s in statements) or "none"
            if kinds == "CREATE, SELECT" and PIVOT.search(sql):
                kinds = "a PIVOT that asks first which columns there are: name them, as in ON source IN ('encoder')"
            raise ConfigError(f"topkin query takes one statement that reads, such as SELECT, got {kinds}")
        reader = engine.execute(sql).to_arrow_reader(BATCH_ROWS)
        schema = pa.schema(
            [f.with_name(name) for f, name in zip(reader.schema, _apart(reader.schema.names), strict=True)]
        )
        return schema, _rows(reader, schema, columns, sql, run, limit, remove)
    except (duckdb.Error, pa.ArrowException) as e:
        raise _explained(e, sql, columns, run, limit) from e


def _apart(names: Sequence[str]) -> list[str]:
    """The names of columns; one that comes again has a number after it, as in DuckDB's own subqueries."""
    distinct: list[str] = []
    for name in names:
        again = (f"{name}_{n}" for n in count(1))
        distinct.append(name if name not in distinct else next(one for one in again if one not in {*distinct, *names}))
    return distinct


def _dataset(paths: Sequence[str], schema: pa.Schema, copies: str) -> ds.Dataset:
    """Files whose every byte is as their manifest says, read from local disks by Arrow alone.

    Threads of Arrow and DuckDB that read what Python opened wait for each other where a file is damaged.
    """
    files = [_verified(path, f"{copies}/{n}.parquet") for n, path in enumerate(paths)]
    checked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    kind = ds.ParquetFileFormat(default_fragment_scan_options=checked)
    return ds.FileSystemDataset.from_paths(files, schema=schema, format=kind, filesystem=pafs.LocalFileSystem())


def _verified(path: str, copy: str) -> str:
    """The local place of a file that was read to its end: its own, or a copy's where it is in an object store."""
    fs, inner = storage.filesystem(path)
    if isinstance(fs, pafs.LocalFileSystem):
        with storage.open_verified(path) as source:
            while source.read(BLOCK):
                pass
        return inner
    for folder in (os.path.dirname(os.path.dirname(copy)), os.path.dirname(copy)):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    with storage.open_verified(path) as source, open(copy, "wb") as file:
        shutil.copyfileobj(source, file, BLOCK)
    return copy


def _rows(
    reader: pa.RecordBatchReader,
    schema: pa.Schema,
    columns: Mapping[str, Sequence[str]],
    sql: str,
    run: Run,
    limit: float,
    remove: Callable[[], None],
) -> Iterator[dict[str, Any]]:
    try:
        for batch in reader:
            values = [[_value(v, field.type) for v in _listed(column, field)] for field, column in _columns(batch)]
            yield from (dict(zip(schema.names, row, strict=True)) for row in zip(*values, strict=True))
    except (duckdb.Error, pa.ArrowException, OSError) as e:
        raise _explained(e, sql, columns, run, limit) from e
    finally:
        remove()


def _columns(batch: pa.RecordBatch) -> Iterator[tuple[pa.Field, pa.Array]]:
    return zip(batch.schema, batch.columns, strict=True)


def _listed(column: pa.Array, field: pa.Field) -> list[Any]:
    try:
        return list(column.to_pylist())
    except OverflowError as e:  # DuckDB's times reach further than Python's, and infinity
        raise ConfigError(
            f"{field.name} must hold times of the years 1 to 9999 to be shown, some are others: CAST(… AS VARCHAR) "
            "shows them as texts"
        ) from e


def _value(value: Any, kind: pa.DataType) -> Any:
    """A value as JSON can hold it: what is no number as null, a binary id as ``topkin show`` writes it.

    Intervals are as ISO 8601 has them.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(str(np.float32(value))) if pa.types.is_float32(kind) else value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return lookup.format_id(value)
    if pa.types.is_map(kind) and value is not None:
        return {str(k): _value(v, kind.item_type) for k, v in value}
    if isinstance(value, dict):
        inside = {f.name: f.type for f in kind} if pa.types.is_struct(kind) else {}
        return {str(k): _value(v, inside.get(k, kind)) for k, v in value.items()}
    if isinstance(value, list):
        inner = getattr(kind, "value_type", kind)
        return [_value(v, inner) for v in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, pa.MonthDayNano):
        return f"P{value.months}M{value.days}DT{value.nanoseconds / 1e9:.9g}S"
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _explained(
    error: Exception, sql: str, columns: Mapping[str, Sequence[str]], run: Run, limit: float
) -> ConfigError | ArtifactError:
    """What is wrong with a query, with the nearest table or column."""
    text = error_words(error)
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in str(error):
        return ConfigError(
            f"the query takes more than {size(limit)}, half of this machine's memory: group, filter or limit its rows"
        )
    if missing := re.search(r"Table with name \"?(.+?)\"? does not exist", text):
        name = missing[1]
        if name in lookup.TABLES:
            stage = lookup.TABLES[name][0]
            if stage in run.folders:
                run.folder(stage)  # raises where it is gone since
            why = f" yet: topkin {stage} makes it" if lookup.has_users(run) else ", for it is of items alone"
            why = ", its settings make none" if stage in run.folders and stage != "prepare" else why
            return ConfigError(f"run {run.run_id} has no table {name}{why}; it has {', '.join(columns)}")
        return ConfigError(f"there is no table {name!r}{nearest(name, columns)}; there are {', '.join(columns)}")
    if missing := re.search(r"(?:column \"(.+?)\" not found|does not have a column named \"(.+?)\")", text):
        name = missing[1] or missing[2]
        named = {t: c for t, c in columns.items() if re.search(rf"\b{t}\b", sql)} or columns
        listed = "; ".join(f"{table} has {', '.join(names)}" for table, names in named.items())
        near = nearest(name, [column for names in named.values() for column in names])
        return ConfigError(f"there is no column {name!r}{near}; {listed}")
    if "file system operations are disabled" in text or "disabled by configuration" in text:
        return ConfigError(f"topkin query reads the tables of a run and nothing else: {', '.join(columns)}")
    if isinstance(error, duckdb.Error) and ArtifactError.__name__ not in text and "IOError" not in text:
        return ConfigError(f"the query cannot be asked: {text}")
    for folder in run.folders.values():  # what the engine says of a file need not name it
        manifest.verify(folder)
    return ArtifactError(f"run {run.run_id} cannot be read ({text}): topkin runs verify looks at every file")


def _print_json(rows: Iterator[dict[str, Any]]) -> None:
    """An array, a row on each line."""
    before = "[\n"
    for row in rows:
        print(f"{before}{json.dumps(row, ensure_ascii=False)}", end="")
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")


def _print_table(schema: pa.Schema, rows: Iterator[dict[str, Any]]) -> None:
    shown = [str(plain_text(name)) for name in schema.names]
    right = [pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t) for t in schema.types]
    # A space keeps a name that begins with > from being one of numbers.
    marks = [">" if number else " " * name.startswith(">") for name, number in zip(shown, right, strict=True)]
    sheet = Sheet("", *(mark + name for mark, name in zip(marks, shown, strict=True)))
    more = False
    for row in rows:
        if more := len(sheet.rows) == SHOWN:
            break
        sheet.add(*(plain_text(_shown(value)) for value in row.values()))
    console = Console()
    console.print(sheet if sheet.rows else Text("no rows"))
    if more:
        console.print(f"the first {SHOWN} rows: --format csv or json gives all", markup=False, highlight=False)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(_cell(value))
