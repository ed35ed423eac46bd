"""Texts that are none: Parquet calls a column a string and does not ask whether its bytes are UTF-8."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from topkin.ids import decoded, storage


class Readable(NamedTuple):
    """Rows whose texts are all UTF-8, and for each column with texts that were not, which, (n,) bool."""

    rows: pa.Table
    broken: Mapping[str, np.ndarray]


def readable(rows: pa.Table) -> Readable:
    """The rows with every byte that is not UTF-8 written as ``\\xff``, so that engines which trust texts may see them.

    Texts inside nested columns are left as they are.
    """
    broken: dict[str, np.ndarray] = {}
    for number, f in enumerate(rows.schema):
        kind = storage(f.type)
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            continue
        try:
            rows.column(number).validate(full=True)
            continue
        except pa.ArrowInvalid:
            values = decoded(rows.column(number)).cast(pa.large_binary()).to_pylist()
        texts = [None if v is None else v.decode("utf-8", "backslashreplace") for v in values]
        back = [None if t is None else t.encode() for t in texts]
        broken[f.name] = np.array([v != b for v, b in zip(values, back, strict=True)], bool)
        rows = rows.set_column(number, f.name, pa.chunked_array([pa.array(texts, pa.large_string())]).cast(kind))
    return Readable(rows, broken)
