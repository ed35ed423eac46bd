"""Texts are times in the forms that databases, spreadsheets and programs write, for init, check and prepare alike."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.ingest.cleaning import clean_purchases
from topkin.ingest.contract import InputSource, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.inference.columns import InferredColumn, content_score, profile_columns, suggest_normalising
from topkin.ingest.rules import Rules
from topkin.ingest.timestamps import BROKEN, NULL, READ, TWO_DAYS, to_micros
from topkin.ingest.values.findings import value_findings

SECOND = datetime(2024, 4, 2, 8, 22, 18)
MINUTE, MIDNIGHT = SECOND.replace(second=0), datetime(2024, 4, 2)
CLOCK = datetime(2026, 1, 1)
FORMS = {
    "BigQuery": ("2024-04-02 08:22:18 UTC", SECOND),
    "BigQuery, fraction": ("2024-04-02 08:22:18.250000 UTC", SECOND + timedelta(microseconds=250_000)),
    "BigQuery, zone": ("2024-04-02 10:22:18+02", SECOND),
    "Spark": ("2024-04-02T08:22:18.000Z", SECOND),
    "Spark, offset": ("2024-04-02T08:22:18.000+0000", SECOND),
    "Java, zone in brackets": ("2024-04-02T10:22:18+02:00[Europe/Berlin]", SECOND),
    "Java, Date.toString": ("Tue Apr 02 08:22:18 UTC 2024", SECOND),
    "pandas": ("2024-04-02 08:22:18", SECOND),
    "pandas, nanoseconds": ("2024-04-02 08:22:18.000000001", SECOND),
    "PostgreSQL": ("2024-04-02 10:22:18+02", SECOND),
    "PostgreSQL, quarter of an hour": ("2024-04-02 14:07:18.5+05:45", SECOND + timedelta(microseconds=500_000)),
    "SQL Server": ("2024-04-02 08:22:18.0000000", SECOND),
    "SQL Server, offset": ("2024-04-02 10:22:18.0000000 +02:00", SECOND),
    "SQL Server, default style": ("Apr  2 2024  8:22AM", MINUTE),
    "Oracle": ("02-APR-24", MIDNIGHT),
    "Oracle, timestamp": ("02-APR-24 08.22.18.000000 PM", SECOND.replace(hour=20)),
    "SAS": ("02APR2024:08:22:18", SECOND),
    "slashes, fraction": ("2024/04/02 10:22:18.250001 +0200", SECOND + timedelta(microseconds=250_001)),
    "slashes": ("2024/04/02", MIDNIGHT),
    "slashes, time": ("2024/4/2 8:22:18", SECOND),
    "no zeros": ("2024-4-2 8:22:18", SECOND),
    "dots, year first": ("2024.04.02 08:22", MINUTE),
    "month in words": ("Apr 2, 2024", MIDNIGHT),
    "month in words, time": ("April 2, 2024 8:22 AM", MINUTE),
    "day, month in words": ("2 April 2024", MIDNIGHT),
    "RFC 2822": ("Tue, 02 Apr 2024 10:22:18 +0200", SECOND),
    "HTTP": ("Tue, 02 Apr 2024 08:22:18 GMT", SECOND),
    "JavaScript": ("Tue Apr 02 2024 10:22:18 GMT+0200 (Central European Summer Time)", SECOND),
    "C": ("Tue Apr  2 08:22:18 2024", SECOND),
    "Apache": ("02/Apr/2024:10:22:18 +0200", SECOND),
    "digits": ("20240402", MIDNIGHT),
    "digits, time": ("20240402082218", SECOND),
    "digits, ISO": ("20240402T082218", SECOND),
    "epoch seconds": ("1712046138", SECOND),
    "epoch seconds, fraction": ("1712046138.25", SECOND + timedelta(microseconds=250_000)),
    "epoch milliseconds": ("1712046138000", SECOND),
    "epoch microseconds": ("1712046138000000", SECOND),
    "epoch nanoseconds": ("1712046138000000999", SECOND),
}
NO_TIMES = [
    "infinity",
    "n/a", "", " ", "2024", "2024-04", "Q2 2024", "2024-02-30", "2024-13-01", "31 Feb 2024", "25:00", "epoch",
    "2024-04-02 25:00:00", "2024-04-02 14:22 PM", "2024-04-02 0:22 AM", "2024-04-02 08:22:18 America/New_York",
    "2024-04-02 08:22:18 [Europe/Berlin]", "2024-04-02 08:22:18 EST", "19800", "-1712046138", "1.7e9", "Foo 2, 2024",
]  # fmt: skip
TWO = ["02/04/2024", "2.4.2024 8:22", "02-04-24", "4/2/2024 8:22:18 PM", "13/04/2024", "24/04/02"]


def micros_of(when: datetime) -> int:
    return (when - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_alone_and_beside_others(form: str) -> None:
    text, when = FORMS[form]
    lower = text if "T0" in text or "T1" in text else text.lower()  # ISO's T and Z are capitals
    for written in (text, f" {text} ", lower):
        micros, state = to_micros(pa.chunked_array([[written, None]]))
        assert (micros[0], state.tolist()) == (micros_of(when), [READ, NULL])
    every = [t for t, _ in FORMS.values()]
    micros, state = to_micros(pa.chunked_array([[*every, "n/a"], [text]]))
    assert micros.tolist() == [*(micros_of(w) for _, w in FORMS.values()), 0, micros_of(when)]
    assert state.tolist() == [*[READ] * len(every), BROKEN, READ]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_or_one_of_a_zone_by_name_is_not_guessed(text: str) -> None:
    assert to_micros(pa.chunked_array([[text, "2024-04-02"]]))[1].tolist() == [BROKEN, READ]


@pytest.mark.parametrize("text", TWO)
def test_day_and_month_as_numbers_are_never_guessed(text: str) -> None:
    assert to_micros(pa.chunked_array([[text, "2024-04-02"]]))[1].tolist() == [TWO_DAYS, READ]


def rows_of(texts: list[str]) -> pa.Table:
    n = len(texts)
    return pa.table(
        {"user_id": [f"u{i % 7}" for i in range(n)], "item_id": [f"i{i % 5}" for i in range(n)], "timestamp": texts}
    )


def prepared(rows: pa.Table, normalise: dict[str, str]) -> tuple[list[Any], list[str]]:
    """The times that prepare reads, and what check finds before."""
    source = InputSource(
        name="purchases",
        path="t",
        columns={c: c for c in rows.column_names},
        rules=Rules.of("purchases", normalise, {}),
    )
    inspection = inspect_table(source, rows)
    findings = [str(f) for f in (*inspection.findings, *value_findings(inspection, rows, CLOCK))]
    read = rows.append_column(FILE, pa.array(["f"] * len(rows))).append_column(ROW, pa.array(range(len(rows))))
    return clean_purchases(read, source, CLOCK).accepted["timestamp"].to_pylist(), findings


@pytest.mark.parametrize("form", FORMS)
def test_init_check_and_prepare_read_each_form_alike(form: str) -> None:
    text, when = FORMS[form]
    rows = rows_of([text] * 9)
    [profile] = [p for p in profile_columns(rows) if p.name == "timestamp"]
    score, why = content_score("timestamp", profile)
    assert score >= 0.8
    assert "100% of it read as times, 2024-04-02 to 2024-04-02" in why
    assert suggest_normalising(rows, [InferredColumn("timestamp", "timestamp", "")]) == []
    times, tables = prepared(rows, {})
    assert tables == []
    assert times == [when] * 9


WRITTEN = ["%d/%m/%Y %H:%M", "%m/%d/%Y", "%d.%m.%Y", "%m-%d-%y %H:%M:%S", "%d/%m/%Y %I:%M:%S %p", "%d.%m.%y, %H:%M:%S"]


@pytest.mark.parametrize("form", WRITTEN)
def test_the_proposed_expression_reads_day_first_and_month_first_texts_as_they_were_written(form: str) -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=3 * i, minutes=731 * i) for i in range(60)]
    rows = rows_of([d.strftime(form) for d in days])
    times, [tables] = prepared(rows, {})
    assert times == []
    assert f"the {'day' if form.startswith('%d') else 'month'} comes first, as" in tables
    [proposed] = suggest_normalising(rows, [InferredColumn("timestamp", "timestamp", "")])
    assert f'purchases.normalise.timestamp = "{proposed.expression}"' in tables
    times, tables = prepared(rows, {"timestamp": proposed.expression})
    assert tables == []
    assert times == [datetime.strptime(d.strftime(form), form) for d in days]


def test_where_no_day_is_above_12_both_orders_are_shown_and_none_proposed() -> None:
    rows = rows_of([f"{a:02}/{b:02}/2024" for a in range(1, 12) for b in range(1, 12)])
    _, [tables] = prepared(rows, {})
    assert "is the day first or the month?" in tables
    assert (
        "where the day comes first, purchases.normalise.timestamp = \"try_strptime(timestamp, '%d/%m/%Y')\"" in tables
    )
    assert "where the month does, purchases.normalise.timestamp = \"try_strptime(timestamp, '%m/%d/%Y')\"" in tables
    assert suggest_normalising(rows, [InferredColumn("timestamp", "timestamp", "")]) == []
    [profile] = [p for p in profile_columns(rows) if p.name == "timestamp"]
    assert "is the day first or the month?" in content_score("timestamp", profile)[1]


@given(
    st.lists(st.datetimes(datetime(1971, 1, 2), datetime(2049, 12, 31)), min_size=1, max_size=5),
    st.integers(-14 * 4, 14 * 4),
)
def test_what_programs_write_is_read_as_they_mean_it(moments: list[datetime], quarters: int) -> None:
    zone = timezone(timedelta(minutes=15 * quarters))
    texts, expected = [], []
    for moment in moments:
        zoned = moment.replace(microsecond=0, tzinfo=UTC).astimezone(zone)
        local = zoned.replace(tzinfo=None)
        texts += [zoned.isoformat(), format_datetime(zoned), zoned.strftime("%Y/%m/%d %H:%M:%S %z")]
        expected += [micros_of(moment.replace(microsecond=0))] * 3
        texts += [local.strftime(f) for f in ("%d-%b-%y %I.%M.%S %p", "%B %d, %Y %H:%M:%S", "%Y%m%d%H%M%S", "%c")]
        expected += [micros_of(local)] * 4
    micros, state = to_micros(pa.chunked_array([texts]))
    assert set(state.tolist()) == {READ}
    assert micros.tolist() == expected


def test_iso_texts_are_read_without_looking_at_other_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    from topkin.ingest.values import text_times

    monkeypatch.setattr(text_times, "_from_shape", lambda *_: pytest.fail("a slow reader was asked"))
    texts = np.datetime_as_string(np.arange(0, 10**9, 10**6).astype("datetime64[s]")).tolist()
    assert set(to_micros(pa.chunked_array([[*texts, None]]))[1].tolist()) == {READ, NULL}
