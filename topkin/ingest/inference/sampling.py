"""Rows from all over an input, in bounded time and memory, and what the footers of its files say of the whole."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import canonical, canonical_type, decoded
from topkin.artifacts.partition import hash_ids
from topkin.errors import InputError
from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW, ArrowFiles, File, Files, batches, find, opened
from topkin.ingest.readers import escape_invalid_utf8

LOOKED_AT = 200_000
"""Rows of an input that are looked at."""
FILES_READ = 7
"""Files from which they come, evenly spaced."""
CHUNKS = 3
"""Places of a file from which they come: its beginning, middle and end."""
READ_BYTES = 1 << 30
"""Most bytes, not compressed, that are read for a sample of users."""
_THREADS = 4


@dataclass(frozen=True)
class Footer:
    """What a file's footer says: its schema, and of each row group the rows and the bytes of each column."""

    file: File
    schema: pa.Schema
    rows: tuple[int, ...]
    bytes: tuple[dict[str, int], ...]


@dataclass(frozen=True)
class TableSample:
    """Rows from all over an input; ``differences`` says in words where its files differ in columns or types."""

    section: str
    path: str
    footers: Sequence[Footer]
    rows: pa.Table
    differences: Sequence[str] = ()

    @property
    def total(self) -> int:
        """Rows of the whole input."""
        return sum(sum(f.rows) for f in self.footers)


def sample_table(section: str, path: str, files: Files | None = None) -> TableSample:
    """Rows from the beginning, middle and end of several files of an input, at most about ``LOOKED_AT``.

    Raises InputError where there is no file, one cannot be read, none has a row, or names mean two columns.
    """
    files = files or ArrowFiles()
    with ThreadPoolExecutor(_THREADS) as pool:
        footers = list(pool.map(lambda f: _footer(section, f, files), find(f"{section}.path", path, files)))
        filled = [f for f in footers if sum(f.rows)]
        if not filled:
            raise InputError(f"{section}: {path} holds no rows, so there is nothing to look at")
        picked = [filled[n] for n in spaced(len(filled), FILES_READ)]
        most = LOOKED_AT // len(picked)
        tables = list(pool.map(lambda f: _rows(section, f, files, most), picked))
    rows, differences = merged(tables, [f.file.path for f in picked])
    return TableSample(section, path, footers, escape_invalid_utf8(rows).rows, differences)


