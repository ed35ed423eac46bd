"""The page of a run of four items and twenty users, from its folders to HTML."""

import json
import re
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from topkin.evaluation.summary import nothing_held_out
from topkin.gates.gate import Gate
from topkin.report import charts, data, page
from topkin.report.data import ReportData

AS_OF = datetime(2024, 5, 1)


def gathered(folders: dict[str, str], metrics: dict[str, Any]) -> ReportData:
    return data.gather(folders, metrics, as_of=AS_OF, run_id="r1")


def test_what_a_report_shows_is_read_off_the_folders(folders: dict[str, str], measured: dict[str, Any]) -> None:
    content = gathered(folders, measured)
    assert [(m.name, m.before, m.held_out) for m in content.months] == [
        ("2024-03", 3, 0),
        ("2024-04", 3, 0),
        ("2024-05", 0, 3),
        ("2024-06", 0, 3),
    ]
    assert content.list_users == {"model": 20}
    assert content.short_lists == {"nothing else is allowed": 1}
    assert content.history_lengths.tolist() == [2] * 20
    assert (content.content.users, content.content.items) == (20, 4)
    assert content.content.map is not None
    held = json.loads(content.content.script)
    assert sorted(t for t in held["items"]["title"] if t) == [
        "BLUE PAPER LANTERN",
        "Garden spade [large]",
        "RED PAPER LANTERN",
    ]
    assert [len(row) for row in held["users"]["list"]] == [2] * 20
    best, *_ = content.neighbours
    assert best.events == content.item_events.max() == 30
    assert [title for title, _ in best.nearest] == ["BLUE PAPER LANTERN", "Garden spade [large]", "RED PAPER LANTERN"]
    assert [score for _, score in best.nearest] == pytest.approx([0.96, 0.8, 0.6])
    example = content.examples[0]
    assert (example.purchases, len(example.listed)) == (2, 2)
    assert example.listed[0].because == ["RED PAPER LANTERN"]
    assert "RED PAPER LANTERN" in {line.title for line in example.history}
    assert all(1 <= line.times <= 2 for line in example.history)


def test_the_page_has_every_chart_and_escapes_the_data(folders: dict[str, str], measured: dict[str, Any]) -> None:
    content = gathered(folders, measured)
    assert set(charts.draw(content)) == {
        *("metrics", "differences", "months", "tail", "lengths", "sales", "loss", "recall")
    }
    html = page.render(content, [])
    assert html.count("<svg ") == 8
    text = " ".join(re.sub(r"<style>.*?</style>|<script.*?</script>|<[^>]+>", " ", html, flags=re.DOTALL).split())
    assert "the model beats all 2 baselines" in text
    assert "3 users who bought before the date bought 6 distinct items after it" in text
    assert "1 held-out purchase by users who had bought nothing before the date judges nobody" in text
    assert "no &lt;price&gt; 7" in text
    assert "exact duplicate of another row 3" in text
    assert "Not measured: iALS; the library implicit is not installed." in text
    assert "NDCG@20 was 0.310" in text
    assert "3 trial epochs" in text
    assert "bought items are never listed" in text


def test_pictures_stand_beside_the_items_of_lists_and_in_what_is_looked_up(
    folders: dict[str, str], measured: dict[str, Any]
) -> None:
    drawn = "data:image/jpeg;base64,AAAA"
    asked: list[Any] = []

    def pictures(items: pa.Array) -> dict[Any, str]:
        asked.extend(items.to_pylist())
        return {items[0].as_py(): drawn}

    with_pictures = data.gather(folders, measured, as_of=AS_OF, run_id="r1", pictures=pictures)
    best = asked[0]
    held = json.loads(with_pictures.content.script)
    assert held["items"]["picture"] == [drawn, 0, 0, 0]
    html = page.render(with_pictures, [])
    shown = sum(line.picture == drawn for user in with_pictures.examples for line in user.listed)
    assert html.count(f'<img src="{drawn}" alt=""') == shown
    lists = [r for r in with_pictures.examples if any(line.picture for line in r.listed)]
    assert bool(lists) == (shown > 0)
    assert "Pictures of 1 item are in it" in html
    assert with_pictures.content.pictures == {best: drawn}
    assert "Pictures of" not in page.render(gathered(folders, measured), [])


def test_a_run_that_nothing_measures_has_a_page_too(folders: dict[str, str], measured: dict[str, Any]) -> None:
    metrics = nothing_held_out(AS_OF, (5, 10), "keep", "no purchase came after the date")
    content = gathered(folders, metrics | {"made_by": "item_knn"})
    assert {"metrics", "differences"} & set(charts.draw(content)) == set()
    html = page.render(content, [])
    assert "Nothing was measured: no purchase came after the date." in html
    assert "The model is Item-kNN" in html


def test_long_spans_name_months_by_a_letter(folders: dict[str, str], measured: dict[str, Any]) -> None:
    content = gathered(folders, measured)
    months = [
        data.Month(name=f"{year}-{month:02d}", before=month, held_out=0) for year in (2022, 2023, 2024)
        for month in range(1, 13)
    ]  # fmt: skip
    drawn = charts.draw(ReportData(**{**vars(content), "months": months}))["months"]
    assert "J 22" in drawn
    assert "J 24" in drawn
    assert "Jan" not in drawn


def test_gates_are_shown_refused_first_and_folded(folders: dict[str, str], measured: dict[str, Any]) -> None:
    rows = [("users", "passed"), ("items", "not asked"), ("<age>", "refused"), ("rows", "refused")]
    gates = [Gate(name=n, key=f"publish.{n}", verdict=v, sentence=f"about {n}") for n, v in rows]  # type: ignore[arg-type]
    html = page.render(gathered(folders, measured), gates)
    assert "2 gates refused:" in html
    places = [html.index(f"<td>about {name}") for name in ("&lt;age&gt;", "rows", "items", "users")]
    assert places == sorted(places)
    assert [f"{n} gate {v}" in html for n, v in ((1, "passed"), (1, "could not be asked"))] == [True, True]
    folded = html[html.index("<summary>1 gate passed") - 60 : html.index("<summary>1 gate passed")]
    assert "<details" in folded
    assert html.index('id="gates"') < html.index('id="quality"')
    assert "No gate refuses this version." in page.render(gathered(folders, measured), gates[:2])
