"""The page of a run of four items and twenty users, from its folders to HTML."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vector_column
from topkin.encoding.blocks import Block
from topkin.evaluation.summary import nothing_held_out
from topkin.gates.gate import Gate
from topkin.report import charts, data, page
from topkin.report.data import ReportData
from topkin.report.wording import METRIC_NAMES

AS_OF = datetime(2024, 5, 1)
MODELS = ("model", "popularity", "item_knn")
EPOCHS = [{"epoch": e, "loss": 3 / e, "validation_ndcg@20": 0.1 * e} for e in (1, 2, 3)]
TRAINING = {"epochs": EPOCHS, "refit": EPOCHS[:2], "best_epoch": 2, "stopped": "patience"}


@pytest.fixture
def folders(small_run: Any) -> dict[str, str]:
    """Those of the small run, with the tables and files beside the lists that a report reads."""
    folders = {stage: small_run.folder(stage) for stage in ("prepare", "recommend")}
    folders |= {stage: storage.join(small_run.path, stage) for stage in ("train", "embed")}
    catalogue = storage.read_parquet(storage.join(folders["prepare"], "catalogue.parquet"))
    histories = storage.read_parts(storage.join(folders["prepare"], "histories"))
    user, item = histories.schema.field("user_id").type, catalogue.schema.field("item_id").type
    schema = schemas.events(user, item)
    ones = pa.array([1.0, 1.0], pa.float32())
    for name, times in (("events", (3, 4)), ("heldout", (5, 6))):
        for part in range(3):
            users = storage.read_parquet(
                storage.join(folders["prepare"], "histories", storage.part_name(part, 3)), ["user_id"]
            )["user_id"]
            columns = [
                pa.concat_arrays([users.combine_chunks()[:1]] * 2),
                catalogue["item_id"].combine_chunks()[1:3],
                pa.array([datetime(2024, month, 2) for month in times], schemas.TIME),
                *(ones, ones, pa.nulls(2, pa.string())),
            ]
            path = storage.join(folders["prepare"], name, storage.part_name(part, 3))
            storage.write_parquet(pa.table(columns, schema=schema), path)
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    table = [catalogue["item_id"], vector_column(vectors), vector_column(vectors)]
    storage.write_parquet(
        pa.table(table, schema=schemas.item_embeddings(item, 2)),
        storage.join(folders["embed"], "items", storage.part_name(0, 1)),
    )
    block = Block(name="svd", dim=2, weight=1.0, inverse_popularity=0.0, half_life_days=None, spread=(1.0, 1.0))
    source = {"rows": 70, "accepted": 60, "duplicates": 3, "rejected": {"no <price>": 7}}
    statistics = {
        "sources": {"purchases": source, "items": None},
        **{"events": 54, "heldout_events": 6, "users": 20, "items": 4, "items_without_sales": 1},
        **{"first_sale": "2024-03-02T00:00:00", "last_sale": "2024-04-29T00:00:00"},
    }
    for stage, name, content in (
        ("prepare", "statistics.json", statistics),
        ("train", "signature.json", {"encoder": "e" * 64, "dim": 2}),
        ("train", "training.json", TRAINING),
        ("embed", "vectors.json", {"blocks": [block.to_json()]}),
    ):
        storage.write_json(content, storage.join(folders[stage], name))
    return folders


def measured() -> dict[str, Any]:
    """``metrics.json`` of a run whose model is above both baselines on novel items."""
    metrics = nothing_held_out(AS_OF, (5, 10), "exclude", "")
    names = [f"{m}@{k}" for k in (5, 10) for m in METRIC_NAMES if m != "coverage"]
    values = {"model": 0.3, "popularity": 0.1, "item_knn": 0.2}
    for protocol in ("all", "novel"):
        metrics[protocol] = {m: dict.fromkeys(names, v) for m, v in values.items()}
        metrics["coverage"][protocol] = {m: {"coverage@5": 0.5, "coverage@10": 1.0} for m in MODELS}
        apart = {m: values["model"] - values[m] for m in MODELS[1:]}
        metrics["differences"][protocol] = {m: {n: [d - 0.05, d, d + 0.05] for n in names} for m, d in apart.items()}
        metrics["p"][protocol] = {m: dict.fromkeys(names, 0.01) for m in MODELS[1:]}
        intervals = {m: {n: [v - 0.01, v, v + 0.01] for n in names} for m, v in values.items()}
        metrics["intervals"][protocol] = intervals
    metrics |= {"models": list(MODELS), "left_out": {"ials": "the library implicit is not installed"}}
    metrics["heldout"] |= {"users": 3, "pairs": 6, "novel_pairs": 4, "from": "2024-05-02", "to": "2024-06-02"}
    metrics["heldout"] |= {"events_of_new_users": 1, "users_without_vector": 1}
    metrics["beats"] = dict.fromkeys(MODELS[1:], True)
    metrics["verdict"] |= {"good": True, "reason": None}
    metrics["published"] |= {"users": 3, "metrics": dict.fromkeys(names, 0.25), "coverage": {"coverage@5": 1.0}}
    metrics["published"]["coverage"]["coverage@10"] = 1.0
    return metrics | {"validation": {"ndcg@20": 0.31}}


def gathered(folders: dict[str, str], metrics: dict[str, Any]) -> ReportData:
    return data.gather(folders, metrics, as_of=AS_OF, run_id="r1")


def test_what_a_report_shows_is_read_off_the_folders_of_the_run(folders: dict[str, str]) -> None:
    found = gathered(folders, measured())
    assert [(m.name, m.before, m.held_out) for m in found.months] == [
        ("2024-03", 3, 0),
        ("2024-04", 3, 0),
        ("2024-05", 0, 3),
        ("2024-06", 0, 3),
    ]
    assert found.list_users == {"model": 20}
    assert found.short_lists == {"nothing else is allowed": 1}
    assert found.history_lengths.tolist() == [2] * 20
    assert found.item_map is not None
    assert found.item_map.whole
    best, *_ = found.neighbours
    assert best.events == found.item_events.max() == 30
    assert [title for title, _ in best.nearest] == ["BLUE PAPER LANTERN", "Garden spade [large]", "RED PAPER LANTERN"]
    assert [score for _, score in best.nearest] == pytest.approx([0.96, 0.8, 0.6])
    example = found.examples[0]
    assert (example.purchases, len(example.listed)) == (2, 2)
    assert example.listed[0].because == ["RED PAPER LANTERN"]
    assert "RED PAPER LANTERN" in {line.title for line in example.history}
    assert all(1 <= line.times <= 2 for line in example.history)


def test_the_page_has_every_chart_and_escapes_what_comes_from_the_data(folders: dict[str, str]) -> None:
    found = gathered(folders, measured())
    assert set(charts.draw(found)) == {
        *("metrics", "differences", "months", "tail", "lengths", "sales", "loss", "recall", "map")
    }
    html = page.render(found, [])
    assert html.count("<svg ") == 9
    text = " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())
    assert "the model beats all 2 baselines" in text
    assert "3 users who bought before the date bought 6 distinct items after it" in text
    assert "1 held-out purchase by users who had bought nothing before the date judges nobody" in text
    assert "no &lt;price&gt; 7" in text
    assert "exact duplicate of another row 3" in text
    assert "Not measured: iALS; the library implicit is not installed." in text
    assert "NDCG@20 was 0.310" in text
    assert "3 trial epochs" in text
    assert "bought items are never listed" in text


def test_a_run_that_nothing_measures_has_a_page_too(folders: dict[str, str]) -> None:
    metrics = nothing_held_out(AS_OF, (5, 10), "keep", "no purchase came after the date")
    found = gathered(folders, metrics | {"made_by": "item_knn"})
    assert {"metrics", "differences"} & set(charts.draw(found)) == set()
    html = page.render(found, [])
    assert "Nothing was measured: no purchase came after the date." in html
    assert "The model is Item-kNN" in html


def test_long_spans_name_months_by_a_letter_and_the_year_in_january(folders: dict[str, str]) -> None:
    found = gathered(folders, measured())
    months = [
        data.Month(name=f"{year}-{month:02d}", before=month, held_out=0) for year in (2022, 2023, 2024)
        for month in range(1, 13)
    ]  # fmt: skip
    drawn = charts.draw(ReportData(**{**vars(found), "months": months}))["months"]
    assert "J 22" in drawn
    assert "J 24" in drawn
    assert "Jan" not in drawn


def test_gates_are_shown_refused_first_and_folded_where_they_passed(folders: dict[str, str]) -> None:
    rows = [("users", "passed"), ("items", "not asked"), ("<age>", "refused"), ("rows", "refused")]
    gates = [Gate(name=n, key=f"publish.{n}", verdict=v, sentence=f"about {n}") for n, v in rows]  # type: ignore[arg-type]
    html = page.render(gathered(folders, measured()), gates)
    assert "2 gates refused:" in html
    places = [html.index(f"about {name}") for name in ("&lt;age&gt;", "rows", "items", "users")]
    assert places == sorted(places)
    assert [f"{n} gate {v}" in html for n, v in ((1, "passed"), (1, "could not be asked"))] == [True, True]
    folded = html[html.index("1 gate passed") - 60 : html.index("1 gate passed")]
    assert "<details>" in folded
    assert html.index('id="gates"') < html.index('id="quality"')
    assert "No gate refuses this version." in page.render(gathered(folders, measured()), gates[:2])


@pytest.mark.parametrize("name", sorted(path.name for path in Path(page.__file__).parent.glob("*.html.j2")))
def test_no_page_may_run_a_script_or_load_anything(name: str) -> None:
    text = (Path(page.__file__).parent / name).read_text(encoding="utf-8")
    if "<head>" in text:  # else a part of one that has it
        policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', text)
        assert policy is not None
        rules = dict(rule.split(maxsplit=1) for rule in policy[1].split("; "))
        assert rules["default-src"] == "'none'"
        assert rules["style-src"] == "'unsafe-inline'"
        assert rules["img-src"] == "data:"
        assert "script-src" not in rules
        before = text[: text.index("Content-Security-Policy")]  # which the policy is not held to
        assert set(re.findall("<[a-z]+", before)) <= {"<html", "<head", "<meta"}
    assert "<script" not in text
