"""The charts of the report."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from topkin.report import hindsight, svg
from topkin.report.data import ReportData
from topkin.report.metrics_file import Intervals, Metrics, TrainingRecord
from topkin.report.wording import MODEL_NAMES, PROTOCOL_NAMES, in_order, metric_name

TAIL_SHARES = tuple(range(0, 101, 5))


def draw(data: ReportData) -> dict[str, str]:
    """Every chart that the data have enough for, by name."""
    drawn = {**_draw_metrics(data.metrics), **_draw_data(data), **_draw_training(data.training)}
    drawn |= hindsight.draw(data.hindsight) if data.hindsight is not None else {}
    return drawn


def _draw_metrics(metrics: Metrics) -> dict[str, str]:
    metric = metrics["verdict"]["metric"]

    def bars(by_protocol: Mapping[str, Intervals]) -> list[tuple[str, list[svg.Bar]]]:
        groups = []
        for protocol, title in PROTOCOL_NAMES.items():
            rows = [(model, values[metric]) for model, values in in_order(by_protocol[protocol])]
            bars = [svg.Bar(MODEL_NAMES[m], mean, low, high, m == "model") for m, (low, mean, high) in rows]
            groups += [(title, bars)] if metrics["intervals"][protocol] else []
        return groups

    def description(groups: list[tuple[str, list[svg.Bar]]], sign: str) -> str:
        return "; ".join(
            f"{title}: " + ", ".join(f"{b.name} {b.value:{sign}.3f}" for b in bars) for title, bars in groups
        )

    values, differences, name = bars(metrics["intervals"]), bars(metrics["differences"]), metric_name(metric)
    if not values:
        return {}
    titles = (f"{name} of the model and the baselines", f"{name}: the model minus each baseline")
    return {
        "metrics": svg.bar_groups("metrics", titles[0], description(values, ""), values),
        "differences": svg.interval_plot("differences", titles[1], description(differences, "+"), differences),
    }


def _draw_data(data: ReportData) -> dict[str, str]:
    drawn = {}
    months = data.months
    if months:
        columns = []
        for m in months:
            year, month = m.name.split("-")
            name = f"{datetime(int(year), int(month), 1):%b}"[: 1 if len(months) > 30 else 3]
            name = f"{name} {year[2:]}" if month == "01" or m is months[0] else name
            columns.append(svg.Column(name, m.before, m.held_out))
        drawn["months"] = svg.histogram(
            "months",
            "Purchases per month",
            f"Purchases from {months[0].name} to {months[-1].name}; hollow parts are held out.",
            columns,
        )
    sold = np.sort(data.item_events[data.item_events > 0])[::-1]
    if len(sold) > 1:
        total = np.concatenate([[0], np.cumsum(sold)]) / sold.sum()
        at = [100 * float(np.interp(s / 100 * len(sold), np.arange(len(sold) + 1), total)) for s in TAIL_SHARES]
        drawn["tail"] = svg.line_chart(
            "tail",
            "The long tail",
            f"The best-sold tenth of the items makes {at[2]:.0f} % of the purchases, the half {at[10]:.0f} %.",
            [svg.Line("purchases", TAIL_SHARES, at)],
            x_label="best-sold items, % of all sold",
            y_label="purchases, %",
            mark=(10, f"a tenth of the items: {at[2]:.0f} %"),
            from_zero=True,
        )
    for key, what, values in (("lengths", "users", data.history_lengths), ("sales", "items", data.item_events)):
        if len(values):
            names, numbers = bins(values)
            drawn[key] = svg.histogram(
                key,
                f"{what.capitalize()} by their number of purchases",
                ", ".join(f"{n}: {v} {what}" for n, v in zip(names, numbers, strict=True)),
                [svg.Column(n, v) for n, v in zip(names, numbers, strict=True)],
                x_label=f"purchases of {'a user' if what == 'users' else 'an item'}",
            )
    return drawn


def bins(lengths: np.ndarray) -> tuple[list[str], list[int]]:
    """Counts of values in bins that double: 0, 1, 2–3, 4–7, …, from the first that holds one to the last."""
    exponents = np.where(lengths > 0, np.floor(np.log2(np.maximum(lengths, 1))) + 1, 0).astype(int)
    counts = np.bincount(exponents)
    first = int(exponents.min())
    names = ["0", "1", *(f"{2**e}–{2 ** (e + 1) - 1}" for e in range(1, len(counts)))]
    return names[first : len(counts)], counts[first:].tolist()


def _draw_training(training: TrainingRecord) -> dict[str, str]:
    trial, final = training.get("epochs") or [], training.get("refit") or []
    lines = [
        svg.Line(name, [e["epoch"] for e in epochs], [e["loss"] for e in epochs])
        for name, run in (("trial", trial), ("final", final))
        if (epochs := [e for e in run if "loss" in e])
    ]
    best, drawn = training.get("best_epoch"), {}
    if lines:
        text = "; ".join(f"{p.name}: " + ", ".join(f"{v:.4g}" for v in p.y) for p in lines)
        drawn["loss"] = svg.line_chart("loss", "Loss by epoch", text, lines, x_label="epoch", whole=True, height=220)
    name = validation_metric(training)
    points = [(e["epoch"], e[name]) for e in trial if e.get(name) is not None]
    if points:
        shown = f"Validation {metric_name(name.removeprefix('validation_'))}"
        drawn["recall"] = svg.line_chart(
            "recall",
            f"{shown} by epoch",
            ", ".join(f"epoch {e}: {v:.4g}" for e, v in points),
            [svg.Line(shown, [e for e, _ in points], [v for _, v in points])],
            x_label="epoch",
            mark=(best, kept_epoch(best, points)) if best else None,
            whole=True,
            height=220,
        )
    return drawn


def kept_epoch(kept: int, points: Sequence[tuple[float, float]]) -> str:
    """The word at the epoch that was kept: where the curve of (epoch, value) is highest elsewhere, it says why."""
    peak = max(points, key=lambda point: point[1])[0]
    return f"kept: epoch {kept}" + ("" if kept == peak else f"; {peak:g} is higher within its noise")


def validation_metric(training: TrainingRecord) -> str:
    """The key of the training's validation metric, ``validation_recall@20``; empty where it has none."""
    names = (n for e in training.get("epochs") or [] for n in e if n.startswith("validation_") and "@" in n)
    return next(names, "")
