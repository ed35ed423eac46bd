"""Lines for who has no terminal: no more than one in a while, rows and time left, and JSON that can be read."""

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from topkin.pipelines.cli.terminal import lines
from topkin.pipelines.engine.stages import Event
from topkin.planning.estimate import StageCost

COST = StageCost(stage="train", rows=4_457, bytes_read=1, bytes_written=1, cpu_seconds=1, seconds=240.0, memory=1.4e9)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_is_told_once_in_a_while_with_rows_rate_and_time_left() -> None:
    clock, collected = Clock(), list[lines.Progress]()
    steps = lines.Steps(collected.append, every=30, clock=clock)
    for second in range(0, 100, 10):
        clock.now = second
        steps("train: epoch 3", 100, 1500)
    assert [(p.rows, p.total) for p in collected] == [(400, 1500), (700, 1500), (1000, 1500)]
    assert collected[0].rows_per_second == pytest.approx(400 / 30)
    assert collected[0].seconds_left == pytest.approx(1100 / (400 / 30))
    assert lines.in_words(collected[0]) == "train: epoch 3   400 of 1,500 rows, 13/s, 82.5 s left"
    clock.now = 200
    steps("train: epoch 3", 500, 1500)
    assert len(collected) == 3  # it is done
    steps("embed", 5, None)
    clock.now = 300
    steps("embed", 5, None)
    assert collected[-1] == lines.Progress("embed", 10, None, 0.1, None)
    assert lines.in_words(collected[-1]) == "embed   10 rows, 0/s"


def test_a_stage_begins_with_the_estimate_of_the_plan() -> None:
    line = lines.started(Event("train", "started", cost=COST))
    assert line == "train         begins, by the plan 4,457 rows, 4.0 min, 1.4 GB"
    assert lines.started(Event("prepare", "started")) == "prepare       begins"


def test_every_line_of_json_is_an_object_with_time_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    lines.emit_event(Event("train", "started", cost=COST))
    lines.emit_event(Event("train", "finished", 1.25, {"rows": 1234, "notes": ["x"]}))
    lines.emit_event(Event("prepare", "reused"))
    lines.emit_progress(lines.Progress("embed", 10, None, 0.1, None))
    values = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert all(value.pop("time").endswith("+00:00") for value in values)
    assert values == [
        {
            "event": "stage_started",
            "stage": "train",
            "estimate": {"rows": 4457, "seconds": 240.0, "memory_bytes": 1.4e9},
        },
        {
            "event": "stage_finished",
            "stage": "train",
            "reused": False,
            "seconds": 1.25,
            "summary": {"rows": 1234, "notes": ["x"]},
        },
        {"event": "stage_finished", "stage": "prepare", "reused": True, "seconds": 0.0, "summary": {}},
        {"event": "progress", "step": "embed", "rows": 10, "total": None, "rows_per_second": 0.1, "seconds_left": None},
    ]


def test_what_is_logged_and_warned_of_is_an_object_too() -> None:
    script = (
        "import logging, warnings\nfrom topkin.pipelines.cli import logs\n"
        "from topkin.pipelines.cli.terminal.lines import log_as_json\nlogs.silence(); log_as_json()\n"
        "logging.getLogger('topkin.x').warning('old runs %s', 'stay')\nwarnings.warn('by the way')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    values = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(v["event"], v["level"]) for v in values] == [("log", "warning")] * 2
    assert values[0]["message"] == "old runs stay"
    assert "by the way" in values[1]["message"]
    assert not logging.captureWarnings(False)
    assert warnings.filters  # as pytest has them


def test_the_documented_fields_are_those_of_the_lines() -> None:
    page = (Path(__file__).parents[4] / "docs" / "terminal.md").read_text(encoding="utf-8")
    for name in ("stage_started", "stage_finished", "progress", "note", "log", "run_finished"):
        assert f"| `{name}` |" in page
