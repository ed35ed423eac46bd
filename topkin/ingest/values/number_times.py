"""Numbers that write a time otherwise than as an epoch: as digits of a date, as days of a spreadsheet.

None of them is read unasked: each has the SQL expression that reads it.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from topkin.ingest.sql import literal, query

_DAY = 86_400_000_000
SALES_BEGIN = 20 * 365 * _DAY + 5 * _DAY
"""The beginning of 1990 in microseconds since 1970: a column whose values are times later than that may be sales'."""
_DIGITS = ((8, "%Y%m%d"), (14, "%Y%m%d%H%M%S"), (12, "%Y%m%d%H%M"), (10, "%Y%m%d%H"), (6, "%Y%m"), (7, "%Y%j"))
_IN_WORDS = {"%Y": "YYYY", "%m": "MM", "%d": "DD", "%H": "hh", "%M": "mm", "%S": "ss", "%j": "DDD"}
_AS_TEXT = {
    "integer": "CAST({} AS VARCHAR)",
    "float": "CAST(TRY_CAST({} AS BIGINT) AS VARCHAR)",
    "text": "trim({})",
    "text with .0": r"regexp_replace(trim({}), '\.0*$', '')",
}
_DAYS = "TIMESTAMP '{}' + to_days(TRY_CAST({{}} AS INTEGER))"
_SECONDS = "TIMESTAMP '{}' + to_seconds(TRY_CAST(round({} * TRY_CAST({{}} AS DOUBLE)) AS BIGINT))"
_TICKS = "make_timestamp(TRY_CAST({{}} AS BIGINT) // 10 - {})"


class Encoding(NamedTuple):
    """How numbers seem to write times, in words, and the expression that reads them, ``{}`` for the column."""

    words: str
    form: str


def _linear(numbers: np.ndarray) -> list[tuple[float, float, Encoding]]:
    """Encodings by microseconds in one, and by the microseconds since 1970 of zero."""
    since, fraction = "1970-01-01", bool((numbers != np.round(numbers)).any())
    days = _SECONDS.format(since, 86_400) if fraction else _DAYS.format(since)
    serial = _SECONDS.format("1899-12-30", 86_400) if fraction else _DAYS.format("1899-12-30")
    julian = (
        "TIMESTAMP '1970-01-01' + to_seconds(TRY_CAST(round(86400 * (TRY_CAST({} AS DOUBLE) - 2440587.5)) AS BIGINT))"
    )
    return [
        (_DAY, 0, Encoding("days since 1970", days)),
        (_DAY, -25_569 * _DAY, Encoding("a spreadsheet's serial days", serial)),
        (3_600_000_000, 0, Encoding("hours since 1970", _SECONDS.format(since, 3_600))),
        (60_000_000, 0, Encoding("minutes since 1970", _SECONDS.format(since, 60))),
        (_DAY, -2_440_587.5 * _DAY, Encoding("Julian days", julian)),
        (0.1, -62_135_596_800_000_000, Encoding(".NET's ticks since year 1", _TICKS.format(62_135_596_800_000_000))),
        (0.1, -11_644_473_600_000_000, Encoding("Windows file times", _TICKS.format(11_644_473_600_000_000))),
    ]


def encoding(numbers: np.ndarray, last: int, kind: str) -> Encoding | None:
    """How finite numbers, (n,) float64, write times between 1990 and ``last``, nine of ten of them; None if in no way.

    last: microseconds since 1970. kind: of the column: integer, float, text, in which they are written out,
    or text with .0.
    """
    if not len(numbers):
        return None
    whole = numbers[(numbers == np.round(numbers)) & (np.abs(numbers) < 1e15)].astype(np.int64)
    if len(whole) > 0.9 * len(numbers):
        for length, form in _DIGITS:
            inside = whole[(whole >= 10 ** (length - 1)) & (whole < 10**length)]
            if len(inside) <= 0.9 * len(numbers):
                continue
            sql = f"SELECT epoch_us(try_strptime(CAST(n AS VARCHAR), {literal(form)})) AS t FROM rows"
            times = np.asarray(query(sql, pa.table({"n": inside}))["t"].fill_null(-1))
            if _plausible(times, last) > 0.9 * len(numbers):
                words = form
                for code, letters in _IN_WORDS.items():
                    words = words.replace(code, letters)
                return Encoding(words, f"try_strptime({_AS_TEXT[kind]}, {literal(form)})")
    for scale, origin, match in _linear(numbers):
        if _plausible(numbers * scale + origin, last) > 0.9 * len(numbers):
            return match
    return None


def _plausible(micros: np.ndarray, last: int) -> int:
    return int(((micros >= SALES_BEGIN) & (micros <= last)).sum())
