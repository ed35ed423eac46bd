"""Ids in the three types that topkin keeps: int64, string, binary."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

Values = pa.Array | pa.ChunkedArray
"""Values of one type, in one piece or several."""

ACCEPTED = "an integer, a string or binary"


def storage(t: pa.DataType) -> pa.DataType:
    """The type behind an extension type or a dictionary."""
    while isinstance(t, pa.BaseExtensionType) or pa.types.is_dictionary(t):
        t = t.storage_type if isinstance(t, pa.BaseExtensionType) else t.value_type
    return t


def decoded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values without extension type or dictionary; half floats, which few functions take, as float32."""
    while storage(values.type) != values.type:
        if isinstance(values.type, pa.BaseExtensionType):
            values = pa.chunked_array([c.storage for c in values.chunks], values.type.storage_type)
        else:
            values = pa.chunked_array([_decoded(c) for c in values.chunks], _castable(values.type.value_type))
    kind = _castable(values.type)
    return values if kind == values.type else values.cast(kind)


def _castable(t: pa.DataType) -> pa.DataType:
    """The type with kernels for what is a view of text or bytes, or a half float."""
    if pa.types.is_string_view(t):
        return pa.string()
    if pa.types.is_float16(t):
        return pa.float32()
    return pa.binary() if pa.types.is_binary_view(t) else t


def _decoded(chunk: pa.DictionaryArray) -> pa.Array:
    kind = _castable(chunk.type.value_type)
    return chunk.cast(kind) if kind == chunk.type.value_type else chunk.dictionary.cast(kind).take(chunk.indices)


_KINDS = {
    "boolean": (types.is_boolean,),
    "integer": (types.is_integer,),
    "float": (types.is_floating, types.is_decimal),
    "time": (types.is_timestamp, types.is_date),
    "text": (types.is_string, types.is_large_string, types.is_string_view),
    "binary": (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary),
    "null": (types.is_null,),
}


def value_kind(t: pa.DataType) -> str:
    """What values of a type are: boolean, integer, float, time, text, binary, null or other; a decimal is a float."""
    t = storage(t)
    return next((kind for kind, tests in _KINDS.items() if any(test(t) for test in tests)), "other")


def canonical_type(t: pa.DataType) -> pa.DataType | None:
    """The type in which ids of type ``t`` are kept; None where they cannot be ids."""
    return {"integer": pa.int64(), "text": pa.string(), "binary": pa.binary()}.get(value_kind(t))


def canonical(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as int64, string or binary; nulls stay, an integer above the largest int64 becomes one.

    Raises TypeError for other types.
    """
    kind = canonical_type(values.type)
    if kind is None:
        raise TypeError(f"ids must be {ACCEPTED}, got {values.type}")
    values = decoded(values)
    if pa.types.is_uint64(values.type):
        limit = pa.scalar(2**63 - 1, pa.uint64())
        values = pc.if_else(pc.less_equal(values, limit), values, pa.scalar(None, pa.uint64()))
    return values if values.type == kind else values.cast(kind)


def vocabulary_hash(ids: pa.Array) -> str:
    """The SHA-256 of ids, their type and order included."""
    digest = hashlib.sha256(f"{ids.type}:{len(ids)}:".encode())
    if pa.types.is_integer(ids.type):
        digest.update(ids.to_numpy().tobytes())
    elif len(ids):
        wide = ids.cast(pa.large_binary())
        offsets = np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide) + 1]
        digest.update((offsets - offsets[0]).tobytes())
        digest.update(memoryview(wide.buffers()[2])[offsets[0] : offsets[-1]])
    return digest.hexdigest()
