"""How a column of each role is read: which types it may have, and what its values become.

Whatever looks at the user's columns, be it ``init``, ``check`` or ``prepare``, asks here and in
:mod:`topkin.ingest.timestamps`.
"""

import html
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids, schemas
from topkin.artifacts.embeddings import vector_column
from topkin.ingest import timestamps


def _is_vector(t: pa.DataType) -> bool:
    t = ids.storage(t)
    listed = pa.types.is_list(t) or pa.types.is_large_list(t) or (pa.types.is_fixed_size_list(t) and t.list_size > 0)
    return bool(listed and pa.types.is_floating(t.value_type))


def _of_kinds(*kinds: str) -> Callable[[pa.DataType], bool]:
    return lambda t: ids.value_kind(t) in kinds


def _is_order(t: pa.DataType) -> bool:
    return timestamps.accepts(t) or ids.value_kind(t) in ("integer", "float")


LATEST = "__latest"
"""Column by which one of several rows of an item or a user is chosen, float64; of inputs that name a ``latest_by``."""

ROLES = {
    "purchases": ("user_id", "item_id", "timestamp", "quantity", "price", "segment", "order"),
    "items": ("item_id", "title", "category", "price", "available", "vector", "latest_by"),
    "users": ("user_id", "segment", "vector", "latest_by"),
}
ROLES["heldout"] = ROLES["purchases"]
EVENT_ROLES = ("event_type", "order_id")
INPUT = "input:"
"""Begins the role of a column that feeds an input of an encoder, behind which the input's name stands."""
"""The columns that topkin reads of each input, by its own names for them."""

_NUMBER = (_of_kinds("integer", "float", "null"), "a number")
_ID = (_of_kinds("integer", "text", "binary"), ids.ACCEPTED)
_LABEL = _of_kinds("text", "integer", "boolean", "null")
ACCEPTED: dict[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "user_id": _ID,
    "item_id": _ID,
    "timestamp": (timestamps.accepts, timestamps.ACCEPTED),
    "order": (_of_kinds("integer", "float"), "a number"),
    "event_type": (_LABEL, "a string, an integer or a boolean"),
    "order_id": (_LABEL, "a string, an integer or a boolean"),
    "weight": _NUMBER,
    "quantity": _NUMBER,
    "price": _NUMBER,
    "segment": (_LABEL, "a string, an integer or a boolean"),
    "title": (_LABEL, "a string"),
    "category": (_LABEL, "a string, an integer or a boolean"),
    "available": (pa.types.is_boolean, "a boolean"),
    "vector": (_is_vector, "a list of floats"),
    "latest_by": (_is_order, "a time or a number"),
    "label": (_LABEL, "a string, an integer or a boolean"),
}
"""Of each role: whether it takes a type, and the types that it takes in words. Of an encoder's inputs any will do."""


def key_of(section: str, role: str) -> str:
    """The configuration's key that names the column of a role."""
    if role.startswith(INPUT):
        return f"encoder.inputs.{role.removeprefix(INPUT)}"
    return f"items.{role}" if section == "queries" and role != "item_id" else f"{section}.{role}"


def common_type(role: str, t: pa.DataType) -> pa.DataType | None:
    """The type that all files of an input must share.

    That of ids, of vectors whose length their type names, and of what an encoder takes.
    """
    if role.startswith(INPUT):
        return ids.storage(t)
    if role != "vector":
        return ids.canonical_type(t)
    t = ids.storage(t)
    return schemas.vector(t.list_size) if pa.types.is_fixed_size_list(t) else None


def numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Numbers as (n,) float32; null ones, and those that float32 cannot hold, are not finite."""
    wide = np.asarray(pc.fill_null(ids.decoded(values).cast(pa.float64(), safe=False), np.nan))
    with np.errstate(over="ignore"):
        return wide.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0


def finite_numbers(values: pa.ChunkedArray) -> pa.Array:
    """Numbers as float32, null where not finite."""
    narrow = numbers(values)
    return pa.array(narrow, pa.float32(), mask=~np.isfinite(narrow))


def order_keys(values: pa.ChunkedArray) -> pa.Array:
    """Times (in microseconds) or numbers as float64, the greater the later; those that cannot be read are the least."""
    if ids.value_kind(values.type) in ("integer", "float"):
        keys = np.asarray(pc.fill_null(ids.decoded(values).cast(pa.float64(), safe=False), np.nan)).astype(np.float64)
    else:
        micros, state = timestamps.to_micros(values)
        keys = np.where(state == timestamps.READ, micros, np.nan)
    return pa.array(np.where(np.isnan(keys), -np.inf, keys))


def labels(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels as strings, nulls kept."""
    return ids.decoded(values).cast(pa.string())


def texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text for people: labels with HTML entities such as ``&amp;`` decoded and the ends trimmed; empty is null."""
    trimmed = pc.utf8_trim_whitespace(labels(values))
    encoded = pc.fill_null(pc.match_substring_regex(trimmed, "&#?[0-9A-Za-z]+;"), False)
    if pc.any(encoded).as_py():
        distinct = pc.unique(trimmed.filter(encoded))
        plain = pa.array([html.unescape(t) for t in distinct.to_pylist()], pa.string())
        trimmed = pc.coalesce(pc.take(plain, pc.index_in(trimmed, value_set=distinct)), trimmed)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def vectors(values: pa.ChunkedArray, dim: int) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Lists of numbers as ``schemas.vector(dim)``, which have another length, and which a number that is none.

    The vectors of such rows are of no use; those of rows without a list are zeros.
    """
    lists = ids.decoded(values).combine_chunks()
    null, lengths = np.asarray(pc.is_null(lists)), np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
    flat = np.asarray(pc.fill_null(pc.list_flatten(lists).cast(pa.float64()), np.nan))
    wrong = ~null & (lengths != dim)
    rows = np.zeros((len(lists), dim), np.float32)
    with np.errstate(over="ignore"):
        rows[~null & ~wrong] = flat[~np.repeat(wrong | null, np.where(null, 0, lengths))].reshape(-1, dim)
    return vector_column(rows), wrong, np.asarray(~np.isfinite(rows).all(axis=1))


class Utf8Rows(NamedTuple):
    """Rows whose texts are all UTF-8, and for each column with texts that were not, which, (n,) bool.

    Parquet calls a column a string and does not ask whether its bytes are UTF-8.
    """

    rows: pa.Table
    invalid: Mapping[str, np.ndarray]


def escape_invalid_utf8(rows: pa.Table) -> Utf8Rows:
    """The rows with every byte that is not UTF-8 written as ``\\xff``, so that engines which trust texts may see them.

    Texts inside nested columns are left as they are.
    """
    invalid: dict[str, np.ndarray] = {}
    for number, field in enumerate(rows.schema):
        if ids.value_kind(field.type) != "text":
            continue
        try:
            rows.column(number).validate(full=True)
        except pa.ArrowInvalid:
            values = ids.decoded(rows.column(number)).cast(pa.large_binary()).to_pylist()
            texts = [None if v is None else v.decode("utf-8", "backslashreplace") for v in values]
            changed = [t is not None and t.encode() != v for t, v in zip(texts, values, strict=True)]
            invalid[field.name] = np.array(changed, bool)
            column = pa.chunked_array([pa.array(texts, pa.large_string())]).cast(ids.storage(field.type))
            rows = rows.set_column(number, field.name, column)
    return Utf8Rows(rows, invalid)
