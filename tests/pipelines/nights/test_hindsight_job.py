"""The job against folders written by hand: what is judged, what cannot be, and that Beam changes nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import manifest, schemas, storage
from topkin.artifacts.partition import split_by_partition
from topkin.config.sections import Settings
from topkin.pipelines.engine.job import EarlierVersion, Job, run_pipeline
from topkin.pipelines.nights import hindsight

NIGHT = datetime(2024, 6, 8)
USERS, ITEMS = [f"u{n:02d}" for n in range(30)], [f"i{n}" for n in range(12)]
KIND = pa.string()


def write_parts(table: pa.Table, folder: str, parts: int) -> None:
    by_part = split_by_partition(table, "user_id", parts)
    for part in range(parts):
        rows = by_part.get(part, table.schema.empty_table())
        storage.write_parquet(rows, storage.join(folder, storage.part_name(part, parts)))


def write_prepared(folder: str, parts: int) -> None:
    """Thirty users who buy one of twelve items on each of the last thirty days, item 0 more than others."""
    rng = np.random.default_rng(4)
    rows = []
    for user in USERS:
        days = np.sort(rng.choice(30, 12, replace=False))[::-1]
        items = [ITEMS[int(n)] for n in np.minimum(rng.integers(0, 14, 12), rng.integers(0, 12, 12))]
        times = [NIGHT - timedelta(days=int(d), hours=6) for d in days]
        rows.append({"user_id": user, "items": items, "times": times, "weights": [1.0] * 12})
    write_parts(pa.Table.from_pylist(rows, schemas.histories(KIND, KIND)), storage.join(folder, "histories"), parts)
    catalogue = pa.table({"item_id": ITEMS})
    storage.write_parquet(catalogue, storage.join(folder, "catalogue.parquet"))
    storage.write_json({"heldout_events": 0}, storage.join(folder, "statistics.json"))


def write_version(folder: Path, days: int, *, parts: int = 3, ids: Any = str, **lists: Any) -> EarlierVersion:
    """Lists of a run of so many days before: for each user some items by chance."""
    rng = np.random.default_rng(days)
    rows = [
        {"user_id": u, "rank": r + 1, "item_id": ids(i), "score": 1.0, "source": "model", "times_bought": 0}
        for u in USERS
        for r, i in enumerate(rng.permutation(ITEMS)[:5])
    ]
    item = pa.array([ids(ITEMS[0])]).type
    place = str(folder / f"before-{days}" / "recommendations")
    table = pa.Table.from_pylist([{**row, "because": []} for row in rows], schemas.recommendations(KIND, item))
    write_parts(table, storage.join(place, "recommendations", "date=x"), parts)
    storage.write_json({"k": 5, "bought": "keep", "model": "encoder", **lists}, storage.join(place, "lists.json"))
    manifest.seal(place, stage="recommend", key=f"k{days}", summary={})
    return EarlierVersion(
        days=days, run_id=f"r{days}", as_of=NIGHT - timedelta(days=days), folders={"recommend": place}
    )


@pytest.fixture
def job(tmp_path: Path) -> Job[Settings]:
    """A night with lists of a day and of a week ago."""
    write_prepared(str(tmp_path / "prepared"), 3)
    values = {"run": {"parts": 3}, "evaluate": {"k": [1, 5, 10], "bootstrap": 20}, "purchases": {"path": "x"}}
    (tmp_path / "out").mkdir()
    return Job(
        settings=Settings.model_validate(values),
        as_of=NIGHT,
        out=str(tmp_path / "out"),
        scratch=str(tmp_path / "scratch"),
        folders={"prepare": str(tmp_path / "prepared")},
        versions=[write_version(tmp_path, days) for days in (1, 7)],
    )


def told_by(job: Job[Settings]) -> tuple[dict[str, Any], dict[str, Any], pa.Table]:
    """The stage's summary, hindsight.json, and the series."""
    summary = hindsight.STAGE.execute(job)
    path = storage.join(job.out, "hindsight.json")
    return summary, storage.read_json(path), storage.read_parquet(storage.join(job.out, "hindsight.parquet"))


FLAGS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.mark.parametrize("flags", [("--direct_runner_bundle_repeat=2",), FLAGS])
def test_the_pipeline_writes_what_the_functions_give(job: Job[Settings], flags: tuple[str, ...]) -> None:
    from topkin.transforms.hindsight import HindsightInputs, JudgePastLists, count_part, judge

    versions = [hindsight._lists_of(v, schemas.histories(KIND, KIND)) for v in job.versions]
    inputs = HindsightInputs(prepared=job.folder("prepare"), parts=3, versions=versions, ks=(1, 5))
    ids = inputs.item_ids()
    buyers = np.asarray(sum(count_part(inputs, ids, part) for part in range(3)))
    assert buyers.shape == (2, len(ITEMS))
    run_pipeline(JudgePastLists(inputs, job.scratch), flags)
    for part in range(3):
        for days, table in zip((1, 7), judge(inputs, ids, buyers, part), strict=True):
            written = storage.read_parquet(storage.join(job.scratch, str(days), storage.part_name(part, 3)))
            assert written.equals(table, check_metadata=True)
            assert len(table) > 0


