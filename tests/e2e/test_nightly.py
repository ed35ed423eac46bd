"""The whole job on real files: what a colleague finds in the morning."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

import topkin
from topkin.artifacts import manifest, runs, schemas, storage
from topkin.errors import ArtifactError, ConfigError, QualityGateError
from topkin.pipelines import publish
from topkin.pipelines.engine import stages
from topkin.pipelines.run import run_all


def tables(folder: str) -> dict[str, bytes]:
    names = [n for n in storage.files(folder) if n.endswith((".parquet", ".json")) and n != manifest.NAME]
    return {n: Path(folder, n).read_bytes() for n in names}


def copied(night, tmp_path: Path) -> runs.Run:
    """The night's run in an output folder of its own."""
    shutil.copytree(night.settings.run.output, tmp_path / "out", dirs_exist_ok=True)
    return runs.read_run(str(tmp_path / "out"), night.run.run_id)


def resealed(run: runs.Run, stage: str) -> runs.Run:
    """The run with a stage's folder as it is now."""
    folder = run.folders[stage]
    manifest.seal(folder, stage=stage, key="k", summary={})
    return runs.record_stage(run, stage, {"key": "k", "folder": folder.removeprefix(f"{run.root}/")}, {})


def test_the_pointer_names_a_run_whose_every_file_is_sealed(night):
    run = runs.published(night.settings.run.output)
    assert run == night.run
    assert set(run.folders) == set(stages.ORDER)
    for stage in stages.ORDER:
        manifest.verify(run.folder(stage))
    hidden = [n for n in os.listdir(run.path) if n.startswith(".")]
    assert hidden == []


def test_every_row_that_came_is_accounted_for(night):
    prepared = night.run.folder("prepare")
    source = storage.read_json(f"{prepared}/statistics.json")["sources"]["purchases"]
    rows = storage.read_parts(str(night.config.parent / "shop/purchases")).num_rows
    rejected = storage.read_parts(f"{prepared}/rejects")
    of_purchases = sum(1 for s in rejected["source"].to_pylist() if s == "purchases")
    assert source["rows"] == rows
    assert source["accepted"] + source["duplicates"] + of_purchases == rows
    assert sum(source["rejected"].values()) == of_purchases
    kept = storage.read_parts(f"{prepared}/events").num_rows + storage.read_parts(f"{prepared}/heldout").num_rows
    assert kept == source["accepted"]


def test_every_user_has_a_full_list_or_a_reason_for_a_short_one(night):
    users = set(storage.read_parts(f"{night.run.folder('prepare')}/histories")["user_id"].to_pylist())
    folder = night.run.folder("recommend")
    lists = storage.read_parts(f"{folder}/recommendations/date={night.shop.as_of:%Y-%m-%d}")
    short = storage.read_parts(f"{folder}/short_lists")
    k = night.settings.recommend.k
    got = dict(zip(*np.unique(lists["user_id"].to_numpy(), return_counts=True), strict=True))
    explained = {row["user_id"]: row for row in short.to_pylist()}
    for user in users:
        if got.get(user, 0) == k:
            assert user not in explained
        else:
            assert explained[user]["got"] == got.get(user, 0)
            assert explained[user]["wanted"] == k
            assert explained[user]["reason"]
    assert set(got) | set(explained) == users


def test_nothing_bought_or_unavailable_is_listed_and_scores_fall_with_rank(night):
    prepared, folder = night.run.folder("prepare"), night.run.folder("recommend")
    counts = duckdb.sql(f"""
        with lists as (from read_parquet('{folder}/recommendations/*/*.parquet')),
        bought as (select distinct user_id, item_id from read_parquet('{prepared}/events/*.parquet')),
        catalogue as (from '{prepared}/catalogue.parquet')
        select (select count(*) from lists),
               (select count(*) from lists semi join bought using (user_id, item_id)),
               (select count(*) from lists join catalogue using (item_id) where not available),
               (select count(*) from lists anti join catalogue using (item_id)),
               (select count(*) from (select score > lag(score) over (partition by user_id order by rank) as up
                                      from lists where source = 'model') where up),
               (select count(*) from (select count(distinct item_id) <> count(*) as twice from lists group by user_id)
                where twice)
    """).fetchone()
    assert counts[0] > 1000
    assert counts[1:] == (0, 0, 0, 0, 0)


