import shutil
from datetime import datetime, timedelta

import pytest

from tests.artifacts.processes import at_once, forks, started
from topkin.artifacts import lock, manifest, runs, stage_index, storage
from topkin.errors import ArtifactError, BusyError, ConfigError

FOLDERS = {"prepare": "prepared", "train": "model"}
AS_OF = datetime(2024, 5, 1)


def finished(root, run_id, stages=("prepare",), key="k"):
    run = runs.Run(str(root), run_id, AS_OF)
    for stage in stages:
        folder = f"runs/{run_id}/{FOLDERS[stage]}"
        storage.write_bytes(b"data", f"{root}/{folder}/file.bin")
        manifest.seal(f"{root}/{folder}", stage=stage, key=key, summary={})
        run = runs.record_stage(run, stage, {"key": key, "folder": folder}, {})
    return run


def test_a_run_is_read_as_it_was_recorded(tmp_path):
    run = finished(tmp_path, "r1", ("prepare", "train"))
    assert runs.read_run(str(tmp_path), "r1") == run
    assert run.folder("train") == f"{tmp_path}/runs/r1/model"
    with pytest.raises(ArtifactError, match="topkin embed first"):
        run.folder("embed")


def test_a_stage_is_found_by_its_key_in_any_run_if_it_is_sealed(tmp_path):
    finished(tmp_path, "r1", key="old")
    finished(tmp_path, "r2", key="new")
    assert stage_index.find(str(tmp_path), "old") == "runs/r1/prepared"
    assert stage_index.find(str(tmp_path), "other") is None
    (tmp_path / "runs/r1/prepared/manifest.json").unlink()
    assert stage_index.find(str(tmp_path), "old") is None


def test_publishing_moves_the_pointer_and_rollback_moves_it_back(tmp_path):
    first, second = finished(tmp_path, "r1"), finished(tmp_path, "r2")
    assert runs.published(str(tmp_path)) is None
    runs.publish_run(first)
    runs.publish_run(second)
    runs.publish_run(second)
    assert runs.published(str(tmp_path)) == second
    assert runs.roll_back(str(tmp_path)) == (first, [])
    assert runs.published(str(tmp_path)) == first
    with pytest.raises(ArtifactError, match="no earlier published run"):
        runs.roll_back(str(tmp_path))


def test_a_run_that_is_published_again_goes_back_to_the_one_between(tmp_path):
    first, second = finished(tmp_path, "r1"), finished(tmp_path, "r2")
    for run in (first, second, first):
        runs.publish_run(run)
    assert runs.pointer(str(tmp_path))["history"] == ["r2"]
    assert runs.roll_back(str(tmp_path)) == (second, [])
    with pytest.raises(ArtifactError, match="no earlier published run"):
        runs.roll_back(str(tmp_path))


@pytest.mark.parametrize("what", ["runs/r2", "runs/r2/run.json", "runs/r2/prepared"])
def test_rollback_passes_over_runs_that_somebody_removed(tmp_path, what):
    three = [finished(tmp_path, name) for name in ("r1", "r2", "r3")]
    for run in three:
        runs.publish_run(run)
    path = tmp_path / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert runs.roll_back(str(tmp_path)) == (three[0], ["r2"])
    assert runs.pointer(str(tmp_path))["history"] == []


def test_rollback_says_when_every_earlier_run_is_gone_and_leaves_the_pointer(tmp_path):
    for name in ("r1", "r2"):
        runs.publish_run(finished(tmp_path, name))
    shutil.rmtree(tmp_path / "runs/r1")
    with pytest.raises(
        ArtifactError, match=r"is gone, or .*/runs/r1; publish another with topkin publish --run NAME, of r2"
    ):
        runs.roll_back(str(tmp_path))
    assert runs.pointer(str(tmp_path))["run_id"] == "r2"


