"""Columns inside columns: the fields of structs offered as columns of their own, lists named with what reads them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import storage
from topkin.ingest.sql import quoted_if_needed
from topkin.ingest.values.baskets import PLACE, unnest
from topkin.ingest.values.type_cures import is_list

_DEPTH = 3
_ELEMENTS = 200_000  # of a list's elements that are looked at, about


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


def element_columns(name: str, kind: pa.DataType) -> list[str]:
    """What names the flat values of a list's elements, as in ``items[].sku``; none for other types."""
    return list(_inside(storage(kind).value_type, f"{name}[]")) if is_list(kind) else []


def _inside(kind: pa.DataType, name: str) -> Iterator[str]:
    kind = storage(kind)
    if pa.types.is_struct(kind) and name.count(".") < _DEPTH:
        for field in kind:
            yield from _inside(field.type, f"{name}.{field.name}")
    elif not pa.types.is_nested(kind):
        yield name


def unnest_column(rows: pa.Table, name: str) -> pa.Table:
    """The rows, or some from all over, with the elements of a list in its place, a row for each."""
    elements = pc.sum(pc.list_value_length(rows[name])).as_py() or 0
    rows = rows.take(pa.array(np.arange(0, len(rows), 1 + elements // _ELEMENTS)))
    columns = [*(c for c in rows.column_names if c != name), *element_columns(name, rows.schema.field(name).type)]
    return unnest(rows, columns).drop_columns([PLACE])


def nested_advice(name: str, kind: pa.DataType) -> str:
    """What a nested column is, and what would read it."""
    kind = storage(kind)
    if pa.types.is_struct(kind):
        fields = ", ".join(field.name for field in kind)
        return f"a struct of {fields}: an expression reads a field, as in {quoted_if_needed(name)}.{kind[0].name}"
    if pa.types.is_map(kind):
        return f"{kind}: an expression reads a key, as in {quoted_if_needed(name)}['key']"
    if pa.types.is_struct(storage(kind.value_type)):
        shown = ", ".join(element_columns(name, kind)[:3])
        return f"a list of structs: if it is a basket of items, purchases.item_id reads one of {shown}"
    if pa.types.is_floating(storage(kind.value_type)):
        return f"{kind}: as vectors of the items' content, items.vector reads it"
    return f'{kind}: if it is a basket of items, purchases.item_id "{name}[]" reads it'
