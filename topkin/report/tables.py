"""The report's tables of metrics: a row for each model, the best of each column marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topkin.report.metrics_file import Group, Metrics, protocol_scores
from topkin.report.wording import METRIC_NAMES, MODEL_NAMES, PROTOCOL_NAMES, in_order, metric_name, plural

JOINED = "\u2060"  # no line breaks here
QUARTERS = ("Least active quarter", "Second quarter", "Third quarter", "Most active quarter")
Cell = tuple[str, bool]
"""A text, and whether it is the best of its column."""


@dataclass(frozen=True, kw_only=True)
class MetricsTable:
    """A table. columns: a name and a line below it. rows: name, is it the model, cells."""

    title: str
    note: str
    corner: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, bool, Sequence[Cell]]]


def rows_of(
    values: Mapping[str, Sequence[float | None]], digits: Sequence[int], *, mark_best: bool = True
) -> list[tuple[str, bool, list[Cell]]]:
    """The rows of a :class:`MetricsTable` from each model's value for each column, and the decimals of each; where all
    of a column are equal none is marked.
    """
    columns = [[v for v in column if v is not None] for column in zip(*values.values(), strict=True)]
    best = [max(column) if len(set(column)) > 1 or len(column) == 1 else None for column in columns]
    rows = []
    for model, row in in_order(values):
        cells = [
            ("–" if v is None else f"{v:.{n}f}", mark_best and v is not None and v == b and v > 0)
            for v, b, n in zip(row, best, digits, strict=True)
        ]
        rows.append((MODEL_NAMES[model], model == "model", cells))
    return rows


def _span(group: Group) -> str:
    low, high = group["from"], group["to"]
    return f"{low:,}" if low == high else f"{low:,}{JOINED}–{JOINED}{high:,}"


def _protocol(metrics: Metrics) -> str:
    """The verdict's protocol where it was measured, else the other."""
    first = metrics["verdict"]["protocol"]
    return first if metrics["segments"][first] else "all"


def _k(metrics: Metrics) -> str:
    return metrics["verdict"]["metric"].partition("@")[2]


def metric_rows(metrics: Metrics, protocol: str, k: int) -> list[tuple[str, bool, list[Cell]]]:
    """Every metric of each model at one cut-off, in the order of METRIC_NAMES."""
    values: dict[str, list[float | None]] = {}
    for model, scores in protocol_scores(metrics, protocol).items():
        scores = {**scores, **metrics["coverage"][protocol][model]}
        values[model] = [scores[f"{name}@{k}"] for name in METRIC_NAMES]
    return rows_of(values, [4] * len(METRIC_NAMES))


def user_kinds(metrics: Metrics) -> MetricsTable | None:
    """The headline metric by how many purchases a user has, and by quarters of activity."""
    segments, metric = metrics["segments"][_protocol(metrics)], metrics["verdict"]["metric"]
    if not segments:
        return None
    groups = [(g, f"{g['name'].capitalize()} users") for g in segments["history"]]
    groups += [(g, QUARTERS[int(g["name"]) - 1]) for g in segments["activity"]]
    values = {m: [g["metrics"][m][metric] for g, _ in groups] for m in metrics["models"]}
    return MetricsTable(
        title="By kind of user",
        note=f"{PROTOCOL_NAMES[_protocol(metrics)]}. Cold users have fewer than five purchases before the date; "
        "quarters are of all users who bought before it.",
        corner=f"{metric_name(metric)}; bold: the best",
        columns=[(name, f"{_span(g)} purchases; {plural(g['users'], 'user')}") for g, name in groups],
        rows=rows_of(values, [4] * len(groups)),
    )


def item_kinds(metrics: Metrics) -> MetricsTable | None:
    """The share of the true pairs that lists hold, by tenths of the items by sales."""
    segments, k = metrics["segments"][_protocol(metrics)], _k(metrics)
    if not segments or not segments["decile"]:
        return None
    tenths = segments["decile"]
    values = {m: [g["metrics"][m][f"found@{k}"] for g in tenths] for m in metrics["models"]}
    return MetricsTable(
        title="By how well the item sells",
        note=f"{PROTOCOL_NAMES[_protocol(metrics)]}: of all pairs of a user and an item bought later, the share in the "
        f"user's first {k}. A column is a tenth of the items sold, by their purchases before the date.",
        corner="Purchases of the item; bold: the best",
        columns=[(_span(g), f"{g['pairs']:,}\u00a0true") for g in tenths],
        rows=rows_of(values, [3] * len(tenths)),
    )


def cold_items(metrics: Metrics) -> MetricsTable | None:
    """How well new and rare items are found."""
    cold, recall, ndcg = metrics["cold_items"], f"recall@{_k(metrics)}", f"ndcg@{_k(metrics)}"
    if not cold:
        return None
    base = cold["among_cold"].get("popularity", {}).get(recall)
    values: dict[str, list[float | None]] = {}
    for m in metrics["models"]:
        among_all, among_cold = cold["of_all"][m], cold["among_cold"][m]
        values[m] = [among_all[recall], among_all[ndcg], among_cold[recall], among_cold[ndcg]]
        values[m].append(among_cold[recall] / base if base else None)
    young = f" first sold in the last {cold['days']} days before the date, or" if cold["days"] else ""
    lists = ("lists of all items", "lists of cold items alone")
    columns = [(metric_name(name), which) for which in lists for name in (recall, ndcg)]
    return MetricsTable(
        title="Cold items",
        note=f"{plural(cold['items'], 'item')}{young} with "
        f"fewer than {plural(cold['sales'], 'purchase')} before it; {plural(cold['users'], 'user')} bought "
        f"{plural(cold['pairs'], 'such item')} new to them. Only these count as hits.",
        corner="Bold: the best",
        columns=[*columns, ("Over popularity", f"{metric_name(recall)}, cold items alone")],
        rows=rows_of(values, [4, 4, 4, 4, 2]),
    )


def list_qualities(metrics: Metrics) -> MetricsTable | None:
    """What lists are beside accurate."""
    protocol, k = _protocol(metrics), _k(metrics)
    lists = {m: v for m, v in metrics["lists"][protocol].items() if f"novelty@{k}" in v}
    if not lists:
        return None
    names = ("coverage", "gini", "novelty", "popularity", "diversity")
    scores = {m: {**v, **metrics["coverage"][protocol][m]} for m, v in lists.items()}
    values = {m: [v.get(f"{name}@{k}") for name in names] for m, v in scores.items()}
    return MetricsTable(
        title="What the lists are like",
        note=f"{PROTOCOL_NAMES[protocol]}, the first {k}: means over all places of the lists, diversity over the "
        "lists. None of these is good or bad by itself.",
        corner="",
        columns=[
            ("Coverage", "share of the items sold in any list"),
            ("Gini", "0: all items listed alike"),
            ("Novelty", "bits: −log₂ share of users who bought"),
            ("Popularity", "share of users who bought"),
            ("Diversity", "1 − cosine of two listed items"),
        ],
        rows=rows_of(values, [4, 3, 2, 4, 3], mark_best=False),
    )
