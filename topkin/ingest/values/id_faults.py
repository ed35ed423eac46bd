"""Ids that are not told apart any more, or that int64 does not hold, and what becomes of those in odd types."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded
from topkin.ingest.sql import query

FEW = 0.01
"""Share of ids above the largest int64 up to which they break their rows alone."""
_INT64 = pa.scalar(2**63 - 1, pa.uint64())
_EXPORT = "write the ids as integers or strings where they are exported: no expression brings back what is lost"
EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
"""By the bits of a float: the largest of which all smaller whole numbers are floats too."""


def merged_floats(values: pa.ChunkedArray) -> str | None:
    """Why floats cannot be ids, where some are above what floats can tell apart; None where none is."""
    if not pa.types.is_floating(values.type):
        return None
    limit = EXACT[values.type.bit_width]
    numbers = np.asarray(decoded(values).cast(pa.float64()).drop_null())
    above = numbers[np.isfinite(numbers) & (np.abs(numbers) > limit)]
    if not len(above):
        return None
    return f"floats above 2**{limit.bit_length() - 1} such as {above[0]:.0f}, where different ids became one: {_EXPORT}"


def id_form(values: pa.ChunkedArray) -> tuple[str, str]:
    """The expression, ``{}`` for the column, that reads ids of an odd type without losing one, and why it is needed.

    ("", "") where none is needed, and where there is none.
    """
    values = decoded(values)
    kind = values.type
    if pa.types.is_floating(kind):
        numbers = np.asarray(values.cast(pa.float64()).drop_null())
        finite = numbers[np.isfinite(numbers)]
        if (finite == np.round(finite)).all() and merged_floats(values) is None:
            return "TRY_CAST({} AS BIGINT)", f"ids came as floats, all of them whole and none above {_power(kind)}"
    if pa.types.is_decimal(kind):
        fits = values.cast(pa.string())
        whole = pc.all(pc.match_substring_regex(fits, r"^-?[0-9]{1,18}(\.0*)?$")).as_py() is not False
        if whole and (kind.bit_width <= 128 or kind.precision <= 38):
            return "TRY_CAST({} AS BIGINT)", "ids came as decimals, all of them whole"
        return "CAST({} AS VARCHAR)", "ids came as decimals, not all of which are whole and within int64"
    if above_int64(values):
        return "CAST({} AS VARCHAR)", "some ids are above the largest int64"
    return "", ""


def _power(kind: pa.DataType) -> str:
    return f"2**{EXACT[kind.bit_width].bit_length() - 1}"


def above_int64(values: pa.ChunkedArray) -> float:
    """The share of ids that int64 does not hold."""
    values = decoded(values)
    if not pa.types.is_uint64(values.type) or values.null_count == len(values):
        return 0.0
    return float(pc.mean(pc.greater(values, _INT64).cast(pa.float64())).as_py())


def merged_by_expression(raw: pa.ChunkedArray, ids: pa.ChunkedArray) -> bool:
    """Whether an expression made one id of several numbers with fractions."""
    raw = decoded(raw)
    if not (pa.types.is_floating(raw.type) or pa.types.is_decimal(raw.type)):
        return False
    rows = pa.table({"raw": raw, "id": ids})
    counts = query(
        "SELECT count(DISTINCT raw) AS a, count(DISTINCT id) AS b FROM rows WHERE id IS NOT NULL AND raw IS NOT NULL",
        rows,
    ).to_pylist()[0]
    return bool(counts["a"] > counts["b"])
