"""Texts that are none: Parquet calls a column a string and does not ask whether its bytes are UTF-8."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded, storage


class Utf8Rows(NamedTuple):
    """Rows whose texts are all UTF-8, and for each column with texts that were not, which, (n,) bool."""

    rows: pa.Table
    broken: Mapping[str, np.ndarray]


def escape_invalid_utf8(rows: pa.Table) -> Utf8Rows:
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
            values = decoded(rows.column(number)).cast(pa.large_binary()).combine_chunks()
        bad = is_not_utf8(values)
        broken[f.name] = bad
        odd = values.filter(pa.array(bad)).dictionary_encode()
        plain = [v.decode("utf-8", "backslashreplace").encode() for v in odd.dictionary.to_pylist()]
        sound = pa.array(plain, pa.large_binary()).take(odd.indices)
        texts = pc.replace_with_mask(values, pa.array(bad), sound).cast(pa.large_string())
        rows = rows.set_column(number, f.name, pa.chunked_array([texts]).cast(kind))
    return Utf8Rows(rows, broken)


_SECOND = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}
"""First bytes after which not every continuation may come: shortest forms, no surrogates, nothing above U+10FFFF."""


def is_not_utf8(values: pa.LargeBinaryArray) -> np.ndarray:
    """Whether each value is not UTF-8 (RFC 3629), (n,) bool; a null is not broken."""
    values = pc.fill_null(values, b"")
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    start, end = int(offsets[0]), int(offsets[-1])
    data = np.zeros(end - start + 3, np.uint8)  # three that continue nothing
    if end > start:
        data[:-3] = np.frombuffer(values.buffers()[2], np.uint8)[start:end]
    first = np.zeros(len(data), bool)
    first[offsets[:-1] - start] = True
    follows = ((data & 0xC0) == 0x80) & ~first
    wanted = np.select([data < 0xC2, data < 0xE0, data < 0xF0, data < 0xF5], [0, 1, 2, 3], 0).astype(np.int8)
    bad = ((data >= 0xF5) | (data == 0xC0) | (data == 0xC1))[:-3]
    covered, whole = np.zeros(len(data), bool), np.ones(len(data) - 3, bool)
    for after in (1, 2, 3):
        needs = whole & (wanted[:-3] >= after)
        here = follows[after : len(data) - 3 + after]
        bad |= needs & ~here
        whole = needs & here  # what comes after a gap continues nothing
        covered[after : len(data) - 3 + after] |= whole
    for byte, (low, high) in _SECOND.items():
        bad |= (data[:-3] == byte) & ((data[1:-2] < low) | (data[1:-2] > high))
    bad |= ((data & 0xC0) == 0x80)[:-3] & ~covered[:-3]
    sums = np.concatenate([[0], np.cumsum(bad)])[offsets - start]
    found: np.ndarray = sums[1:] > sums[:-1]
    return found
