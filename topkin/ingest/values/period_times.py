"""Texts that name a month, a week or a quarter in the place of a day, and the expression that reads their first day.

None of them is read unasked: what stands for a day is for the shop to say.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.ingest.sql import query


class PeriodForm(NamedTuple):
    """What a text may name: its pattern, in words, and the expression that reads it, ``{}`` for the column."""

    pattern: str
    words: str
    form: str


_YEAR = r"(?:19|20)\d\d"
_MONTH, _QUARTER = "months, taken as their first days", "quarters, taken as their first days"
_WEEK, _OF_WEEK = "weeks of ISO 8601, taken as their Mondays", "days of a week of ISO 8601"


def _first_of_quarter(year: str, quarter: str) -> str:
    return f"make_date(TRY_CAST({year} AS INTEGER), 3 * TRY_CAST({quarter} AS INTEGER) - 2, 1)"


_PERIODS = (
    *(PeriodForm(rf"{_YEAR}{sign}\d\d?", _MONTH, f"try_strptime(trim({{}}), '%Y{sep}%m')")
      for sep, sign in (("-", "-"), ("/", "/"), (".", r"\."), (" ", " "))),
    *(PeriodForm(rf"\d\d?{sign}{_YEAR}", _MONTH, f"try_strptime(trim({{}}), '%m{sep}%Y')")
      for sep, sign in (("-", "-"), ("/", "/"), (".", r"\."), (" ", " "))),
    *(PeriodForm(rf"[A-Za-z]{{3,9}}{sep}{_YEAR}", _MONTH, f"try_strptime(trim({{}}), ['%b{sep}%Y', '%B{sep}%Y'])")
      for sep in (" ", "-")),
    PeriodForm(rf"{_YEAR}-W\d\d?", _WEEK, "try_strptime(trim({}), '%G-W%V')"),
    PeriodForm(rf"{_YEAR}W\d\d", _WEEK, "try_strptime(trim({}), '%GW%V')"),
    PeriodForm(rf"{_YEAR}-W\d\d?-[1-7]", _OF_WEEK, "try_strptime(trim({}), '%G-W%V-%u')"),
    PeriodForm(rf"{_YEAR}W\d\d[1-7]", _OF_WEEK, "try_strptime(trim({}), '%GW%V%u')"),
    PeriodForm(rf"{_YEAR}-\d\d\d", "days of a year", "try_strptime(trim({}), '%Y-%j')"),
    PeriodForm(rf"{_YEAR}[- ]?Q[1-4]", _QUARTER, _first_of_quarter("left(trim({}), 4)", "right(trim({}), 1)")),
    PeriodForm(rf"Q[1-4][-/ ]?{_YEAR}", _QUARTER, _first_of_quarter("right(trim({}), 4)", "substr(trim({}), 2, 1)")),
)  # fmt: skip
_SHARE = 0.9
"""Of texts, that the expression must read."""


def period(texts: pa.ChunkedArray) -> PeriodForm | None:
    """What nine of ten different texts name, where it is one form of a month, a week or a quarter; else None."""
    distinct = pc.unique(texts.cast(pa.string())).drop_null()
    trimmed = pc.utf8_trim_whitespace(distinct)
    for one in _PERIODS:
        alike = np.asarray(pc.match_substring_regex(trimmed, f"^{one.pattern}$"))
        if not len(alike) or alike.mean() < _SHARE:
            continue
        rows = pa.table({"value": distinct})
        read = query(f"SELECT {one.form.replace('{}', 'value')} AS time FROM rows", rows)["time"]
        if read.null_count <= (1 - _SHARE) * len(distinct):
            return one
    return None
