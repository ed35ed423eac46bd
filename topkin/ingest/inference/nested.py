"""Columns inside columns: the fields of structs offered as columns of their own, lists named with what reads them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import storage
from topkin.ingest.sql import quoted_if_needed

_DEPTH = 3


class Flattened(NamedTuple):
    """Rows with the fields of structs as columns, and the SQL expression over the row that gives each of these."""

    rows: pa.Table
    expressions: Mapping[str, str]


def flatten_structs(rows: pa.Table) -> Flattened:
    """Each field of a struct, of structs inside it too, as a column ``struct_field``; the structs stay."""
    taken = {name.lower() for name in rows.column_names}
    expressions = {}
    for field in rows.schema:
        for names, values in _fields(rows[field.name], (field.name,)):
            column = "_".join(names)
            while column.lower() in taken:
                column += "_"
            taken.add(column.lower())
            expressions[column] = ".".join(quoted_if_needed(name) for name in names)
            rows = rows.append_column(column, values)
    return Flattened(rows, expressions)


def _fields(values: pa.ChunkedArray, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], pa.ChunkedArray]]:
    kind = values.type
    if pa.types.is_struct(kind) and len(names) <= _DEPTH:
        for number, field in enumerate(kind):
            yield from _fields(pc.struct_field(values, [number]), (*names, field.name))
    elif len(names) > 1 and not pa.types.is_nested(storage(kind)):
        yield names, values


def nested_advice(name: str, kind: pa.DataType) -> str:
    """What a nested column is, and what would read it."""
    kind = storage(kind)
    if pa.types.is_struct(kind):
        fields = ", ".join(field.name for field in kind)
        return f"a struct of {fields}: an expression reads a field, as in {quoted_if_needed(name)}.{kind[0].name}"
    if pa.types.is_map(kind):
        return f"{kind}: an expression reads a key, as in {quoted_if_needed(name)}['key']"
    if pa.types.is_struct(storage(kind.value_type)):
        return f"a list of structs: write a row for each of them, with unnest({quoted_if_needed(name)}) in SQL"
    if pa.types.is_floating(storage(kind.value_type)):
        return f"{kind}: as vectors of the items' content, items.vector reads it"
    return f'{kind}: if it is a basket of items, purchases.item_id "{name}[]" reads it'
