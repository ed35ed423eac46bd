"""Engines make the same tables; the quick half of ``make runners``, and all of it for who asks for slow tests."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import pytest

from benchmarks.runners import __main__ as runners
from benchmarks.runners import _engines as engines
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine import detached
from topkin.pipelines.engine.detached import Seal
from topkin.pipelines.engine.job import OnePipeline

ROOT = Path(__file__).parents[2]


def _submitted_here(work: OnePipeline, seal: Seal, scratch: str, flags: Sequence[str]) -> dict[str, str]:
    """Run a job that seals its stage in this process, in the place of a service that would run it later."""
    with beam.Pipeline() as pipeline:
        detached.sealing(work, seal)(pipeline)
    return {"job": seal.stage, "at": f"job {seal.stage}"}


def test_a_job_server_and_jobs_that_seal_their_stages_make_the_tables_that_are_made_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, config, sums = str(tmp_path / "lake"), tmp_path / "topkin.toml", []
    for flags in (engines.IN_MEMORY, engines.EMBEDDED):
        output = str(tmp_path / f"out-{len(flags)}")
        engines.configure(lake, output, config, write=not sums)
        assert main(engines.command(config, flags)[3:]) == 0
        sums.append(engines.checksum(output))
    assert sums[0] == sums[1]
    monkeypatch.setattr(detached, "refuse", lambda flags: None)
    monkeypatch.setattr(detached, "submit", _submitted_here)
    engines.configure(lake, str(tmp_path / "sealed"), config, write=False)
    for stage in (*runners.DETACHED, ""):
        assert main(engines.command(config, (), "--no-wait")[3:-1]) == 0
        assert re.findall(r"(\w+) +submitted: job", capsys.readouterr().err) == ([stage] if stage else [])
    assert engines.checksum(str(tmp_path / "sealed")) == sums[0]


def test_a_row_whose_command_said_nothing_fails_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def row(folder: Path) -> str:
        raise subprocess.CalledProcessError(7, ["venv"])

    monkeypatch.setattr(runners, "ROWS", (row,))
    monkeypatch.setattr(sys, "argv", ["runners"])
    with pytest.raises(SystemExit):
        runners.main()
    assert "returned non-zero exit status 7.\n0 passed, 1 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_every_engine_that_can_be_had_makes_the_same_tables() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.runners"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed, 0 failed, \d+ skipped$", done.stdout, re.MULTILINE)
