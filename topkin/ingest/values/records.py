"""Rows as JSON objects, whatever the types of their columns."""

import pyarrow as pa

from topkin.artifacts.ids import storage
from topkin.ingest.sql import literal, query, quoted
from topkin.ingest.values.type_cures import is_list


def records(rows: pa.Table) -> pa.ChunkedArray:
    """Each row as a JSON object, (n,) strings; NaN and infinities as strings, for JSON has none."""
    if not rows.num_columns:
        return pa.chunked_array([pa.array(["{}"] * len(rows), pa.string())])
    fields = [f"{literal(f.name)}, {_json(quoted(f.name), f.type)}" for f in rows.schema]
    sql = f"SELECT CAST(json_object({', '.join(fields)}) AS VARCHAR) AS record FROM rows"
    return query(sql, rows)["record"].cast(pa.string())


def _json(value: str, t: pa.DataType, depth: int = 0) -> str:
    """A value of a type as SQL that makes JSON of it; ``depth`` tells the names of lambdas' arguments apart."""
    t = storage(t)
    if pa.types.is_floating(t):
        text = f"to_json(CAST({value} AS VARCHAR))"
        return f"CASE WHEN isfinite({value}) OR {value} IS NULL THEN to_json({value}) ELSE {text} END"
    if not _has_floats(t):
        return f"to_json({value})"
    each = f"x{depth}"
    if is_list(t):
        inner = _json(each, t.value_type, depth + 1)
        lists = f"list_filter({value}, lambda {each}: true)"  # an array of fixed size as a list
        return f"to_json(list_transform({lists}, lambda {each}: {inner}))"
    if pa.types.is_map(t):
        pair = f"{{'k': {each}.key, 'v': {_json(f'{each}.value', t.item_type, depth + 1)}}}"
        return f"to_json(map_from_entries(list_transform(map_entries({value}), lambda {each}: {pair})))"
    parts = [t.field(i) for i in range(t.num_fields)]
    fields = ", ".join(f"{literal(f.name)}, {_json(f'({value}).{quoted(f.name)}', f.type, depth + 1)}" for f in parts)
    return f"CASE WHEN {value} IS NULL THEN NULL ELSE json_object({fields}) END"


def _has_floats(t: pa.DataType) -> bool:
    t = storage(t)
    if pa.types.is_map(t):
        return _has_floats(t.item_type)
    if is_list(t):
        return _has_floats(t.value_type)
    return pa.types.is_floating(t) or any(_has_floats(t.field(i).type) for i in range(t.num_fields))
