"""Texts as times, in the forms that databases, spreadsheets and programs write.

Read is what can mean one moment only. ``02/04/2024`` can mean two, so it is no time until an expression says which.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.ingest.sql import literal, query

_OFFSET = r"[+-]\d\d(?::?\d\d)?"
_ISO = (
    r"^\s*(\d{4})-?(\d\d)-?(\d\d)"
    rf"(?:[T ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?\s*(?:(Z|{_OFFSET})|UTC|GMT)?)?\s*$"
)
_CLOCK = (
    r"(?:(?:[T,:]\s*|\s+)(?:at\s+)?(\d{1,2})[:.](\d\d)(?:[:.](\d\d)(?:[.,:](\d{1,9}))?)?\s*([ap])?\.?(?:m\.?)?"
    rf"\s*(?:Z|UTC|GMT|UT)?\s*(?:({_OFFSET})(?:\s*[(\[][^)\]]*[)\]])?)?)?"
)
_WEEKDAY = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|satu?r?|sun)(?:day)?\.?,?\s+)?"
_MONTH_NAME = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_MONTH = rf"({_MONTH_NAME})\.?"
_TIME_PARTS = ("h", "mi", "s", "f", "half", "zone")
_SHAPES = (
    (rf"(\d{{4}})[-/.](\d{{1,2}}|{_MONTH_NAME})[-/.](\d{{1,2}}){_CLOCK}", ("y", "m", "d", *_TIME_PARTS)),
    (
        rf"{_WEEKDAY}(\d{{1,2}})(?:st|nd|rd|th)?[-/. ]*{_MONTH}[-/., ]*(\d{{4}}|\d\d){_CLOCK}",
        ("d", "m", "y", *_TIME_PARTS),
    ),
    (rf"{_WEEKDAY}{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}}){_CLOCK}", ("m", "d", "y", *_TIME_PARTS)),
    (
        rf"{_WEEKDAY}{_MONTH}\s+(\d{{1,2}})\s+(\d\d):(\d\d):(\d\d)(?:\s+(?:UTC|GMT))?\s+({_OFFSET})?\s*(\d{{4}})",
        ("m", "d", "h", "mi", "s", "zone", "y"),
    ),
    (r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?", ("y", "m", "d", "h", "mi", "s")),
)
"""Patterns of whole texts in any case, and what their groups hold: year, month, day, hour, minute, second and so on."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAY_AND_MONTH = rf"(?i)^\s*\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:\d{{4}}|\d\d){_CLOCK}\s*$"
"""A day and a month as numbers, the year last: of which only the writer knows what comes first."""
_EPOCH = r"^\s*\d{9,10}(?:\.\d+)?\s*$|^\s*\d{13}(?:\.\d+)?\s*$|^\s*\d{16}\s*$|^\s*[1-8]\d{18}\s*$"
"""Seconds from 1973 on, milliseconds and so on from 2001 on, told apart by their digits."""


