"""The inputs of a model that is not there yet: what prepared columns are, where only they say it."""

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from topkin.artifacts import ids
from topkin.encoding.columns import FILE_MARKS
from topkin.encoding.inputs import InputChoice, is_listed
from topkin.encoding.signature import EncoderInput
from topkin.errors import InputError


def specs_of(first: pa.Table, choices: Mapping[str, InputChoice]) -> tuple[EncoderInput, ...]:
    """The inputs of the default network.

    Args:
        first: Some rows of the prepared table: its columns have the names of the inputs.
        choices: What the user said of each input, in the order of the model's inputs.

    Raises:
        InputError: A kind that does not fit its column, or a size or length that does not follow from it.
    """
    if not choices:
        raise InputError(
            "[train] needs an input to learn from, [encoder.inputs] is empty: name one, as in "
            'image = { column = "photo", kind = "image", size = [28, 28] }'
        )
    return tuple(_spec(name, choice, first[name]) for name, choice in choices.items())


def _spec(name: str, choice: InputChoice, column: pa.ChunkedArray) -> EncoderInput:
    t = ids.storage(column.type)
    kind = choice.kind or _kind(t)
    where = f"encoder.inputs.{name}"
    shape: tuple[int, ...]
    if kind == "image":
        dtype, shape = "uint8", _image_shape(where, choice, column)
    elif kind == "vector" or is_listed(t):
        dtype, shape = _listed(where, kind, choice, column)
    else:
        whole = types.is_integer(t) or types.is_boolean(t)
        dtype = "float32" if kind == "number" else "int64" if kind == "category" and whole else "string"
        shape = (1,) if kind == "number" else ()
        _fits(where, kind, t, ("integer", "float", "boolean") if kind == "number" else ("integer", "text", "boolean"))
        if kind == "text":
            _fits(where, kind, t, ("text",))
    missing = choice.missing
    if missing is not None and isinstance(missing, str) != (dtype == "string"):
        needs = "a text" if dtype == "string" else "a number"
        raise InputError(f"{where}.missing must be {needs} for kind {kind!r}, got {missing!r}")
    return EncoderInput(name=name, column=name, kind=kind, dtype=dtype, shape=shape, missing=missing)


def _kind(t: pa.DataType) -> str:
    if is_listed(t):
        inner = ids.value_kind(t.value_type)
        return "categories" if inner in ("text", "integer") else "vector"
    return {"binary": "image", "text": "text", "integer": "category", "boolean": "category"}.get(
        ids.value_kind(t), "number"
    )


def _fits(where: str, kind: str, t: pa.DataType, allowed: tuple[str, ...]) -> None:
    if ids.value_kind(t) not in (*allowed, "null"):
        raise InputError(
            f"{where} of kind {kind!r} takes {' or '.join(allowed)}, its column is {t}: name another column or kind"
        )


def _listed(where: str, kind: str, choice: InputChoice, column: pa.ChunkedArray) -> tuple[str, tuple[int]]:
    t = ids.storage(column.type)
    if not is_listed(t):
        raise InputError(f"{where} of kind {kind!r} takes lists, its column is {t}: name another column or kind")
    lengths = pc.list_value_length(column).drop_null()
    if kind == "vector":
        length = choice.length or (t.list_size if types.is_fixed_size_list(t) else _most_frequent(lengths))
    else:
        length = choice.length or max(1, pc.max(lengths).as_py() or 1)
    if not length:
        raise InputError(f"{where} needs a length, its first rows are empty: set length")
    text = ids.value_kind(t.value_type) == "text"
    return ("string" if text else "int64" if kind == "categories" else "float32"), (int(length),)


def _most_frequent(lengths: pa.ChunkedArray) -> int:
    return int(np.bincount(np.asarray(lengths)).argmax()) if len(lengths) else 0


def _image_shape(where: str, choice: InputChoice, column: pa.ChunkedArray) -> tuple[int, int, int]:
    """(height, width, channels): raw pixels say the channels, and without a size are square; files have three."""
    t = ids.storage(column.type)
    _fits(where, "image", t, ("binary", "text"))
    width = t.byte_width if types.is_fixed_size_binary(t) else _width(column)
    if choice.size is not None:
        height, across = choice.size
        if width is None:
            return (height, across, 3)
        if width % (height * across):
            raise InputError(
                f"{where}: images of {height} x {across} have a multiple of {height * across} bytes, got {width}: give "
                "another size"
            )
        return (height, across, width // (height * across))
    for channels in (1, 3, 4):
        if width is not None and width % channels == 0 and math.isqrt(width // channels) ** 2 == width // channels:
            side = math.isqrt(width // channels)
            return (side, side, channels)
    raise InputError(f"{where} needs the size that images are given in: set size = [HEIGHT, WIDTH]")


def _width(column: pa.ChunkedArray) -> int | None:
    """The bytes of each image where these are raw pixels, all of as many bytes; None for files and paths."""
    if not (types.is_binary(column.type) or types.is_large_binary(column.type)):
        return None
    values = column.drop_null()
    lengths = pc.unique(pc.binary_length(values))
    if len(lengths) != 1 or any(v.startswith(FILE_MARKS) for v in values.slice(0, 100).to_pylist()):
        return None
    return int(lengths[0].as_py())
