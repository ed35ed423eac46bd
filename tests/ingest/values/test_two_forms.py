"""Two forms of times in one column of texts: both are read, or the rows of one are counted with the cure."""

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from topkin.ingest.sql import query
from topkin.ingest.timestamps import READ, to_micros
from topkin.ingest.values.time_faults import form_of_text
from topkin.pipelines.cli.app import main

DAYS = [datetime(2023, 1, 1) + timedelta(days=4 * n) for n in range(120)]
OWN = '[purchases]\npath = "sales.parquet"\ntimestamp = "date"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return tmp_path


def write(texts: list[str]) -> None:
    n = range(len(texts))
    table = {"user_id": [f"u{i % 7}" for i in n], "item_id": [f"i{i % 11}" for i in n], "date": texts}
    pq.write_table(pa.table(table), "sales.parquet")


def mixed(every: int, one: str, other: str) -> list[str]:
    return [day.strftime(other if n % every == 0 else one) for n, day in enumerate(DAYS)]


@pytest.mark.parametrize("every", [2, 10])
@pytest.mark.parametrize(
    ("one", "other"),
    [("%Y-%m-%d", "%d/%m/%Y"), ("%d/%m/%Y", "%Y-%m-%d"), ("%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%M:%SZ"),
     ("%Y-%m-%d %H:%M:%S", "%d.%m.%y"), ("%d-%m-%Y", "%d %b %Y")],
)  # fmt: skip
def test_init_writes_the_expression_that_reads_both(
    folder: Path, every: int, one: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(mixed(every, one, other))
    assert main(["init", "sales.parquet"]) == 0
    assert f"from {DAYS[0]:%Y-%m-%d} to {DAYS[-1]:%Y-%m-%d}" in capsys.readouterr().out
    assert main(["check"]) == 0
    assert "rejected" not in capsys.readouterr().out


def test_a_few_rows_of_another_form_are_counted_with_the_expression_that_reads_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(mixed(10, "%Y-%m-%d", "%d/%m/%Y"))
    Path("topkin.toml").write_text(OWN)
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "date may have the day first or the month" in out
    cure = "read such texts too with purchases.normalise.date = \"coalesce(CAST(try_strptime(date, '%d/%m/%Y') AS"
    assert cure in out


def test_what_an_expression_does_not_read_is_no_null(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(mixed(10, "%d/%m/%Y", "%Y-%m-%d"))
    Path("topkin.toml").write_text(OWN + "[purchases.normalise]\ndate = \"try_strptime(date, '%d/%m/%Y')\"\n")
    assert main(["check"]) == 0
    out = capsys.readouterr().out
    assert "12    10.0 %  date has a form that its expression does not read" in out
    assert "date is null" not in out
    new = "\"coalesce(CAST(try_strptime(date, '%d/%m/%Y') AS VARCHAR), date)\""
    assert f"read both forms with purchases.normalise.date = {new}" in out
    Path("topkin.toml").write_text(f"{OWN}[purchases.normalise]\ndate = {new}\n")
    assert main(["check"]) == 0
    assert "rejected" not in capsys.readouterr().out


def test_numbers_that_stand_for_no_time_are_to_be_corrected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n = range(len(DAYS))
    dates = [0 if i % 10 == 0 else int(day.strftime("%Y%m%d")) for i, day in enumerate(DAYS)]
    pq.write_table(
        pa.table({"user_id": [i % 7 for i in n], "item_id": [i % 11 for i in n], "date": dates}), "s.parquet"
    )
    assert main(["init", "s.parquet"]) == 0
    capsys.readouterr()
    assert main(["check"]) == 0
    assert "correct purchases.normalise.date" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["31/01/2024", "01/31/2024 10:30", "31.1.24", "2024-01", "2024-W03", "Jan 2024"])
def test_the_cure_of_a_text_reads_it_and_leaves_times_as_they_are(text: str) -> None:
    ((_, form),) = form_of_text(text).cures
    rows = pa.table({"t": [text, "2024-05-01", "May 3, 2024"]})
    values = query(f"SELECT {form.replace('{}', 't')} AS t FROM rows", rows)["t"]
    micros, state = to_micros(values)
    assert state.tolist() == [READ] * 3
    years = pc.year(pa.array(micros).view(pa.timestamp("us"))).to_pylist()
    assert years == [2024] * 3
