"""Times that no sale can have: what a column of times must mean instead, and the expression that reads it."""

import re
from collections import Counter
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.ids import decoded, value_kind
from topkin.ingest import timestamps
from topkin.ingest.values.number_times import encoding
from topkin.ingest.values.period_times import period
from topkin.ingest.values.stand_ins import is_stand_in, main_stand_in

_DAY = 86_400_000_000
_1975 = 5 * 365 * _DAY + _DAY
_1977 = _1975 + 2 * 365 * _DAY + _DAY  # twelve digits of a date, taken for milliseconds, lie in 1976
_ANOTHER = "name the column that holds the time of the sale, or set {normalise} to an SQL expression that gives it"
_ORDER = (
    "name the column that holds the time of the sale; where there is none, leave purchases.timestamp out, and set "
    'purchases.order = "row", or to a column of numbers that grow with the sales'
)
HANDFUL = 20
"""Rows of which no more is asked than that they can be read."""


class TimeFault(NamedTuple):
    """What is wrong with a column of times, and the expressions that may read it, ``{}`` for the column.

    ``cures``: (when it is right, expression); one that is right as it stands has no condition. ``advice``: what to do
    beside them or in their place.
    """

    problem: str
    cures: tuple[tuple[str, str], ...] = ()
    advice: str = ""

    @property
    def form(self) -> str:
        """The expression, where there is one alone that needs no answer from the user."""
        return self.cures[0][1] if len(self.cures) == 1 and not self.cures[0][0] else ""


def time_fault(values: pa.ChunkedArray, unit: str, clock: datetime, *, constant: bool = True) -> TimeFault | None:
    """What is wrong with most of a column's times; None where nothing is, or where there are none.

    Args:
        values: of a type that ``timestamps.accepts``.
        unit: as for ``timestamps.to_micros``.
        clock: naive UTC; later is the future.
        constant: whether values all within one second are a fault.
    """
    micros, state = timestamps.to_micros(values, unit)
    n = int((state != timestamps.NULL).sum())
    if not n:
        return None
    now = int(np.datetime64(clock, "us").astype(np.int64))
    last = now + 366 * _DAY
    values, kind = decoded(values), value_kind(values.type)
    written = "text with .0" if kind == "text" and _some_end_in_zeros(values) else kind
    if 2 * int((state == timestamps.TWO_DAYS).sum()) >= n:
        beside = bool(np.isin(state, (timestamps.READ, timestamps.BROKEN)).any())
        return _day_or_month(values.filter(pa.array(state == timestamps.TWO_DAYS)).cast(pa.string()), beside=beside)
    example = _example(values, state != timestamps.NULL)
    if 2 * int((state == timestamps.BROKEN).sum()) > n:
        match = encoding(_numbers(values), last, written) if kind != "time" else None
        if match:
            return TimeFault(f"numbers such as {example}, which look like {match.words}", (("", match.form),))
        if kind != "text":
            return TimeFault(f"values such as {example}, which are no times of the years 1 to 9999", advice=_ANOTHER)
        if named := period(values):
            return TimeFault(f"texts such as {example}, which are {named.words}", (("", named.form),))
        cure = ("with the form that they have", "try_strptime({}, '%d. %m. %Y %H:%M')")
        return TimeFault(f"texts such as {example}, which are not readable as times", (cure,))
    read = micros[state == timestamps.READ]
    stand_in = main_stand_in(read)
    sales = read[~is_stand_in(read)]
    if timestamps.is_epoch(values.type):
        numbers = _numbers(values)
        middle = float(np.median(timestamps.to_micros(pa.chunked_array([numbers]), unit)[0])) if len(numbers) else 0.0
        match = encoding(numbers, last, written) if middle < _1977 or middle > now or _are_ticks(numbers) else None
        if match:
            return TimeFault(f"numbers such as {example}, which look like {match.words}", (("", match.form),))
        if 2 * len(numbers) > n:  # small numbers lie in 1970, and mean something else
            stand_in, sales = None, read
    if stand_in is not None or not len(sales):
        return TimeFault(f"mostly {stand_in or '1970-01-01'}, which stands for no time at all", advice=_ANOTHER)
    middle, late = float(np.median(sales)), sales[sales > now]
    if middle < _1975:
        problem = f"{example}, read as {_shown(sales, middle)}: half of the times lie before 1975"
        return TimeFault(problem, advice=_ANOTHER)
    if 2 * len(late) > n:
        share = "every purchase is" if len(late) == len(sales) else f"{len(late) / n:.0%} of the purchases are"
        when = f"such as {_shown(late, float(np.median(late)))}, now is {clock.isoformat(' ', 'seconds')}"
        return TimeFault(f"{share} in the future, {when}", advice=_ANOTHER)
    if constant and len(sales) > HANDFUL and int(sales.max()) // 1_000_000 == int(sales.min()) // 1_000_000:
        return TimeFault(f"{_shown(sales, middle)} in all rows: one second for all is no order in time", advice=_ORDER)
    return None


def second_form(values: pa.ChunkedArray) -> TimeFault | None:
    """What reads texts with day and month as numbers among times of other forms, those left as they are; else None."""
    if value_kind(values.type) != "text":
        return None
    state = timestamps.to_micros(values)[1]
    two_days = values.filter(pa.array(state == timestamps.TWO_DAYS))
    return _day_or_month(decoded(two_days).cast(pa.string()), beside=True) if len(two_days) else None


def form_of_text(text: str) -> TimeFault:
    """What reads a text that topkin does not read as a time, and leaves those that it does as they are."""
    texts = pa.chunked_array([[text]])
    if fault := second_form(texts):
        return fault
    named = period(texts)
    form = "try_strptime({}, '%d/%m/%Y')" if named is None else named.form
    return TimeFault("", (("" if named else "with the form that they have", or_as_it_is(form)),))


