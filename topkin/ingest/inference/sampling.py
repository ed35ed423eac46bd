"""Rows from all over an input, in bounded time and memory, and what the footers of its files say of the whole."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from topkin.artifacts.ids import decoded, value_kind
from topkin.errors import InputError
from topkin.ingest import timestamps
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW, Files, Footer, InputFooters, batches, find, read_footers
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.sql import plain, query

LOOKED_AT = 200_000
"""Rows of an input that are looked at."""
FILES_READ = 7
"""Files from which they come, evenly spaced."""
SMALL_FILES_READ = 200
"""The same, where files have few rows, such as those of a folder a day."""
CHUNKS = 3
"""Places of a file from which they come: its beginning, middle and end."""
SCANNED = 1_000_000
"""Rows that are read for them at most, where a file is one large row group: its end is then left out."""
READ_SECONDS = 2.0
"""What a sample of users may cost one processor, by the sizes in the footers."""
_COSTS = {"row": 60e-9, "value": 10e-9, "text": 15e-9, "byte": 3e-9}
"""Seconds to read and to draw a row, to read a value, one of text more, a byte before compression."""
_THREADS = 2

FileFooter: TypeAlias = Footer[pq.FileMetaData]


@dataclass(frozen=True)
class TableSample:
    """Rows from all over an input.

    differences: in words, where files differ in columns or types.
    """

    section: str
    path: str
    read: InputFooters
    rows: pa.Table
    differences: Sequence[str] = ()

    @property
    def footers(self) -> Sequence[FileFooter]:
        """Of each file."""
        return self.read.footers

    @property
    def passed_over(self) -> str:
        """Files that are not read, in words."""
        return self.read.listing.passed_over

    @property
    def total(self) -> int:
        """Rows of the whole input."""
        return sum(f.file.rows for f in self.footers)


def sample_table(section: str, path: str, files: Files) -> TableSample:
    """Rows from the beginning, middle and end of several files of an input, about ``LOOKED_AT``.

    Raises InputError where there is no file, one cannot be read, none has a row, or a name means two columns.
    """
    listing = find(f"{section}.path", path, files)
    footers: list[FileFooter] = []
    for footer in read_footers(section, listing, files, lambda parquet, _: parquet.metadata):
        if isinstance(footer, InputError):
            raise footer
        names = footer.schema.names
        if twice := sorted({c for c in names if names.count(c) > 1}):
            named = ", ".join(map(repr, twice))
            raise InputError(f"{footer.file.path} has several columns called {named}: rename all but one")
        if kept := sorted(c for c in names if c.lower() in (FILE, ROW)):
            raise InputError(
                f"{footer.file.path}: column {kept[0]!r} has a name that topkin keeps for itself: rename it"
            )
        footers.append(footer)
    filled = [f for f in footers if f.file.rows]
    if not filled:
        raise InputError(f"{section}: {path} holds no rows, so there is nothing to look at")
    typical = sum(f.file.rows for f in filled) // len(filled)
    most = min(max(FILES_READ, LOOKED_AT // max(typical, 1)), SMALL_FILES_READ)
    picked = [filled[n] for n in spaced(len(filled), most)]
    with ThreadPoolExecutor(_THREADS) as pool:
        tables = list(pool.map(lambda f: _rows(section, f, files, len(picked)), picked))
    rows = escape_invalid_utf8(plain(merged(tables))).rows
    return TableSample(section, path, InputFooters(listing, footers), rows, schema_differences(filled))


def spaced(n: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``n``, the first and the last among them, evenly spaced."""
    return sorted(set(np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()))


