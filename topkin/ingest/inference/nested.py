"""Columns inside columns: the fields of structs offered as columns of their own, lists named with what reads them."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import storage, value_kind
from topkin.ingest.inference.columns import KEY_WORDS, name_score, name_words
from topkin.ingest.sql import quoted_if_needed
from topkin.ingest.values.baskets import PLACE, unnest
from topkin.ingest.values.type_cures import is_list

_DEPTH = 3
_BASKET_WORDS = {
    "items", "products", "lines", "basket", "cart", "skus", "articles", "articulos", "artikel", "positionen",
    "produits", "goods", "contents", "lineitems",
}  # fmt: skip
_ITEM_WORDS = {*KEY_WORDS["item_id"], *(f"{word}s" for word in KEY_WORDS["item_id"])}


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


def list_of_items(rows: pa.Table) -> str | None:
    """The list column whose elements are likely the items of a basket; None for none, or where several may be."""
    lists = [field.name for field in rows.schema if is_list(field.type) and _may_be_items(field.name, field.type)]
    named = [name for name in lists if _BASKET_WORDS & {*name_words(name), *name_words(name + "[]")}]
    some = named or lists
    return some[0] if len(some) == 1 else None


def _may_be_items(name: str, kind: pa.DataType) -> bool:
    inner = storage(storage(kind).value_type)
    words = set(name_words(name))
    if pa.types.is_struct(inner):
        return any(name_score("item_id", path) > 0 for path, _ in _paths(name, inner))
    return value_kind(inner) in ("integer", "text") and bool(words & (_BASKET_WORDS | _ITEM_WORDS))


def _paths(path: str, kind: pa.DataType, depth: int = _DEPTH) -> Iterator[tuple[str, pa.DataType]]:
    """The names of the fields of a list's elements as the configuration has them, and their types."""
    head = path if "[]" in path else f"{path}[]"
    if not pa.types.is_struct(kind):
        yield head, kind
        return
    for field in kind if depth else ():
        inner = storage(field.type)
        if not pa.types.is_nested(inner) or pa.types.is_struct(inner):
            yield from _paths(f"{head}.{field.name}", inner, depth - 1)


def unnest_list(rows: pa.Table, column: str) -> pa.Table:
    """The rows, one for each element of a list, which is a column ``items[]``, or one for each of its fields."""
    paths = [path for path, _ in _paths(column, storage(storage(rows.schema.field(column).type).value_type))]
    others = [name for name in rows.column_names if name != column]
    return unnest(rows, [*others, *paths]).drop_columns([PLACE])


def nested_advice(name: str, kind: pa.DataType) -> str:
    """What a nested column is, and what would read it."""
    kind = storage(kind)
    if pa.types.is_struct(kind):
        fields = ", ".join(field.name for field in kind)
        return f"a struct of {fields}: an expression reads a field, as in {quoted_if_needed(name)}.{kind[0].name}"
    if pa.types.is_map(kind):
        return f"{kind}: an expression reads a key, as in {quoted_if_needed(name)}['key']"
    if pa.types.is_struct(storage(kind.value_type)):
        field = storage(kind.value_type)[0].name
        return f'a list of structs: if it is a basket of items, purchases.item_id "{name}[].{field}" reads a field'
    if pa.types.is_floating(storage(kind.value_type)):
        return f"{kind}: as vectors of the items' content, items.vector reads it"
    return f'{kind}: if it is a basket of items, purchases.item_id "{name}[]" reads it'
