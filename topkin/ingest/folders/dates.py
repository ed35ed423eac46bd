"""A time that stands in several columns, as in folders ``year=2024/month=01/day=02``."""

import pyarrow as pa

from topkin.artifacts.ids import value_kind
from topkin.ingest.sql import quoted_if_needed

_PARTS = (
    ("year", "yyyy", "yr"),
    ("month", "mm", "mon"),
    ("day", "dd", "day_of_month", "dayofmonth"),
    ("hour", "hh", "hr"),
    ("minute", "min", "mi"),
)


def time_expression(schema: pa.Schema) -> str | None:
    """SQL for the time of a row by its columns for year, month, day, and hour and minute if they are there; else None.

    The columns are whole numbers or texts of them.
    """
    named = {f.name.lower(): f for f in schema if value_kind(f.type) in ("integer", "text")}
    columns = [next((named[word].name for word in words if word in named), None) for words in _PARTS]
    given = columns[: columns.index(None)] if None in columns else columns
    if len(given) < 3:
        return None
    parts = [f"CAST({quoted_if_needed(name)} AS BIGINT)" for name in given if name]
    if len(parts) == 3:
        return f"make_date({', '.join(parts)})"
    return f"make_timestamp({', '.join([*parts, '0'][:5])}, 0)"