def test_a_run_that_somebody_removed_is_said_to_be_gone_with_those_that_are_left(tmp_path):
    for name in ("r1", "r2"):
        runs.publish_run(finished(tmp_path, name))
    shutil.rmtree(tmp_path / "runs/r2")
    with pytest.raises(ArtifactError, match=r"the run r2 is gone: .* --run NAME to one of r1"):
        runs.published(str(tmp_path))


def _publish_many(root, run_id):
    for _ in range(20):
        runs.publish_run(runs.read_run(root, run_id))


def test_a_reader_never_sees_half_a_pointer(tmp_path):
    names = ["r1", "r2"]
    for name in names:
        finished(tmp_path, name)
    runs.publish_run(runs.read_run(str(tmp_path), "r1"))
    writers = [started(_publish_many, str(tmp_path), n) for n in names]
    while any(w.is_alive() for w in writers):
        assert runs.published(str(tmp_path)).run_id in names
    assert [w.exitcode for w in writers] == [0, 0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "file.bin").write_bytes(b"dAta"), "changed after its stage finished"),
        (lambda f: (f / "file.bin").unlink(), "file.bin is missing"),
        (lambda f: (f / "more.bin").write_bytes(b""), "more.bin is not in the manifest"),
        (lambda f: (f / "manifest.json").unlink(), "did not finish"),
        (lambda f: (f / "manifest.json").write_text("{"), "is not JSON"),
    ],
)
def test_a_changed_folder_does_not_pass_for_the_sealed_one(tmp_path, damage, words):
    run = finished(tmp_path, "r1")
    folder = run.folder("prepare")
    manifest.verify(folder)
    damage(tmp_path / "runs/r1/prepared")
    with pytest.raises(ArtifactError, match=words):
        manifest.verify(folder)


def test_keys_and_names_depend_on_all_that_is_given():
    base = {"a": 1, "b": {"c": 2}}
    assert runs.stage_key(base) == runs.stage_key({"b": {"c": 2}, "a": 1})
    assert runs.stage_key(base) != runs.stage_key({"a": 1, "b": {"c": 3}})
    assert runs.run_name(AS_OF, base).startswith("2024-05-01-")
    assert runs.run_name(AS_OF.replace(hour=6), base).startswith("2024-05-01T060000-")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"run_id": "a"}', "\x00"])
