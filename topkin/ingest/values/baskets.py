"""Lists of a row as rows: a configured column ``items[]`` is an element of the list ``items``, ``items[].sku`` a field.

A row of a file becomes as many rows as its list has elements; one whose list is null or empty stays a row, without an
element, so that it can be rejected and counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts.ids import decoded, storage
from topkin.ingest.sql import plain
from topkin.ingest.values.type_cures import is_list

PLACE = "__place"
"""Column of rows that were lists: the element's place in its list from 0, minus 1 where there is none; int64."""


class ListPath(NamedTuple):
    """A configured name that means the elements of a list: its column, and the fields that lead into an element."""

    column: str
    fields: tuple[str, ...]


def list_path(name: str) -> ListPath | None:
    """What a name with ``[]`` means; None for the name of a column."""
    column, brackets, rest = name.partition("[]")
    if not brackets or not column or (rest and not rest.startswith(".")):
        return None
    return ListPath(column, tuple(rest[1:].split(".")) if rest else ())


def unnested_column(columns: Iterable[str], available: Sequence[str]) -> str | None:
    """The list that some of the columns read are elements of; None where all are columns of the file."""
    paths = [list_path(c) for c in columns if c not in available]
    return next((p.column for p in paths if p is not None), None)


def file_columns(columns: Sequence[str], available: Sequence[str]) -> list[str]:
    """The columns of a file that the columns read are made of."""
    paths = {c: None if c in available else list_path(c) for c in columns}
    return list(dict.fromkeys(c if path is None else path.column for c, path in paths.items()))


def flat_schema(schema: pa.Schema, columns: Iterable[str]) -> pa.Schema:
    """The schema of a file with what the columns read mean in its list, after the file's own."""
    for name in columns:
        path = None if name in schema.names else list_path(name)
        if path is None or schema.names.count(path.column) != 1 or not is_list(schema.field(path.column).type):
            continue
        kind: pa.DataType | None = storage(schema.field(path.column).type).value_type
        for field in path.fields:
            inner = None if kind is None else storage(kind)
            known = inner is not None and pa.types.is_struct(inner) and inner.get_field_index(field) >= 0
            kind = inner.field(field).type if known and inner is not None else None
        if kind is not None:
            schema = schema.append(pa.field(name, kind))
    return schema


def several_lists(columns: Iterable[str], available: Sequence[str]) -> list[str]:
    """The lists that the columns read are elements of, where they are more than one, sorted."""
    paths = {p.column for c in columns if c not in available and (p := list_path(c)) is not None}
    return sorted(paths) if len(paths) > 1 else []


def missing_path(name: str, schema: pa.Schema) -> str | None:
    """Why a name with ``[]`` means nothing in a file that has its column, for a message; None for other names."""
    path = list_path(name)
    if path is None or path.column not in schema.names:
        return None
    kind = storage(schema.field(path.column).type)
    if not is_list(kind):
        return f"column {path.column!r} must be a list for {name!r}, got {kind}: leave out the []"
    inner = storage(kind.value_type)
    fields = [inner.field(i).name for i in range(inner.num_fields)] if pa.types.is_struct(inner) else []
    return f"the elements of {path.column!r} have no field {'.'.join(path.fields)!r}, got {inner}: write " + (
        " or ".join(repr(f"{path.column}[].{f}") for f in fields[:4]) or repr(f"{path.column}[]")
    )


def unnest(rows: pa.Table, columns: Sequence[str], keep: Sequence[str] = ()) -> pa.Table:
    """The columns read of rows, one row for each element of the list where some are elements.

    keep: further columns of the rows that are kept. A table with lists gets a last column PLACE.
    """
    head = unnested_column(columns, rows.column_names)
    if head is None:
        return rows.select([*columns, *keep])
    rows = plain(rows)
    lists = decoded(rows[head]).combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    times = np.maximum(lengths, 1)
    parent = np.repeat(np.arange(len(rows)), times)
    place = np.arange(len(parent)) - np.repeat(np.cumsum(times) - times, times)
    empty = (lengths == 0)[parent]
    element = np.cumsum(~empty) - 1
    elements = pc.list_flatten(lists).take(pa.array(element, pa.int64(), mask=empty))
    others = [c for c in [*columns, *keep] if c in rows.column_names]
    flat = rows.select(others).take(pa.array(parent))
    for name in columns:
        path = list_path(name)
        if name in rows.column_names or path is None:
            continue
        values = elements
        for field in path.fields:
            values = pc.struct_field(values, field)
        flat = flat.append_column(name, values)
    return flat.select([*columns, *keep]).append_column(PLACE, pa.array(np.where(empty, -1, place)))


def slices(rows: pa.Table, columns: Sequence[str], most: int) -> Iterator[pa.Table]:
    """Rows of a file in runs, each of which :func:`unnest` makes at most ``most`` rows of, unless it is one row."""
    times = _rows_of_each(rows, columns)
    if times is None:
        yield rows
        return
    ends, start, before = np.cumsum(times), 0, 0
    while start < len(rows):
        end = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        yield rows.slice(start, end - start)
        start, before = end, int(ends[end - 1])


def _rows_of_each(rows: pa.Table, columns: Sequence[str]) -> np.ndarray | None:
    """How many rows each row becomes, (n,) int64; None where none of the columns read is an element of a list."""
    head = unnested_column(columns, rows.column_names)
    if head is None or head not in rows.column_names:
        return None
    lengths = pc.fill_null(pc.list_value_length(decoded(plain(rows.select([head]))[head])), 0)
    return np.maximum(np.asarray(lengths).astype(np.int64), 1)


def rows_to_add(rows: pa.Table, columns: Sequence[str]) -> int:
    """How many rows :func:`unnest` adds to rows of a file."""
    times = _rows_of_each(rows, columns)
    return 0 if times is None else int(times.sum()) - len(rows)


def rows_to_add_by_footer(meta: pq.FileMetaData, columns: Sequence[str], available: Sequence[str]) -> int:
    """As :func:`rows_to_add`, of a whole file: its footer counts the elements, and a list without one as one.

    available: the columns of the file. 0 where the elements hold nothing but further lists, which hide their number.
    """
    head = unnested_column(columns, available)
    for number in range(meta.num_columns if head is not None else 0):
        column = meta.schema.column(number)
        if column.path.startswith(f"{head}.") and column.max_repetition_level == 1:
            groups = (meta.row_group(group) for group in range(meta.num_row_groups))
            return sum(group.column(number).num_values - group.num_rows for group in groups)
    return 0


def rows_added(rows: pa.Table) -> int:
    """How many rows there are beyond those of the files."""
    return int(pc.sum(pc.greater(rows[PLACE], 0)).as_py() or 0) if PLACE in rows.column_names else 0