def or_as_it_is(form: str) -> str:
    """A form that reads some texts of a column, with the others left as they are."""
    return f"coalesce(CAST({form} AS VARCHAR), {{}})"


def _are_ticks(numbers: np.ndarray) -> bool:
    """Whether numbers are .NET's ticks of 1990 to 2035, which as nanoseconds lie within some months of 1990."""
    return bool(len(numbers) and 6.27e17 < np.median(numbers) < 6.43e17)


def _some_end_in_zeros(texts: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts.cast(pa.string()), r"^\s*[0-9]+\.0*\s*$")).as_py())


def _numbers(values: pa.ChunkedArray) -> np.ndarray:
    """Numbers, or texts that write them, as float64 without those that stand for none: null, NaN, 0 and minus 1."""
    if value_kind(values.type) == "text":
        plain = pc.match_substring_regex(values.cast(pa.string()), r"^\s*[0-9]{1,18}(\.[0-9]+)?\s*$")
        values = pc.utf8_trim_whitespace(values.cast(pa.string()).filter(plain))
    numbers = np.asarray(values.cast(pa.float64(), safe=False).drop_null())
    return numbers[np.isfinite(numbers) & (numbers > 0)]


def _example(values: pa.ChunkedArray, where: np.ndarray) -> str:
    """A value in the middle of those at ``where``, as a message can hold it."""
    places = np.flatnonzero(where)
    value = values.slice(int(places[len(places) // 2]), 1)
    if pa.types.is_timestamp(value.type) and value.type.tz is not None:
        value = value.cast(pa.timestamp(value.type.unit, "UTC"))  # a zone's name may be unknown here
    one = value.cast(pa.string())[0].as_py()
    return repr(one[:60]) if value_kind(values.type) == "text" else one


def _shown(micros: np.ndarray, middle: float) -> str:
    nearest = int(micros[np.abs(micros - middle).argmin()]) if len(micros) else int(middle)
    return str(np.datetime64(nearest, "us").astype("datetime64[s]")).replace("T", " ")


_PARTS = re.compile(
    r"^\s*(?P<a>\d{1,2})(?P<sep1>[-/.])(?P<b>\d{1,2})(?P<sep2>[-/.])(?P<y>\d{4}|\d\d)"
    r"(?:(?P<between>[T,:]?\s*)(?P<h>\d{1,2})(?P<c1>[:.])(?P<mi>\d\d)(?:(?P<c2>[:.])(?P<s>\d\d)(?P<f>\.\d{1,9})?)?"
    r"(?P<half>\s*[AaPp][Mm])?(?P<zone>\s*(?:Z|UTC|GMT|[+-]\d\d:?(?:\d\d)?))?)?\s*$"
)


def _day_or_month(values: pa.ChunkedArray, *, beside: bool) -> TimeFault:
    """What to ask of texts with day and month as numbers: which comes first, if some value does not say it.

    beside: whether the column has texts of other forms too, which the expression is to leave as they are.
    """
    texts = pc.unique(values).to_pylist()[:5000]
    matches = [m for m in map(_PARTS.match, texts) if m]
    first = max((int(m["a"]) for m in matches), default=0)
    second = max((int(m["b"]) for m in matches), default=0)
    example = repr(texts[len(texts) // 2][:60])
    days_first, months_first = (_strptime(matches, order) for order in ("%d{}%m", "%m{}%d"))
    if beside:
        days_first, months_first = or_as_it_is(days_first), or_as_it_is(months_first)
    if first > 12 >= second:
        big = next(m[0] for m in matches if int(m["a"]) > 12)
        return TimeFault(
            f"texts such as {example}: the day comes first, as {big!r} shows, which you must say", (("", days_first),)
        )
    if second > 12 >= first:
        big = next(m[0] for m in matches if int(m["b"]) > 12)
        return TimeFault(
            f"texts such as {example}: the month comes first, as {big!r} shows, which you must say",
            (("", months_first),),
        )
    problem = f"texts such as {example}: is the day first or the month?"
    if first > 12:
        problem = f"texts of which some have the day first and others the month, such as {example}"
    return TimeFault(problem, (("the day comes first", days_first), ("the month does", months_first)))


def _strptime(matches: list[re.Match[str]], order: str) -> str:
    """The expression that reads texts of these forms."""
    forms = Counter(_form(m, order) for m in matches)
    listed = [literal_form for literal_form, _ in forms.most_common(6)]
    spaces = any(m.string != m.string.strip() for m in matches)
    formats = ", ".join(f"'{f}'" for f in listed)
    return f"try_strptime({'trim({})' if spaces else '{}'}, {formats if len(listed) == 1 else f'[{formats}]'})"


def _form(m: re.Match[str], order: str) -> str:
    day = order.format(m["sep1"]) + m["sep2"] + ("%Y" if len(m["y"]) == 4 else "%y")
    if m["h"] is None:
        return day
    time = ("%I" if m["half"] else "%H") + m["c1"] + "%M"
    time += m["c2"] + "%S" if m["s"] else ""
    time += {True: ".%g", False: ".%f" if len(m["f"] or "") <= 7 else ".%n"}[len(m["f"]) == 4] if m["f"] else ""
    time += (" " if m["half"].startswith(" ") else "") + "%p" if m["half"] else ""
    zone = m["zone"] or ""
    time += zone if not zone or zone.strip()[0].isalpha() else " " * zone.startswith(" ") + "%z"
    return day + m["between"] + time