def test_a_damaged_pointer_is_said_with_the_cure(tmp_path, text):
    (tmp_path / "current.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"is damaged .* remove it, then topkin publish"):
        runs.published(str(tmp_path))


def test_a_change_of_any_module_at_any_depth_changes_the_hash_of_the_source(tmp_path):
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    (package / "sub" / "deep").mkdir(parents=True)
    (elsewhere / "losses").mkdir(parents=True)
    (package / "models").symlink_to(elsewhere)  # as a checkout has it
    seen = [runs.source_hash(package)]
    for path in (
        package / "a.py",
        package / "sub" / "a.py",
        package / "sub" / "deep" / "a.py",
        elsewhere / "losses" / "a.py",
        package / "sub" / "page.j2",
        package / "sub" / "page.js",
    ):
        path.write_text("x = 1")
        seen.append(runs.source_hash(package))
        path.write_text("x = 2")
        seen.append(runs.source_hash(package))
    assert len(set(seen)) == len(seen)
    (package / "sub" / "__pycache__").mkdir()
    (package / "sub" / "__pycache__" / "a.py").write_text("never read")
    (package / "sub" / "notes.txt").write_text("no code")
    assert runs.source_hash(package) == seen[-1]


def test_moving_code_from_one_module_to_another_changes_the_hash_of_the_source(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 2")
    before = runs.source_hash(tmp_path)
    (tmp_path / "a.py").write_text("x = 1b.pyy = 2")
    (tmp_path / "b.py").write_text("")
    assert runs.source_hash(tmp_path) != before


def test_the_newest_published_run_of_an_earlier_date_is_found(tmp_path):
    root = str(tmp_path)
    assert runs.published_before(root, datetime(2024, 1, 9)) is None
    for day in (1, 2, 3):
        run = runs.Run(root, f"run-{day}", datetime(2024, 1, day))
        place = f"runs/run-{day}/model"
        manifest.seal(storage.join(root, place), stage="train", key=f"k{day}", summary={})
        run = runs.record_stage(run, "train", {"folder": place}, {})
        runs.publish_run(run)
    versions = [runs.published_before(root, datetime(2024, 1, day)) for day in (1, 2, 3, 4)]
    assert [run and run.run_id for run in versions] == [None, "run-1", "run-2", "run-3"]
    storage.remove_folder(storage.join(root, "runs", "run-2", "model"))
    partial = runs.published_before(root, datetime(2024, 1, 3))
    assert partial is not None
    assert partial.run_id == "run-1"


def publish_on(root, days, *, tag="", stages=("train", "recommend")):
    """Publish a run as of each of some days, with a folder of each stage."""
    for day in days:
        run = runs.Run(root, f"run-{day:02d}{tag}", datetime(2024, 1, 1) + timedelta(days=day))
        for stage in stages:
            place = f"runs/{run.run_id}/{stage}"
            storage.make_folder(storage.join(root, place))
            manifest.seal(storage.join(root, place), stage=stage, key="k", summary={})
            run = runs.record_stage(run, stage, {"folder": place}, {})
        runs.publish_run(run, older=True)


def found_on(root, day, days=(1, 7, 28), stages=("recommend",)):
    by_age = runs.published_by_age(root, datetime(2024, 1, 1) + timedelta(days=day), days, stages)
    assert list(by_age) == sorted(by_age)
    return {days: run.run_id for days, run in by_age.items()}


def test_the_runs_published_some_days_before_are_found(tmp_path):
    root = str(tmp_path)
    assert found_on(root, 9) == {}
    publish_on(root, range(40))
    assert found_on(root, 40) == {1: "run-39", 7: "run-33", 28: "run-12"}
    assert found_on(root, 9) == {1: "run-08", 7: "run-02"}  # as the night of that date saw it
    assert found_on(root, 40, days=()) == {}
    assert found_on(root, 0) == {}


def test_a_run_is_given_once_for_the_most_days_that_it_is_old_enough_for(tmp_path):
    root = str(tmp_path)
    publish_on(root, (0, 14, 21))
    assert found_on(root, 28) == {7: "run-21", 28: "run-00"}
    assert found_on(root, 22) == {1: "run-21", 7: "run-14"}
    assert found_on(root, 100) == {28: "run-21"}


def test_runs_that_are_gone_or_back_filled_do_not_stand_for_younger_ones(tmp_path):
    root = str(tmp_path)
    publish_on(root, (5, 6, 7))
    publish_on(root, (6,), tag="+2")
    publish_on(root, (1,))  # published last, as of the oldest date
    assert found_on(root, 8, days=(1, 2)) == {1: "run-07", 2: "run-06+2"}
    storage.remove_folder(storage.join(root, "runs", "run-06+2", "recommend"))
    storage.remove_folder(storage.join(root, "runs", "run-06", "train"))  # not asked for
    storage.remove_folder(storage.join(root, "runs", "run-07"))
    assert found_on(root, 8, days=(1, 2)) == {2: "run-06"}


@pytest.mark.parametrize("name", ["r2", "2024-05-02-r2"])
def test_an_older_run_takes_the_place_of_a_later_one_only_if_that_is_wanted(tmp_path, name):
    root = str(tmp_path)
    for day, run_id in ((3, "2024-05-03-new"), (2, name)):
        run = runs.record_stage(runs.Run(root, run_id, datetime(2024, 5, day)), "train", {"folder": "x"}, {})
        if day == 3:
            runs.publish_run(run)
    before = storage.read_bytes(f"{root}/current.json")
    with pytest.raises(
        ConfigError, match=f"2024-05-03-new is live, as of 2024-05-03, and {name} is as of 2024-05-02: "
    ):
        runs.publish_run(run)
    assert storage.read_bytes(f"{root}/current.json") == before
    assert runs.publish_run(run, older=True)["version"] == 2
    assert runs.pointer(root)["history"] == ["2024-05-03-new"]
    assert runs.publish_run(runs.read_run(root, "2024-05-03-new"))["history"] == [name]


def _publish_once(root, run_id, barrier):
    run = runs.read_run(root, run_id)
    barrier.wait()
    runs.publish_run(run)


def test_of_twenty_who_publish_at_once_the_history_has_each_once(tmp_path):
    """Without a lock, as callers of the library may: the pointer is swapped, not written."""
    root, names = str(tmp_path), [f"r{n:02d}" for n in range(20)]
    for name in names:
        finished(tmp_path, name)
    barrier = forks.Barrier(20)
    assert at_once([(_publish_once, root, name, barrier) for name in names]) == [0] * 20
    current = runs.pointer(root)
    assert sorted([*current["history"], current["run_id"]]) == names
    assert current["version"] == 20


def test_a_pointer_that_moved_meanwhile_is_not_rolled_back(tmp_path, monkeypatch):
    root = str(tmp_path)
    first, second, third = (finished(tmp_path, name) for name in ("r1", "r2", "r3"))
    runs.publish_run(first)
    runs.publish_run(second)
    whole = runs.before_published

    def before_published(root):
        runs.publish_run(third)
        return whole(root)

    monkeypatch.setattr(runs, "before_published", before_published)
    with pytest.raises(BusyError, match="was moved by another process meanwhile"):
        runs.roll_back(root)
    assert runs.pointer(root)["run_id"] == "r3"


def test_who_lost_the_lock_moves_nothing(tmp_path):
    root = str(tmp_path)
    first, second = finished(tmp_path, "r1"), finished(tmp_path, "r2")
    with lock.hold(root, "one"):
        runs.publish_run(first)
        storage.write_json({}, f"{root}/lock.json")  # another's
        for write in (
            lambda: runs.publish_run(second),
            lambda: runs.roll_back(root),
            lambda: runs.record_stage(second, "train", {}, {}),
        ):
            with pytest.raises(BusyError, match="lost its lock"):
                write()
    assert runs.pointer(root)["run_id"] == "r1"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "3", '{"stages": {"a": 3}, "as_of": "x"}', '{"as_of": "2024-01-01"}']
)
def test_a_damaged_run_of_long_ago_is_passed_over_with_a_warning(tmp_path, caplog, text):
    root = str(tmp_path)
    for day in (1, 2, 3):
        run = runs.Run(root, f"2024-01-0{day}-x", datetime(2024, 1, day))
        place = f"runs/{run.run_id}/model"
        storage.make_folder(f"{root}/{place}")
        manifest.seal(f"{root}/{place}", stage="train", key="k", summary={})
        runs.publish_run(runs.record_stage(run, "train", {"folder": place}, {}))
    (tmp_path / "runs/2024-01-02-x/run.json").write_text(text)
    assert runs.published_before(root, datetime(2024, 1, 3)).run_id == "2024-01-01-x"
    assert "the run 2024-01-02-x is passed over: its run.json cannot be read" in caplog.text
    again = runs.record_stage(runs.Run(root, "2024-01-02-x", datetime(2024, 1, 2)), "train", {"folder": place}, {})
    assert again == runs.read_run(root, "2024-01-02-x")
    assert runs.roll_back(root)[0] == again


def test_the_run_before_a_date_is_found_without_reading_those_after_it(tmp_path, caplog):
    root = str(tmp_path)
    for day in range(1, 10):
        run = runs.Run(root, f"2024-01-0{day}-x", datetime(2024, 1, day))
        runs.publish_run(runs.record_stage(run, "train", {"folder": "runs"}, {}))
        (tmp_path / f"runs/{run.run_id}/run.json").write_text("never read")
    assert runs.published_before(root, datetime(2024, 1, 1)) is None
    assert caplog.text == ""
