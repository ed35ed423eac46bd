"""Features of items and users: which types a column of one may have, and what is kept of its values.

A feature is kept as one of four types, whatever it came as: a number, a label, a list of labels, a time; a text is the
list of its words. All of an input are fields of one column ``features``, so that their names are the user's own.
"""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from topkin.artifacts import ids
from topkin.artifacts.schemas import FLOAT, LABELS, RULES_ALONE, STRING, TIME
from topkin.ingest import readers, timestamps
from topkin.ingest.catalogue import title_words
from topkin.ingest.values.type_cures import is_list

PREFIX = "features."
"""What the role of a feature begins with, and the column that its expression makes; its name follows."""

_NUMBERS = ("integer", "float", "null")
_LABELS = ("integer", "text", "boolean", "null")
_TAKES = {
    None: "a number, a string, a boolean or a list of strings or integers",
    "number": "a number",
    "category": "a string, an integer or a boolean",
    "text": "a string",
    "categories": "a list of strings or integers",
    "time": "a date or a timestamp",
}


def kept_type(kind: str | None, t: pa.DataType) -> pa.DataType | None:
    """The type in which a feature is kept that came as another; None where its kind does not take that."""
    t = ids.storage(t)
    if is_list(t):
        good = kind in (None, "categories") and ids.value_kind(ids.storage(t.value_type)) in _LABELS
        return LABELS if good else None
    value = ids.value_kind(t)
    if kind is None:
        kind = "number" if value in ("integer", "float") else "category"
    if kind == "number":
        return FLOAT if value in _NUMBERS else None
    if kind == "category":
        return STRING if value in _LABELS else None
    if kind == "time":
        return TIME if value in ("time", "null") else None
    return LABELS if kind == "text" and value in ("text", "null") else None


def type_fault(section: str, name: str, kind: str | None, t: pa.DataType) -> str | None:
    """What is wrong with the type of a feature's column, for a message that begins with the file; None where all is
    well."""
    if kept_type(kind, t) is not None:
        return None
    plain = ids.storage(t)
    if is_list(plain):
        cure = "name one element, as in tags[1], or a list of labels"
    elif types.is_struct(plain):
        cure = f"name one of its fields, {', '.join(f.name for f in plain)}"
    elif kind == "time":
        cure = "give TRY_CAST(… AS TIMESTAMP)"
    elif ids.value_kind(plain) == "time":
        cure = "give epoch(…) of it, or a part of it such as month(…)"
        cure += "" if section == "purchases" else ", or kind = 'time' for rules of the lists"
    elif kind in ("number", None):
        cure = "give TRY_CAST(… AS DOUBLE), or leave kind out" if kind else "give CAST(… AS VARCHAR)"
    else:
        cure = "give CAST(… AS VARCHAR), or leave kind out"
    of_kind = f" of kind {kind!r}" if kind else ""
    return f": {section}.features.{name}{of_kind} must be {_TAKES[kind]}, got {t}: {cure}"


def struct_of(kept: Mapping[str, pa.DataType], unlearned: Collection[str] = ()) -> pa.StructType | None:
    """The type of a column ``features`` from those of roles, in their order; None where none of them is a feature.

    unlearned: those that the encoder does not learn from.
    """
    named = {role.removeprefix(PREFIX): t for role, t in kept.items() if role.startswith(PREFIX)}
    fields = [pa.field(name, t, metadata=RULES_ALONE if name in unlearned else None) for name, t in named.items()]
    return pa.struct(fields) if fields else None


def feature_column(values: Mapping[str, pa.ChunkedArray], kept: pa.StructType) -> pa.StructArray:
    """The columns of features by name as one; numbers that are not finite, empty texts and missing labels are null."""
    return pa.StructArray.from_arrays([_kept(values[f.name], f.type) for f in kept], fields=list(kept))


def _kept(values: pa.ChunkedArray, t: pa.DataType) -> pa.Array:
    plain = ids.decoded(values)
    if t == FLOAT:
        return readers.finite_numbers(plain)
    if t == STRING:
        return _one(readers.texts(plain))
    if t == TIME:
        micros, state = timestamps.to_micros(plain)
        return pa.array(micros, mask=state != timestamps.READ).view(TIME)
    if not is_list(plain.type):
        return title_words(readers.texts(plain)).cast(LABELS)
    lists = _one(plain)
    lists = lists if types.is_large_list(lists.type) else lists.cast(pa.large_list(lists.type.value_type))
    labels = _one(readers.texts(pa.chunked_array([pc.list_flatten(lists)])))
    there = np.asarray(pc.is_valid(labels))
    ends = np.concatenate([[0], np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(lists), 0)))]).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(there)])[ends].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), labels.filter(pa.array(there))).cast(LABELS)


def _one(values: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(values.chunks or [pa.array([], values.type)])
