from datetime import datetime
from typing import Any

import pytest

from topkin.evaluation.holdout import judged_on_holdout, nightly_notes, not_held_out
from topkin.evaluation.summary import NO_PURCHASES, nothing_held_out

AS_OF, CUT = datetime(2024, 6, 1), datetime(2024, 5, 4)
RECORD = {"cut": CUT.isoformat(), "days": 28.0, "periods": 2, "users": 0, "reason": None, "encoder": "f" * 64}


def measured(judged: str | None = "heldout", reason: str | None = None) -> dict[str, Any]:
    figures = nothing_held_out(CUT, (5, 10), "exclude", "")
    figures["heldout"] |= {"users": 0 if reason else 30, "reason": reason}
    return figures | {"judged": judged}


def test_metrics_of_a_cut_are_told_as_the_nights() -> None:
    at_cut = measured()
    metrics = judged_on_holdout(at_cut, RECORD, AS_OF)
    assert (metrics["judged"], metrics["as_of"], metrics["split"]) == ("holdout", AS_OF.isoformat(), "time")
    assert metrics["holdout"] == {name: value for name, value in RECORD.items() if name != "reason"}
    assert "after tonight's lists" in metrics["published"]["reason"]
    assert metrics["heldout"] == at_cut["heldout"]
    assert (at_cut["as_of"], at_cut["published"]["reason"]) == (CUT.isoformat(), None)  # left as they were
    assert nightly_notes(metrics) == ["judged on the last 28 days, held out once more"]


def test_a_kept_encoder_is_judged_by_the_days_since_its_night_too() -> None:
    metrics = judged_on_holdout(measured(), RECORD, datetime(2024, 6, 3))
    assert metrics["holdout"]["days"] == 30.0


def test_a_hold_out_that_judged_nobody_judges_nothing() -> None:
    metrics = judged_on_holdout(measured(None, "nobody came"), RECORD, AS_OF)
    assert metrics["judged"] is None
    assert nightly_notes(metrics) == ["not judged: nobody came"]


def test_what_later_purchases_judged_needs_no_note() -> None:
    assert nightly_notes(measured()) == []


@pytest.mark.parametrize("nightly", ["off", "hindsight"])
def test_why_a_night_is_not_judged(nightly: str) -> None:
    assert not_held_out(nightly, "whatever").startswith(f'{NO_PURCHASES}, and evaluate.nightly = "{nightly}"')
    for asked in ("holdout", "both"):
        assert not_held_out(asked, "it takes 20 users, 7 did").endswith("held out once more: it takes 20 users, 7 did")
