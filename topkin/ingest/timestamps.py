"""Times of any form as microseconds since 1970 in UTC, value by value.

A time without a zone counts as UTC. One broken value breaks its row, never its column. What texts mean is told in
:mod:`topkin.ingest.values.text_times`, and which times no sale can have in :mod:`topkin.ingest.values.time_faults`.
"""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded, storage, value_kind
from topkin.ingest.values import text_times

ACCEPTED = "a timestamp, a date, an ISO 8601 string or an epoch number"
READ, NULL, BROKEN, TWO_DAYS = 0, 1, 2, 3
"""What became of a value; TWO_DAYS: a text such as 02/04/2024, which may mean two."""

_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_FIRST, _END = -62_135_596_800_000_000, 253_402_300_800_000_000  # years 1 to 9999


def is_epoch(t: pa.DataType) -> bool:
    """Whether values of the type are epoch numbers."""
    return value_kind(t) in ("integer", "float")


def accepts(t: pa.DataType) -> bool:
    """Whether the type can hold times."""
    return value_kind(t) in ("integer", "float", "text", "time")


def zone_note(t: pa.DataType) -> str:
    """What times of the type count as, in words; "" for epoch numbers and other types."""
    t = storage(t)
    if value_kind(t) == "text":
        return "read by the offset that each has, in UTC without one"
    if value_kind(t) != "time":
        return ""
    if pa.types.is_timestamp(t) and t.tz is not None:
        return f"instants, shown in {t.tz} and kept in UTC"
    if pa.types.is_date(t):
        return "midnight in UTC"
    return "without a zone taken as UTC: where they are local, AT TIME ZONE 'Europe/Berlin' behind the column says so"


def to_micros(values: pa.ChunkedArray, unit: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Times as (n,) int64 microseconds since 1970 in UTC, and what became of each: READ, NULL, BROKEN or TWO_DAYS.

    ``unit`` is that of epoch numbers: s, ms, us, or auto, which takes it from each number's size (below 10**11
    seconds, below 10**14 milliseconds, below 10**17 microseconds, then nanoseconds: right from 1973 on).
    Fractions of a microsecond are cut off; a float that is NaN is null. Raises TypeError for a type that holds no
    times.
    """
    if not accepts(values.type):
        raise TypeError(f"times must be {ACCEPTED}, got {values.type}")
    values = decoded(values)
    state = np.where(np.asarray(pc.is_null(values)), NULL, READ).astype(np.uint8)
    if pa.types.is_floating(values.type):
        state[np.asarray(pc.fill_null(pc.is_nan(values), False))] = NULL
    if value_kind(values.type) == "text":
        values, two_days = text_times.parse(values)
        state[(state == READ) & np.asarray(pc.is_null(values))] = BROKEN
        state[two_days] = TWO_DAYS
    if is_epoch(values.type):
        micros, good = _from_epoch(values, unit)
    else:
        micros, good = _from_time(values)
    good &= (micros >= _FIRST) & (micros < _END)
    state[(state == READ) & ~good] = BROKEN
    micros[state != READ] = 0
    return micros, state


def _from_epoch(values: pa.ChunkedArray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Epoch numbers as microseconds, and which of them fit."""
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    numbers = np.asarray(pc.fill_null(values, 0))
    size = np.abs(numbers.astype(np.float64))
    good = np.isfinite(size)
    if unit == "auto":
        factor = np.select([size < 1e11, size < 1e14], [1_000_000.0, 1_000.0], 1.0)
        nanos = size >= 1e17
    else:
        factor = np.full(len(numbers), float(_UNITS[unit]))
        nanos = np.zeros(len(numbers), bool)
    good &= (size * factor < 2.0**62 * np.where(nanos, 1e3, 1)) & (size < 2.0**63)
    numbers = np.where(good, numbers, 0)
    if numbers.dtype.kind == "f":
        whole = np.floor(numbers)
        micros = whole.astype(np.int64) * factor.astype(np.int64)
        micros += np.floor(np.round((numbers - whole) * factor, 3)).astype(np.int64)
    else:
        micros = numbers.astype(np.int64) * factor.astype(np.int64)
    return np.where(nanos, micros // 1000, micros), good


def _from_time(values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Timestamps and dates as microseconds, and which of them fit."""
    kind = values.type
    if pa.types.is_date32(kind):
        days = np.asarray(pc.fill_null(values.cast(pa.int32()), 0)).astype(np.int64)
        return days * 86_400_000_000, np.abs(days) < 10_000_000
    unit = "ms" if pa.types.is_date64(kind) else kind.unit
    ticks = np.asarray(pc.fill_null(values.cast(pa.int64()), 0))
    if unit == "ns":
        return ticks // 1000, np.ones(len(ticks), bool)
    good = np.abs(ticks.astype(np.float64)) * _UNITS[unit] < 2.0**62
    return np.where(good, ticks, 0) * _UNITS[unit], good


def unit_mistake(values: pa.ChunkedArray, unit: str, clock: datetime) -> str | None:
    """The unit that epoch numbers seem to have, where it is not the configured one; None where all is well.

    Told by the median: impossible in the configured unit (before 1975 or a year after ``clock``), and
    possible in the other.
    """
    if unit == "auto" or not is_epoch(values.type):
        return None
    numbers = np.asarray(decoded(values).cast(pa.float64()).drop_null())
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return None
    middle = float(np.median(numbers))
    last = np.datetime64(clock, "us").astype(np.int64) + 366 * 86_400_000_000

    def possible(name: str) -> bool:
        return bool(5 * 365.25 * 86_400_000_000 <= middle * _UNITS[name] <= last)

    if possible(unit):
        return None
    return next((name for name in _UNITS if possible(name)), None)
