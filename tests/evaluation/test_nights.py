"""The series over nights, and the verdict that a night comes to."""

import json
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from topkin.artifacts import schemas
from topkin.evaluation import nights
from topkin.evaluation.hindsight import PastLists
from topkin.evaluation.summary import MIN_USERS

NIGHT = datetime(2024, 6, 8)


def lists_of(days: int, **options: Any) -> PastLists:
    defaults = {"version": f"v{days}", "as_of": NIGHT - timedelta(days=days), "k": 20, "bought": "exclude"}
    return PastLists(**{**defaults, "model": "encoder", **options}, days=days)


def rows_of(lists: PastLists, night: datetime = NIGHT, *, users: int = 50, **model: tuple[float, ...]) -> pa.Table:
    """Each baseline's difference as (low, difference, high), of each truth; the model has 0.3."""
    rows = []
    for truth in ("all", "novel"):
        for name, apart in {"model": (None, None, None), **model}.items():
            value = 0.3 - (apart[1] or 0.0)
            common = {"night": night, "version": lists.version, "as_of": lists.as_of, "days": lists.days}
            row = {"truth": truth, "model": name, "metric": "ndcg@10", "users": users}
            ends = dict(zip(("difference_low", "difference", "difference_high"), apart, strict=True))
            rows.append(common | row | ends | {"value": value, "low": value - 0.1, "high": value + 0.1})
    return pa.Table.from_pylist(rows, schemas.HINDSIGHT)


ABOVE, BELOW, SAME = (0.05, 0.1, 0.15), (-0.15, -0.1, -0.05), (-0.05, 0.01, 0.05)


def entry(lists: PastLists, *, users: int = 50, purchases: int = 90, **model: tuple[float, ...]) -> dict[str, Any]:
    counts = {"purchases": purchases, "all_users": users + 5, "novel_users": users, "repeat_users": 0}
    return nights.entry_of(lists, NIGHT, (5, 10), rows_of(lists, users=users, **model), counts)


@pytest.mark.parametrize(
    ("popularity", "own", "good", "words"),
    [
        (ABOVE, ABOVE, True, "beat popularity and own frequency: "),
        (ABOVE, SAME, None, "beat popularity and do not differ clearly from own frequency: "),
        (SAME, SAME, None, "since, do not differ clearly from popularity and own frequency: "),
        (ABOVE, BELOW, False, "beat popularity and are below own frequency: "),
    ],
)
def test_the_verdict_is_good_where_the_whole_interval_is_above_each_baseline(popularity, own, good, words) -> None:
    verdict = nights.judged([entry(lists_of(1), popularity=popularity, own_frequency=own)], NIGHT)
    assert verdict is not None
    assert verdict["good"] is good
    assert words in verdict["sentence"]
    assert verdict["sentence"].startswith("The lists of 7 Jun 2024, judged by what 50 users bought in the day since, ")
    theirs = 0.3 - popularity[1]
    assert f"NDCG@10 on items new to the user is 0.3000, popularity's {theirs:.4f}" in verdict["sentence"]


def test_the_rule_of_the_lists_says_which_items_count() -> None:
    kept = entry(lists_of(1, bought="keep"), popularity=ABOVE, own_frequency=ABOVE)
    assert (kept["protocol"], kept["users"]) == ("all", 55)
    assert "on all items is" in nights.judged([kept], NIGHT)["sentence"]
    assert entry(lists_of(1), popularity=ABOVE)["protocol"] == "novel"


def test_the_youngest_lists_that_enough_users_tell_of_decide() -> None:
    few = entry(lists_of(1), users=MIN_USERS - 1, popularity=BELOW, own_frequency=BELOW)
    assert few["reason"] == (
        f"{MIN_USERS - 1} users who had bought before 7 Jun 2024 bought something new to them since, which is too few "
        f"to tell; it takes {MIN_USERS}"
    )
    old = [entry(lists_of(days), users=MIN_USERS, popularity=ABOVE, own_frequency=ABOVE) for days in (7, 28)]
    verdict = nights.judged([few, *old], NIGHT)
    assert verdict is not None
    assert (verdict["days"], verdict["age"], verdict["good"]) == (7, 7.0, True)
    assert nights.judged([few], NIGHT) is None


def test_a_first_night_says_what_it_takes() -> None:
    content = nights.hindsight_json(NIGHT, (7, 1), [])
    assert content["verdict"] is None
    assert content["days"] == [1, 7]
    assert content["reason"] == nights.first_night((1,))
    assert "one published night, a day or more before this one" in content["reason"]
    assert "3 days or more before" in nights.first_night((28, 3))


def test_after_a_closed_day_the_verdict_of_the_night_before_stands() -> None:
    good = nights.hindsight_json(NIGHT, (1,), [entry(lists_of(1), popularity=ABOVE, own_frequency=ABOVE)])
    assert good["reason"] is None
    closed = entry(lists_of(1), users=0, purchases=0)
    content = nights.hindsight_json(NIGHT + timedelta(days=1), (1,), [closed], json.loads(json.dumps(good)))
    assert content["reason"] == "nothing was bought since 7 Jun 2024"
    assert content["verdict"] == good["verdict"]
    assert content["verdict"]["night"] == NIGHT.isoformat()
    after = nights.hindsight_json(NIGHT + timedelta(days=2), (1,), [closed], content)
    assert after["verdict"] == good["verdict"]


def test_lists_that_cannot_be_read_are_named() -> None:
    broken = {"days": 1, "version": "v", "as_of": "2024-06-07", "reason": "the lists of 7 Jun 2024 cannot be read: x"}
    content = nights.hindsight_json(NIGHT, (1,), [broken, entry(lists_of(7), users=0, popularity=SAME)])
    assert content["reason"].startswith(
        "the lists of 7 Jun 2024 cannot be read: x; 0 users who had bought before 1 Jun"
    )
    off = nights.hindsight_json(NIGHT, (), [], off="evaluate.hindsight is empty")
    assert (off["reason"], off["verdict"]) == ("evaluate.hindsight is empty", None)


def test_the_series_is_carried_on_in_time_order_and_a_night_done_again_replaces_itself() -> None:
    series = None
    for n in range(4):
        night = NIGHT + timedelta(days=n)
        series = nights.carry_on(series, rows_of(lists_of(1), night, popularity=SAME), night)
    assert series.schema.equals(schemas.HINDSIGHT)
    assert series["night"].unique().to_pylist() == [NIGHT + timedelta(days=n) for n in range(4)]
    again = nights.carry_on(series, rows_of(lists_of(1), NIGHT, popularity=SAME), NIGHT + timedelta(days=3))
    assert len(again) == len(series)
    assert nights.carry_on(None, schemas.HINDSIGHT.empty_table(), NIGHT).num_rows == 0


def test_the_series_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "NIGHTS", 3)
    series = None
    for n in range(6):
        night = NIGHT + timedelta(days=n)
        series = nights.carry_on(series, rows_of(lists_of(1), night, popularity=SAME), night)
    assert series["night"].unique().to_pylist() == [NIGHT + timedelta(days=n) for n in (3, 4, 5)]


def test_times_of_day_are_told() -> None:
    assert nights.day(datetime(2024, 6, 7, 6, 30)) == "7 Jun 2024, 06:30"