def test_because_names_bought_items_only(night):
    prepared, folder = night.run.folder("prepare"), night.run.folder("recommend")
    because, unbought = duckdb.sql(f"""
        with named as (select user_id, unnest(because) as item_id
                       from read_parquet('{folder}/recommendations/*/*.parquet')),
        bought as (select distinct user_id, item_id from read_parquet('{prepared}/events/*.parquet'))
        select (select count(*) from named), (select count(*) from named anti join bought using (user_id, item_id))
    """).fetchone()
    assert because > 1000
    assert unbought == 0


def test_a_second_run_does_nothing_and_a_changed_k_trains_nothing(night):
    collected = []
    run_all(night.settings, as_of=night.shop.as_of, tell=collected.append)
    assert [(e.stage, e.state) for e in collected] == [*((s, "reused") for s in stages.ORDER), ("publish", "finished")]

    collected = []
    other = run_all(night.again("recommend.k=4"), as_of=night.shop.as_of, tell=collected.append, publish=False)
    done = [e.stage for e in collected if e.state == "finished"]
    assert done == ["recommend", "evaluate", "report"]
    assert other.run_id != night.run.run_id
    assert other.folder("train") == night.run.folder("train")


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(night, tmp_path):
    settings = night.again(f"run.output='{tmp_path}/out'")
    flags = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    other = run_all(settings, as_of=night.shop.as_of, beam=flags)
    for stage in ("prepare", "embed", "recommend", "similar"):
        want, got = tables(night.run.folder(stage)), tables(other.folder(stage))
        assert list(got) == list(want)
        assert [n for n in want if got[n] != want[n]] == []
    signature = [storage.read_json(f"{r.folder('train')}/signature.json")["encoder"] for r in (night.run, other)]
    assert signature[0] == signature[1]
    metrics = [storage.read_json(f"{r.folder('evaluate')}/metrics.json") for r in (night.run, other)]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_a_bundle_tried_again_adds_no_row(night, tmp_path):
    settings = night.again(f"run.output='{tmp_path}/out'")
    other = run_all(settings, as_of=night.shop.as_of, beam=("--direct_runner_bundle_repeat=2",))
    for stage in ("prepare", "embed", "recommend", "similar"):
        want, got = tables(night.run.folder(stage)), tables(other.folder(stage))
        assert [n for n in want if got.get(n) != want[n]] == []


def test_force_works_in_a_new_folder_and_leaves_the_published_one_alone(night, tmp_path):
    run = copied(night, tmp_path)
    settings = night.again(f"run.output='{tmp_path}/out'")
    before = tables(run.folder("recommend"))
    other = stages.run_stages(settings, as_of=night.shop.as_of, only="recommend", force=True)
    assert other.run_id == f"{run.run_id}+2"
    assert tables(run.folder("recommend")) == before
    assert tables(other.folder("recommend")) == before
    assert runs.published(str(tmp_path / "out")).run_id == run.run_id


def test_a_stage_asks_for_the_stage_before_it(night, tmp_path):
    settings = night.again(f"run.output='{tmp_path}/out'")
    with pytest.raises(ConfigError, match="'prepare' has not run yet: topkin prepare first"):
        stages.run_stages(settings, as_of=night.shop.as_of, only="train")


