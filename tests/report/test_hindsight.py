"""What the report says of earlier nights: the head, the chart of the series, the tables."""

import re
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.report import hindsight
from topkin.report.hindsight import Hindsight
from topkin.report.page import verdict
from topkin.report.template import template

NIGHT = datetime(2024, 6, 8)
VALUES = {"model": 0.3, "popularity": 0.1, "own_frequency": 0.1}


def entry(days: int, **more: Any) -> dict[str, Any]:
    return {
        "days": days,
        "version": f"v{days}",
        "as_of": (NIGHT - timedelta(days=days)).isoformat(),
        "age": float(days),
        "bought": "exclude",
        "protocol": "novel",
        "metric": "ndcg@10",
        "users": 55,
        "counts": {"users_without_list": 3},
        "values": {m: [v - 0.05, v, v + 0.05] for m, v in VALUES.items()},
        "differences": {"popularity": [0.1, 0.2, 0.3], "own_frequency": [-0.1, 0.2, 0.3]},
        "reason": None,
    } | more


def series(nights: int, days: tuple[int, ...] = (1,), users: int = 55) -> pa.Table:
    rows = [
        {"night": NIGHT - timedelta(days=n), "version": f"v{d}", "as_of": NIGHT - timedelta(days=n + d), "days": d,
         "truth": t, "model": m, "metric": metric, "users": users, "value": v, "low": v - 0.05, "high": v + 0.05}
        for n in reversed(range(nights)) for d in days for t in ("all", "novel", "repeat") for m, v in VALUES.items()
        for metric in ("hit_rate@10", "recall@10", "ndcg@10", "map@10", "ndcg@5")
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schemas.HINDSIGHT)


def summary(*versions: dict[str, Any], good: bool | None = True, reason: str | None = None, **verdict: Any) -> Any:
    outcome = {**entry(1), "night": NIGHT.isoformat(), "good": good, "sentence": "The lists beat <all>", **verdict}
    names = {"night": NIGHT.isoformat(), "days": [1, 7], "least_users": 10}
    return names | {"versions": list(versions), "verdict": outcome, "reason": reason}


UNMEASURED = {"verdict": {"good": None, "reason": "the input has no purchases after the as-of date"}}


@pytest.mark.parametrize(("good", "word"), [(True, "Good"), (False, "Not good"), (None, "No clear difference")])
def test_where_nothing_was_held_out_the_head_is_the_verdict_of_hindsight(good, word) -> None:
    head = verdict(UNMEASURED, Hindsight(summary=summary(good=good), series=series(1)))
    assert head == {
        "kind": {True: "good", False: "bad", None: "open"}[good],
        "word": f"{word} in hindsight",
        "sentence": "The lists beat <all>.",
    }


def test_held_out_purchases_come_before_hindsight() -> None:
    metrics = {"verdict": {"good": True, "protocol": "novel", "metric": "ndcg@10"}, "beats": {"popularity": True}}
    assert verdict(metrics, Hindsight(summary=summary(good=False), series=series(1)))["word"] == "Good"


def test_a_first_night_is_not_judged_and_says_what_it_takes() -> None:
    first = summary() | {"verdict": None, "reason": "hindsight needs one published night"}
    stored = Hindsight(summary=first, series=schemas.HINDSIGHT.empty_table())
    head = verdict(UNMEASURED, stored)
    assert head["word"] == "Not judged"
    assert head["sentence"].endswith("no purchases after the as-of date, and hindsight needs one published night.")
    assert hindsight.section(stored) is None
    assert hindsight.draw(stored) == {}
    off = Hindsight(summary=first | {"days": [], "reason": "evaluate.hindsight is empty"}, series=stored.series)
    assert "hindsight" not in verdict(UNMEASURED, off)["sentence"]


def test_after_a_closed_day_the_head_says_of_which_night_it_is() -> None:
    closed = summary(reason="nothing was bought since 7 Jun 2024", night="2024-06-07T00:00:00")
    head = hindsight.head(Hindsight(summary=closed, series=series(2)), "x")
    assert head["sentence"] == (
        "On 7 Jun 2024, the last night that could tell: The lists beat <all>. Tonight could not: nothing was bought "
        "since 7 Jun 2024."
    )


def test_the_series_is_a_chart_of_each_age_of_lists_from_two_nights_on() -> None:
    stored = Hindsight(summary=summary(entry(1)), series=series(4, (1, 7)))
    drawn = hindsight.draw(stored)
    assert list(drawn) == ["hindsight-1", "hindsight-7"]
    assert drawn["hindsight-1"].count("<polyline") == 3
    assert drawn["hindsight-1"].count('class="band"') == 1
    assert "8 Jun" in drawn["hindsight-1"]
    assert "The lists: 0.300, 0.300, 0.300, 0.300" in drawn["hindsight-1"]
    heights = re.findall(r'y="([\d.]+)">(?:Popularity|Own frequency)<', drawn["hindsight-1"])
    assert abs(float(heights[0]) - float(heights[1])) > 10  # names of lines that meet lie apart
    assert [caption for _, caption in hindsight.captions(stored, drawn)] == [
        "NDCG@10 of lists about 1 day old",
        "NDCG@10 of lists about 7 days old",
    ]
    assert hindsight.draw(Hindsight(summary=summary(entry(1)), series=series(1))) == {}
    assert hindsight.draw(Hindsight(summary=summary(entry(1)), series=series(4, users=9))) == {}  # too few to tell


def test_the_section_has_each_version_and_its_metrics_apart(tmp_path) -> None:
    broken = {"days": 28, "version": "v28", "as_of": "2024-05-11T00:00:00", "reason": "the lists are <gone>"}
    storage.write_json(summary(entry(1), entry(7, reason="3 users"), broken), str(tmp_path / "hindsight.json"))
    storage.write_parquet(series(2), str(tmp_path / "hindsight.parquet"))
    stored = hindsight.read(str(tmp_path))
    section = hindsight.section(stored)
    assert section is not None
    html = template("hindsight.html.j2").render(hindsight=section | {"captions": []}, charts={})
    text = " ".join(re.sub(r"<[^>]+>", " ", html).split())
    assert "Lists of 7 Jun 2024, 1 day before; 55 users; NDCG@10, items new to the user; 3 of those who" in text
    assert "Popularity 0.3000 0.1000 +0.2000 +0.1000 to +0.3000 better" in text
    assert "Own frequency 0.3000 0.1000 +0.2000 −0.1000 to +0.3000 no clear difference" in text
    assert "Not judged: 3 users. Not judged: the lists are &lt;gone&gt;." in text
    head = "Lists of 7 Jun 2024: the first 10, every metric; bought items are never listed"
    assert f"{head} Model Hit rate Recall NDCG MAP All items bought since; 55 users" in text
    for words in ("New to the user; 55 users", "Bought before; 55 users", "The lists 0.3000 0.3000 0.3000 0.3000"):
        assert words in text
