"""What the values of a stranger's column speak for: ids, times, numbers; read as ``prepare`` reads them."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded, value_kind
from topkin.ingest import readers, timestamps
from topkin.ingest.values.id_faults import id_form, merged_floats
from topkin.ingest.values.number_times import SALES_BEGIN
from topkin.ingest.values.period_times import period
from topkin.ingest.values.time_faults import TimeFault, second_form, time_fault

_END = 2_051_222_400_000_000  # the year 2035 in microseconds since 1970


def now() -> datetime:
    """The time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def id_content(values: pa.ChunkedArray, distinct: int, rows: int, partner: pa.ChunkedArray | None) -> tuple[float, str]:
    """How much values without nulls speak for ids, 0 to 1, and why; ``partner``: ids of another table."""
    merged = merged_floats(values)
    if value_kind(values.type) == "float":
        if merged is None and id_form(values)[0] == "":
            return 0.0, ""  # fractions tell nobody apart
    elif value_kind(values.type) not in ("integer", "text", "binary"):
        return 0.0, ""
    why = f"{values.type}, {distinct:,} different in {rows:,} rows"
    score = 0.6 if 1 < distinct < 0.9 * len(values) else 0.3
    if partner is not None and partner.type == values.type:
        shared = pc.mean(pc.is_in(values, value_set=partner.combine_chunks()).cast(pa.float32())).as_py()
        score += 0.4 * shared
        if shared > 0.1:
            why += f", {shared:.0%} of the rows found in the other table"
    return score, f"{why}, {merged}" if merged else why


def number_content(values: pa.ChunkedArray, *, whole: bool) -> tuple[float, str]:
    """How much values without nulls speak for a number, or for a count of pieces where ``whole``, and why."""
    if value_kind(values.type) not in ("integer", "float"):
        return 0.0, ""
    numbers = readers.numbers(values)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return 0.0, ""
    score = 0.5 + 0.5 * float(np.mean(numbers == np.round(numbers))) if whole else 0.8
    with np.errstate(over="ignore"):  # the middle of two that are nearly too large for their type
        middle = np.median(numbers.astype(np.float64))
    return score, f"{values.type}, median {middle:,.6g}"


def time_content(values: pa.ChunkedArray) -> tuple[float, str]:
    """How much values without nulls speak for times of sales, 0 to 1, and why, with the zone and what is wrong."""
    kind = value_kind(values.type)
    if not timestamps.accepts(values.type) or (kind == "text" and not _some_times(values)):
        return 0.0, ""
    micros, state = timestamps.to_micros(values)
    read = micros[state == timestamps.READ]
    present = max(int((state != timestamps.NULL).sum()), 1)
    fault = time_fault(values, "auto", now(), constant=False)
    share = len(read) / present
    if kind in ("integer", "float"):
        inside = float(np.mean((read >= SALES_BEGIN) & (read < _END))) if len(read) else 0.0
        if fault is not None and fault.form:  # small numbers may be anything: the name must speak, too
            return 0.7, f"{values.type}, {_fault_words(fault)}"
        if inside * share <= 0.9:
            return 0.0, ""
        score = 0.8 if inside * share > 0.99 else 0.5  # with some that are none the name must speak, too
        return score, f"{values.type}, as epoch numbers {_span(read)}"
    if kind == "text" and share < 0.9:
        two_days = fault is not None and bool(fault.cures) and int((state == timestamps.TWO_DAYS).sum()) > 0.5 * present
        if fault is not None and (two_days or fault.form):
            return (0.85 if two_days else 0.7), f"text, {_fault_words(fault)}"
        return (0.5, f"text, {share:.0%} of it read as times, {_span(read)}") if share > 0.5 else (0.0, "")
    if not len(read):
        return 0.0, ""
    what = f"text, {share:.0%} of it read as times" if kind == "text" else str(values.type)
    why = f"{what}, {_span(read)}, {timestamps.zone_note(values.type)}"
    return (0.9 if kind == "text" else 1.0), f"{why}; {_fault_words(fault)}" if fault is not None else why


def id_normalising(values: pa.ChunkedArray) -> tuple[str, str]:
    """The expression that ids of the column need, ``{}`` for it, and why; empty where they need none."""
    return id_form(values)


def time_normalising(values: pa.ChunkedArray) -> tuple[str, str]:
    """The expression that times of the column need, ``{}`` for it, and why; empty where they need none or an answer."""
    if not timestamps.accepts(values.type):
        return "", ""
    fault = time_fault(values, "auto", now(), constant=False) or second_form(values)
    return (fault.form, fault.problem) if fault is not None and fault.form else ("", "")


def _some_times(texts: pa.ChunkedArray) -> bool:
    """Whether some of a thousand texts may be times, which is soon asked of titles."""
    some = texts.take(pa.array(np.linspace(0, len(texts) - 1, min(len(texts), 1000)).astype(np.int64)))
    if period(some):
        return True
    state = timestamps.to_micros(some)[1]
    numbers = pc.match_substring_regex(decoded(some).cast(pa.string()), r"^\s*[0-9.]+\s*$")
    return bool(np.mean(np.isin(state, (timestamps.READ, timestamps.TWO_DAYS)) | np.asarray(numbers)) > 0.3)


def _fault_words(fault: TimeFault) -> str:
    cures = [f"{form}{f' where {when}' if when else ''}" for when, form in fault.cures if when]
    return fault.problem + (f": normalise it by {' or '.join(cures)}" if cures else "")


def _span(micros: np.ndarray) -> str:
    first, last = (np.datetime64(int(m), "us").astype("datetime64[D]") for m in (micros.min(), micros.max()))
    return f"{first} to {last}"
