"""Which column feeds which input of a model, as what: chosen by the user, or read off the model and the table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import types

from topkin.artifacts import ids
from topkin.encoding.signature import HISTORY, LISTS, EncoderInput
from topkin.errors import InputError, nearest_name

HISTORY_LENGTH = 64
"""Values of a history that are kept where neither the model nor the user says how many."""

SHORTEST = 8
"""The length of the first bucket of histories; each further one is twice as long."""


class ModelInput(NamedTuple):
    """An input as its model declares it: ``shape`` of one row, None where any size will do."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class InputChoice:
    """What the user says of an input; what is None follows from the model and the table.

    Args:
        column: A column, or an SQL expression over the row; the input's own name where None.
        kind: One of ``signature.KINDS``.
        size: Height and width of an image.
        length: Of a list, which is padded or cut to it.
        missing: What stands for a missing value; the row is rejected where None.
        pad: Of a history: one of ``signature.PADS``, after where None.
    """

    column: str | None = None
    kind: str | None = None
    size: tuple[int, int] | None = None
    length: int | None = None
    missing: float | str | None = None
    pad: str | None = None


def by_name(names: Sequence[str], choices: Mapping[str, InputChoice]) -> Mapping[str, InputChoice]:
    """The choices by the names of the model's inputs: of a model with one input the one choice may have any name.

    That name is then its column, where it has none.
    """
    if len(names) != 1 or len(choices) != 1 or names[0] in choices:
        return choices
    [(called, choice)] = choices.items()
    return {names[0]: replace(choice, column=choice.column or called)}


def is_listed(t: pa.DataType) -> bool:
    """Whether values of a type are lists."""
    t = ids.storage(t)
    return bool(types.is_list(t) or types.is_large_list(t) or types.is_fixed_size_list(t))


def resolve(
    model: Sequence[ModelInput],
    choices: Mapping[str, InputChoice],
    type_of: Callable[[str], pa.DataType | None],
    columns: Sequence[str],
) -> tuple[EncoderInput, ...]:
    """The inputs of a model with the columns that feed them.

    Args:
        model: All inputs of the model, in its order.
        choices: What the user said, by input; of a model of one input the one choice may have any name.
        type_of: The type of a column or expression; None where there is no such column.
        columns: Of the table, for messages.

    Raises:
        InputError: Lists all that is wrong, each with its cure.
    """
    names = [i.name for i in model]
    choices = by_name(names, choices)
    wrong = []
    for name in choices:
        if name not in names:
            near = nearest_name(name, names)
            hint = f", did you mean {near!r}" if near else ""
            wrong.append(f"the model has no input {name!r}{hint}: its inputs are {', '.join(names)}")
    resolved = []
    for declared in model:
        try:
            resolved.append(_resolved(declared, choices.get(declared.name, InputChoice()), type_of, columns))
        except InputError as e:
            wrong.append(str(e))
    if wrong:
        raise InputError("\n".join(wrong))
    return tuple(resolved)


