"""Jobs on a job server: what is told of them, why they failed, and that the launcher ends them."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from topkin.ending import signals
from topkin.ending.watch import watched
from topkin.errors import ConfigError, ResourceError
from topkin.pipelines.engine.job import run_pipeline
from topkin.pipelines.engine.launch import reason
from topkin.telemetry import progress


class Counting(LocalJobServicer):
    """Beam's own job server, which counts the requests to cancel."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.cancelled = 0

    def Cancel(self, request: Any, context: Any = None, timeout: Any = None) -> Any:  # noqa: N802 - gRPC's
        self.cancelled += 1
        return super().Cancel(request, context, timeout)


@pytest.fixture
def server(tmp_path: Any) -> Iterator[tuple[Counting, list[str]]]:
    service = Counting(str(tmp_path))
    port = service.start_grpc_server(0)
    yield service, ["--runner=PortableRunner", f"--job_endpoint=localhost:{port}", "--environment_type=LOOPBACK"]
    service.stop()


LET_GO = threading.Event()


def _hold(element: int) -> int:
    LET_GO.wait(60)
    return element


def _fail(element: int) -> int:
    raise ImportError("cannot import name 'new' from 'library'")


def _warn_and_fail(element: int) -> int:
    logging.getLogger().warning("optional codec: No module named 'snappy'")
    raise ValueError("bad row 7")


def _pipeline(step: Any) -> Any:
    return lambda pipeline: pipeline | beam.Create([1]) | beam.Map(step)


def test_id_and_states_are_told_and_workers_lines_are_not(
    server: tuple[Counting, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []
    with progress.hear(lines.append):
        run_pipeline(_pipeline(abs), server[1])
    assert lines[0].startswith("PortableRunner: job job-")
    assert any(line.endswith((" is RUNNING", " is DONE", " is STARTING")) for line in lines[1:])
    lines.clear()
    with progress.hear(lines.append), pytest.raises(ConfigError, match="cannot import what it needs, cannot import"):
        run_pipeline(_pipeline(_fail), server[1])
    assert server[0].cancelled == 0  # neither had anything left to end
    assert [record.getMessage() for record in caplog.records if record.name == "root"] == []


def test_an_end_from_here_cancels_the_job_by_one_request(server: tuple[Counting, list[str]]) -> None:
    LET_GO.clear()

    def end(line: str) -> None:
        if line.endswith("RUNNING"):
            signals.end(ResourceError("enough"))

    try:
        with progress.hear(end), pytest.raises(ResourceError, match="enough"), watched("train", "out"):
            run_pipeline(_pipeline(_hold), server[1])
        assert server[0].cancelled == 1
    finally:
        LET_GO.set()


def test_a_warning_does_not_hide_what_a_worker_raised(server: tuple[Counting, list[str]]) -> None:
    with pytest.raises(RuntimeError, match="bad row 7"):
        run_pipeline(_pipeline(_warn_and_fail), server[1])


def test_a_server_that_is_lost_while_the_job_runs_is_no_wrong_flag(server: tuple[Counting, list[str]]) -> None:
    LET_GO.clear()

    def stop(line: str) -> None:
        if line.endswith("RUNNING"):
            server[0].stop()

    try:
        with progress.hear(stop), pytest.raises(ResourceError, match="the job server was lost, at localhost:"):
            run_pipeline(_pipeline(_hold), server[1])
    finally:
        LET_GO.set()


def test_a_server_that_is_not_there_is_told() -> None:
    flags = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=LOOPBACK"]
    with pytest.raises(ConfigError, match="no job server answers at localhost:1: start one there"):
        run_pipeline(_pipeline(abs), [*flags, "--job_server_timeout=1"])


@pytest.mark.parametrize(
    ("line", "flags", "message"),
    [
        ("Traceback\nModuleNotFoundError: No module named 'topkin.search'", ["--package=none"],
         "no module named topkin.search on the worker: --package=wheel sends it"),
        ("ModuleNotFoundError: No module named 'topkin'", ["--package=wheel"],
         "no module named topkin on the worker: its image or environment must have it"),
        ("boot: No module named \\'nmslib\\'", [], "no module named nmslib on the worker: its image or environment"),
        ("ERROR: No matching distribution found for duckdb<2,>=1.4\nfailed", [],
         "the worker could not install what was sent: No matching distribution found for duckdb<2,>=1.4; give it"),
        ("Apache Beam is not installed in the runtime environment. If", [], "no Beam on the worker: give"),
        ('{"level":"ERROR","msg":"process failed while running","envID":"e","error":"exit status 3"}', [],
         "a worker's process ended, exit status 3: see its command"),
        ('{"msg":"process failed to start","error":"fork/exec /b.sh: no such file or directory"}', [],
         "a worker's process ended, fork/exec /b.sh: no such file or directory: see"),
        ("prism worker[w] didn't get control connection to localhost:1 after 1m0s", [], "the worker did not connect"),
        ("Unable to fetch remote prism binary at x", [], "flags for Beam, after --: Prism is not here"),
    ],
)  # fmt: skip
def test_the_workers_own_reason_is_found_in_what_it_logs(line: str, flags: list[str], message: str) -> None:
    fault = reason(["INFO something", line, "a later failure"], flags)
    assert fault is not None
    assert str(fault).startswith(message)


def test_other_failures_have_no_reason_of_ours() -> None:
    assert reason(["ValueError: 3"], []) is None
    warning, state = "optional codec: No module named 'snappy'", "RuntimeError: the pipeline failed in state FAILED"
    assert reason([warning], [], [state]) is not None
    assert reason([warning], [], [state, "ValueError: bad row 7 [while running 'Read']"]) is None
    for error in ("ModuleNotFoundError: No module named 'nmslib'", "ImportError: no nmslib"):
        fault = reason([warning, "ERROR: Could not find snappy"], [], [f'File "worker/sdk_worker.py"\n{error}'])
        assert fault is not None
        assert "nmslib" in str(fault)


LOST = """
import os, signal, subprocess
from topkin.pipelines.engine.launch import _lost
from topkin.ending.workers import descendants

line = '{"level":"ERROR","msg":"process failed while running","error":"signal: killed"}'
assert _lost([line])
assert not _lost(["pipeline done!"])
with subprocess.Popen(["sh", "-c", "sleep 600 & echo; wait"], stdout=subprocess.PIPE) as server:
    server.stdout.readline()  # it has a worker now
    assert not _lost([line])
    for process in descendants():
        os.kill(process, signal.SIGKILL)
assert _lost([line])
"""


def test_a_worker_is_lost_where_its_server_says_so_and_has_none_left() -> None:
    """In a process of its own: other tests leave servers with children below this one."""
    subprocess.run([sys.executable, "-c", LOST], check=True, cwd=Path(__file__).parents[3])
