from datetime import datetime
from typing import Any

import pytest

from topkin.evaluation.summary import nothing_held_out
from topkin.report import tables

MODELS = ["model", "popularity", "user_knn"]
VALUES = {"model": 0.3, "popularity": 0.1, "user_knn": 0.4}


def metrics() -> dict[str, Any]:
    measured = nothing_held_out(datetime(2024, 6, 1), (10,), "exclude", "")
    measured["models"] = MODELS
    own = {m: {"ndcg@10": v, "recall@10": v} for m, v in VALUES.items()}
    kind = {"users": 1200, "from": 1, "to": 4, "metrics": own, "differences": {}}
    decile = {"items": 5, "from": 7, "to": 7, "pairs": 90, "metrics": {m: {"found@10": 0.0} for m in MODELS}}
    measured["segments"]["novel"] = {
        "history": [kind | {"name": "cold"}],
        "activity": [kind | {"name": "1"}, kind | {"name": "4"}],
        "decile": [decile | {"name": "10"}],
    }
    measured["coverage"]["novel"] = {m: {"coverage@10": 0.25} for m in MODELS}
    measured["lists"]["novel"] = {m: {"novelty@10": 3.0, "gini@10": 0.9, "popularity@10": 0.05} for m in MODELS[:2]}
    cold = {"days": 30, "sales": 5, "items": 9, "users": 3, "pairs": 1, "of_all": own, "among_cold": own}
    measured["cold_items"] = cold
    return measured


def cells(grid: tables.MetricsTable | None) -> dict[str, list[str]]:
    assert grid is not None
    return {name: [text for text, _ in row] for name, _, row in grid.rows}


def test_kinds_of_users_have_a_column_each_with_the_best_marked() -> None:
    grid = tables.user_kinds(metrics())
    assert grid is not None
    assert [name for name, _ in grid.columns] == ["Cold users", "Least active quarter", "Most active quarter"]
    assert "1,200 users" in grid.columns[0][1]
    assert cells(grid)["User-kNN"] == ["0.4000"] * 3
    assert [(name, ours, {best for _, best in row}) for name, ours, row in grid.rows] == [
        ("This model", True, {False}),
        ("Popularity", False, {False}),
        ("User-kNN", False, {True}),
    ]


def test_nothing_found_is_no_best() -> None:
    grid = tables.item_kinds(metrics())
    assert grid is not None
    assert grid.columns == [("7", "90\u00a0true")]
    assert not any(best for _, _, row in grid.rows for _, best in row)


def test_cold_items_come_with_their_ratio_to_popularity_where_there_is_one() -> None:
    measured = metrics()
    assert cells(tables.cold_items(measured))["User-kNN"][-1] == "4.00"
    measured["cold_items"]["among_cold"]["popularity"] = {"recall@10": 0.0, "ndcg@10": 0.0}
    assert cells(tables.cold_items(measured))["User-kNN"][-1] == "–"
    grid = tables.cold_items(measured)
    assert grid is not None
    assert "9 items first sold in the last 30 days" in grid.note
    assert "3 users bought 1 such item new to them" in grid.note


def test_what_lists_are_like_is_not_ranked_and_may_lack_a_number() -> None:
    result = cells(tables.list_qualities(metrics()))
    assert result == {m: ["0.2500", "0.900", "3.00", "0.0500", "–"] for m in ("This model", "Popularity")}


@pytest.mark.parametrize("table", ["user_kinds", "item_kinds", "cold_items", "list_qualities"])
def test_without_users_there_is_no_table(table: str) -> None:
    nothing = nothing_held_out(datetime(2024, 6, 1), (10,), "exclude", "nothing")
    assert getattr(tables, table)(nothing) is None
