"""The quick half of the faults: kill -9, many at once and many nights, on stages of one file each."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import many_nights, publishers
from benchmarks.faults._processes import light_shop
from topkin.artifacts import lock, runs, storage

FIRST = datetime(2024, 5, 1)
Apart = Callable[..., Any]
"""Calls a function with what it is given, in a process that forks and that holds nothing of the tests before."""


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda work, *given: pool.submit(work, *given).result()


def killed(folder: Path, by: signal.Signals) -> publishers.Outcome:
    night, out, first = _light(folder)
    at_random: list[tuple[str, publishers.Step | None]] = [("at random times", None)] * 6
    return publishers.killed(night, out, folder, first, [*at_random, *publishers.steps()], by=by)


def at_once(folder: Path, dates: list[datetime], wait: float) -> publishers.Outcome:
    night, out, _ = _light(folder)
    return publishers.at_once(night, out, folder, dates, wait)


def nights(folder: Path, how_many: int) -> list[many_nights.Size]:
    night, out, first = _light(folder)
    return list(many_nights.nights(night, out, first, how_many))


def _light(folder: Path) -> tuple[publishers.Night, str, datetime]:
    lock.POLL = 0.01
    return light_shop(folder, keep=3)


@pytest.mark.parametrize("by", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_night_killed_at_any_time_or_step_is_ended_by_the_next_and_readers_see_whole_versions(apart, tmp_path, by):
    outcome = apart(killed, tmp_path, by)
    assert outcome.wrong == []
    assert outcome.reads.torn == 0
    assert outcome.reads.reads > 0
    assert len(runs.run_ids(str(tmp_path / "out"))) == 3


def test_publishers_at_once_lose_nothing(apart, tmp_path):
    outcome = apart(publishers.publishers, tmp_path)
    assert outcome.wrong == []
    assert outcome.reads.torn == 0


@pytest.mark.parametrize(("days", "wait"), [([1] * 6, 600.0), ([1] * 6, 0.0), ([1, 2, 3, 4, 5, 6], 600.0)])
def test_nights_at_once_are_done_or_told_and_the_newest_is_live(apart, tmp_path, days, wait):
    outcome = apart(at_once, tmp_path, [FIRST.replace(day=day) for day in days], wait)
    assert outcome.wrong == []
    assert outcome.reads.torn == 0


def test_many_nights_take_no_more_than_those_that_are_kept(apart, tmp_path):
    out = str(tmp_path / "out")
    sizes = apart(nights, tmp_path, 8)
    assert [size.files for size in sizes[3:]] == [sizes[3].files] * 5
    assert len(runs.run_ids(out)) == 3
    pointer = storage.size(f"{out}/current.json")
    assert sizes[-1].bytes - sizes[3].bytes < pointer
    assert len((runs.pointer(out) or {})["history"]) == 7


def test_what_grew_is_said():
    sizes = [many_nights.Size(n, 100, 10 + n, 5, 0.0) for n in range(1, 6)]
    assert many_nights.grown(sizes, 2) == ["files grew from 13 after night 3 to 15 after night 5"]
