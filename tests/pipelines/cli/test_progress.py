"""Bars on a terminal, lines elsewhere, nothing when quiet."""

import io
import sys

import pytest

from topkin.pipelines.cli import progress as progress_bars
from topkin.telemetry import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_rows_rate_and_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars.shown() as write_line:
        progress.advance("embed", 600, 1000)
        progress.advance("embed", 300, 1000)
        progress.advance("read", 5)  # a new step is shown at once, the others in time
        write_line("prepare [done]")
    seen = screen.getvalue()
    assert "embed" in seen
    assert "900 of 1,000 rows" in seen
    assert "5 rows" in seen
    assert "prepare [done]" in seen


def test_finished_steps_leave_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars.shown() as write_line:
        for epoch in range(9):
            progress.advance(f"epoch {epoch}", 10, 10)
        progress.advance("unfinished", 1, 10)
        write_line("train [done]")
        start = len(screen.getvalue())
        progress.advance("embed", 1, 2)
    last = screen.getvalue()[start:]
    assert "embed" in last
    assert "epoch" not in last
    assert "unfinished" not in last


def test_without_a_terminal_lines_come_plain_and_bars_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars.shown() as write_line:
        progress.advance("embed", 600, 1000)
        write_line("prepare [done]")
    assert capsys.readouterr().err == "prepare [done]\n"


def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_bars.shown(quiet=True) as write_line:
        progress.advance("embed", 600, 1000)
        write_line("prepare")
    assert screen.getvalue() == ""


def test_nothing_listens_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_bars.shown():
        pass
    before = screen.getvalue()
    progress.advance("embed", 600, 1000)
    assert screen.getvalue() == before


def test_totals_and_rates_are_left_out_until_known() -> None:
    assert progress_bars.describe(12_000, None, None) == "12,000 rows"
    assert progress_bars.describe(12_000, 50_000, 3999.7) == "12,000 of 50,000 rows, 4,000/s"
