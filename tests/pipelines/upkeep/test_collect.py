"""What stays and what goes; whatever happens in between, what the live run needs stays."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import lock, manifest, runs, sealing, stage_index, storage
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.upkeep import versions
from topkin.pipelines.upkeep.collect import collect, delete


def states(root: Path, keep: int) -> dict[int, str]:
    """The state of each run by the day of its name."""
    return {int(v.run_id[8:10]): v.state for v in versions.versions(str(root), keep)}


def days(root: Path) -> list[int]:
    return [int(name[8:10]) for name in runs.run_ids(str(root))]


def age(path: Path) -> None:
    import os

    for below in (path, *path.rglob("*")):
        os.utime(below, (1e9, 1e9))


def test_the_live_run_the_last_ones_published_and_pinned_ones_stay(tmp_path, night):
    for day in range(1, 8):
        night(day)
    versions.pin(str(tmp_path), "2024-05-02-n")
    assert states(tmp_path, 3) == {7: "live", 6: "kept", 5: "kept", 4: "old", 3: "old", 2: "pinned", 1: "old"}
    summary = collect(str(tmp_path), 3, dry=True)
    assert days(tmp_path) == [1, 2, 3, 4, 5, 6, 7]
    done = collect(str(tmp_path), 3)
    assert summary == done
    assert sorted(done.runs) == ["2024-05-01-n", "2024-05-03-n", "2024-05-04-n"]
    assert days(tmp_path) == [2, 5, 6, 7]
    assert sorted(storage.folders(f"{tmp_path}/runs")) == [*runs.run_ids(str(tmp_path)), "stages"]
    assert len(storage.files(f"{tmp_path}/runs/stages")) == 4 * 3
    assert not collect(str(tmp_path), 3)
    assert runs.pointer(str(tmp_path))["history"][0] == "2024-05-01-n"  # what was published is still told
    assert versions.unpin(str(tmp_path), "2024-05-02-n")
    assert not versions.unpin(str(tmp_path), "2024-05-02-n")
    assert collect(str(tmp_path), 3).runs == ["2024-05-02-n"]


def test_a_run_that_was_never_published_stays_as_long_as_versions_older_than_it(tmp_path, night):
    nights = {day: night(day, publish=day != 2) for day in (1, 2, 3, 4)}
    for day, run in nights.items():
        path = f"{run.path}/run.json"
        made_at = {"made_at": f"2024-05-{day:02d}T03:00:00+00:00"}
        storage.write_json(sealing.sealed(storage.read_json(path) | made_at), path)
    assert states(tmp_path, 14) == {4: "live", 3: "kept", 2: "unpublished", 1: "kept"}
    assert states(tmp_path, 3)[2] == "unpublished"
    assert states(tmp_path, 2)[2] == "old"
    collect(str(tmp_path), 2)
    assert days(tmp_path) == [3, 4]


def test_a_stage_that_a_kept_run_uses_outlives_its_own_run(tmp_path, night):
    first = night(1)
    for day in (2, 3):
        last = night(day, reuse={"train": first})
    collect(str(tmp_path), 2)
    assert days(tmp_path) == [2, 3]
    assert storage.folders(first.path) == ["model"]
    for folder in last.folders.values():
        manifest.verify(folder)
    assert stage_index.find(str(tmp_path), "train-1") == "runs/2024-05-01-n/model"
    assert stage_index.find(str(tmp_path), "prepare-1") is None
    night(4)
    collect(str(tmp_path), 2)
    assert storage.exists(first.path)  # the third night uses it
    night(5)
    collect(str(tmp_path), 2)
    assert not storage.exists(first.path)
    assert stage_index.find(str(tmp_path), "train-1") is None


def test_a_run_that_is_made_again_takes_the_stages_that_outlived_it(tmp_path, night):
    first = night(1)
    night(2, reuse={"train": first})
    night(3)
    assert collect(str(tmp_path), 2).runs == ["2024-05-01-n"]
    again = night(1, reuse={"train": first}, publish=False)
    assert states(tmp_path, 14)[1] in ("kept", "unpublished")
    collect(str(tmp_path), 14)
    assert again.is_whole()


def test_what_dead_processes_left_goes_by_its_age_and_scratch_too(tmp_path, night):
    run = night(1)
    left = [f"{run.path}/.model-elsewhere-1-00000000", f"{run.path}/.scratch-model-0123456789-elsewhere-1-00000000"]
    left += [
        f"{tmp_path}/runs/2024-05-09-died/.prepared-elsewhere-1-00000000",
        f"{tmp_path}/runs/2024-05-08-died/prepared",
    ]
    for folder in left:
        storage.write_bytes(b"half", f"{folder}/part.bin")
    half = [
        tmp_path / f".current.json.{'a' * 32}",
        Path(run.path, f".run.json.{'b' * 32}"),
        tmp_path / f".write-{'c' * 32}",
    ]
    for path in half:
        path.write_bytes(b"half")
    collect(str(tmp_path), 2)
    assert all(map(storage.exists, left))
    assert all(path.exists() for path in half)
    for path in (*map(Path, left), *half, tmp_path / "runs/2024-05-09-died", tmp_path / "runs/2024-05-08-died"):
        age(path)
    done = collect(str(tmp_path), 2)
    assert not any(map(storage.exists, left))
    assert not any(path.exists() for path in half)
    assert done.runs == []
    assert done.bytes >= 16
    assert storage.folders(f"{tmp_path}/runs") == ["2024-05-01-n", "stages"]
    assert run.is_whole()


def test_the_age_at_which_it_goes_is_that_of_a_lock():
    assert lock.EXPIRY > 2 * lock.RENEWAL


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"stages": 3, "as_of": "2024-01-01"}'])
def test_while_a_kept_run_cannot_be_read_nothing_that_it_may_use_goes(tmp_path, night, caplog, text):
    root = str(tmp_path)
    first = night(1)
    second = night(2, reuse={"train": first})
    night(3)
    Path(second.path, "run.json").write_text(text)
    assert not collect(root, 2)
    assert days(tmp_path) == [1, 2, 3]
    assert "topkin runs delete 2024-05-02-n deletes that run" in caplog.text
    with pytest.raises(ArtifactError, match="name that run too"):
        delete(root, ["2024-05-01-n"], 2)
    assert sorted(delete(root, ["2024-05-01-n", "2024-05-02-n"], 2).runs) == ["2024-05-01-n", "2024-05-02-n"]
    assert days(tmp_path) == [3]


def test_the_live_and_pinned_runs_are_not_deleted(tmp_path, night):
    root = str(tmp_path)
    night(1)
    night(2)
    versions.pin(root, "2024-05-01-n")
    with pytest.raises(ConfigError, match="2024-05-02-n is live: publish another one first"):
        delete(root, ["2024-05-02-n"], 2)
    with pytest.raises(ConfigError, match="topkin runs unpin 2024-05-01-n first"):
        delete(root, ["2024-05-01-n"], 2)
    versions.unpin(root, "2024-05-01-n")
    assert delete(root, ["2024-05-01-n"], 14).runs == ["2024-05-01-n"]
    assert days(tmp_path) == [2]


class _Killed(BaseException):
    """In place of kill -9: no ``except Exception`` sees it."""


def test_a_collection_killed_at_any_of_its_writes_is_ended_by_the_next(tmp_path, night, monkeypatch):
    first = night(1)
    for day in (2, 3, 4):
        night(day, reuse={"train": first} if day == 3 else None)
    writes = ("write_json", "remove_files", "remove_folder")
    at, total = 0, None
    while total is None or at < total:
        work = tmp_path.parent / f"killed-{at}"
        shutil.copytree(tmp_path, work)
        seen = 0

        def count(write, at=at):
            def counted(*args):
                nonlocal seen
                seen += 1
                if seen == at + 1:
                    raise _Killed
                return write(*args)

            return counted

        with monkeypatch.context() as patch:
            for name in writes:
                patch.setattr(storage, name, count(getattr(storage, name)))
            try:
                collect(str(work), 2)
                total = at
            except _Killed:
                at += 1
        live = runs.published(str(work))
        for folder in live.folders.values():
            manifest.verify(folder)
        collect(str(work), 2)
        assert days(work) == [3, 4]
        assert sorted(storage.folders(f"{work}/runs")) == ["2024-05-01-n", "2024-05-03-n", "2024-05-04-n", "stages"]
        assert storage.folders(f"{work}/runs/2024-05-01-n") == ["model"]
        shutil.rmtree(work)
    assert at > 6


@settings(max_examples=40)
@given(st.data())
def test_whatever_was_made_reused_pinned_and_deleted_kept_runs_are_whole(tmp_path_factory, data):
    """Against a count of who uses what: nothing used goes, and nothing else stays but runs."""
    from tests.pipelines.upkeep.conftest import make_night

    root = str(tmp_path_factory.mktemp("out"))
    collected: list[runs.Run] = []
    for day in range(1, data.draw(st.integers(2, 9)) + 1):
        there = [run for run in collected if run.is_whole()]
        stages = data.draw(st.lists(st.sampled_from(["prepare", "train"]), unique=True)) if there else []
        reuse = {stage: data.draw(st.sampled_from(there)) for stage in stages}
        collected.append(make_night(root, day, reuse=reuse, publish=data.draw(st.booleans())))
        if data.draw(st.booleans()):
            versions.pin(root, collected[-1].run_id)
        if data.draw(st.booleans()):
            collect(root, 2)
    collect(root, 2)
    kept = versions.versions(root, 2)
    assert all(v.state != "old" for v in kept)
    used = {folder for v in kept for folder in v.run.folders.values()}
    for folder in used:
        manifest.verify(folder)
    there = {
        f"{root}/runs/{run_id}/{name}"
        for run_id in storage.folders(f"{root}/runs")
        if run_id != "stages"
        for name in storage.folders(f"{root}/runs/{run_id}")
    }
    assert there == used
    entries = set(storage.files(f"{root}/runs/stages")) - {"complete"}
    assert all(json.loads(Path(f, "manifest.json").read_text())["key"] in entries for f in used)
    assert len(entries) == len(used)
