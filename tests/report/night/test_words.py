from typing import Any

import pytest

from topkin.report.hindsight import Hindsight
from topkin.report.night.words import alarms, plain_verdict, settings_rows


def test_a_good_model_is_told_in_plain_words_with_how_many_it_reaches(measured: dict[str, Any]) -> None:
    text = plain_verdict(measured, None, None)
    assert "better than each of 2 simple methods" in text
    assert "Of 100 customers who bought something new to them afterwards, 30 bought one of the first 10" in text
    assert "what sells most would have reached 10" in text
    assert not [word for word in ("NDCG", "baseline", "interval", "model") if word in text]


def test_a_model_that_is_not_better_than_all_is_told_so(measured: dict[str, Any]) -> None:
    measured["verdict"]["good"] = False
    measured["beats"]["popularity"] = False
    assert "surely better than 1 of 2 simple methods" in plain_verdict(measured, None, "Item-kNN")
    assert plain_verdict(measured, None, "Item-kNN").startswith("The lists, made by Item-kNN,")


@pytest.mark.parametrize(("good", "words"), [(True, "better than"), (False, "less well"), (None, "neither")])
def test_hindsight_is_told_where_nothing_is_held_out(good: bool | None, words: str, measured: dict[str, Any]) -> None:
    measured["verdict"]["good"] = None
    assert "not known yet" in plain_verdict(measured, None, None)
    content = {"verdict": {"good": good, "as_of": "2024-05-01T00:00:00"}}
    assert words in plain_verdict(measured, Hindsight(summary=content, series=None), None)  # type: ignore[arg-type]


def test_alarms_are_doubts_and_promises_that_were_missed(measured: dict[str, Any]) -> None:
    assert alarms(measured) == []
    measured |= {"doubts": ["few users judge"], "promise": {"alarm": "validation promised more"}}
    assert alarms(measured) == ["Few users judge.", "Validation promised more."]


def test_settings_are_keys_with_values() -> None:
    assert settings_rows({"run": {"seed": 1}, "a": {"b": {"c": [2]}}, "d": {}}) == [("run.seed", "1"), ("a.b.c", "[2]")]