def _rows(section: str, footer: FileFooter, files: Files, n_files: int) -> pa.Table:
    """Rows from the beginning, the middle and the end of one of so many files."""
    meta, most = footer.look, LOOKED_AT // n_files
    groups = [g for g in range(meta.num_row_groups) if meta.row_group(g).num_rows]
    picked = [groups[n] for n in spaced(len(groups), CHUNKS)]
    parts: list[pa.Table] = []
    for group in picked:
        n, size = meta.row_group(group).num_rows, most // len(picked)
        starts = [0]
        if len(picked) == 1 and n > size:  # the beginning, middle and end of the group itself
            size //= CHUNKS
            starts = [int(start) for start in np.linspace(0, min(n, SCANNED // n_files) - size, CHUNKS)]
        parts += _slices(section, footer, files, group, starts, max(size, 1))
    return pa.concat_tables(parts).combine_chunks()  # slices would keep all that they were cut from


def _slices(
    section: str, footer: FileFooter, files: Files, group: int, starts: Sequence[int], size: int
) -> Iterator[pa.Table]:
    """The ``size`` rows of a row group from each of the starts on; little is read after the last."""
    at = 0
    for table in batches(section, footer.file, files, footer.schema.names, groups=[group], rows=65_536):
        for start in starts:
            first, end = max(start, at), min(start + size, at + len(table))
            if first < end:
                yield table.slice(first - at, end - first).drop_columns([FILE, ROW])
        at += len(table)
        if at >= starts[-1] + size:
            return


def schema_differences(footers: Sequence[FileFooter]) -> list[str]:
    """In words, the columns that some files lack or have with another type."""
    kinds: dict[str, dict[pa.DataType, list[str]]] = {}
    for footer in footers:
        for field in footer.schema:
            kinds.setdefault(field.name, {}).setdefault(field.type, []).append(footer.file.path)
    differences = []
    for column, by_type in kinds.items():
        if len(by_type) > 1:
            parts = [
                f"{kind} in {len(paths):,} ({paths[0]}{', …' * (len(paths) > 1)})" for kind, paths in by_type.items()
            ]
            differences.append(f"{column} is {', '.join(parts)}")
        has = {path for paths in by_type.values() for path in paths}
        if lacking := [f.file.path for f in footers if f.file.path not in has]:
            more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
            differences.append(f"{column} is not in {lacking[0]}{more}")
    return differences


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of different columns as one; a column that one lacks is null there.

    Where types differ and no type holds both, the one that most rows have is kept, and what it cannot hold is null.
    """
    kinds: dict[str, dict[pa.DataType, int]] = {}
    for table in tables:
        for field in table.schema:
            of_column = kinds.setdefault(field.name, {})
            of_column[field.type] = of_column.get(field.type, 0) + len(table)
    schema = pa.schema([pa.field(name, _common(of_column)) for name, of_column in kinds.items()])
    return pa.concat_tables([_with_schema(table, schema) for table in tables])


def _common(kinds: dict[pa.DataType, int]) -> pa.DataType:
    """A type that holds values of all, where Arrow knows one; else that of most rows."""
    if len(kinds) > 1:
        try:
            schemas = [pa.schema([("c", kind)]) for kind in kinds]
            return pa.unify_schemas(schemas, promote_options="permissive").field("c").type
        except pa.ArrowException:
            pass
    return max(kinds, key=lambda kind: kinds[kind])


def _with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema; null where it has none, or its values do not fit."""
    columns = []
    for field in schema:
        if field.name in table.column_names and table[field.name].type == field.type:
            columns.append(table[field.name])
            continue
        values = pa.chunked_array([pa.nulls(len(table), field.type)])
        if field.name in table.column_names:
            with suppress(pa.ArrowException, ValueError):
                values = decoded(table[field.name]).cast(field.type)
        columns.append(values)
    return pa.table(columns, schema=schema)


@dataclass(frozen=True)
class SampledUsers:
    """All rows that a sample of the users has in the row groups read, with FILE and ROW.

    share: of users, who are in it. read, total: rows that were looked through, and rows of the input.
    """

    rows: pa.Table
    share: float
    read: int
    total: int

    @property
    def whole(self) -> bool:
        """Whether it is all rows of the input."""
        return self.share == 1 and self.read == self.total


def sample_users(
    source: InputSource, footers: Sequence[FileFooter], columns: Sequence[str], files: Files
) -> SampledUsers:
    """The rows of users drawn by a hash of their id, over all row groups, or the last that ``READ_SECONDS`` allow.

    Nothing else tells how often a user comes back: rows that stand together are of one day.
    """
    groups = [(f, g) for f in footers for g in range(f.look.num_row_groups) if f.look.row_group(g).num_rows]
    total, left = sum(f.file.rows for f in footers), READ_SECONDS
    picked: list[tuple[FileFooter, int]] = []
    for footer, group in reversed(groups):
        left -= _seconds(footer, group, columns)
        if left < 0 and picked:
            break
        picked.append((footer, group))
    read = sum(f.look.row_group(g).num_rows for f, g in picked)
    one_of = max(1, round(read / LOOKED_AT))
    user = source.columns["user_id"]
    drawn_by = user if user in columns else columns[0]

    def rows(task: tuple[FileFooter, int]) -> list[pa.Table]:
        footer, group = task
        tables = batches(source.name, footer.file, files, columns, groups=[group], rows=65_536)
        return [t if one_of == 1 else t.filter(_drawn(t[drawn_by], one_of)) for t in tables]

    with ThreadPoolExecutor(_THREADS) as pool:
        tables = [table for part in pool.map(rows, picked[::-1]) for table in part]
    return SampledUsers(merged(tables), 1 / one_of, read, total)


def _seconds(footer: FileFooter, group: int, columns: Sequence[str]) -> float:
    """About what it costs to read columns of a row group."""
    meta = footer.look.row_group(group)
    leaves = [meta.column(n) for n in range(meta.num_columns)]
    size = sum(c.total_uncompressed_size for c in leaves if c.path_in_schema.split(".")[0] in columns)
    n_text = sum(
        value_kind(footer.schema.field(c).type) in ("text", "binary") for c in columns if c in footer.schema.names
    )
    each = _COSTS["row"] + len(columns) * _COSTS["value"] + n_text * _COSTS["text"]
    return meta.num_rows * each + size * _COSTS["byte"]


def _drawn(users: pa.ChunkedArray, one_of: int) -> pa.ChunkedArray:
    """Which rows are of users drawn by their hash, one of so many, (n,) bool; null ones are not."""
    column = decoded(users)
    condition = f'hash("user") % {one_of} = 0 AND "user" IS NOT NULL'
    return query(f"SELECT coalesce({condition}, false) AS drawn FROM rows", pa.table({"user": column}))["drawn"]


def _leaves(meta: pq.FileMetaData) -> list[str]:
    """The path of each stored column."""
    return [meta.schema.column(n).path for n in range(meta.num_columns)]


def time_spans(footers: Sequence[FileFooter], column: str) -> np.ndarray | None:
    """The first and last time of each row group as its statistics say, (n, 2) int64 microseconds since 1970 in UTC.

    None where some row group does not say, or the column holds no times.
    """
    spans = []
    for footer in footers:
        names, groups = _leaves(footer.look), map(footer.look.row_group, range(footer.look.num_row_groups))
        kind = footer.schema.field(column).type if column in footer.schema.names else pa.null()
        for group in groups:
            leaf = group.column(names.index(column)) if column in names else None
            if not group.num_rows:
                continue
            if leaf is None or value_kind(kind) != "time" or not leaf.is_stats_set or not leaf.statistics.has_min_max:
                return None
            try:
                ends = pa.array([leaf.statistics.min, leaf.statistics.max]).cast(kind)
            except (OverflowError, ValueError, pa.ArrowException):  # before the year 1 or after 9999
                return None
            micros, _ = timestamps.to_micros(pa.chunked_array([ends]))
            spans.append(micros)
    return np.array(spans) if spans else None
