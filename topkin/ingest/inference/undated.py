"""Purchases without a time: what they have in its place."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from topkin.artifacts.ids import value_kind
from topkin.errors import ConfigError, InputError
from topkin.ingest.folders.dates import time_expression
from topkin.ingest.schema_inference import ColumnProfile, content_score, name_score, name_words
from topkin.ingest.sql import Expression

_ORDER_WORDS = {"order", "position", "pos", "seq", "sequence", "rank", "step", "index", "idx", "row", "nr", "number"}


class NoTime(NamedTuple):
    """That no column of purchases reads as a time; ``order``: columns of whole numbers by which they may be ordered."""

    columns: Sequence[str]
    order: Sequence[str]

    def error(self, section: str) -> InputError:
        """The message for those who need a time."""
        order = f"; {', '.join(self.order)} may tell their order, which is no time" if self.order else ""
        return InputError(
            f"no column looks like timestamp; say which with --column timestamp=NAME, or write one that says when each "
            f"of the {section} was made (a date is enough){order}; the columns are {', '.join(self.columns)}"
        )


class TimeOfParts(NamedTuple):
    """A time that stands in several columns: its SQL expression over the row, and its values."""

    expression: str
    values: pa.ChunkedArray


def time_of_parts(rows: pa.Table) -> TimeOfParts | None:
    """The time that columns for year, month and day make; None where there is none, or its name is taken."""
    expression = time_expression(rows.schema)
    if expression is None or "timestamp" in (name.lower() for name in rows.column_names):
        return None
    try:
        values = Expression("purchases.normalise.timestamp", expression).evaluate(rows)
    except ConfigError:  # their numbers are no dates
        return None
    return TimeOfParts(expression, values)


def find_no_time(table: Sequence[ColumnProfile]) -> NoTime | None:
    """What a table has instead of a time; None where some column reads as one."""
    for column in table:
        content, name = content_score("timestamp", column)[0], name_score("timestamp", column.name)
        if content > 0 and (name > 0 or content >= 0.8 > -name):
            return None
    order = []
    for column in table:
        if value_kind(column.type) == "integer" and len(column.values) > 1:
            rising = bool(np.all(np.diff(np.asarray(column.values).astype(np.float64)) >= 0)) and column.distinct > 1
            if rising or _ORDER_WORDS & set(name_words(column.name)):
                order.append(column.name)
    return NoTime([f"{column.name} ({column.type})" for column in table], order)
