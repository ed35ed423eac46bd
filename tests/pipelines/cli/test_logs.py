"""Log lines of others are dropped, those of a failure are not."""

import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from topkin.pipelines.cli import logs


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the root logger writes; all that silence() changes is put back."""
    monkeypatch.delenv("TOPKIN_TRACEBACK", raising=False)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    levels = {name: logging.getLogger(name).level for name in logs.LOUD}
    monkeypatch.setattr(root, "handlers", [handler])
    yield stream
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)


def test_beams_lines_are_dropped_and_others_kept(log: io.StringIO) -> None:
    logs.silence()
    logging.getLogger().warning("apitools not found, and bigquery client libraries are not available")
    logging.getLogger("apache_beam.runners.worker").error("Traceback")
    logging.getLogger().warning("disk almost full")
    assert log.getvalue() == "disk almost full\n"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


def test_it_can_be_called_twice(log: io.StringIO) -> None:
    logs.silence()
    logs.silence()
    assert len(logging.getLogger().handlers[0].filters) == 1


def test_all_is_heard_when_a_traceback_is_asked_for(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPKIN_TRACEBACK", "1")
    logs.silence()
    logging.getLogger().warning("apitools not found")
    assert "apitools" in log.getvalue()


def test_a_users_own_level_is_kept(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    logs.silence()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_of_what_is_written_to_stderr_only_the_greeting_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with logs.stderr_without(logs._GREETING):
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, b"I0000 00:00:1795348869.940649   16215 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1795348869.940649   16215 x.cc:1] out of memory\nplain\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == ("E0000 00:00:1795348869.940649   16215 x.cc:1] out of memory\nplain\nafter\n")


def test_what_is_held_comes_out_when_the_import_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        os.write(2, b"libcuda is broken\n")
        raise ImportError("tensorflow")

    with pytest.raises(ImportError), logs.stderr_without(logs._GREETING):
        fail()
    assert capfd.readouterr().err == "libcuda is broken\n"


def test_a_module_called_tensorflow_is_imported_in_silence(tmp_path: Path) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(
        "import os\nos.write(2, b'I0000 00:00:17.9 1 port.cc:153] oneDNN\\nmind this\\n')\nx = 1\n"
    )
    (tmp_path / "tensorflow" / "part.py").write_text("y = 2\n")
    script = (
        "from topkin.pipelines.cli import logs; logs.silence(); logs.silence()\n"
        "import tensorflow, tensorflow.part; assert (tensorflow.x, tensorflow.part.y) == (1, 2)\n"
        "import importlib; assert importlib.reload(tensorflow).x == 1"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "mind this")


def test_threads_whose_stream_ends_with_a_job_server_are_no_news_and_others_are() -> None:
    collected: list[type[BaseException]] = []
    hook = logs._NotOfStreams(lambda args: collected.append(args.exc_type))
    gone = type("RpcError", (Exception,), {"__module__": "grpc._channel"})
    for kind in (gone, ValueError):
        hook(threading.ExceptHookArgs((kind, kind("x"), None, None)))
    assert collected == [ValueError]