def _resolved(
    declared: ModelInput, choice: InputChoice, type_of: Callable[[str], pa.DataType | None], columns: Sequence[str]
) -> EncoderInput:
    column = choice.column if choice.column is not None else declared.name
    t = type_of(column)
    if t is None:
        near = nearest_name(column, columns)
        raise InputError(
            f"input {declared.name!r} of the model needs a column, the table has no {column!r}"
            f"{f', did you mean {near!r}' if near else ''}: name one, as in --input {declared.name}=COLUMN; the "
            f"columns are {', '.join(columns)}"
        )
    kind = choice.kind or _kind(declared, t)
    if (why := _misfit(kind, declared, t, column)) is not None:
        raise InputError(f"input {declared.name!r} of the model: {why}")
    shape = _shape(kind, declared, choice, t, column)
    dtype = "float32" if declared.dtype == "bfloat16" else declared.dtype
    missing = choice.missing
    if missing is not None and isinstance(missing, str) != (dtype == "string"):
        needs = "a text" if dtype == "string" else "a number"
        raise InputError(
            f"input {declared.name!r} of the model takes {dtype}: missing must be {needs}, got {missing!r}"
        )
    if isinstance(missing, float | int) and np.dtype(dtype).kind in "iu":
        bounds = np.iinfo(dtype)
        if missing != np.trunc(missing) or not bounds.min <= missing <= bounds.max:
            raise InputError(
                f"input {declared.name!r} of the model takes {dtype}: missing must be a whole number of {bounds.min} "
                f"to {bounds.max}, got {missing!r}"
            )
    if isinstance(missing, float | int) and (kind in ("category", "categories") or "int" in dtype):
        missing = int(missing)
    spec = EncoderInput(name=declared.name, column=column, kind=kind, dtype=dtype, shape=shape, missing=missing)
    if kind == HISTORY:
        return replace(spec, pad=choice.pad or spec.pad, buckets=buckets(shape[0]) if declared.shape == (None,) else ())
    if choice.pad is not None:
        raise InputError(
            f"input {declared.name!r} of the model is of kind {kind!r}, pad is for histories: leave it out"
        )
    return spec


def buckets(length: int) -> tuple[int, ...]:
    """The lengths that histories of at most ``length`` are padded to: 8, 16, 32 … and the length itself.

    None where that is the only one.

    Examples:
        >>> buckets(40)
        (8, 16, 32, 40)
    """
    shorter = []
    width = SHORTEST
    while width < length:
        shorter.append(width)
        width *= 2
    return (*shorter, length) if shorter else ()


def _kind(declared: ModelInput, t: pa.DataType) -> str:
    """The kind that the model's input and the column's type suggest."""
    if is_listed(t):
        inner = ids.value_kind(ids.storage(t).value_type)
        if inner == "text":
            return "texts"
        if inner == "integer" and "float" not in declared.dtype:
            return "categories"
        if None in declared.shape and not types.is_fixed_size_list(ids.storage(t)):
            return "numbers"
        return "vector"
    value = ids.value_kind(t)
    if value == "binary" or len(declared.shape) >= 2:
        return "image"
    if value == "text":
        return "text"
    return "category" if value == "integer" and "float" not in declared.dtype else "number"


_TAKES = {
    "number": ("integer", "float", "boolean", "null"),
    "category": ("integer", "text", "boolean", "null"),
    "text": ("text", "null"),
    "image": ("binary", "text"),
    HISTORY: ("integer", "text", "boolean", "float", "time", "null"),
}
_WORDS = {
    "number": "numbers",
    "category": "strings or integers",
    "text": "strings",
    "image": "raw pixels or files as bytes, or paths as strings",
    HISTORY: "lists of ids, numbers or times",
}


def _misfit(kind: str, declared: ModelInput, t: pa.DataType, column: str) -> str | None:
    """Why a column cannot feed an input as a kind, with the cure; None where it can."""
    listed = kind in ("vector", HISTORY) or kind in LISTS
    if listed and not is_listed(t):
        return f"kind {kind!r} takes a list, column {column!r} is {t}: name another column or kind"
    each = LISTS.get(kind, "number" if kind == "vector" else kind)
    value = ids.value_kind(ids.storage(t).value_type if listed else t)
    if value not in _TAKES[each]:
        cure = "give an SQL expression in the column's place, such as epoch(…) of a time or CAST(… AS DOUBLE)"
        if each == "image":
            inside = types.is_struct(t) and t.get_field_index("bytes") >= 0
            cure = f"give its field, {column}.bytes, in its place" if inside else "name a column of images"
        return f"kind {kind!r} takes {_WORDS[each]}, column {column!r} is {t}: {cure}"
    many = "[]" if listed else ""
    if declared.dtype == "string" and value not in ("text", "null"):
        return f"it takes strings, column {column!r} is {t}: give CAST({column} AS VARCHAR{many}) in its place"
    if value == "time" and "float" not in declared.dtype:
        return (
            f"it takes {declared.dtype}, column {column!r} is {t}: times are given as ages in days, save the model "
            f"with keras.Input(…, dtype='float32'), or give an SQL expression in the column's place"
        )
    if declared.dtype != "string" and value == "text" and each != "image":
        return (
            f"it takes {declared.dtype}, column {column!r} is {t}: name a column of numbers, or save the model with "
            "its StringLookup or TextVectorization inside and keras.Input(…, dtype='string') before it"
        )
    if "float" not in declared.dtype and declared.dtype != "string" and value == "float" and kind != "vector":
        return f"it takes {declared.dtype}, column {column!r} is {t}: give CAST({column} AS BIGINT{many}) in its place"
    return None


