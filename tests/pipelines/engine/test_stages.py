"""The stage engine with jobs that do nothing heavy: what runs beside, dies or is found damaged."""

import os
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pytest

from topkin.artifacts import lock, runs, storage
from topkin.config.sections import Settings
from topkin.pipelines.engine import registry, stages
from topkin.pipelines.engine.stage import EarlierVersions, StageReads

AS_OF = datetime(2024, 5, 1)
STAGES = {name: registry.stage(name) for name in stages.ORDER}
NOTHING = StageReads()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"purchases": {"path": "x"}, "run": {"output": str(tmp_path / "out")}})


class Jobs:
    """Stages of one file each; ``before[stage]`` is called while the stage works."""

    def __init__(self):
        self.before, self.done = {}, []

    def stage(self, stage, kind="purchases"):
        def work(job):
            self.done.append(stage)
            assert set(job.folders) == set(needs)
            storage.write_json(stage, storage.join(job.out, "part.json"))
            counts = {"sources": {"purchases": {"rows": 9}}, "events": 9, "users": 3, "items": 3}
            storage.write_json(counts, storage.join(job.out, "statistics.json"))
            self.before.pop(stage, lambda: None)()
            return {"rows": 1}

        needs = stages.ORDER[: stages.ORDER.index(stage)][-1:]
        real = STAGES[stage]
        own = {"needs": lambda settings: needs, "reads": lambda settings: NOTHING, "work": work}
        none = {"earlier": lambda settings: (), "versions": lambda settings: EarlierVersions()}
        return replace(real, sections=("run",), **own, **none)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    jobs = Jobs()
    monkeypatch.setattr(registry, "stage", jobs.stage)
    return jobs


def test_a_run_beside_that_was_first_keeps_its_folder(settings, jobs, tmp_path):
    beside = []

    def another():
        beside.append(stages.run_stages(settings, as_of=AS_OF))
        runs.publish_run(beside[0])
        beside.append(os.stat(beside[0].folder("prepare")).st_ino)

    jobs.before["prepare"] = another
    run = stages.run_stages(settings, as_of=AS_OF)
    assert run == beside[0]
    assert os.stat(run.folder("prepare")).st_ino == beside[1]  # not replaced below whoever reads it
    assert jobs.done.count("train") == 1
    assert [n for n in os.listdir(run.path) if n.startswith(".")] == []


def test_a_damaged_folder_is_made_again_in_its_place(settings, jobs):
    run = stages.run_stages(settings, as_of=AS_OF)
    Path(run.folder("embed"), "part.json").write_text("cut off")
    jobs.done.clear()
    assert stages.run_stages(settings, as_of=AS_OF) == run
    assert jobs.done == ["embed"]
    assert storage.read_json(storage.join(run.folder("embed"), "part.json")) == "embed"


def test_a_stage_that_fails_leaves_nothing_and_is_done_the_next_time(settings, jobs, tmp_path):
    def fail():
        raise ValueError("no luck")

    jobs.before["index"] = fail
    with pytest.raises(ValueError, match="no luck"):
        stages.run_stages(settings, as_of=AS_OF)
    (run_id,) = runs.run_ids(str(tmp_path / "out"))
    assert set(runs.read_run(str(tmp_path / "out"), run_id).folders) == {"prepare", "train", "embed"}
    jobs.done.clear()
    assert set(stages.run_stages(settings, as_of=AS_OF).folders) == set(stages.ORDER)
    assert jobs.done == ["index", "recommend", "similar", "hindsight", "evaluate", "report"]


def test_an_index_that_no_list_asks_is_not_waited_for(settings):
    through = settings.model_copy(update={"recommend": settings.recommend.model_copy(update={"search": "index"})})
    assert STAGES["recommend"].needs(settings) == ("prepare", "train", "embed")
    assert STAGES["recommend"].needs(through) == ("prepare", "train", "embed", "index")
    assert STAGES["similar"].needs(through) == ("prepare", "embed")


