"""The report's tables of kinds of users and items: a row for each model, the best of each column marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from topkin.report.wording import MODEL_NAMES, PROTOCOL_NAMES, in_order, metric_name, plural

JOINED = "\u2060"  # no line breaks here
QUARTERS = ("Least active quarter", "Second quarter", "Third quarter", "Most active quarter")


@dataclass(frozen=True, kw_only=True)
class MetricsTable:
    """A table. columns: name and what is said below it. rows: name, is it the model, (text, is it the best)."""

    title: str
    note: str
    corner: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, bool, Sequence[tuple[str, bool]]]]


def _grid(
    title: str,
    note: str,
    corner: str,
    columns: Sequence[tuple[str, str]],
    values: Mapping[str, Sequence[float | None]],
    best: Sequence[int],
    digits: Sequence[int],
) -> MetricsTable:
    """values: of each model, for each column. best: 1 where the highest is marked, -1 the lowest, 0 none."""
    marks = []
    for c, sign in enumerate(best):
        known = [row[c] * sign for row in values.values() if row[c] is not None]  # type: ignore[operator]
        marks.append(max(known, default=None) if sign else None)
    rows = []
    for model, row in in_order(values):
        cells = []
        for value, sign, mark, n in zip(row, best, marks, digits, strict=True):
            text = "–" if value is None else f"{value:.{n}f}"
            is_best = bool(sign) and value is not None and value * sign == mark and (value > 0 or sign < 0)
            cells.append((text, is_best))
        rows.append((MODEL_NAMES[model], model == "model", cells))
    return MetricsTable(title=title, note=note, corner=corner, columns=columns, rows=rows)


def _span(entry: Mapping[str, Any]) -> str:
    low, high = entry["from"], entry["to"]
    return f"{low:,}" if low == high else f"{low:,}{JOINED}–{JOINED}{high:,}"


def _protocol(metrics: Mapping[str, Any]) -> str:
    """The verdict's protocol where it was measured, else the other."""
    first = metrics["verdict"]["protocol"]
    return first if metrics["segments"][first] else "all"


def user_kinds(metrics: Mapping[str, Any]) -> MetricsTable | None:
    """The headline metric by how much is known of a user, and by quarters of activity."""
    found, metric = metrics["segments"][_protocol(metrics)], metrics["verdict"]["metric"]
    if not found:
        return None
    entries = [(e, f"{e['name'].capitalize()} users") for e in found["history"]]
    entries += [(e, QUARTERS[int(e["name"]) - 1]) for e in found["activity"]]
    columns = [(name, f"{_span(e)} purchases; {plural(e['users'], 'user')}") for e, name in entries]
    values = {m: [e["metrics"][m][metric] for e, _ in entries] for m in metrics["models"]}
    n = len(entries)
    return _grid(
        "By kind of user",
        f"{PROTOCOL_NAMES[_protocol(metrics)]}. Cold users have fewer than five purchases before the date; "
        "quarters are of all users who bought before it.",
        f"{metric_name(metric)}; bold: the best",
        columns,
        values,
        [1] * n,
        [4] * n,
    )


def item_kinds(metrics: Mapping[str, Any]) -> MetricsTable | None:
    """The share of the true pairs that lists hold, by tenths of the items by sales."""
    found = metrics["segments"][_protocol(metrics)]
    if not found or not found["decile"]:
        return None
    k = metrics["verdict"]["metric"].partition("@")[2]
    entries = found["decile"]
    columns = [(_span(e), f"{e['pairs']:,}\u00a0true") for e in entries]
    values = {m: [e["metrics"][m][f"found@{k}"] for e in entries] for m in metrics["models"]}
    n = len(entries)
    return _grid(
        "By how well the item sells",
        f"{PROTOCOL_NAMES[_protocol(metrics)]}: of all pairs of a user and an item bought later, the share in the "
        f"user's first {k}. A column is a tenth of the items sold, by their purchases before the date.",
        "Purchases of the item; bold: the best",
        columns,
        values,
        [1] * n,
        [3] * n,
    )


def cold_items(metrics: Mapping[str, Any]) -> MetricsTable | None:
    """How well new and rare items are found."""
    found = metrics["cold_items"]
    if not found:
        return None
    k = metrics["verdict"]["metric"].partition("@")[2]
    names = [(kind, f"{m}@{k}") for kind in ("of_all", "among_cold") for m in ("recall", "ndcg")]
    said = {"of_all": "lists of all items", "among_cold": "lists of cold items alone"}
    columns = [(metric_name(name), said[kind]) for kind, name in names]
    columns.append(("Over popularity", f"Recall@{k}, cold items alone"))
    base = found["among_cold"].get("popularity", {}).get(f"recall@{k}")
    values: dict[str, list[float | None]] = {}
    for m in metrics["models"]:
        over = found["among_cold"][m][f"recall@{k}"] / base if base else None
        values[m] = [*(found[kind][m][name] for kind, name in names), over]
    return _grid(
        "Cold items",
        f"{plural(found['items'], 'item')} first sold in the last {found['days']} days before the date, or with fewer "
        f"than {plural(found['sales'], 'purchase')} before it; {plural(found['users'], 'user')} bought "
        f"{plural(found['pairs'], 'such item')} new to them. True are these alone.",
        "Bold: the best",
        columns,
        values,
        [1] * len(columns),
        [4, 4, 4, 4, 2],
    )


def list_qualities(metrics: Mapping[str, Any]) -> MetricsTable | None:
    """What lists are beside accurate."""
    protocol = _protocol(metrics)
    k = metrics["verdict"]["metric"].partition("@")[2]
    found = {m: v for m, v in metrics["lists"][protocol].items() if f"novelty@{k}" in v}
    if not found:
        return None
    columns = [
        ("Coverage", "share of the items sold in any list"),
        ("Gini", "0: all items listed alike"),
        ("Novelty", "bits: −log₂ share of users who bought"),
        ("Popularity", "share of users who bought"),
        ("Diversity", "1 − cosine of two listed items"),
    ]
    values: dict[str, list[float | None]] = {}
    for m, v in found.items():
        shown = [v.get(f"{name}@{k}") for name in ("gini", "novelty", "popularity", "diversity")]
        values[m] = [metrics["coverage"][protocol][m][f"coverage@{k}"], *shown]
    return _grid(
        "What the lists are like",
        f"{PROTOCOL_NAMES[protocol]}, the first {k}: means over all places of the lists, diversity over the lists. "
        "None of these is good or bad by itself.",
        "",
        columns,
        values,
        [0] * 5,
        [4, 3, 2, 4, 3],
    )
