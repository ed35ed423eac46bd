from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas
from topkin.evaluation.summary import nothing_held_out
from topkin.report import charts, data, page, wording

AS_OF = datetime(2024, 6, 1)
MODELS = ("model", "popularity", "recent_popularity", "own_frequency", "item_knn", "item_knn_recent")


def metrics(**beaten: bool) -> dict[str, Any]:
    measured = nothing_held_out(AS_OF, (5, 10), "exclude", "nothing was bought")
    if beaten:
        measured["beats"] = {m: beaten.get(m, True) for m in MODELS[1:]}
        measured["verdict"] |= {"good": all(measured["beats"].values()), "reason": None}
        measured["differences"]["novel"] = {m: {"ndcg@10": [0.1, 0.2, 0.3]} for m in MODELS[1:]}
        measured["p"]["novel"] = {m: {"ndcg@10": 0.01} for m in MODELS[1:]}
        measured["novel"] = {m: {"ndcg@10": 0.2} for m in MODELS}
    return measured


def test_the_verdict_names_what_the_model_beats_and_what_it_does_not() -> None:
    assert page.verdict(metrics(popularity=True))["kind"] == "good"
    assert "beats all 5 baselines" in page.verdict(metrics(popularity=True))["sentence"]
    bad = page.verdict(metrics(item_knn=False, own_frequency=False))
    assert bad["word"] == "Not good"
    assert "beats popularity, recent popularity and item-kNN × recency" in bad["sentence"]
    assert "not own frequency or item-kNN." in bad["sentence"]
    none = page.verdict(metrics(**dict.fromkeys(MODELS[1:], False)))
    assert "beats no baseline" in none["sentence"]
    assert "nothing was bought" in page.verdict(metrics())["sentence"]


@pytest.mark.parametrize(("resamples", "shown"), [(500, "≤ 0.004"), (5000, "0.004"), (None, "0.004")])
def test_a_p_value_at_the_least_that_resamples_can_tell_is_a_bound(resamples: int | None, shown: str) -> None:
    assert page.p_value(2 / 501, resamples) == shown
    assert page.p_value(0.25, resamples) == "0.250"


def test_a_baseline_that_is_the_model_is_named_in_the_verdict() -> None:
    for beaten in (True, False):
        measured = metrics(popularity=beaten)
        assert "with itself" not in page.verdict(measured)["sentence"]
        text = page.verdict(measured | {"made_by": "user_knn"})["sentence"]
        assert text.endswith(" User-kNN is the model, and is not compared with itself.")


@pytest.mark.parametrize(
    ("interval", "word"),
    [([0.1, 0.2, 0.3], "better"), ([-0.1, 0.2, 0.3], "no clear difference"), ([-0.3, -0.2, -0.1], "worse")],
)
def test_a_difference_is_clear_only_where_its_interval_is_off_zero(interval: list[float], word: str) -> None:
    measured = metrics(popularity=True)
    measured["differences"]["novel"]["popularity"]["ndcg@10"] = interval
    ((_, rows),) = page.comparison(measured)
    assert next(r["word"] for r in rows if r["baseline"] == "Popularity") == word


def test_the_order_of_models_is_not_that_of_the_file() -> None:
    measured = metrics(popularity=True)
    turned = measured | {n: dict(reversed(measured[n].items())) for n in ("beats", "novel")}
    turned["differences"] = {"all": {}, "novel": dict(reversed(measured["differences"]["novel"].items()))}
    assert page.comparison(turned) == page.comparison(measured)
    assert page.verdict(turned) == page.verdict(measured)
    assert next(r["baseline"] for r in page.comparison(turned)[0][1]) == "Popularity"


def test_what_judges_nobody_is_said_only_where_there_is_any() -> None:
    def make(users: int, items: int) -> str:
        return page.unjudged_purchases({"events_of_new_users": users, "events_of_new_items": items})

    assert make(0, 0) == ""
    assert make(0, 1) == "1 held-out purchase of items not sold before it judges nobody."
    assert make(1200, 5).startswith("1,200 held-out purchases by users who had bought nothing")


def test_the_training_is_told_with_and_without_a_trial() -> None:
    trial = [{"epoch": e, "loss": 1.0, "validation_recall@20": 0.1 * e, "validation_seconds": 1.0} for e in (1, 2)]
    final = [{"epoch": 1, "loss": 1.0}]
    text = page.training_text({"epochs": trial, "refit": final, "stopped": "patience", "best_epoch": 1})
    assert text.startswith("2 trial epochs")
    assert "all purchases for 1 epoch," in text
    alone = page.training_text({"epochs": [], "refit": final, "stopped": "no validation: too little was bought"})
    assert alone == "1 epoch over all purchases; no validation: too little was bought."
    assert charts.validation_metric({"epochs": trial}) == "validation_recall@20"


def test_the_epoch_that_was_kept_is_told_beside_a_higher_one() -> None:
    points = [(1, 0.1), (2, 0.3), (3, 0.2)]
    assert charts.kept_epoch(2, points) == "kept: epoch 2"
    assert charts.kept_epoch(3, points) == "kept: epoch 3; 2 is higher within its noise"


def test_numbers_and_days_read_well() -> None:
    assert wording.day("2024-06-01T00:00:00") == "1 Jun 2024"
    assert wording.day(datetime(2024, 6, 1, 9, 5)) == "1 Jun 2024, 09:05"
    assert wording.day(None) == "–"
    assert wording.share(1, 100_000) == "<\u00a00.1\u00a0%"
    assert wording.share(99_999, 100_000) == ">\u00a099.9\u00a0%"
    assert wording.share(0, 5) == "0\u00a0%"
    assert wording.share(5, 5) == "100\u00a0%"
    assert wording.plural(1, "pass", "passes") == "1 pass"
    assert wording.plural(2000, "pass", "passes") == "2,000 passes"
    assert wording.score(0.5, "model") == "0.500"
    assert wording.score(24.0, "popularity") == "24"
    assert wording.signed(-0.5) == "−0.5000"


def test_bins_double_and_hold_every_value() -> None:
    names, numbers = charts.bins(np.array([0, 1, 1, 2, 3, 4, 7, 8, 15, 16]))
    assert names == ["0", "1", "2–3", "4–7", "8–15", "16–31"]
    assert numbers == [1, 2, 2, 2, 2, 1]
    assert charts.bins(np.array([5]))[0] == ["4–7"]


def test_months_without_purchases_are_shown() -> None:
    def tables(*times: datetime):
        return iter([pa.table({"timestamp": pa.array(times, schemas.TIME)})])

    months = data.count_months(tables(datetime(2023, 11, 5), datetime(2023, 11, 9)), tables(datetime(2024, 1, 1)))
    assert [(m.name, m.before, m.held_out) for m in months] == [("2023-11", 2, 0), ("2023-12", 0, 0), ("2024-01", 0, 1)]


def test_users_are_counted_by_what_ranked_their_first_item() -> None:
    table = pa.table({"rank": [1, 2, 1, 2], "source": ["model", "model", "popularity", "model"]})
    assert data.count_sources(iter([table, table])) == {"model": 2, "popularity": 2}


def test_rejects_are_a_share_of_all_rows_those_that_lists_added_too() -> None:
    source = {"rows": 1, "unnested": 9, "accepted": 4, "duplicates": 1, "rejected": {"x is null": 5}}
    rows = page.reject_rows({"sources": {"purchases": source}})
    assert [(n, share) for _, _, n, share in rows] == [(5, "50.0\xa0%"), (1, "10.0\xa0%")]
