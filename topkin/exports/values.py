"""Values of Arrow as other stores take them."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa

from topkin.artifacts.lookup import format_id


def doubles(values: pa.Array) -> pa.Array:
    """Floats of 32 bits, also in lists, as the doubles that print alike: .9 stays .9, and rounds to the same float."""
    if values.type == pa.float32():
        return values.cast(pa.string()).cast(pa.float64())
    if pa.types.is_fixed_size_list(values.type):
        flat = doubles(values.flatten())
        return pa.FixedSizeListArray.from_arrays(flat, values.type.list_size) if not values.null_count else values
    if pa.types.is_list(values.type) and values.type.value_type == pa.float32():
        whole = pa.concat_arrays([values])  # of a slice, the values of its own rows alone
        return pa.ListArray.from_arrays(whole.offsets, doubles(whole.values), mask=whole.is_null())
    return values


def rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Each row by column, floats as :func:`doubles`."""
    columns = [doubles(column).to_pylist() for column in batch.columns]
    names = batch.schema.names
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def plain(value: object) -> Any:
    """A value as JSON has it: times in ISO 8601, UTC; binary ids as text, or 0x… where they are none."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return format_id(value)
    return value.isoformat() if isinstance(value, datetime) else value


def to_json(value: object) -> str:
    """A value as JSON on one line."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"))


def is_nested(kind: pa.DataType) -> bool:
    """Whether a column holds lists or structs."""
    return bool(pa.types.is_nested(kind))
