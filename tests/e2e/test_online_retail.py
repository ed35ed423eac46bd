"""The real shop through its example configuration: a slice of it here, all of it where slow tests run."""

from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from topkin.artifacts import runs, storage
from topkin.config.load import load_settings
from topkin.pipelines.run import run_all

CONFIG = Path(__file__).resolve().parents[2] / "examples" / "online_retail.toml"
AS_OF = datetime(2011, 11, 9)


@pytest.mark.slow
def test_a_slice_of_the_real_purchases_becomes_published_lists(online_retail, tmp_path):
    duckdb.sql(f"""
        copy (from '{online_retail}/purchases.parquet'
              where timestamp >= '2011-10-10' and (user_id is null or hash(user_id) % 3 = 0))
        to '{tmp_path}/purchases.parquet'
    """)
    sets = [f"run.output='{tmp_path}/out'", f"purchases.path='{tmp_path}/purchases.parquet'"]
    # A month of a third of the customers says whether the path holds, not how good a model can get.
    sets += ["train.epochs=1", "train.dim=16", "evaluate.bootstrap=50", "publish.must_beat=[]"]
    run = run_all(load_settings(CONFIG, sets, env={}), as_of=AS_OF)
    assert runs.published(f"{tmp_path}/out") == run

    source = storage.read_json(f"{run.folder('prepare')}/statistics.json")["sources"]["purchases"]
    want = duckdb.sql(f"""
        select count(*), count(*) filter (user_id is null),
               count(*) filter (user_id is not null and starts_with(invoice_id, 'C'))
        from '{tmp_path}/purchases.parquet'
    """).fetchone()
    assert (source["rows"], source["rejected"]["user_id is null"], source["rejected"]["cancelled"]) == want
    listed, twice = duckdb.sql(f"""
        select count(distinct user_id), count(*) - count(distinct (user_id, item_id))
        from read_parquet('{run.folder("recommend")}/recommendations/*/*.parquet')
    """).fetchone()
    assert listed > 300
    assert twice == 0


@pytest.mark.slow
def test_the_whole_real_shop_is_judged_by_the_known_protocol(online_retail, tmp_path):
    run = run_all(load_settings(CONFIG, [f"run.output='{tmp_path}/out'"], env={}), as_of=AS_OF)
    metrics = storage.read_json(f"{run.folder('evaluate')}/metrics.json")
    assert (metrics["heldout"]["users"], metrics["heldout"]["pairs"]) == (1394, 46421)
    novel = metrics["novel"]
    assert novel["popularity"]["ndcg@10"] == pytest.approx(0.0341, abs=2e-4)
    assert novel["item_knn"]["ndcg@10"] == pytest.approx(0.0863, abs=2e-4)
    assert novel["model"]["ndcg@10"] > novel["item_knn"]["ndcg@10"]
