"""No word of a table is broken, whatever the width."""

import io
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from topkin.pipelines.cli.dry_run import _print
from topkin.pipelines.cli.terminal.tables import Sheet, screen
from topkin.planning.estimate import Machine, StageCost

WORD = st.text("abcdefghij-", min_size=1, max_size=30)
CELL = st.lists(WORD, max_size=6).map(" ".join)


def drawn(sheet: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(sheet)
    return console.file.getvalue()  # type: ignore[attr-defined]


@given(st.lists(st.tuples(CELL, CELL, CELL, CELL), max_size=5), st.integers(60, 200))
def test_every_word_is_whole_and_no_line_is_too_long(rows: list[tuple[str, ...]], width: int) -> None:
    sheet = Sheet("a title", "first", ">second", "third thing", ">fourth")
    for row in rows:
        sheet.add(*row)
    text = drawn(sheet, width)
    words = Counter(word for row in rows for cell in row for word in cell.split())
    assert not words - Counter(text.split())
    assert max(map(len, text.splitlines())) <= width


def test_a_number_stays_beside_its_unit() -> None:
    sheet = Sheet("", ">size", "what")
    sheet.add("51.6 MB", "word " * 40)
    assert "51.6 MB" in drawn(sheet, 30)


def test_rows_that_do_not_fit_are_blocks_without_empty_cells() -> None:
    sheet = Sheet("t", "id", "other", "title")
    sheet.add("x" * 40, "", "y" * 39)
    assert drawn(sheet, 80).split() == ["t", "id", "x" * 40, "title", "y" * 39]


@pytest.mark.parametrize("rows", [4_457, 98_765_432])
def test_the_plan_fits_80_columns(
    rows: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    common = {"rows": rows, "bytes_read": 99.9e9, "bytes_written": 99.9e9, "flops": 1e16, "memory": 99.9e9}
    stage = StageCost(stage="recommend", **common, cpu_seconds=1, shards=100, mode="resident", seconds=1e4)
    _print([stage], Machine(workers=1, memory=1 << 34, cores=2), "many", 1.0)
    table = capsys.readouterr().out.splitlines()[:-1]
    assert max(map(len, table)) <= 80
    assert re.search(r"^recommend .*100 \(resident\)", "\n".join(table), re.MULTILINE)


def test_a_column_without_a_word_is_drawn() -> None:
    sheet = Sheet("", " ", "x")
    sheet.add("", "y")
    assert drawn(sheet, 20).split() == ["x", "y"]


def test_figures_at_80_columns_and_piped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cuts = [f"2011-{month:02d}-09" for month in (8, 9, 10, 11)]
    interval = "+0.0123 [+0.0012, +0.0234] (0.004) +"
    sheet = Sheet.of_figures([["model minus, with 95 % interval (p)", *cuts], ["item-kNN × recency", *[interval] * 4]])
    monkeypatch.setenv("COLUMNS", "80")
    screen().print(sheet, "a sentence below " * 9)
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 80
    assert [re.search(rf"{cut} +{re.escape(interval)}$", narrow, re.MULTILINE) is not None for cut in cuts] == [
        True
    ] * 4
    monkeypatch.delenv("COLUMNS")
    screen().print(sheet, "a sentence below " * 9)
    piped = capsys.readouterr().out.splitlines()
    assert len(piped) == 3
    assert piped[1].count(interval) == 4
