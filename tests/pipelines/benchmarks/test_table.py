"""The table of a benchmark beside figures that were published."""

from topkin.pipelines.benchmarks.table import ranked_by, table

SHOWN = ["hit_rate@10", "ndcg@10", "hit_rate@20", "ndcg@20"]


def result(published):
    model, other = (dict(zip(SHOWN, row, strict=True)) for row in ([0.5, 0.4, 0.8, 0.45], [0.3, 0.1, 0.9, 0.5]))
    apart = {"popularity": {name: [model[name] - other[name] - 0.01, model[name] - other[name], 0.9] for name in SHOWN}}
    return {
        "preset": "standard",
        "dim": 8,
        "shown": SHOWN,
        "metrics": {"model": model, "popularity": other},
        "differences": apart,
        "published": published,
    }


def test_models_stand_in_the_order_of_the_last_metric():
    header, *rows = table(result(None))
    assert header == ["", *SHOWN, "topkin above by ndcg@20, 95 %"]
    assert [row[0].strip() for row in rows] == ["Popularity", "> topkin standard, 8 dims"]
    assert rows[0][-1] == "-0.0500 (-0.0600 to +0.9000)"


def test_published_figures_of_some_metrics_leave_the_others_empty_and_their_last_one_orders():
    peers = {"metrics": ["hit_rate@10", "ndcg@10"], "figures": {"SASRec": [0.45, 0.2]}}
    header, *rows = table(result(peers))
    assert header[-1] == "topkin above by ndcg@10, 95 %"
    assert [row[0].strip() for row in rows] == ["> topkin standard, 8 dims", "SASRec, published", "Popularity"]
    assert rows[1][1:] == ["0.4500", "0.2000", "", "", ""]
    assert rows[2][-1] == "+0.3000 (+0.2900 to +0.9000)"


def test_the_sources_that_rank_are_named_with_their_weights():
    assert ranked_by({"encoder": 1.0, "random_walk": 0.1}) == "ranked by a second stage: encoder 1, random_walk 0.1"
    assert ranked_by({}) == ""
