"""What monitoring reads of a run."""

import logging

import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.telemetry.test_lineage import check
from topkin.artifacts import manifest, storage
from topkin.config.sections import Settings
from topkin.pipelines.engine.observed import LINEAGE, METRICS, observe

SOURCES = {"purchases": {"files": 1, "rows": 45, "accepted": 40, "rejected": {'price "is" null': 5}}}


@pytest.fixture
def settings(small_run, tmp_path) -> Settings:
    storage.write_parquet(pa.table({"user_id": ["a"], "amount": [1]}), str(tmp_path / "p.parquet"))
    summary = {"users": 20, "sources": SOURCES, "notes": ["a word"], "good": True}
    manifest.seal(small_run.folder("prepare"), stage="prepare", key="prepare", summary=summary)
    return Settings(
        run={"output": small_run.root},
        purchases={"path": str(tmp_path / "p.parquet")},
        items={"path": "s3://k:s3cr3t@lake/i"},
    )


def read(path: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(storage.read_bytes(path).decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("small_run", ["string"], indirect=True)
def test_a_run_is_told_to_collectors(small_run, settings):
    write = observe(small_run, settings)
    event, metrics = storage.read_json(f"{small_run.path}/{LINEAGE}"), read(f"{small_run.path}/{METRICS}")
    check(event)
    assert "s3cr3t" not in str(event)
    purchases, items = event["inputs"]
    assert purchases["name"].endswith("/p.parquet")
    assert [f["name"] for f in purchases["facets"]["schema"]["fields"]] == ["user_id", "amount"]
    assert purchases["inputFacets"]["inputStatistics"]["rowCount"] == 45
    assert items["namespace"].startswith("s3://")
    result = {d["name"].removeprefix(f"{small_run.path}/"): d for d in event["outputs"]}
    lists = result["recommendations/recommendations/date=2024-05-01"]
    assert lists["outputFacets"]["outputStatistics"]["rowCount"] == 40
    assert lists["facets"]["schema"]["fields"][1] == {"name": "rank", "type": "int32"}
    assert event["run"]["facets"]["topkin"]["published"] == "false"
    assert metrics["topkin_table_rows", "recommendations"] == 40
    assert metrics["topkin_input_rows", "purchases"] == 45
    assert metrics["topkin_rejected_rows", "purchases", 'price "is" null'] == 5
    assert metrics["topkin_stage_count", "prepare", "users"] == 20
    assert metrics["topkin_run_published",] == 0
    assert not {key for key in metrics if key[-1] == "good"}
    write(True)
    assert read(f"{small_run.root}/{METRICS}")["topkin_run_published",] == 1
    assert storage.read_json(f"{small_run.path}/{LINEAGE}")["run"]["facets"]["topkin"]["published"] == "true"


@pytest.mark.parametrize("small_run", ["string"], indirect=True)
def test_what_goes_wrong_is_logged_and_stops_no_night(small_run, settings, caplog):
    path = storage.parquet_files(f"{small_run.folder('similar')}/similar_items")[0]
    storage.write_bytes(b"no parquet", path)
    with caplog.at_level(logging.WARNING):
        observe(small_run, settings)(True)
    assert "lineage.json and metrics.prom of run r1 were not written" in caplog.text


@pytest.mark.parametrize("small_run", ["string"], indirect=True)
def test_what_a_run_does_not_read_is_no_input(small_run, settings):
    settings = settings.model_copy(update={"purchases": settings.purchases.model_copy(update={"path": ""})})
    observe(small_run, settings)
    (items,) = storage.read_json(f"{small_run.path}/{LINEAGE}")["inputs"]
    assert items["name"] == "i"