def test_a_killed_run_goes_on_from_its_last_finished_stage(night, tmp_path):
    out = tmp_path / "out"
    sets = [w for key in (*night.sets, f"run.output='{out}'") for w in ("--set", key)]
    command = [sys.executable, "-m", "topkin", "run", "--config", str(night.config), "--quiet", *sets]
    command += ["--as-of", night.shop.as_of.isoformat()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until = time.monotonic() + 120
    while not list(out.glob("runs/*/prepared/manifest.json")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert runs.published(str(out)) is None

    collected = []
    run = run_all(night.again(f"run.output='{out}'"), as_of=night.shop.as_of, tell=collected.append)
    assert ("prepare", "reused") in [(e.stage, e.state) for e in collected]
    assert tables(run.folder("recommend")) == tables(night.run.folder("recommend"))
    attempts = [n for n in storage.folders(run.path) if n.startswith(".")]  # a file half-written at the kill may stay
    assert attempts == []


def test_the_gate_refuses_with_every_reason_and_the_pointer_stays(night, tmp_path):
    run = copied(night, tmp_path)
    settings = night.again(f"run.output='{tmp_path}/out'", "publish.min_users=100000")
    metrics = Path(run.folder("evaluate"), "metrics.json")
    judged = json.loads(metrics.read_text())
    judged["novel"]["model"]["ndcg@10"] = 0.0
    metrics.write_text(json.dumps(judged))
    run = resealed(run, "evaluate")
    before = (tmp_path / "out/current.json").read_bytes()
    with pytest.raises(QualityGateError, match=r"(?s)users have a list.*is not above popularity's") as refused:
        publish.publish(run, settings)
    assert refused.value.exit_code == 4
    assert (tmp_path / "out/current.json").read_bytes() == before


def test_the_report_says_what_every_gate_found(night):
    folder = night.run.folder("report")
    gates = storage.read_json(f"{folder}/gates.json")["gates"]
    assert topkin.open_run(night.settings.run.output).gates == gates
    assert {gate["verdict"] for gate in gates} == {"passed", "not asked"}  # a first version
    summary = manifest.read(folder)["summary"]
    assert summary["gates passed"] == sum(gate["verdict"] == "passed" for gate in gates) > 8
    page = Path(folder, "report.html").read_text()
    assert "No gate refuses this version." in page
    assert "above popularity" in page


def test_the_next_night_is_asked_beside_the_live_one(night, tmp_path):
    copied(night, tmp_path)
    settings = night.again(f"run.output='{tmp_path}/out'")
    run = stages.run_stages(settings, as_of=night.shop.as_of + timedelta(days=1))
    summary = storage.read_json(f"{run.folder('report')}/gates.json")
    assert [gate["sentence"] for gate in summary["gates"] if gate["verdict"] == "refused"] == []
    assert summary["live"]["as_of"] == night.shop.as_of.isoformat()
    assert summary["common"]["lost"] == 0
    assert summary["common"]["overlap"] > 0.5


def test_a_changed_table_is_not_published(night, tmp_path):
    run = copied(night, tmp_path)
    part = next(Path(run.folder("recommend")).rglob("part-*.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(ArtifactError, match="changed after its stage finished"):
        publish.publish(run, night.settings)


def test_a_table_of_another_encoder_is_not_published(night, tmp_path):
    run = copied(night, tmp_path)
    folder = run.folder("similar")
    part = next(Path(folder).rglob("part-*.parquet"))
    table = pq.read_table(part)
    storage.write_parquet(table.cast(schemas.with_encoder(table.schema, "f" * 64)), str(part))
    run = resealed(run, "similar")
    with pytest.raises(ArtifactError, match="must come from one encoder"):
        publish.publish(run, night.settings)


def test_a_report_on_another_encoder_is_not_published(night, tmp_path):
    run = copied(night, tmp_path)
    path = Path(run.folder("evaluate"), "metrics.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder": "f" * 64}))
    run = resealed(run, "evaluate")
    with pytest.raises(ArtifactError, match="the report judges ffffffffffff"):
        publish.one_encoder(run)


def test_a_run_without_anything_held_out_is_published_on_its_checks(night, tmp_path):
    settings = night.again(f"run.output='{tmp_path}/out'", "train.epochs=1", "publish.max_age=60")
    run = run_all(settings, as_of=night.shop.as_of + timedelta(days=60))
    metrics = storage.read_json(f"{run.folder('evaluate')}/metrics.json")
    assert metrics["heldout"]["users"] == 0
    assert runs.published(str(tmp_path / "out")) == run


def test_an_output_that_cannot_be_written_is_told_before_any_work(night, tmp_path):
    (tmp_path / "file").write_text("in the way")
    settings = night.again(f"run.output='{tmp_path}/file/out'")
    with pytest.raises(ConfigError, match=r"run\.output must be a folder that can be written, got .*file/out"):
        run_all(settings, as_of=night.shop.as_of)