def _shape(kind: str, declared: ModelInput, choice: InputChoice, t: pa.DataType, column: str) -> tuple[int, ...]:
    """The shape of a row as it will be given. Raises InputError where it does not follow or does not fit."""
    shape, where = declared.shape, f"input {declared.name!r} of the model"
    if kind == "image":
        return _image_shape(declared, choice, t, column)
    if kind in ("vector", HISTORY) or kind in LISTS:
        fixed = ids.storage(t).list_size if types.is_fixed_size_list(ids.storage(t)) else None
        length = choice.length or {"vector": fixed, HISTORY: HISTORY_LENGTH}.get(kind)
        if shape in ((None,), (None, 1)) and length is not None:
            shape = (length, *shape[1:])
        if not shape:
            raise InputError(f"{where} is one value a row, column {column!r} is {t}: name another column")
        if None in shape:
            raise InputError(f"{where}: rows of kind {kind!r} need a length, its shape is {shape}: set length")
        known = tuple(int(s) for s in shape if s is not None)
        size = int(np.prod(known))
        if choice.length is not None and choice.length != size:
            raise InputError(f"{where} takes {size} values a row, got length {choice.length}: leave length out")
        if kind == "vector" and fixed is not None and fixed != size:
            raise InputError(f"{where} takes {size} numbers a row, column {column!r} has {fixed}: name another column")
        if kind != "vector" and len(known) > 1 and size != known[0]:
            raise InputError(f"{where} has rows of shape {known}, a list has one dimension: name a column of vectors")
        return known
    if shape not in ((), (1,)):
        raise InputError(
            f"{where} has rows of shape {shape}, kind {kind!r} is one value: name a column of lists or images, or "
            "another kind"
        )
    return tuple(int(s) for s in shape if s is not None)


def _image_shape(declared: ModelInput, choice: InputChoice, t: pa.DataType, column: str) -> tuple[int, ...]:
    where, shape = f"input {declared.name!r} of the model", declared.shape
    if len(shape) not in (2, 3):
        raise InputError(
            f"{where} has rows of shape {shape}, an image is (height, width, channels): name another kind or column"
        )
    size = choice.size or shape[:2]
    if any(wanted is not None and wanted != came for wanted, came in zip(shape[:2], size, strict=True)):
        raise InputError(
            f"{where} takes images of {shape[0]} x {shape[1]}, got size {size[0]} x {size[1]}: leave size out"
        )
    if size[0] is None or size[1] is None:
        raise InputError(f"{where} takes images of any size, a batch needs one: set size, as in {declared.name}=64x64")
    channels = () if len(shape) == 2 else (3 if shape[2] is None else shape[2],)
    known = (size[0], size[1], *channels)
    width = ids.storage(t).byte_width if types.is_fixed_size_binary(ids.storage(t)) else None
    if width is not None and width != np.prod(known):
        raise InputError(
            f"{where} takes images of {' x '.join(map(str, known))}, {np.prod(known)} bytes, column {column!r} has raw "
            f"pixels of {width} bytes: name another column or size"
        )
    return known
