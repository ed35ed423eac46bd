"""What is held out: the last purchases of each user, or a file of its own."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.errors import ConfigError, InputError
from topkin.ingest.files import ArrowFiles, batches
from topkin.ingest.prepare import prepare
from topkin.pipelines.engine.job import Job
from topkin.pipelines.prepare import STAGE, inputs_of

AS_OF = datetime(2024, 6, 1)
DAY = timedelta(days=1)
TRAIN = [(u, f"i{(u + d) % 5}", AS_OF - (d + 1) * DAY) for u in range(9) for d in range(u % 4 + 1)]
TEST = [(u, f"i{u % 5}", AS_OF + u * DAY) for u in range(0, 9, 2)] + [(77, "new", AS_OF)]


def written(rows: list[tuple[int, str, datetime]], path: Path) -> str:
    users, items, times = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "timestamp": pa.array(times)}), path)
    return str(path)


def job(folder: Path, *, test: list[tuple[int, str, datetime]] | None = None, **sections: Any) -> Job:
    given = {} if test is None else {"heldout": {"path": written(test, folder / "test.parquet")}}
    train = sections.pop("train_rows", TRAIN)
    settings = Settings.model_validate(
        {"run": {"parts": 3}, "purchases": {"path": written(train, folder / "train.parquet")}, **given, **sections}
    )
    return Job(settings=settings, as_of=AS_OF, out=str(folder / "out"))


def rows_of(job_made: Job, name: str) -> list[tuple[int, str, datetime]]:
    table = storage.read_parts(storage.join(job_made.out, name))
    return sorted((r["user_id"], r["item_id"], r["timestamp"]) for r in table.to_pylist())


def test_a_file_of_its_own_is_held_out_and_the_pipeline_equals_the_function(tmp_path: Path) -> None:
    own_job = job(tmp_path, test=[*TEST, TEST[0]])
    statistics = STAGE.execute(own_job)
    assert rows_of(own_job, "events") == sorted(TRAIN)
    assert rows_of(own_job, "heldout") == sorted(TEST)
    assert statistics["sources"]["heldout"]["duplicates"] == 1
    assert statistics["heldout_events"] == len(TEST)
    inputs = inputs_of(own_job)
    raw = {
        name: pa.concat_tables(
            [t for f in inspection.files for t in batches(name, f, ArrowFiles(), inspection.columns, rows=64)]
        )
        for name, inspection in inputs.inspections.items()
    }
    inside = prepare(raw, inputs.plan)
    assert (
        inside.heldout.sort_by([("user_id", "ascending")]).to_pylist()
        == storage.read_parts(storage.join(own_job.out, "heldout")).sort_by([("user_id", "ascending")]).to_pylist()
    )
    assert statistics.pop("notes") == [
        "83.3 % of the items held out (5 of 6) are sold before",
        "83.3 % of the users held out (5 of 6) are known by a purchase",
    ]
    assert inside.statistics == statistics


def test_files_that_overlap_in_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 rows of heldout\.path do"):
        STAGE.execute(job(tmp_path, test=[*TEST, TRAIN[0]]))
    late = tmp_path / "late"
    late.mkdir()
    with pytest.raises(InputError, match=r"2 rows of purchases\.path do not"):
        STAGE.execute(job(late, test=TEST, train_rows=[*TRAIN, *TEST[:2]]))


def test_files_without_times_get_constant_ones(tmp_path: Path) -> None:
    for name, rows in (("train", TRAIN), ("test", TEST)):
        table = pa.table({"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    sections = {
        "purchases": {"path": str(tmp_path / "train.parquet"), "normalise": {"timestamp": "timestamp '2024-05-31'"}},
        "heldout": {"path": str(tmp_path / "test.parquet"), "normalise": {"timestamp": "timestamp '2024-06-01'"}},
    }
    settings = Job(settings=Settings.model_validate(sections), as_of=AS_OF, out=str(tmp_path / "out"))
    STAGE.execute(settings)
    assert {r[2] for r in rows_of(settings, "heldout")} == {AS_OF}
    assert len(rows_of(settings, "heldout")) == len(TEST)


def test_a_held_out_file_of_another_type_of_id_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["7"], "item_id": ["i1"], "timestamp": [AS_OF]}), tmp_path / "odd.parquet")
    sections = {"purchases": {"path": written(TRAIN, tmp_path / "a.parquet")}}
    sections["heldout"] = {"path": str(tmp_path / "odd.parquet")}
    settings = Job(settings=Settings.model_validate(sections), as_of=AS_OF, out=str(tmp_path / "out"))
    with pytest.raises(InputError, match=r"heldout\.user_id.* is string, but purchases have int64"):
        STAGE.execute(settings)


def test_the_last_purchase_of_each_user_is_held_out(tmp_path: Path) -> None:
    own_job = job(tmp_path, prepare={"split": "last"}, train_rows=[*TRAIN, *TEST])
    statistics = STAGE.execute(own_job)
    several = {u for u in range(9) if u % 4}
    assert rows_of(own_job, "heldout") == sorted(r for r in TRAIN if r[0] in several and r[2] == AS_OF - DAY)
    assert len(rows_of(own_job, "events")) == len(TRAIN) - len(several)
    assert statistics["heldout_events"] == len(several)


def test_two_ways_of_holding_out_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        '[purchases]\npath = "a.parquet"\n[heldout]\npath = "b.parquet"\n[prepare]\nsplit = "last"\n'
    )
    with pytest.raises(ConfigError, match="two answers to one question"):
        load_settings(tmp_path / "t.toml", env={})
    (tmp_path / "t.toml").write_text('[purchases]\npath = "a.parquet"\n[heldout]\npath = "b.parquet"\n')
    settings = load_settings(tmp_path / "t.toml", env={}).heldout
    assert settings is not None
    assert settings.path == str(tmp_path / "b.parquet")
