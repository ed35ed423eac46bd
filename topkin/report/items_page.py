"""The report of a run over items alone: how well look-ups find their label, and what lies next to what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from topkin.report.browse.content import PageContent, held
from topkin.report.gate_rows import GateRow, by_verdict
from topkin.report.night.words import change_section
from topkin.report.template import template
from topkin.report.wording import share


@dataclass(frozen=True)
class Shown:
    """An item or a query on the page.

    Attributes:
        name: Its title, or its id.
        label: None where it has none.
        picture: The address of a picture, None where there is none.
        score: The cosine with the query; None for the query itself.
        right: Whether it has the query's label; None where there are no labels.
    """

    name: str
    label: str | None = None
    picture: str | None = None
    score: float | None = None
    right: bool | None = None


@dataclass(frozen=True)
class LookUp:
    """A query and its nearest items."""

    query: Shown
    nearest: list[Shown]


@dataclass(frozen=True, kw_only=True)
class ItemsReport:
    """What the page is made of.

    metrics: The content of metrics.json. statistics: Of statistics.json. look_ups: Those shown. training: Lines about
    the encoder. gates: What the gates of [publish] found. content: What can be looked up. changes: The content of
    changes.json, None on a first night.
    """

    run_id: str
    as_of: datetime
    metrics: Mapping[str, Any]
    statistics: Mapping[str, Any]
    look_ups: Sequence[LookUp]
    training: Sequence[str]
    gates: Sequence[GateRow]
    content: PageContent
    changes: Mapping[str, Any] | None = None


NAMES = {
    "recall_any@": "Recall@{} (an item of the label is among the first {})",
    "precision@": "Precision@{}",
    "r_precision": "R-precision",
    "map@r": "MAP@R",
    "mrr": "MRR",
}


def render_items(report: ItemsReport) -> str:
    """The whole page as HTML. Everything that comes from the data is escaped."""
    return template("items.html.j2").render(
        report=report,
        metrics=report.metrics,
        verdict=verdict(report.metrics),
        gates=by_verdict(report.gates),
        changes=change_section(report.changes) if report.changes else None,
        held=held(report.content, report.statistics),
        scores=_scores(report.metrics),
        rejects=[
            (source, reason, n, share(n, counts["rows"]))
            for source, counts in report.statistics["sources"].items()
            for reason, n in sorted(counts["rejected"].items(), key=lambda r: (-r[1], r[0]))
        ],
    )


def verdict(metrics: Mapping[str, Any]) -> str:
    """What the run is worth, in a sentence."""
    retrieval, index = metrics.get("retrieval"), metrics["index"]
    recall = ", ".join(f"{name} {value:.4f}" for name, value in index.items())
    if retrieval is None:
        return f"Not judged: {metrics['unjudged']}. The index finds what an exact search finds with {recall}."
    whose = "queries" if metrics["judged_by"] == "queries" else "items, each among the others"
    right = retrieval["recall_any@1"]
    flattered = (
        " The encoder learned from these items, which flatters it: [queries] would judge it."
        if metrics.get("trained_on_items")
        else ""
    )
    return (
        f"Recall@1 {right:.4f}: of {retrieval['queries']:,} {whose}, {right:.1%} have an item of their own label as "
        f"the nearest.{flattered} The index finds what an exact search finds with {recall}."
    )


def training_lines(training: Mapping[str, Any]) -> list[str]:
    """The content of training.json in sentences."""
    notes = [note[:1].upper() + note[1:] for note in training["notes"]]
    if "method" not in training:
        return notes
    by = training.get("loss") or training.get("learner")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in training["validation"].items())
    return [
        f"Trained by {training['method'].replace('_', ' ')} with {by}, {training['epochs']} epochs, the best of which "
        f"was the {training['best_epoch']}.{f' On items kept out of it: {scores}.' if scores else ''}",
        *notes,
    ]


def _scores(metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The metrics by their names for people."""
    retrieval = metrics.get("retrieval") or {}
    rows = []
    for key, value in retrieval.items():
        for begin, name in NAMES.items():
            if key == begin or (begin.endswith("@") and key.startswith(begin)):
                rows.append((name.format(*[key.removeprefix(begin)] * 2), value))
    rows += [(f"Accuracy of the vote of {k}", v) for k, v in (metrics.get("knn") or {}).items()]
    if pairs := metrics.get("pairs"):
        rows.append((f"Pair accuracy (alike from a cosine of {pairs['threshold']:.3f})", pairs["accuracy"]))
    return rows