def test_what_the_night_tells_is_in_both_files_and_on_the_screen(job: Job[Settings]) -> None:
    summary, content, series = told_by(job)
    assert summary["versions"] == 2
    assert [entry["days"] for entry in content["versions"]] == [1, 7]
    assert [content["verdict"][name] for name in ("days", "metric", "protocol")] == [1, "ndcg@5", "all"]
    assert summary["notes"] == [content["verdict"]["sentence"]]
    assert summary["users"] == content["verdict"]["users"] == content["versions"][0]["counts"]["all_users"]
    assert set(series["metric"].to_pylist()) == {
        f"{m}@{k}" for m in ("hit_rate", "recall", "ndcg", "map") for k in (1, 5)
    }
    assert set(series["truth"].to_pylist()) == {"all", "novel", "repeat"}
    assert sorted(n for n in storage.files(job.out)) == ["hindsight.json", "hindsight.parquet"]


def test_lists_in_other_parts_and_other_parts_tonight_change_nothing(job: Job[Settings], tmp_path: Path) -> None:
    _, content, series = told_by(job)
    write_prepared(str(tmp_path / "one"), 1)
    versions = [write_version(tmp_path / "again", days, parts=5) for days in (1, 7)]
    one = job.settings.model_copy(update={"run": job.settings.run.model_copy(update={"parts": 1})})
    other = replace(job, settings=one, folders={"prepare": str(tmp_path / "one")}, versions=versions)
    _, also, same = told_by(replace(other, out=str(tmp_path / "other"), scratch=str(tmp_path / "more")))
    assert same.equals(series)
    assert also == content


def test_the_series_of_the_night_before_is_carried_on(job: Job[Settings], tmp_path: Path) -> None:
    _, _, series = told_by(job)
    later = NIGHT + timedelta(days=1)
    versions = [replace(v, days=v.days + 1) for v in job.versions]
    night = replace(job, as_of=later, out=str(tmp_path / "next"), earlier={"hindsight": job.out}, versions=versions)
    _, content, longer = told_by(night)
    assert longer.slice(0, len(series)).equals(series)
    assert set(longer["night"].slice(len(series)).to_pylist()) == {later}
    assert content["verdict"]["night"] == later.isoformat()


def test_lists_that_cannot_be_read_are_named_and_the_others_judged(job: Job[Settings], tmp_path: Path) -> None:
    page = next(Path(job.versions[0].folders["recommend"]).rglob("*.parquet"))
    page.write_bytes(page.read_bytes()[:-9])
    numbers = write_version(tmp_path / "numbers", 28, ids=lambda i: int(str(i)[1:]))
    _, content, _ = told_by(replace(job, versions=[*job.versions, numbers]))
    assert [entry["days"] for entry in content["versions"]] == [1, 7, 28]
    assert content["verdict"]["days"] == 7
    assert f"the lists of 7 Jun 2024 cannot be read: {page}" in content["versions"][0]["reason"]
    assert content["versions"][2]["reason"].endswith("their item_id is int64, tonight's is string")


def test_a_first_night_is_told_what_it_takes(job: Job[Settings]) -> None:
    summary, content, series = told_by(replace(job, versions=()))
    assert summary["versions"] == 0
    assert summary["notes"] == [f"not judged: {content['reason']}"]
    assert "one published night, a day or more before this one" in content["reason"]
    assert series.equals(schemas.HINDSIGHT.empty_table())
    storage.write_json({"heldout_events": 7}, storage.join(job.folder("prepare"), "statistics.json"))
    assert told_by(replace(job, versions=()))[0]["notes"] == []  # these judge it


@pytest.mark.parametrize(
    ("sections", "why", "note"),
    [
        ({"evaluate": {"hindsight": []}}, "evaluate.hindsight is empty", None),
        ({"prepare": {"split": "last"}}, 'prepare.split = "last" keeps', None),
        ({"purchases": {"path": "x", "order": "row"}}, "without times", "off without times: hindsight"),
    ],
)
def test_where_hindsight_is_off_nothing_is_read_and_the_reason_is_told(job, sections, why, note) -> None:
    settings = Settings.model_validate({"purchases": {"path": "x"}, "run": {"parts": 3}, **sections})
    assert hindsight.STAGE.earlier(settings) == ()
    assert hindsight.STAGE.versions(settings).days == ()
    summary, content, _ = told_by(replace(job, settings=settings, versions=()))
    assert why in content["reason"]
    assert content["verdict"] is None
    assert [n.startswith(note) for n in summary["notes"]] == ([True] if note else [])
