"""Purchases without times through the jobs: by a column, by rows, by baskets."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from topkin.api.inputs import named_by_columns, prepare_tables
from topkin.artifacts import lookup, runs, storage
from topkin.config.load import load_settings, settings_of
from topkin.config.sections import Settings
from topkin.ingest.files import ArrowFiles, batches
from topkin.ingest.prepare import prepare
from topkin.pipelines.cli.app import main
from topkin.pipelines.engine.job import Job
from topkin.pipelines.prepare import STAGE, inputs_of

AS_OF = datetime(2024, 6, 1)


def purchases(users: int = 120, seed: int = 0) -> pa.Table:
    """Users who each like ten of forty items, with two to six visits of one to three items, by visit."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(users):
        for visit in range(rng.integers(2, 7)):
            for _ in range(rng.integers(1, 4)):
                near = rng.random() < 0.9
                rows.append((visit, f"u{user}", f"i{user % 4 * 10 + rng.integers(10) if near else rng.integers(40)}"))
    order = sorted(range(len(rows)), key=lambda n: (rows[n][0], rng.random()))
    visits, who, what = zip(*(rows[n] for n in order), strict=True)
    return pa.table({"customer": who, "sku": what, "visit_no": pa.array(visits, pa.int64())})


def written(folder: Path, *, files: int = 2, columns: tuple[str, ...] = ("customer", "sku", "visit_no")) -> str:
    (folder / "sales").mkdir(parents=True)
    table = purchases().select(columns)
    size = -(-len(table) // files)
    for n in range(files):
        pq.write_table(table.slice(n * size, size), folder / "sales" / f"part-{n}.parquet", row_group_size=100)
    return str(folder / "sales")


def job(folder: Path, **sections: Any) -> Job:
    settings = Settings.model_validate({"run": {"parts": 3}, **sections})
    return Job(settings=settings, as_of=AS_OF, out=str(folder / "out"))


SECTION = {"user_id": "customer", "item_id": "sku"}


@pytest.mark.parametrize("order", ["visit_no", "row"])
@pytest.mark.parametrize("heldout", [False, True])
def test_the_pipeline_equals_the_function(tmp_path: Path, order: str, heldout: bool) -> None:
    section = {"path": written(tmp_path), "order": order, **SECTION}
    given = {"heldout": {**section, "path": written(tmp_path / "later", files=1)}} if heldout else {}
    own_job = job(tmp_path, purchases=section, **given)
    statistics = STAGE.execute(own_job)
    inputs = inputs_of(own_job)
    raw = {
        name: pa.concat_tables(
            [t for f in inspection.files for t in batches(name, f, ArrowFiles(), inspection.columns, rows=64)]
        )
        for name, inspection in inputs.inspections.items()
    }
    inside = prepare(raw, inputs.plan)
    notes = statistics.pop("notes")
    assert inside.statistics == statistics
    assert notes[:2] == statistics["without_times"][:2]
    for name in ("events", "heldout", "histories"):
        written_table = storage.read_parts(storage.join(own_job.out, name)).sort_by([("user_id", "ascending")])
        keys = [("user_id", "ascending")]
        assert getattr(inside, name).sort_by(keys).to_pylist() == written_table.to_pylist()


def test_parts_change_nothing(tmp_path: Path) -> None:
    section = {"path": written(tmp_path), "order": "visit_no", **SECTION}
    collected = []
    for parts in (1, 5):
        settings = Job(
            settings=Settings.model_validate({"run": {"parts": parts}, "purchases": section}),
            as_of=AS_OF,
            out=str(tmp_path / f"out{parts}"),
        )
        STAGE.execute(settings)
        collected.append(storage.read_parts(storage.join(settings.out, "histories")).sort_by("user_id").to_pylist())
    assert collected[0] == collected[1]


FORMS = {
    "column": ("customer", "sku", "visit_no"),
    "rows": ("customer", "sku"),
    "baskets": ("customer", "sku", "visit_no"),
}


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("column"),
        pytest.param("rows", marks=pytest.mark.slow),
        pytest.param("baskets", marks=pytest.mark.slow),
    ],
)
def test_init_check_and_run_without_an_edit(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorflow")
    sales, config = written(tmp_path, columns=FORMS[form]), str(tmp_path / "topkin.toml")
    if form == "baskets":  # a list of each visit's items, and no word of the order
        table = purchases().group_by(["customer", "visit_no"], use_threads=False).aggregate([("sku", "list")])
        table = table.sort_by("visit_no").select(["customer", "sku_list"]).rename_columns(["customer", "items"])
        for n in (0, 1):
            pq.write_table(table.slice(n * 300, 300), f"{sales}/part-{n}.parquet")
        Path(config).write_text(
            f'[purchases]\npath = "{sales}"\nuser_id = "customer"\nitem_id = "items[]"\norder = "row"\n'
        )
    else:
        assert main(["init", sales, "-o", config]) == 0
        assert "no times, in the order of" in " ".join(capsys.readouterr().out.split())
    assert load_settings(config, env={}).purchases.order == ("visit_no" if form == "column" else "row")
    assert main(["check", "--config", config]) == 0
    sets = [f"run.output={tmp_path}/out", "train.epochs=0", "run.parts=2", "evaluate.bootstrap=50"]
    options = [word for text in sets for word in ("--set", text)]
    capsys.readouterr()
    assert main(["run", "--config", config, *options, "--as-of", "2024-06-01"]) == 0
    printed = capsys.readouterr()
    for words in ("no times: each user's purchases are in the order of", "off without times: recency"):
        assert words in printed.out + printed.err
    run = runs.published(str(tmp_path / "out"))
    assert run is not None
    lists = storage.read_json(storage.join(run.folder("recommend"), "lists.json"))
    assert lists["users_with_list"] == 120
    training = storage.read_json(storage.join(run.folder("train"), "training.json"))
    assert training["without_training"]["periods"] >= 1
    users = training["judges"]["users"]
    assert 20 <= users <= 120
    assert f"validated on the last position of {users} users: between " in printed.out + printed.err
    metrics = storage.read_json(storage.join(run.folder("evaluate"), "metrics.json"))
    assert metrics["split"] == "last"
    assert metrics["heldout"]["users"] > 100
    assert metrics["heldout"]["from"] is None
    assert metrics["all"]["model"]["ndcg@10"] > metrics["all"]["popularity"]["ndcg@10"]
    page = storage.read_bytes(storage.join(run.folder("report"), "report.html")).decode()
    assert "No times: each user&#39;s purchases are in the order of" in page
    assert "Known until" not in page
    assert "May 2024" not in page
    view = lookup.user(run, "u7")
    assert view is not None
    assert view.history[0].time is None
    assert [p.position for p in view.history] == sorted((p.position for p in view.history), reverse=True)
    shown = ["show", "u7", "--config", config, *options]
    assert main(shown) == 0
    table = capsys.readouterr().out
    assert "position" in table
    assert "2024" not in table
    assert main([*shown, "--json"]) == 0
    assert "2024" not in json.dumps(json.loads(capsys.readouterr().out)["user"])


def test_a_back_test_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "topkin.toml"
    config.write_text(f'[purchases]\npath = "{written(tmp_path)}"\norder = "row"\n')
    assert main(["backtest", "--config", str(config), "--cuts", "2"]) != 0
    assert "topkin run holds out each user's last position" in capsys.readouterr().err


def test_validation_is_by_position_and_without_it_what_sells_leads() -> None:
    pytest.importorskip("tensorflow")
    import topkin

    few = purchases(users=12)
    sets = {"train": {"epochs": 0}, "purchases": {**SECTION, "order": "visit_no"}}
    small = topkin.Recommender(**sets).fit(few)
    assert small.recommend("u1", k=3)["item_id"].to_pylist()
    whole = purchases()
    once = whole.take(pc.sort_indices(whole["visit_no"]))
    first = (
        once.group_by("customer", use_threads=False).aggregate([("sku", "first")]).rename_columns(["customer", "sku"])
    )
    with pytest.warns(UserWarning, match="go by the order of rows"):
        section = named_by_columns("purchases", SECTION, first)
    alone = topkin.Recommender(train={"epochs": 0}, purchases=section).fit(first)  # one purchase each
    best = first.group_by("sku").aggregate([([], "count_all")]).sort_by([("count_all", "descending")])["sku"][0].as_py()
    user = next(u for u, s in zip(*first.to_pydict().values(), strict=True) if s != best)
    assert alone.recommend(user, k=1)["item_id"].to_pylist() == [best]


def test_a_column_that_reads_as_a_time_is_no_reason_for_the_order_of_rows() -> None:
    pytest.importorskip("tensorflow")
    import topkin
    from topkin.errors import InputError

    dated = purchases(users=3).append_column("sold", pa.array([AS_OF] * len(purchases(users=3))))
    with pytest.raises(InputError, match="has no column 'timestamp'"):
        topkin.Recommender(train={"epochs": 0}, purchases=SECTION).fit(dated)


def test_in_memory_nothing_is_held_out_unless_it_is_asked_for() -> None:
    bought = purchases(users=9)
    for split, held in (("time", 0), ("last", 9)):
        section = {"path": "p", **SECTION, "order": "visit_no"}
        settings, _ = prepare_tables(
            settings_of({"purchases": section, "prepare": {"split": split}}, "t"), {"purchases": bought}, None
        )
        assert len(settings.heldout["user_id"].unique()) == held
        assert len(settings.events) + len(settings.heldout) == len(bought)
