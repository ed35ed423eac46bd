"""A night without later purchases is judged as a run at the cut would be, by the purchases after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

pytest.importorskip("tensorflow")

from topkin.artifacts import schemas, storage
from topkin.artifacts.partition import in_first_half, split_by_partition
from topkin.config.sections import Settings
from topkin.ingest.catalogue import merge_sales
from topkin.pipelines import embed, evaluate, prepare, recommend, train
from topkin.pipelines.engine.job import Job, run_pipeline
from topkin.pipelines.nights import holdout
from topkin.recommend.repurchase.rates import merge_counts
from topkin.report import data
from topkin.report.page import render
from topkin.transforms.holdout import CutInputs, CutPrepared

AS_OF, DAYS, ITEMS = datetime(2024, 6, 1), 10.0, 45
STAGES = {module.STAGE.name: module.STAGE for module in (prepare, train, embed, recommend, evaluate)}


def purchases(users: int = 140) -> pa.Table:
    """Ninety days of users who keep to a kind of items and come back for some, at eighths of a day."""
    rng = np.random.default_rng(8)
    rows = []
    for user in range(users):
        own = (user % 3) * 15 + rng.integers(0, 15, 16)
        items = np.where(rng.random(16) < 0.85, own, rng.integers(0, ITEMS, 16))
        items[8:10] = items[:2]  # bought again
        eighths = rng.integers(1, 720, 16)
        rows += [
            (f"u{user:03d}", int(i), AS_OF - timedelta(hours=3 * int(e))) for i, e in zip(items, eighths, strict=True)
        ]
    who, what, when = zip(*rows, strict=True)
    return pa.table({"user_id": who, "item_id": pa.array(what), "timestamp": pa.array(when, pa.timestamp("us"))})


def write(folder: Path, table: pa.Table) -> dict[str, Any]:
    """The sections that name the files."""
    storage.write_parquet(table, str(folder / "purchases.parquet"))
    items = {"item_id": list(range(ITEMS)), "kind": ["abc"[i // 15] for i in range(ITEMS)]}
    storage.write_parquet(pa.table(items), str(folder / "items.parquet"))
    return {
        "purchases": {"path": str(folder / "purchases.parquet")},
        "items": {"path": str(folder / "items.parquet"), "item_id": "item_id", "category": "kind"},
    }


SMALL = {"svd_dim": 8, "next_item_dim": 4, "epochs": 0, "dim": 4, "validation_days": DAYS}


@dataclass
class JudgedNight:
    """The finished stages of one run, each in a folder below its own, and what each of them told."""

    job: Job
    summaries: dict[str, dict[str, Any]]

    @property
    def metrics(self) -> dict[str, Any]:
        return dict(storage.read_json(storage.join(self.job.folder("evaluate"), "metrics.json")))

    @property
    def page(self) -> str:
        folders = {stage: self.job.folder(stage) for stage in evaluate.NEEDS}
        return render(data.gather(folders, self.metrics, as_of=self.job.as_of, run_id="run"), [])

    @property
    def users(self) -> pa.Table:
        return storage.read_parts(storage.join(self.job.folder("evaluate"), "users")).sort_by("user_id")


def settings_of(sections: dict[str, Any], *, train: dict[str, Any] | None = None, **more: Any) -> Settings:
    evaluated = {"k": [5, 10], "bootstrap": 20, "baselines": ["popularity", "item_knn"], **more.pop("evaluate", {})}
    advanced = {"svd_rank": 16, "validation_cuts": 3, **(train or {}).pop("advanced", {})}
    trained = {**SMALL, **(train or {}), "advanced": advanced}
    run = {"parts": 2, **more.pop("run", {})}
    return Settings.model_validate({**sections, "run": run, "train": trained, "evaluate": evaluated, **more})


def run(
    folder: Path,
    settings: Settings,
    as_of: datetime = AS_OF,
    *,
    stages: Sequence[str] = tuple(STAGES),
    done: Mapping[str, str] | None = None,
) -> JudgedNight:
    """Some stages, where the others are done in folders of their own."""
    folders, summaries = dict(done or {}), {}
    for name in stages:
        out = folder / "runs" / f"{as_of:%Y-%m-%d}" / name
        out.mkdir(parents=True)
        job = Job(settings=settings, as_of=as_of, out=str(out), scratch=str(folder / "scratch" / name), folders=folders)
        summaries[name] = STAGES[name].execute(job)
        folders = {**folders, name: str(out)}
    return JudgedNight(replace(job, folders=folders), summaries)


def judged_again(night: JudgedNight, folder: Path, settings: Settings | None = None, **folders: str) -> JudgedNight:
    """The night with other settings of the evaluation, or other folders of stages before it."""
    done = {**night.job.folders, **folders}
    return run(folder, settings or night.job.settings, stages=("evaluate",), done=done)


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write(tmp_path_factory.mktemp("shop"), purchases())


@pytest.fixture(scope="module")
def night(sections: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> JudgedNight:
    return run(tmp_path_factory.mktemp("night"), settings_of(sections, recommend={"k": 10, "bought": "keep"}))


def test_a_night_is_judged_as_a_run_at_the_cut_is_by_what_was_bought_after_it(
    night: JudgedNight, sections: dict[str, Any], tmp_path: Path
) -> None:
    # Two periods before the cut weigh the blocks there: the third one of the night is what judges.
    back = settings_of(sections, train={"advanced": {"validation_cuts": 2}}, recommend={"k": 10, "bought": "keep"})
    cut = AS_OF - timedelta(days=DAYS)
    result, wanted = night.metrics, run(tmp_path, back, cut)
    assert result["holdout"]["cut"] == cut.isoformat()
    assert (result["judged"], wanted.metrics["judged"]) == ("holdout", "heldout")
    assert result["heldout"]["novel_users"] > 50
    told_apart = {"as_of", "encoder", "holdout", "judged", "published", "validation"}
    at_cut = {name: value for name, value in wanted.metrics.items() if name not in told_apart}
    assert {name: result[name] for name in at_cut} == at_cut
    columns = [name for name in wanted.users.column_names if not name.startswith("published/")]
    assert night.users.select(columns).equals(wanted.users.select(columns))
    assert result["holdout"]["encoder"] == wanted.metrics["encoder"]


def test_the_page_and_the_line_of_the_stage_say_what_judged(night: JudgedNight) -> None:
    assert night.summaries["evaluate"]["notes"] == ["judged on the last 10 days, held out once more"]
    assert night.summaries["evaluate"]["good"] is not None
    assert "On the last 10 days, held out once more: in NDCG@10" in night.page
    assert "the last 10 days, held out once more</dd>" in night.page
    assert "made from the purchases before 22 May 2024 alone" in night.page
    assert "These lists are not judged: nothing was bought after tonight" in night.page
    assert night.metrics["published"]["metrics"] == {}
    encoder = storage.read_json(storage.join(night.job.folder("train"), "signature.json"))["encoder"]
    assert night.metrics["encoder"] == encoder != night.metrics["holdout"]["encoder"]
    for name in storage.files(storage.join(night.job.folder("evaluate"), "users")):
        table = storage.read_parquet(storage.join(night.job.folder("evaluate"), "users", name))
        assert schemas.encoder_of(table.schema) == encoder


@pytest.mark.parametrize("flags", [(), ("--direct_runner_bundle_repeat=2",)])
def test_the_pipeline_writes_what_the_functions_give(
    night: JudgedNight, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    inputs = CutInputs(
        prepared=night.job.folder("prepare"), parts=2, cut=AS_OF - timedelta(days=7), recent_days=7.0, second_half=True
    )
    run_pipeline(CutPrepared(inputs, str(tmp_path / "beam"), str(tmp_path / "beam/repeats.parquet")), flags)
    sales, repeats = zip(*(inputs.write_part(part, str(tmp_path / "memory")) for part in range(2)), strict=True)
    inputs.write_catalogue(merge_sales(sales), str(tmp_path / "memory"))
    storage.write_parquet(merge_counts(repeats), str(tmp_path / "memory/repeats.parquet"))
    names = storage.files(str(tmp_path / "memory"))
    assert len(names) == 2 + 2 + 3
    assert storage.files(str(tmp_path / "beam")) == names
    for name in names:
        assert (tmp_path / "beam" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes()


def test_a_baseline_that_is_the_model_is_fitted_at_the_cut(night: JudgedNight, tmp_path: Path) -> None:
    settings = night.job.settings
    rules = settings.recommend.model_copy(update={"model": "item_knn", "bought": "exclude", "personal": 0.0})
    again = judged_again(night, tmp_path, settings.model_copy(update={"recommend": rules}))
    metrics = again.metrics
    assert (metrics["judged"], metrics["made_by"]) == ("holdout", "item_knn")
    assert metrics["novel"]["model"] == metrics["novel"]["item_knn"] == night.metrics["novel"]["item_knn"]
    assert "Item-kNN, which is the model, was fitted for it on the purchases before 22 May 2024 alone" in again.page


@pytest.mark.parametrize("nightly", ["off", "hindsight"])
def test_nothing_is_held_out_where_it_is_not_asked_for(night: JudgedNight, tmp_path: Path, nightly: str) -> None:
    settings = night.job.settings
    asked = settings.evaluate.model_copy(update={"nightly": nightly})
    again = judged_again(night, tmp_path, settings.model_copy(update={"evaluate": asked}))
    assert again.metrics["judged"] is None
    assert again.metrics["verdict"]["good"] is None
    assert f'evaluate.nightly = "{nightly}" holds no days out' in again.metrics["heldout"]["reason"]
    assert again.summaries["evaluate"]["notes"][0].startswith(
        "not judged: the input has no purchases after the as-of date"
    )
    assert "Not judged." in again.page


def test_half_of_the_users_judge_where_the_others_chose(
    night: JudgedNight, sections: dict[str, Any], tmp_path: Path
) -> None:
    settings = settings_of(sections, train={"advanced": {"validation_cuts": 1}})
    trained = run(tmp_path / "train", settings, stages=("train",), done=night.job.folders)
    again = judged_again(night, tmp_path, settings, train=trained.job.folder("train"))
    assert again.metrics["judged"] == "holdout"
    assert again.metrics["holdout"]["users"] >= 20
    assert not in_first_half(again.users["user_id"]).any()
    assert 20 < again.metrics["heldout"]["users"] < night.metrics["heldout"]["users"]
    assert "who are not among those who judge" in again.page


def with_later(night: JudgedNight, folder: Path, buyers: int) -> str:
    """The prepared folder of the night, as if some of its users, and a stranger, had bought in the first hours."""
    prepared = str(folder / "prepared")
    storage.copy_folder(night.job.folder("prepare"), prepared, last="statistics.json")
    known = storage.read_parts(storage.join(prepared, "events"))
    users = [*pc.unique(known["user_id"]).to_pylist()[:buyers], "never seen"]
    first = known.slice(0, len(users)).set_column(0, known.schema.field("user_id"), [users])
    first = first.set_column(
        2, known.schema.field("timestamp"), [pa.array([AS_OF + timedelta(hours=3)] * len(users), schemas.TIME)]
    )
    parts = split_by_partition(first, "user_id", 2)
    for part, rows in parts.items():
        storage.write_parquet(rows.combine_chunks(), storage.join(prepared, "heldout", storage.part_name(part, 2)))
    path = storage.join(prepared, "statistics.json")
    storage.write_json(storage.read_json(path) | {"heldout_events": len(users)}, path)
    return prepared


def test_the_first_hours_of_a_night_do_not_judge(night: JudgedNight, tmp_path: Path) -> None:
    again = judged_again(night, tmp_path, prepare=with_later(night, tmp_path, 9))
    assert again.metrics["judged"] == "holdout"
    assert again.metrics["heldout"] == night.metrics["heldout"]
    assert "Too little was bought after the date of the run" in again.page


@pytest.mark.parametrize(("buyers", "enough"), [(9, False), (10, True)])
def test_ten_users_who_came_back_are_enough(night: JudgedNight, tmp_path: Path, buyers: int, enough: bool) -> None:
    folders = {**night.job.folders, "prepare": with_later(night, tmp_path, buyers)}
    job = replace(night.job, folders=folders)
    assert holdout.enough_judge(job) == enough
    assert (holdout.instead(job)["reason"] is None) == (not enough)


@pytest.mark.parametrize("record", [{"holdout": {"reason": "it takes 20 users, 7 did"}}, {}])
def test_where_training_kept_nothing_the_night_says_why(
    night: JudgedNight, tmp_path: Path, record: dict[str, Any]
) -> None:
    model = str(tmp_path / "model")
    storage.copy_folder(night.job.folder("train"), model, last="signature.json")
    path = storage.join(model, "training.json")
    training = {name: value for name, value in storage.read_json(path).items() if name != "holdout"}
    storage.write_json(training | record, path)
    again = judged_again(night, tmp_path, train=model)
    assert again.metrics["judged"] is None
    why = "it takes 20 users, 7 did" if record else "the model was trained without it"
    assert again.metrics["heldout"]["reason"].endswith(f"no days could be held out once more: {why}")
    assert "Not judged." in again.page


def test_the_plan_tells_what_it_adds(sections: dict[str, Any]) -> None:
    from topkin.planning.estimate import InputCounts, Machine, Workload

    def planned(nightly: str) -> Any:
        counts = InputCounts(purchases=10**6, known=10**6, users=10**5, items=10**4)
        settings = settings_of(sections, evaluate={"nightly": nightly})
        return evaluate.cost(Workload(counts=counts, settings=settings, machine=Machine(memory=1e10)))

    for field in ("bytes_read", "bytes_written", "cpu_seconds", "seconds"):
        assert getattr(planned("both"), field) == getattr(planned("holdout"), field) > getattr(planned("off"), field)
        assert getattr(planned("hindsight"), field) == getattr(planned("off"), field)