def parse(values: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Strings as timestamps (microseconds, UTC), null where they are none; and which mean two days, (n,) bool."""
    values = values.cast(pa.string())
    times = _from_iso(values)
    two_days = np.zeros(len(values), bool)
    rest = np.flatnonzero(np.asarray(pc.and_(pc.is_null(times), pc.is_valid(values))))
    if not len(rest):
        return times, two_days
    others = values.take(pa.array(rest)).combine_chunks()
    read = _from_epoch(others)
    two_days[rest] = np.asarray(pc.match_substring_regex(others, DAY_AND_MONTH))
    for pattern, parts in _SHAPES:
        left = np.flatnonzero(np.asarray(pc.is_null(read)) & ~two_days[rest])
        if len(left):
            read = pc.replace_with_mask(
                read, _mask(len(read), left), _from_shape(others.take(pa.array(left)), pattern, parts)
            )
    all_times = pc.replace_with_mask(times.combine_chunks(), _mask(len(values), rest), read)
    return pa.chunked_array([all_times]), two_days


def _mask(n: int, where: np.ndarray) -> pa.Array:
    mask = np.zeros(n, bool)
    mask[where] = True
    return pa.array(mask)


def _from_iso(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """ISO 8601 strings, with or without UTC behind them, as timestamps; null where one cannot be read."""
    full = pc.replace_substring_regex(values, _ISO, r"\1-\2-\3 \4:\5:\6.\7\8")
    full = pc.replace_substring_regex(full, r" ::\.$", "")  # a date alone
    full = pc.replace_substring_regex(full, r":\.", ":00.")  # no seconds
    full = pc.replace_substring_regex(full, r"\.(Z|[+-]|$)", r".0\1")  # no fraction
    full = pc.if_else(pc.match_substring_regex(values, _ISO), full, pa.scalar(None, pa.string()))
    rows = pa.table({"value": full})
    return query("SELECT CAST(TRY_CAST(value AS TIMESTAMPTZ) AS TIMESTAMP) AS time FROM rows", rows)["time"]


def _from_epoch(values: pa.Array) -> pa.Array:
    """Epoch numbers written out as timestamps, fractions of a microsecond cut off; null where one is none."""
    micros, good = np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    where = np.flatnonzero(np.asarray(pc.match_substring_regex(values, _EPOCH)))
    if len(where):
        parts = pc.extract_regex(
            pc.utf8_trim_whitespace(values.take(pa.array(where))), r"^(?P<n>\d+)(?:\.(?P<f>\d{1,6}))?"
        )
        whole, fraction = (pc.struct_field(parts, name) for name in ("n", "f"))
        digits = np.asarray(pc.binary_length(whole))
        numbers = np.asarray(whole.cast(pa.int64(), safe=False))
        millionths = np.asarray(pc.utf8_rpad(fraction, 6, "0").cast(pa.int64()))
        scale = np.select([digits <= 10, digits == 13], [1_000_000, 1_000], 1)
        whole_micros = np.where(digits == 19, numbers // 1000, numbers * scale)
        micros[where] = whole_micros + millionths * scale // 1_000_000
        good[where] = True
    return pa.array(micros, mask=~good).view(pa.timestamp("us"))


def _from_shape(values: pa.Array, pattern: str, parts: tuple[str, ...]) -> pa.Array:
    """Strings of a shape as timestamps; null where one is none."""
    names = ", ".join(literal(p) for p in parts)
    part = {name: f"p.{name}" if name in parts else "''" for name in ("y", "m", "d", *_TIME_PARTS)}
    months = ", ".join(literal(m) for m in _MONTHS)
    sql = f"""
        SELECT CAST(TRY_CAST(
            CASE WHEN p.y = '' OR p.d = '' THEN NULL
                 WHEN length(p.y) = 4 THEN p.y WHEN p.y < '50' THEN '20' || p.y ELSE '19' || p.y END
            || '-' || CASE WHEN regexp_matches(p.m, '^[0-9]+$') THEN lpad(p.m, 2, '0')
                           ELSE lpad(CAST(list_position([{months}], lower(left(p.m, 3))) AS VARCHAR), 2, '0') END
            || '-' || lpad(p.d, 2, '0') || ' '
            || CASE WHEN {part["half"]} = '' THEN lpad({part["h"]}, 2, '0')
                    WHEN TRY_CAST({part["h"]} AS INTEGER) BETWEEN 1 AND 12
                    THEN lpad(CAST(TRY_CAST({part["h"]} AS INTEGER) % 12
                         + CASE WHEN lower({part["half"]}) = 'p' THEN 12 ELSE 0 END AS VARCHAR), 2, '0') END
            || ':' || lpad({part["mi"]}, 2, '0') || ':' || lpad({part["s"]}, 2, '0')
            || '.' || CASE WHEN {part["f"]} = '' THEN '0' ELSE {part["f"]} END || {part["zone"]}
            AS TIMESTAMPTZ) AS TIMESTAMP) AS time
        FROM (SELECT regexp_extract(trim(value), {literal(f"(?i)^{pattern}$")}, [{names}]) AS p FROM rows)"""
    return _times(query(sql, pa.table({"value": values})))


def _times(rows: pa.Table) -> pa.Array:
    return rows["time"].cast(pa.timestamp("us")).combine_chunks()
