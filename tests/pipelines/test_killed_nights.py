"""The quick half of the faults: kill -9, many at once and many nights, on stages of one file each."""

import signal
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks.faults import many_nights, publishers
from benchmarks.faults._processes import Night, light_night, light_stage, publish_ungated
from topkin.artifacts import lock, runs, storage
from topkin.pipelines import run as nightly
from topkin.pipelines.engine import registry

# From Python 3.12 on a fork of a process with threads is warned of; what is forked here uses none of its parent's.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
FIRST = datetime(2024, 5, 1)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.setattr(registry, "stage", light_stage)
    monkeypatch.setattr(nightly, "publish_run", publish_ungated)
    monkeypatch.setattr(lock, "POLL", 0.01)
    return light_night(str(tmp_path / "out"), keep=3)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_night_killed_at_any_time_or_step_is_ended_by_the_next_and_readers_see_whole_versions(night, tmp_path, by):
    out = str(tmp_path / "out")
    at_random: list[tuple[str, publishers.Step | None]] = [("at random times", None)] * 6
    outcome = publishers.killed(night, out, tmp_path, FIRST, [*at_random, *publishers.steps()], by=by)
    assert outcome.wrong == []
    assert outcome.reads.torn == 0
    assert outcome.reads.reads > 0
    assert len(runs.run_ids(out)) == 3


def test_publishers_at_once_lose_nothing(tmp_path):
    outcome = publishers.publishers(tmp_path)
    assert outcome.wrong == []
    assert outcome.reads.torn == 0


@pytest.mark.parametrize(("days", "wait"), [([1] * 6, 600.0), ([1] * 6, 0.0), ([1, 2, 3, 4, 5, 6], 600.0)])
def test_nights_at_once_are_done_or_told_and_the_newest_is_live(night, tmp_path, days, wait):
    dates = [FIRST.replace(day=day) for day in days]
    outcome = publishers.at_once(night, str(tmp_path / "out"), tmp_path, dates, wait)
    assert outcome.wrong == []
    assert outcome.reads.torn == 0


def test_many_nights_take_no_more_than_those_that_are_kept(night, tmp_path):
    out = str(tmp_path / "out")
    sizes = list(many_nights.nights(night, out, FIRST, 8))
    assert [size.files for size in sizes[3:]] == [sizes[3].files] * 5
    assert len(runs.run_ids(out)) == 3
    pointer = storage.size(f"{out}/current.json")
    assert sizes[-1].bytes - sizes[3].bytes < pointer
    assert len((runs.pointer(out) or {})["history"]) == 7


def test_what_grew_is_said():
    sizes = [many_nights.Size(n, 100, 10 + n, 5, 0.0) for n in range(1, 6)]
    assert many_nights.grown(sizes, 2) == ["files grew from 13 after night 3 to 15 after night 5"]
