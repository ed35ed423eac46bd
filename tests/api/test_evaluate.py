"""Lists judged in memory: by hand, by a brute-force count, and as the nightly report judges them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import topkin
from topkin import errors
from topkin.config.load import load_settings
from topkin.synthetic.shop import Shop

BOUGHT = [("ann", "tea"), ("ann", "cup"), ("bob", "tea"), ("bob", "pot"), ("cat", "pot"), ("cat", "cup")]
PURCHASES = pa.table(
    {"user_id": [u for u, _ in BOUGHT], "item_id": [i for _, i in BOUGHT], "timestamp": ["2024-05-01"] * 6}
)
LISTS = pa.table({"user_id": ["ann", "ann", "bob"], "rank": [2, 1, 1], "item_id": ["pot", "cup", "cup"]})
HELDOUT = pa.table({"user_id": ["ann", "ann", "bob", "eve", "cat"], "item_id": ["pot", "tea", "cup", "tea", "new"]})


def values(table: pa.Table, model: str = "model") -> dict[str, float]:
    rows = table.filter(pc.equal(table["model"], model)).to_pylist()
    return {row["metric"]: row["value"] for row in rows}


def test_lists_are_judged_by_what_is_new_to_the_user() -> None:
    result = topkin.evaluate(LISTS, HELDOUT, PURCHASES, k=[1, 2], baselines=["popularity", "own_frequency"])
    own = values(result)
    assert own["recall@1"] == 0.5  # ann's first is no hit, bob's is; cat and eve cannot be judged
    assert own["recall@2"] == own["hit_rate@2"] == 1.0
    assert own["ndcg@2"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert set(result["model"].to_pylist()) == {"model", "popularity", "own_frequency"}
    assert set(result["users"].to_pylist()) == {2}
    for row in result.to_pylist():
        if row["model"] == "model":
            assert row["difference"] is None
        else:
            assert row["difference"] == pytest.approx(own[row["metric"]] - row["value"])
            assert row["low"] <= row["difference"] <= row["high"]


def test_all_items_count_where_the_lists_hold_bought_ones() -> None:
    own = values(topkin.evaluate(LISTS, HELDOUT, PURCHASES, k=[2], baselines=["own_frequency"], novel=False))
    assert own["recall@2"] == 0.75  # ann bought tea again


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: topkin.evaluate(LISTS, HELDOUT), errors.InputError, "got none: give purchases"),
        (lambda: topkin.evaluate(LISTS, HELDOUT, PURCHASES, k=[]), ValueError, "cut-offs of at least 1, got"),
        (lambda: topkin.evaluate(LISTS, HELDOUT, PURCHASES, k=[0]), ValueError, r"got \[0\]"),
        (lambda: topkin.evaluate(LISTS, HELDOUT, PURCHASES, baselines=["best"]), ValueError, "must be of .*best"),
        (lambda: topkin.evaluate(LISTS, HELDOUT.slice(3), PURCHASES), errors.InputError, "look at the ids"),
        (lambda: topkin.evaluate(HELDOUT, HELDOUT, PURCHASES), errors.InputError, "none of rank"),
        (lambda: topkin.evaluate(LISTS, "later", PURCHASES), TypeError, "heldout must be a table"),
        (lambda: topkin.evaluate(LISTS, pa.table({"user_id": [1], "item_id": ["tea"]}), PURCHASES), TypeError, "type"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_told(act: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        act()


def test_the_figures_are_those_of_the_nightly_report(tmp_path: Path) -> None:
    shop = Shop(users=200, items=80, purchases=3_000, seed=11)
    shop.write(str(tmp_path / "shop"))
    (tmp_path / "topkin.toml").write_text(shop.config_toml("shop"))
    sets = ["train.epochs=0", "recommend.k=10", "evaluate.k=[5, 10]", "evaluate.bootstrap=20"]
    run = topkin.run(load_settings(tmp_path / "topkin.toml", sets, env={}), shop.as_of)
    recommender, metrics = topkin.Recommender.load(run.settings.run.output), run.metrics
    assert metrics is not None
    result = topkin.evaluate(recommender, run.table("heldout"), k=[5, 10])
    for name in run.settings.evaluate.baselines:
        actual = {metric: metrics["novel"][name][metric] for metric in values(result, name)}
        assert values(result, name) == pytest.approx(actual, rel=1e-12)
    same = topkin.evaluate(run.table("recommendations"), run.table("heldout"), run.table("events"), k=[5, 10])
    assert values(same) == pytest.approx(values(result))
