"""Texts of a month, a week or a quarter come with the expression that reads their first day."""

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.ingest.values.period_times import period
from topkin.pipelines.cli.app import main

DAYS = [datetime(2023, 1, 1) + timedelta(days=9 * n) for n in range(60)]


def month(day: datetime) -> datetime:
    return day.replace(day=1)


def week(day: datetime) -> datetime:
    return day - timedelta(days=day.weekday())


def quarter(day: datetime) -> datetime:
    return datetime(day.year, 3 * ((day.month - 1) // 3) + 1, 1)


FORMS = {
    "%Y-%m": month,
    "%Y/%m": month,
    "%m.%Y": month,
    "%m/%Y": month,
    "%b %Y": month,
    "%B %Y": month,
    "%G-W%V": week,
    "%GW%V": week,
    "%G-W%V-%u": lambda day: day,
    "%GW%V%u": lambda day: day,
    "%Y-%j": lambda day: day,
    "%Y-Q": quarter,
    "Q %Y": quarter,
}


def written(form: str, day: datetime) -> str:
    return day.strftime(form.replace("Q", f"Q{(day.month + 2) // 3}"))


@pytest.mark.parametrize("form", FORMS)
def test_check_refuses_periods_with_the_expression_that_init_writes_and_prepare_reads(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    n = range(len(DAYS))
    columns = {"user_id": [f"u{i % 7}" for i in n], "item_id": [f"i{i % 11}" for i in n]}
    pq.write_table(pa.table({**columns, "date": [written(form, day) for day in DAYS]}), "sales.parquet")
    (tmp_path / "own.toml").write_text('[purchases]\npath = "sales.parquet"\ntimestamp = "date"\n')
    assert main(["check", "--config", "own.toml"]) == 3
    err = capsys.readouterr().err
    assert f"must hold the times of sales, got texts such as {written(form, DAYS[30])!r}, which are " in err
    assert "set purchases.normalise.date = " in err
    assert main(["init", "sales.parquet"]) == 0
    out = capsys.readouterr().out
    first = min(FORMS[form](day) for day in DAYS)
    assert f"from {first:%Y-%m-%d} to {max(FORMS[form](day) for day in DAYS):%Y-%m-%d}" in out
    assert "made" in out
    assert main(["check"]) == 0
    assert "rejected" not in capsys.readouterr().out


def test_a_column_called_month_is_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"user_id": ["a", "b"] * 30, "item_id": ["x", "y", "z"] * 20, "month": [f"{d:%Y-%m}" for d in DAYS]}
    pq.write_table(pa.table(table), "sales.parquet")
    assert main(["init", "sales.parquet"]) == 0
    assert "try_strptime(trim(month), '%Y-%m')" in Path("topkin.toml").read_text()


@pytest.mark.parametrize("text", ["2024-13", "A-2024", "2024-W60", "Foo 2024", "2024-Q5", "2024", "1234-01"])
def test_what_names_no_period_is_left_alone(text: str) -> None:
    assert period(pa.chunked_array([[text]])) is None
