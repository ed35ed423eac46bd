"""Texts that are none: Parquet calls a column a string and does not ask whether its bytes are UTF-8."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from topkin.artifacts.ids import decoded, storage, value_kind


class Utf8Rows(NamedTuple):
    """Rows whose texts are all UTF-8, and for each column with texts that were not, which, (n,) bool."""

    rows: pa.Table
    invalid: Mapping[str, np.ndarray]


def escape_invalid_utf8(rows: pa.Table) -> Utf8Rows:
    """The rows with every byte that is not UTF-8 written as ``\\xff``, so that engines which trust texts may see them.

    Texts inside nested columns are left as they are.
    """
    invalid: dict[str, np.ndarray] = {}
    for number, field in enumerate(rows.schema):
        if value_kind(field.type) != "text":
            continue
        try:
            rows.column(number).validate(full=True)
        except pa.ArrowInvalid:
            values = decoded(rows.column(number)).cast(pa.large_binary()).to_pylist()
            texts = [None if v is None else v.decode("utf-8", "backslashreplace") for v in values]
            changed = [t is not None and t.encode() != v for t, v in zip(texts, values, strict=True)]
            invalid[field.name] = np.array(changed, bool)
            column = pa.chunked_array([pa.array(texts, pa.large_string())]).cast(storage(field.type))
            rows = rows.set_column(number, field.name, column)
    return Utf8Rows(rows, invalid)
