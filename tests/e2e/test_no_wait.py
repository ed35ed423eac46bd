"""A stage submitted to the stand-in for Dataflow by a launcher that does not wait: while it runs, when it has ended."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from apache_beam.utils import retry

from benchmarks.runners import _engines as engines
from benchmarks.runners._dataflow_server import DataflowServer, dataflow_server
from topkin.artifacts import runs, storage
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine import detached

pytest.importorskip("google.cloud.dataflow_v1beta3")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop on a disk that workers have too; without a run."""
    engines.SHOP.write(str(tmp_path / "lake"))
    text = engines.SHOP.config_toml(f"file://{tmp_path}/lake", output=f"file://{tmp_path}/out")
    (tmp_path / "topkin.toml").write_text(text)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def _prepare(shop: Path, service: DataflowServer | None = None, *more: str) -> int:
    words = engines.command(shop / "topkin.toml", (), *more)[3:-1]
    cut = words.index("--publish-anyway")
    words = ["prepare", *words[1:cut], *words[cut + 2 :]]
    if service is not None:
        words += ["--", *service.flags, f"--temp_location={shop}/tmp", f"--staging_location={shop}/tmp"]
    return main(words)


@contextmanager
def _submitted(shop: Path) -> Iterator[tuple[DataflowServer, str]]:
    """The service, which holds it, and the job that is to prepare."""
    with dataflow_server() as service:
        service.held = True
        assert _prepare(shop, service, "--no-wait") == 0
        (job,) = service.jobs
        yield service, job


def _tables(shop: Path) -> dict[str, bytes]:
    output = str(shop / "out")
    (run_id,) = runs.run_ids(output)
    folder = runs.read_run(output, run_id).folder("prepare")
    return {name: storage.read_bytes(storage.join(folder, name)) for name in sorted(storage.files(folder))}


def test_the_next_command_says_that_the_job_runs_and_then_takes_what_it_sealed(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _submitted(shop) as (service, job):
        assert re.search(rf"prepare +submitted: job {job}, https://console", capsys.readouterr().err)
        assert _prepare(shop) == 5
        assert f"prepare is made by job {job}" in (errors := capsys.readouterr().err)
        assert "RUNNING" in errors
        service.finish()
        assert service.jobs[job]["currentState"] == "JOB_STATE_DONE", service.errors
    assert _prepare(shop) == 0
    assert re.search(r"prepare +as before", capsys.readouterr().err)
    by_job = _tables(shop)
    assert _prepare(shop, None, "--force") == 0
    ids = runs.run_ids(str(shop / "out"))
    forced = runs.read_run(str(shop / "out"), max(ids, key=len)).folder("prepare")
    here = {name: storage.read_bytes(storage.join(forced, name)) for name in sorted(storage.files(forced))}
    for tables in (by_job, here):
        del tables["manifest.json"]
    assert by_job == here


def test_a_job_that_ended_without_a_seal_is_told_and_the_stage_done_again(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _submitted(shop) as (service, job):
        service.cancel(job)
        assert _prepare(shop) == 0
    assert f"job {job} ended CANCELLED and sealed no prepare: it is done again" in capsys.readouterr().err
    assert "statistics.json" in _tables(shop)


def test_what_a_job_seals_while_the_service_is_asked_is_taken(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = detached.state_of

    def finished_first(note: Mapping[str, Any]) -> str:
        service.finish()
        return asked(note)

    with _submitted(shop) as (service, _):
        monkeypatch.setattr(detached, "state_of", finished_first)
        assert _prepare(shop) == 0
    errors = capsys.readouterr().err
    assert re.search(r"prepare +as before", errors)
    assert "done again" not in errors


def test_a_job_that_the_service_does_not_know_has_failed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.Clock, "sleep", lambda self, seconds: None)  # Beam asks for ten minutes
    with _submitted(shop) as (service, _):
        service.jobs.clear()
        assert _prepare(shop) == 0
    assert _prepare(shop, service) == 0  # taken, so that the service is not asked


def test_force_is_not_for_who_does_not_wait(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with dataflow_server() as service:
        assert _prepare(shop, service, "--no-wait", "--force") == 2
        assert not service.jobs
    assert "leave one of them out" in capsys.readouterr().err


def test_nobody_is_forgotten_while_a_job_may_write_their_rows(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "users.txt").write_text("u1\n")
    forget = ["forget", "--config", str(shop / "topkin.toml"), "--users", str(shop / "users.txt")]
    with _submitted(shop) as (service, job):
        assert main(forget) == 5
        assert f"prepare is made by job {job}" in capsys.readouterr().err
        service.cancel(job)
        assert main(forget) == 0
    assert not any((shop / "out" / "runs").glob("2*"))
