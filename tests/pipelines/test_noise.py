"""Log lines of others are dropped, those of a failure are not."""

import io
import logging
import os
from collections.abc import Iterator

import pytest

from topkin.pipelines import noise


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the root logger writes; all that silence() changes is put back."""
    monkeypatch.delenv("TOPKIN_TRACEBACK", raising=False)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in noise.LOUD}
    monkeypatch.setattr(root, "handlers", [handler])
    yield stream
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)


def test_beams_lines_are_dropped_and_others_kept(log: io.StringIO) -> None:
    noise.silence()
    logging.getLogger().warning("apitools not found, and bigquery client libraries are not available")
    logging.getLogger("apache_beam.runners.worker").error("Traceback")
    logging.getLogger().warning("disk almost full")
    assert log.getvalue() == "disk almost full\n"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


def test_it_can_be_called_twice(log: io.StringIO) -> None:
    noise.silence()
    noise.silence()
    assert len(logging.getLogger().handlers[0].filters) == 1


def test_all_is_heard_when_a_traceback_is_asked_for(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPKIN_TRACEBACK", "1")
    noise.silence()
    logging.getLogger().warning("apitools not found")
    assert "apitools" in log.getvalue()


def test_a_users_own_level_is_kept(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    noise.silence()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