def test_a_stage_has_the_name_of_its_module_a_folder_of_its_own_and_needs_only_stages_before_it(settings):
    assert [stage.name for stage in STAGES.values()] == list(stages.ORDER)
    assert len({stage.folder for stage in STAGES.values()}) == len(stages.ORDER)
    for number, stage in enumerate(STAGES.values()):
        assert set(stage.needs(settings)) <= set(stages.ORDER[:number])
        assert set(stage.sections) <= set(Settings.model_fields)


@pytest.mark.parametrize(
    "reads",
    [
        StageReads(files=[["a.parquet", 2, 1.0]]),
        StageReads(settings={"evaluate.neighbours": 7}),
        StageReads(today=date(2024, 5, 1)),
    ],
)
def test_each_of_what_a_stage_reads_is_part_of_its_key_and_of_those_that_need_it(settings, jobs, monkeypatch, reads):
    before = stages.keys(settings, AS_OF)
    assert before == stages.keys(settings, AS_OF)
    changed = {name: jobs.stage(name) for name in stages.ORDER}
    changed["embed"] = replace(changed["embed"], reads=lambda settings: reads)
    monkeypatch.setattr(registry, "stage", lambda name, kind: changed[name])
    after = stages.keys(settings, AS_OF)
    first = stages.ORDER.index("embed")
    assert [name for name in stages.ORDER if after[name] != before[name]] == list(stages.ORDER[first:])


def test_where_tonights_files_are_is_no_part_of_a_recipe(jobs):
    def recipe(**paths):
        sections = {name: {"path": path} for name, path in paths.items() if name != "view"}
        events = {"view": {"path": paths["view"], "weight": 0.2}}
        features = {"path": {"column": "path"}}  # a column's name here
        items = {**sections["items"], "features": features}
        settings = Settings.model_validate({**sections, "items": items, "events": events})
        earlier = stages.earlier_runs(settings, AS_OF)
        return stages._keys(settings, AS_OF, earlier)[1]["train"], settings

    (first, settings), (second, _) = (recipe(purchases=f"{n}", items=f"i{n}", view=f"v{n}") for n in "ab")
    assert first == second
    values = settings.model_dump(mode="json")["items"]
    assert stages._without_path(values)["features"] == values["features"]


def test_what_a_stage_reads_of_the_run_published_before_its_date_is_part_of_its_key(settings, jobs, monkeypatch):
    """The earlier run is that of an earlier date, so that the same night done again is done already."""
    given = []

    def growing(name, kind="purchases"):
        stage = jobs.stage(name)
        if name != "index":
            return stage

        def work(job):
            given.append(dict(job.earlier))
            return stage.work(job)

        return replace(stage, earlier=lambda settings: ("index",), work=work)

    monkeypatch.setattr(registry, "stage", growing)
    alone = stages.keys(settings, AS_OF)
    first = stages.run_stages(settings, as_of=AS_OF)
    runs.publish_run(first)
    assert given == [{}]
    assert stages.keys(settings, AS_OF) == alone  # what is published is of this date
    night = datetime(2024, 5, 2)
    second = stages.run_stages(settings, as_of=night)
    assert given[1] == {"index": first.folder("index")}
    runs.publish_run(second)
    assert stages.run_stages(settings, as_of=night) == second
    assert len(given) == 2
    before = stages.keys(settings, datetime(2024, 5, 3))
    storage.remove_folder(second.folder("evaluate"))  # not whole any more: the one before it counts
    after = stages.keys(settings, datetime(2024, 5, 3))
    assert [name for name in stages.ORDER if after[name] != before[name]] == list(stages.ORDER[3:])


