"""Times that no sale can have are told, with the expression that reads them where there is one."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.ingest.cleaning import clean_purchases
from topkin.ingest.contract import InputSource, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.inference.columns import InferredColumn, suggest_normalising
from topkin.ingest.rules import Rules
from topkin.ingest.values.findings import value_findings

CLOCK = datetime(2026, 1, 1)
EPOCH = datetime(1970, 1, 1)
RNG = np.random.default_rng(3)
TIMES = [datetime(2023, 5, 1) + timedelta(seconds=int(s)) for s in RNG.integers(0, 400 * 86_400, 90)]
DAYS = [t.replace(hour=0, minute=0, second=0) for t in TIMES]
HOURS = [t.replace(minute=0, second=0) for t in TIMES]
MINUTES = [t.replace(second=0) for t in TIMES]


def looked_at(
    times: Any, normalise: dict[str, str] | None = None, **options: Any
) -> tuple[list[str], pa.Table, pa.Table]:
    """What check finds, and what prepare accepts and rejects."""
    rows = pa.table({"user": range(len(times)), "item": [1] * len(times), "order_date": times})
    columns = {"user_id": "user", "item_id": "item", "timestamp": "order_date"}
    rules = Rules.of("purchases", normalise or {}, {})
    source = InputSource(name="purchases", path="t", columns=columns, rules=rules)
    inspection = inspect_table(source, rows)
    findings = [str(f) for f in (*inspection.findings, *value_findings(inspection, rows, CLOCK))]
    read = rows.append_column(FILE, pa.array(["f"] * len(rows))).append_column(ROW, pa.array(range(len(rows))))
    accepted, rejects = clean_purchases(read, source, CLOCK)
    assert len(accepted) + len(rejects) == len(rows)
    return findings, accepted, rejects


def ticks(zero: datetime) -> Callable[[datetime], int]:
    return lambda t: (t - zero) // timedelta(microseconds=1) * 10


CODES: dict[str, tuple[Callable[[datetime], float], str, list[datetime]]] = {
    "YYYYMMDD": (lambda t: int(t.strftime("%Y%m%d")), "YYYYMMDD", DAYS),
    "YYYYMMDDhhmmss": (lambda t: int(t.strftime("%Y%m%d%H%M%S")), "YYYYMMDDhhmmss", TIMES),
    "YYYYMMDDhhmm": (lambda t: int(t.strftime("%Y%m%d%H%M")), "YYYYMMDDhhmm", MINUTES),
    "YYYYMMDDhh": (lambda t: int(t.strftime("%Y%m%d%H")), "YYYYMMDDhh", HOURS),
    "days": (lambda t: (t - EPOCH).days, "days since 1970", DAYS),
    "hours": (lambda t: (t - EPOCH) // timedelta(hours=1), "hours since 1970", HOURS),
    "minutes": (lambda t: (t - EPOCH) // timedelta(minutes=1), "minutes since 1970", MINUTES),
    "Excel, days": (lambda t: (t - datetime(1899, 12, 30)).days, "a spreadsheet's serial days", DAYS),
    "Excel": (lambda t: (t - datetime(1899, 12, 30)) / timedelta(days=1), "a spreadsheet's serial days", TIMES),
    "Julian": (lambda t: (t - EPOCH) / timedelta(days=1) + 2_440_587.5, "Julian days", TIMES),
    ".NET": (ticks(datetime(1, 1, 1)), ".NET's ticks since year 1", TIMES),
    "Windows": (ticks(datetime(1601, 1, 1)), "Windows file times", TIMES),
}


@pytest.mark.parametrize("kind", ["number", "text", "float", "with sentinels"])
@pytest.mark.parametrize("code", CODES)
def test_numbers_that_write_a_time_in_another_way_come_with_the_expression_that_reads_them(
    code: str, kind: str
) -> None:
    write, words, expected = CODES[code]
    numbers: list[Any] = [write(t) for t in TIMES]
    if kind == "text" and code in ("YYYYMMDD", "YYYYMMDDhhmmss", "YYYYMMDDhhmm", "YYYYMMDDhh", ".NET", "Windows"):
        return  # read as they are, or as long as an epoch
    if kind == "float" and code in (".NET", "Windows"):
        return  # a float holds no such number
    values = {"text": [str(n) for n in numbers], "float": [float(n) for n in numbers]}.get(kind, numbers)
    if kind == "with sentinels":
        values, expected = [0, None, *values], list(expected)
    [findings] = looked_at(values)[0]
    assert f"which look like {words}: set purchases.normalise.order_date = " in findings
    rows = pa.table({"order_date": values})
    [proposed] = suggest_normalising(rows, [InferredColumn("timestamp", "order_date", "")])
    assert proposed.expression in findings
    findings, accepted, rejects = looked_at(values, {"order_date": proposed.expression})
    assert findings == []
    assert accepted["timestamp"].to_pylist() == expected
    assert len(rejects) == len(values) - len(expected)


STAND_INS = ["0001-01-01", "1753-01-01", "1900-01-01", "1970-01-01", "9999-12-31"]


@pytest.mark.parametrize("day", STAND_INS)
def test_a_few_stand_ins_are_rejected_rows_and_most_of_them_a_finding(day: str) -> None:
    none = datetime.fromisoformat(day)
    findings, accepted, rejects = looked_at([none, none, *TIMES])
    assert findings == []
    assert accepted["timestamp"].to_pylist() == TIMES
    assert rejects["reason"].to_pylist() == [f"order_date is a stand-in for none: {day}"] * 2
    [findings] = looked_at([none] * 91 + TIMES)[0]
    assert (
        f"must hold the times of sales, got mostly {day}, which stands for no time at all: name the column" in findings
    )


def test_a_few_zeros_among_epoch_numbers_are_rejected_rows() -> None:
    seconds = [(t - EPOCH) // timedelta(seconds=1) for t in TIMES]
    findings, accepted, rejects = looked_at([0, -1, *seconds])
    assert (findings, accepted["timestamp"].to_pylist()) == ([], TIMES)
    assert set(rejects["reason"].to_pylist()) == {"order_date is a stand-in for none: 1970-01-01"}
    [findings] = looked_at([*[0] * 100, *seconds])[0]
    assert "mostly 1970-01-01" in findings


def test_the_future_is_rejected_row_by_row_and_told_where_most_lies_there() -> None:
    late = [datetime(2199, 1, 1) + timedelta(days=i) for i in range(5)]
    findings, _, rejects = looked_at([*late, *TIMES])
    assert (findings, set(rejects["reason"].to_pylist())) == ([], {"order_date is in the future"})
    [findings] = looked_at(late)[0]
    assert "every purchase is in the future, such as 2199-01-03 00:00:00, now is 2026-01-01 00:00:00" in findings
    [findings] = looked_at([*late, *TIMES[:2]])[0]
    assert "71% of the purchases are in the future" in findings


def test_a_zone_that_is_not_known_here_is_an_instant_all_the_same() -> None:
    findings, accepted, _ = looked_at(pa.array(TIMES, pa.timestamp("us", "Mars/Olympus")))
    assert (findings, accepted["timestamp"].to_pylist()) == ([], TIMES)


def test_times_before_1975_and_one_second_for_all_are_told() -> None:
    old = [datetime(1960, 1, 1) + timedelta(days=9 * i) for i in range(90)]
    assert "half of the times lie before 1975" in looked_at(old)[0][0]
    assert "half of the times lie before 1975" in looked_at(list(range(1, 60)))[0][0]
    [findings] = looked_at([TIMES[0]] * 60)[0]
    assert "one second for all is no order in time: name the column that holds the time of the sale" in findings
    assert 'set purchases.order = "row", or to a column of numbers that grow with the sales' in findings
    assert looked_at([TIMES[0]] * 9)[0] == []


def test_one_time_for_all_by_intent_is_no_finding() -> None:
    """Issue's rule: who writes a constant expression says that there are no times."""
    assert looked_at([None] * 60, {"order_date": "TIMESTAMP '2024-01-01'"})[0] == []


def test_all_forms_in_use_today_pass() -> None:
    for values in (
        TIMES,
        pa.array([t.date() for t in TIMES], pa.date32()),
        [t.isoformat() for t in TIMES],
        [(t - EPOCH) // timedelta(seconds=1) for t in TIMES],
        [(t - EPOCH) / timedelta(seconds=1) for t in TIMES],
        [(t - EPOCH) // timedelta(milliseconds=1) for t in TIMES],
        [(t - EPOCH) // timedelta(microseconds=1) * 1000 for t in TIMES],
        pa.array(TIMES, pa.timestamp("ns", "America/New_York")),
    ):
        findings, accepted, _ = looked_at(values)
        assert findings == []
        assert len(accepted) == len(TIMES)


def test_local_times_are_read_by_the_named_expression() -> None:
    local = [datetime(2024, 1, 15, 12), datetime(2024, 7, 15, 12)]
    zoned = {"order_date": "order_date AT TIME ZONE 'Europe/Berlin'"}
    assert looked_at(local, zoned)[1]["timestamp"].to_pylist() == [datetime(2024, 1, 15, 11), datetime(2024, 7, 15, 10)]
