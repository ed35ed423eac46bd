"""A time in several columns is one expression."""

from datetime import date, datetime

import pyarrow as pa
import pytest

from topkin.ingest.folders.dates import time_expression
from topkin.ingest.sql import Expression

ROWS = pa.table({"Year": [2024, 2023], "month": ["01", "12"], "DD": [31, 9], "hour": ["07", "23"], "min": [5, 59]})


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        (["Year", "month", "DD"], [date(2024, 1, 31), date(2023, 12, 9)]),
        (["DD", "Year", "hour", "month"], [datetime(2024, 1, 31, 7), datetime(2023, 12, 9, 23)]),
        (["Year", "month", "DD", "hour", "min"], [datetime(2024, 1, 31, 7, 5), datetime(2023, 12, 9, 23, 59)]),
        (["Year", "month", "DD", "min"], [date(2024, 1, 31), date(2023, 12, 9)]),
    ],
)
def test_the_parts_are_put_together(columns: list[str], values: list[object]) -> None:
    sql = time_expression(ROWS.select(columns).schema)
    assert sql is not None
    assert Expression("k", sql).evaluate(ROWS.select(columns)).to_pylist() == values


@pytest.mark.parametrize("columns", [["Year", "month"], ["month", "DD", "hour"], []])
def test_what_is_no_date_is_none(columns: list[str]) -> None:
    assert time_expression(ROWS.select(columns).schema) is None
    assert time_expression(pa.schema([("year", pa.float64()), ("month", pa.int8()), ("day", pa.int8())])) is None
