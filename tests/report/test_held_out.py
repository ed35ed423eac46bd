"""The words for a night that was judged on its last days."""

from datetime import datetime
from typing import Any

import pytest

from topkin.evaluation.summary import nothing_held_out
from topkin.report.held_out import lead, stand_in
from topkin.report.page import verdict

HELD = {"cut": "2024-05-04T00:00:00", "days": 28.0, "periods": 2, "users": 0, "as_set": []}


def night(**changes: Any) -> Any:
    return nothing_held_out(datetime(2024, 6, 1), (5, 10), "exclude", "") | {"holdout": {**HELD, **changes}}


def page_text(*, later: int = 0, made_by: str | None = None, **changes: Any) -> str:
    return " ".join(stand_in(night(**changes), later=later, made_by=made_by))


def test_the_verdict_begins_with_what_judged() -> None:
    metrics = night() | {"beats": {"popularity": True, "item_knn": False}}
    metrics["verdict"] |= {"good": False}
    sentence = verdict(metrics)["sentence"]
    assert sentence.startswith("On the last 28 days, held out once more: in NDCG@10 on items new to the user the model")
    metrics |= {"holdout": None}
    assert verdict(metrics)["sentence"].startswith("In NDCG@10 on items new to the user the model")
    assert lead(night(days=1.0)).startswith("On the last day, held out")
    assert lead(night(days=12.345)).startswith("On the last 12.3 days, held out")


def test_it_says_what_stood_in_and_from_where_on() -> None:
    assert stand_in(night() | {"holdout": None}, later=0, made_by=None) == []
    text = page_text()
    assert text.startswith("Nothing was bought after the date of the run to judge by, so the last 28 days")
    assert "one of the same settings, made from the purchases before 4 May 2024 alone" in text
    assert text.endswith("In this section the date is 4 May 2024, where the days held out begin.")
    assert page_text(later=3).startswith("Too little was bought after the date")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Its weights were chosen on the 2 periods of 28 days before that."),
        (
            {"periods": 0, "users": 40},
            "Its weights were chosen by 40 users of these days, who are not among those who judge.",
        ),
        (
            {"periods": 1, "users": 40},
            "The weights of its computed blocks were chosen on the 1 period of 28 days before that; those of its "
            "trained blocks were chosen by 40 users of these days, who are not among those who judge.",
        ),
        (
            {"as_set": ["features", "trained"]},
            "The weights of its computed blocks were chosen on the 2 periods of 28 days before that; too few users "
            "came to choose those of features and trained, which are as the settings have them.",
        ),
    ],
)
def test_it_says_who_chose_the_weights(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in page_text(**changes)


def test_nothing_was_chosen_for_a_baseline_or_where_nothing_is_open() -> None:
    assert "weights" not in page_text(periods=0)
    text = page_text(made_by="Item-kNN")
    assert "Item-kNN, which is the model, was fitted for it on the purchases before 4 May 2024 alone" in text
    assert "weights" not in text