def spaced(n: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``n``, the first and the last among them, evenly spaced."""
    return sorted(set(np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()))


def _footer(section: str, file: File, files: Files) -> Footer:
    with opened(section, file.path, files) as parquet:
        meta, schema = parquet.metadata, parquet.schema_arrow
        if twice := sorted({c for c in schema.names if schema.names.count(c) > 1}):
            raise InputError(
                f"{file.path} has several columns called {', '.join(map(repr, twice))}: rename all but one"
            )
        rows, sizes = [], []
        for number in range(meta.num_row_groups):
            group = meta.row_group(number)
            size: Counter[str] = Counter()
            for leaf in range(group.num_columns):
                column = group.column(leaf)
                size[column.path_in_schema.split(".")[0]] += column.total_uncompressed_size
            rows.append(group.num_rows)
            sizes.append(dict(size))
        return Footer(file, schema, tuple(rows), tuple(sizes))


def _rows(section: str, footer: Footer, files: Files, most: int) -> pa.Table:
    """Rows from the beginning, the middle and the end of a file, at most ``most``."""
    groups = [g for g, n in enumerate(footer.rows) if n]
    picked = [groups[n] for n in spaced(len(groups), CHUNKS)]
    parts: list[pa.Table] = []
    for group in picked:
        n, size = footer.rows[group], most // len(picked)
        starts = [0]
        if len(picked) == 1 and n > size:  # the beginning, middle and end of the group itself
            size //= CHUNKS
            starts = [int(start) for start in np.linspace(0, n - size, CHUNKS)]
        parts += _slices(section, footer, files, group, starts, size)
    return pa.concat_tables(parts)


def _slices(
    section: str, footer: Footer, files: Files, group: int, starts: Sequence[int], size: int
) -> Iterator[pa.Table]:
    """The ``size`` rows of a row group from each of the starts on; little is read after the last."""
    at = 0
    for table in batches(section, footer.file.path, files, footer.schema.names, groups=[group], rows=65_536):
        for start in starts:
            first, end = max(start, at), min(start + size, at + len(table))
            if first < end:
                yield table.slice(first - at, end - first).drop_columns([FILE, ROW])
        at += len(table)
        if at >= starts[-1] + size:
            return


def merged(tables: Sequence[pa.Table], names: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Tables of different columns as one, and the differences in words; a column that one lacks is null there.

    Where types differ and no type holds both, the one that most rows have is kept, and what it cannot hold is null.
    names: of the tables, for the words.
    """
    columns: dict[str, list[tuple[pa.DataType, int, str]]] = {}
    for table, name in zip(tables, names, strict=True):
        for field in table.schema:
            columns.setdefault(field.name, []).append((field.type, len(table), name))
    schema, differences = [], []
    for column, seen in columns.items():
        kinds: dict[pa.DataType, int] = {}
        for kind, n, _ in seen:
            kinds[kind] = kinds.get(kind, 0) + n
        schema.append(pa.field(column, _common([*kinds], max(kinds, key=lambda k: kinds[k]))))
        if len(kinds) > 1 and not all(pa.types.is_null(k) for k in list(kinds)[1:]):
            firsts = {kind: name for kind, _, name in reversed(seen)}
            differences.append(f"{column} is " + ", but ".join(f"{k} in {firsts[k]}" for k in kinds))
        if lacking := [name for table, name in zip(tables, names, strict=True) if column not in table.column_names]:
            differences.append(
                f"{column} is not in {lacking[0]}" + (f" and {len(lacking) - 1:,} more" * (len(lacking) > 1))
            )
    parts = [_with_schema(table, pa.schema(schema)) for table in tables]
    return pa.concat_tables(parts), differences


def _common(kinds: Sequence[pa.DataType], most: pa.DataType) -> pa.DataType:
    """A type that holds values of all, where Arrow knows one; else ``most``."""
    try:
        found = pa.unify_schemas([pa.schema([("c", k)]) for k in kinds], promote_options="permissive")
        return found.field("c").type
    except pa.ArrowException:
        return most


def _with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema; null where it has none, or a value does not fit."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
            continue
        column = table[field.name]
        try:
            columns.append(column if column.type == field.type else decoded(column).cast(field.type))
        except (pa.ArrowException, ValueError):
            columns.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
    return pa.table(columns, schema=schema)


@dataclass(frozen=True)
class UserSample:
    """All rows that a sample of the users has in the row groups read, with FILE and ROW.

    share: of users, who are in it. read, total: rows that were looked through, and rows of the input.
    """

    rows: pa.Table
    share: float
    read: int
    total: int


def sample_users(
    source: InputSource, footers: Sequence[Footer], columns: Sequence[str], files: Files | None = None
) -> UserSample:
    """The rows of users drawn by the hash of their id, over all row groups, or the last that ``READ_BYTES`` hold.

    Nothing else tells how often a user comes back: the rows that stand together are of one day.
    """
    files = files or ArrowFiles()
    groups = [(f, g) for f in footers for g in range(len(f.rows)) if f.rows[g]]
    total, left = sum(f.rows[g] for f, g in groups), READ_BYTES
    picked: list[tuple[Footer, int]] = []
    for footer, group in reversed(groups):
        left -= sum(footer.bytes[group].get(c, 8 * footer.rows[group]) for c in columns)
        if left < 0 and picked:
            break
        picked.append((footer, group))
    read = sum(f.rows[g] for f, g in picked)
    one_of = max(1, round(read / LOOKED_AT))
    user = source.columns["user_id"]

    def rows(task: tuple[Footer, int]) -> list[pa.Table]:
        footer, group = task
        parts = []
        for table in batches(source.name, footer.file.path, files, columns, groups=[group], rows=131_072):
            kept = table if one_of == 1 else table.filter(pa.array(_drawn(table[user], one_of)))
            parts.append(kept)
        return parts

    with ThreadPoolExecutor(_THREADS) as pool:
        tables = [table for part in pool.map(rows, picked[::-1]) for table in part]
    found, _ = merged(tables, [""] * len(tables))
    return UserSample(found, 1 / one_of, read, total)


def _drawn(users: pa.ChunkedArray, one_of: int) -> np.ndarray:
    """Which rows are of users drawn by their hash, one of so many, (n,) bool; null ones are not."""
    ids = canonical(users) if canonical_type(users.type) else decoded(users).cast(pa.string())
    null = np.asarray(pc.is_null(ids))
    drawn = np.zeros(len(ids), bool)
    drawn[~null] = hash_ids(ids.drop_null()) % np.uint64(one_of) == 0
    return drawn
