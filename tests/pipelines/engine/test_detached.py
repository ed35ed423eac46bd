"""Stages that a job seals by itself: what its last step waits for and leaves, and what is refused."""

import os
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import apache_beam as beam
import pytest

from topkin.artifacts import lock, manifest, stage_index, storage
from topkin.errors import ConfigError
from topkin.pipelines.engine import attempts, detached, stages
from topkin.pipelines.engine.detached import Seal
from topkin.pipelines.engine.job import OnePipeline
from topkin.pipelines.engine.runner import refuse_template
from topkin.pipelines.upkeep.collect import collect

NAMES = ("a", "b", "c", "d")
RUN = "runs/20240501-x"


def _write(folder: str, name: str) -> str:
    time.sleep(0.05)  # what does not wait finds it missing
    storage.write_json(name, storage.join(folder, f"{name}.json"))
    return name


def _branches(pipeline: beam.Pipeline, folder: str) -> None:
    """Steps that end nowhere: one behind a side input, one of several outputs, one alone."""
    first = pipeline | "a" >> beam.Create(["a"]) | "Write a" >> beam.Map(partial(_write, folder))
    second = pipeline | "b" >> beam.Create(["b"])
    second | "Write b" >> beam.Map(lambda name, _: _write(folder, name), beam.pvalue.AsList(first))
    both = pipeline | "cd" >> beam.Create(["c", "d"])
    split = both | beam.Partition(lambda name, _: "cd".index(name), 2)
    for number, some in enumerate(split):
        some | f"Write {number}" >> beam.Map(partial(_write, folder))


def _finish(folder: str) -> dict[str, int]:
    names = [storage.read_json(storage.join(folder, f"{name}.json")) for name in NAMES]
    return {"rows": len(names)}


def _attempt(root: str) -> tuple[Seal, str]:
    run_path = storage.join(root, RUN)
    attempt, scratch = attempts.paths(run_path, "prepared", "k" * 64)
    attempts.begin(run_path, "prepared", "k" * 64, attempt, scratch)
    seal = Seal(root=root, run=RUN, stage="prepare", folder="prepared", key="k" * 64, recipe="r" * 64, attempt=attempt)
    folders = [attempt.rpartition("/")[2], scratch.rpartition("/")[2]]
    note = {"folders": folders, "submitted": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    storage.write_json(note, storage.join(run_path, attempts.note_name("prepared")))
    return seal, scratch


def test_the_last_step_waits_for_every_other_and_leaves_the_stage_as_a_launcher_does(tmp_path: Path) -> None:
    seal, _ = _attempt(str(tmp_path))
    work = OnePipeline(transform=partial(_branches, folder=seal.attempt), finish=partial(_finish, seal.attempt))
    with beam.Pipeline() as pipeline:
        detached.sealing(work, seal)(pipeline)
    place = str(tmp_path / RUN / "prepared")
    sealed = manifest.verify(place)
    assert sealed["summary"] == {"rows": len(NAMES)}
    assert (sealed["stage"], sealed["recipe"]) == ("prepare", "r" * 64)
    assert stage_index.find(str(tmp_path), "k" * 64) == f"{RUN}/prepared"
    assert os.listdir(tmp_path / RUN) == ["prepared"]  # neither scratch, nor an attempt, nor the note


def test_the_last_step_done_again_after_the_seal_leaves_the_stage_as_it_is(tmp_path: Path) -> None:
    seal, _ = _attempt(str(tmp_path))
    work = OnePipeline(transform=partial(_branches, folder=seal.attempt), finish=partial(_finish, seal.attempt))
    with beam.Pipeline() as pipeline:
        detached.sealing(work, seal)(pipeline)
    before = manifest.verify(str(tmp_path / RUN / "prepared"))
    detached._Last(work.finish, seal)(None, [])  # as a service does whose worker was lost before it could tell
    assert manifest.verify(str(tmp_path / RUN / "prepared")) == before
    assert os.listdir(tmp_path / RUN) == ["prepared"]


def test_what_a_finish_refuses_is_not_sealed(tmp_path: Path) -> None:
    seal, _ = _attempt(str(tmp_path))

    def nothing(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create([1])

    with pytest.raises(Exception, match=r"a\.json"), beam.Pipeline() as pipeline:
        detached.sealing(OnePipeline(transform=nothing, finish=partial(_finish, seal.attempt)), seal)(pipeline)
    assert stage_index.find(str(tmp_path), "k" * 64) is None


def test_folders_of_a_job_that_nobody_waits_for_outlive_the_collection(tmp_path: Path, monkeypatch) -> None:
    seal, scratch = _attempt(str(tmp_path))
    monkeypatch.setattr(lock, "alive", lambda pid: False)
    long_ago = time.time() - 10 * lock.EXPIRY
    for folder in (seal.attempt, scratch, str(tmp_path / RUN)):
        os.utime(folder, (long_ago, long_ago))
    collect(str(tmp_path), 2)
    assert os.path.isdir(seal.attempt)
    assert os.path.isdir(scratch)
    note = str(tmp_path / RUN / attempts.note_name("prepared"))
    storage.write_json({**storage.read_json(note), "submitted": "2024-05-01T01:00:00Z"}, note)
    os.utime(tmp_path / RUN, (long_ago, long_ago))
    collect(str(tmp_path), 2)
    assert not os.path.isdir(tmp_path / RUN)


def test_a_note_that_its_job_removes_while_it_is_looked_for_is_none(tmp_path: Path, monkeypatch) -> None:
    seal, _ = _attempt(str(tmp_path))
    run_path = str(tmp_path / RUN)
    assert attempts.in_jobs(run_path) == {seal.attempt.rpartition("/")[2], *os.listdir(run_path)} - {
        "job-prepared.json"
    }
    seen = storage.exists

    def removed_after(path: str) -> bool:
        there = seen(path)
        attempts.remove_note(run_path, "prepared")
        return there

    monkeypatch.setattr(storage, "exists", removed_after)
    assert attempts.read_note(run_path, attempts.note_name("prepared")) is None
    assert detached.ended_job(run_path, "prepare", "prepared") == ""


@pytest.mark.parametrize("flags", [(), ("--runner=PrismRunner",), ("--direct_num_workers=2",)])
def test_a_job_that_ends_with_its_launcher_is_waited_for(flags: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--no-wait is for DataflowRunner alone"):
        detached.refuse(flags)


def test_flags_that_are_none_are_said_to_be_none() -> None:
    with pytest.raises(ConfigError, match="leave --no-wait out; got none"):
        detached.refuse(())


def test_a_template_is_for_who_does_not_wait() -> None:
    with pytest.raises(ConfigError, match="--no-wait writes one"):
        refuse_template(["--template_location=gs://shop/prepare"])


def test_the_stages_of_one_pipeline_are_those_that_the_documentation_names() -> None:
    from topkin.pipelines.engine import registry
    from topkin.pipelines.engine.job import InOnePipeline

    named = {name for name in stages.ORDER if isinstance(registry.stage(name).work, InOnePipeline)}
    assert named == {"prepare", "embed", "index", "recommend", "similar"}
