"""Two runs side by side on one page, which needs no script, no network and no other file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from topkin.report.browse.names import clean
from topkin.report.metrics_file import Metrics, protocol_scores
from topkin.report.night.words import MOVERS, change_words, plain_verdict, settings_rows, shown_number
from topkin.report.page import verdict
from topkin.report.template import template
from topkin.report.wording import METRIC_NAMES, MODEL_NAMES, PROTOCOL_NAMES, day, metric_name, share

MOVER_KEYS = {"climbers": "gained", "fallers": "lost", "entering": "entering", "leaving": "leaving"}
"""What the report calls them, and what ``topkin runs diff`` does."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the runs: its name, date, settings, and the content of its files, None where it has not got so far."""

    run_id: str
    as_of: datetime
    settings: Mapping[str, Any]
    statistics: Mapping[str, Any]
    metrics: Metrics | None
    gates: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A user, or an item, whose list kept least: its name, and titles of both lists."""

    name: str
    lists: tuple[Sequence[str], Sequence[str]]


def render_two(content: Mapping[str, Any], sides: tuple[Side, Side], pairs: Sequence[Pair]) -> str:
    """The page as HTML. told: what ``topkin runs diff`` tells, as JSON. pairs: of those that it names as affected."""
    judged = [side.metrics for side in sides if side.metrics is not None]
    return template("two_runs.html.j2").render(
        sides=[_side(side) for side in sides],
        counts=[
            (name, shown_number(was), shown_number(now), *change_words(was, now))
            for name, (was, now) in content["counts"].items()
            if was is not None or now is not None
        ],
        rejects=_rejects(sides),
        figures=_figures(*judged) if len(judged) == 2 and all("verdict" in m for m in judged) else [],
        lists=content.get("lists"),
        movers=[
            (title, note, {"items": side["items"], "most": [_moved(item) for item in side["most"]]})
            for key, title, note in MOVERS
            if (side := content.get(MOVER_KEYS[key], {})).get("items")
        ],
        pairs=pairs,
        settings=_settings(sides),
    )


def _side(side: Side) -> dict[str, Any]:
    """Its verdict and gates in words; no verdict of a run that was not evaluated, or over items alone."""
    metrics = side.metrics if side.metrics is not None and "verdict" in side.metrics else None
    words: dict[str, Any] = {"verdict": None, "plain": ""}
    if metrics is not None:
        made_by = MODEL_NAMES.get(metrics.get("made_by", ""))
        words = {"verdict": verdict(metrics), "plain": plain_verdict(metrics, None, made_by)}
    return words | {
        "run_id": side.run_id,
        "as_of": day(side.as_of),
        "judged": _judged(metrics),
        "refused": [gate for gate in side.gates or () if gate["verdict"] == "refused"],
        "gates": side.gates is not None,
    }


def _moved(item: Mapping[str, Any]) -> tuple[str, int, int]:
    return clean(item["title"] or "") or clean(str(item["item"])), item["before"], item["after"]


def _judged(metrics: Metrics | None) -> str:
    """The period whose purchases judge; empty where none does."""
    held: Mapping[str, Any] = {} if metrics is None else metrics.get("heldout", {})
    return f"{day(held['from'])} to {day(held['to'])}" if held.get("users") and held.get("from") else ""


def _figures(before: Metrics, now: Metrics) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """By protocol a row for each metric of the model, those with intervals with them."""
    tables, k = [], now["verdict"]["metric"].partition("@")[2]
    for protocol, title in PROTOCOL_NAMES.items():
        rows = []
        for name in METRIC_NAMES:
            cells = [_figure(metrics, protocol, f"{name}@{k}") for metrics in (before, now)]
            if any(cells):
                rows.append((metric_name(f"{name}@{k}"), cells[0] or "–", cells[1] or "–"))
        if rows:
            tables.append((title, rows))
    return tables


def _figure(metrics: Metrics, protocol: str, name: str) -> str:
    own = {**protocol_scores(metrics, protocol).get("model", {}), **metrics["coverage"][protocol].get("model", {})}
    if name not in own:
        return ""
    interval = metrics["intervals"][protocol].get("model", {}).get(name)
    return f"{own[name]:.4f}" + (f" ({interval[0]:.4f} to {interval[2]:.4f})" if interval else "")


def _rejects(sides: tuple[Side, Side]) -> list[tuple[str, str, str, str]]:
    """Input, reason, and the share of the input's rows in both runs, the largest first."""
    shares: dict[tuple[str, str], list[float]] = {}
    for at, side in enumerate(sides):
        for name, source in side.statistics["sources"].items():
            for reason, n in (source or {}).get("rejected", {}).items():
                rows = source["rows"] + source.get("unnested", 0)
                shares.setdefault((name, reason), [0.0, 0.0])[at] = n / rows if rows else 0.0
    order = sorted(shares.items(), key=lambda entry: (-max(entry[1]), entry[0]))
    return [(name, clean(reason), share(was, 1), share(now, 1)) for (name, reason), (was, now) in order]


def _settings(sides: tuple[Side, Side]) -> list[tuple[str, str, str]]:
    """The keys whose values differ."""
    one, two = (dict(settings_rows(side.settings)) for side in sides)
    return [(k, one.get(k, "–"), two.get(k, "–")) for k in {**one, **two} if one.get(k) != two.get(k)]
