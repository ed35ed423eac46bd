"""The report of items alone says what was measured, shows look-ups, and escapes what comes from the data."""

from datetime import datetime
from typing import Any

from topkin.gates.gate import Gate
from topkin.report.browse.content import PageContent
from topkin.report.items_page import ItemsReport, LookUp, Shown, render_items, training_lines, verdict

METRICS: dict[str, Any] = {
    "encoder": 64 * "a",
    "dim": 8,
    "items": 100,
    "judged_by": "queries",
    "retrieval": {"recall_any@1": 0.75, "precision@5": 0.5, "r_precision": 0.25, "queries": 40, "queries_left_out": 2},
    "knn": {"5": 0.8},
    "pairs": {"accuracy": 0.9, "threshold": 0.5, "pairs": 80},
    "by_label": [
        {"label": "<b>", "queries": 3, "recall@1": 0.5, "confused": {"label": "cup", "queries": 1}},
        *({"label": f"label {n}", "queries": 1, "recall@1": 1.0, "confused": None} for n in range(25)),
    ],
    "match": {"threshold": 0.9, "precision": 0.96, "recall": 0.5},
    "index": {"recall@10": 0.99},
    "rejects": ["The encoder could not take 3 of the prepared items"],
    "unjudged": "",
}
STATISTICS = {"items": 100, "sources": {"items": {"rows": 110, "rejected": {"item listed twice": 10}}}}


def page(metrics: dict[str, Any], *look_ups: LookUp) -> str:
    report = ItemsReport(
        run_id="run",
        as_of=datetime(2026, 1, 2),
        metrics=metrics,
        statistics=STATISTICS,
        look_ups=look_ups,
        training=["As given."],
        content=PageContent(script="{}", users=0, items=100, map=None),
        gates=[Gate(name="items", key="publish.max_drop", verdict="refused", sentence="3 items, 97 % fewer")],
    )
    return render_items(report)


def test_what_was_measured_is_said() -> None:
    text = page(METRICS)
    for words in (
        "Recall@1 0.7500: of 40 queries, 75.0% have an item of their own label as the nearest.",
        "finds with recall@10 0.9900",
        "Recall@1 (an item of the label is among the first 1)",
        "Precision@5",
        "Accuracy of the vote of 5",
        "Pair accuracy (alike from a cosine of 0.500)",
        "2 whose label no item has are left out",
        "cup, 1 time",
        "and 6 more labels in metrics.json",
        "From a cosine of 0.9000",
        "item listed twice",
        "The encoder could not take 3 of the prepared items.",
        "As given.",
        "1 gate refused:",
        "3 items, 97 % fewer",
    ):
        assert words in text, words
    assert "<b>" not in text
    assert "&lt;b&gt;" in text


def test_look_ups_are_shown_with_right_and_wrong() -> None:
    query = Shown("<script>", "cup", "data:image/png;base64,AA")
    nearest = [Shown("one", "cup", None, 0.9, True), Shown("two", "pan", None, 0.8, False)]
    text = page(METRICS, LookUp(query, nearest))
    assert text.count("<script>") == 1  # the page's own
    assert 'class="right"' in text
    assert "✗ <bdi>pan</bdi>" in text
    assert 'src="data:image/png;base64,AA"' in text


def test_without_labels_it_says_so() -> None:
    unjudged = {**METRICS, "retrieval": None, "knn": {}, "by_label": [], "match": None, "pairs": None, "unjudged": "no"}
    text = page(unjudged, LookUp(Shown("one"), [Shown("two", score=0.5)]))
    assert "Not judged: no." in text
    assert "Items drawn by chance" in text
    assert "Does a look-up find its label?" not in text


def test_a_threshold_that_was_not_found_is_explained() -> None:
    assert "No threshold reaches" in page(
        {**METRICS, "match": {"threshold": None, "reason": "No threshold reaches it"}}
    )


def test_an_encoder_that_learned_from_the_items_is_said_to_be_flattered() -> None:
    assert "flatters it" in verdict({**METRICS, "judged_by": "items", "trained_on_items": True})
    assert "flatters it" not in verdict(METRICS)


def test_a_training_is_told_in_sentences() -> None:
    trained = {
        "method": "self_supervised",
        "learner": "simclr",
        "epochs": 8,
        "best_epoch": 7,
        "notes": ["some left out"],
    }
    lines = training_lines({**trained, "validation": {"recall@1": 0.5}})
    assert lines[0].startswith("Trained by self supervised with simclr, 8 epochs, the best of which was the 7.")
    assert "recall@1 0.5000" in lines[0]
    assert lines[1] == "Some left out"
    assert training_lines({"notes": ["as given: x"]}) == ["As given: x"]