def test_the_versions_that_a_stage_reads_are_given_to_it_and_are_part_of_its_key(settings, jobs, monkeypatch):
    given = []

    def looking_back(name, kind="purchases"):
        stage = jobs.stage(name)
        if name != "similar":
            return stage

        def work(job):
            given.append([(v.days, v.run_id, v.as_of, v.folders) for v in job.versions])
            return stage.work(job)

        return replace(stage, versions=lambda settings: EarlierVersions(days=(1, 3), stages=("recommend",)), work=work)

    monkeypatch.setattr(registry, "stage", looking_back)
    nights = [datetime(2024, 5, day) for day in (1, 2, 3, 4, 5)]
    done = []
    for night in nights:
        done.append(stages.run_stages(settings, as_of=night))
        runs.publish_run(done[-1])
    result = [[(days, as_of.day) for days, _, as_of, _ in versions] for versions in given]
    assert result == [[], [(1, 1)], [(1, 2)], [(1, 3), (3, 1)], [(1, 4), (3, 2)]]
    assert given[4][1] == (3, done[1].run_id, nights[1], {"recommend": done[1].folder("recommend")})
    assert stages.run_stages(settings, as_of=nights[4]) == done[4]
    assert len(given) == 5  # the same night again is done already
    before = stages.keys(settings, nights[4])
    storage.remove_folder(done[1].folder("recommend"))
    after = stages.keys(settings, nights[4])
    changed = [name for name in stages.ORDER if after[name] != before[name]]
    assert changed == list(stages.ORDER[stages.ORDER.index("similar") :])


def test_how_much_is_kept_and_how_long_is_waited_change_no_key(settings, jobs):
    run = settings.run.model_copy(update={"keep": 3, "wait": 5.0, "output": "elsewhere"})
    assert stages.keys(settings.model_copy(update={"run": run}), AS_OF) == stages.keys(settings, AS_OF)
    run = settings.run.model_copy(update={"seed": 3})
    assert stages.keys(settings.model_copy(update={"run": run}), AS_OF) != stages.keys(settings, AS_OF)


def test_the_scratch_of_an_attempt_that_failed_goes_to_the_next_one(settings, jobs, monkeypatch):
    collected = []

    def training(name, kind="purchases"):
        stage = jobs.stage(name)

        def work(job):
            collected.append((job.scratch, storage.files(job.scratch)))
            if len(collected) < 3:
                storage.write_bytes(b"epoch", storage.join(job.scratch, f"epoch-{len(collected)}"))
                raise ValueError("no luck")
            return stage.work(job)

        return replace(stage, work=work) if name == "train" else stage

    monkeypatch.setattr(registry, "stage", training)
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            stages.run_stages(settings, as_of=AS_OF)
    run = stages.run_stages(settings, as_of=AS_OF)
    assert [files for _, files in collected] == [[], ["epoch-1"], ["epoch-1", "epoch-2"]]
    assert len({scratch for scratch, _ in collected}) == 3
    assert [n for n in os.listdir(run.path) if n.startswith(".")] == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stages": 3}'])
def test_a_damaged_run_json_is_written_anew_and_no_stage_is_done_again(settings, jobs, text):
    run = stages.run_stages(settings, as_of=AS_OF)
    jobs.done.clear()
    Path(run.path, "run.json").write_text(text)
    assert stages.run_stages(settings, as_of=AS_OF) == run
    assert jobs.done == []
    assert runs.read_run(run.root, run.run_id) == run


def test_who_works_is_known_by_the_run(settings, jobs):
    seen = []
    jobs.before["train"] = lambda: seen.append(lock.holder_of(settings.run.output))
    run = stages.run_stages(settings, as_of=AS_OF)
    assert (seen[0]["run_id"], seen[0]["what"]) == (run.run_id, "topkin run as of 2024-05-01T00:00:00")
    assert lock.holder_of(settings.run.output) is None


@pytest.mark.parametrize(
    ("own", "memory"), [({}, "1"), ({"encoder": {"path": "a-network", "inputs": {}}, "items": {"path": "y"}}, None)]
)
def test_a_run_of_tables_gives_memory_back_and_one_of_a_network_of_the_users_keeps_it(
    own, memory, settings, jobs, monkeypatch
):
    monkeypatch.delenv("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", raising=False)
    settings = Settings.model_validate({**settings.model_dump(exclude_unset=True), **own})
    seen = []
    jobs.before["train"] = lambda: seen.append(os.environ.get("TF_ONEDNN_USE_SYSTEM_ALLOCATOR"))
    stages.run_stages(settings, as_of=AS_OF)
    assert seen == [memory]
