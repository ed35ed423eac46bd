"""The report of a run: one page that needs no script, no network and no other file."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from topkin import charts
from topkin.report_data import ReportData

MODEL_NAMES = {
    "model": "This model",
    "popularity": "Popularity",
    "recent_popularity": "Recent popularity",
    "own_frequency": "Own frequency",
    "item_knn": "Item-kNN",
    "item_knn_recent": "Item-kNN × recency",
}
MODEL_MEANINGS = {
    "popularity": "items by how many users bought them",
    "recent_popularity": "items by purchases in the last seven days",
    "own_frequency": "what the user bought most often, then popularity",
    "item_knn": "items bought by the same users as the user's items",
    "item_knn_recent": "item-kNN, lifted by what sells now",
}
METRIC_NAMES = {
    "recall": "Recall",
    "precision": "Precision",
    "ndcg": "NDCG",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "coverage": "Coverage",
}
PROTOCOL_NAMES = {"novel": "Items new to the user", "all": "All items, bought ones too"}
SOURCE_NAMES = {
    "model": "the model",
    "segment_recent_popularity": "recent popularity in the user's segment",
    "recent_popularity": "recent popularity",
    "popularity": "popularity",
}
RULES = {
    "exclude": "bought items are never listed",
    "keep": "bought items may be listed",
    "cooldown": "bought items are listed again after a cool-down",
}
TAIL_SHARES = tuple(range(0, 101, 5))


def render(data: ReportData) -> str:
    """The whole page as HTML. Everything that comes from the data is escaped."""
    drawn = {name: Markup(svg) for name, svg in draw(data).items()}
    return _template().render(
        data=data,
        css=Markup(charts.CSS),
        charts=drawn,
        verdict=verdict(data.metrics),
        comparison=comparison(data.metrics),
        boards=boards(data.metrics),
        profile=profile(data),
        rejects=reject_rows(data.statistics),
        lists=list_rows(data),
        published=published(data.metrics),
        source_names=SOURCE_NAMES,
        validation=validation(data),
        headline=metric_name(data.metrics["verdict"]["metric"]),
        charts_caption=captions(data),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=_count, plural=_plural, day=_day, share=_share, signed=_signed)
    text = resources.files("topkin").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(text)


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _plural(value: int, one: str, many: str = "") -> str:
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def _day(value: Any) -> str:
    """9 Nov 2011, and the time of day where it is not midnight."""
    if value is None:
        return "–"
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    text = f"{value.day} {value:%b %Y}"
    return f"{text}, {value:%H:%M}" if isinstance(value, datetime) and (value.hour or value.minute) else text


def _share(part: float, whole: float) -> str:
    """A share in per cent; never 0 % of something, nor 100 % of not all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if part and percent < 0.1:
        return "< 0.1 %"
    if part != whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.1f} %" if 0 < percent < 100 else f"{percent:.0f} %"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def captions(data: ReportData) -> dict[str, str]:
    """The captions that depend on what was measured."""
    name = metric_name(data.metrics["verdict"]["metric"])
    measured = next((n for e in data.training.get("epochs") or [] for n in e if n.startswith("validation_")), None)
    return {
        "differences": f"{name}: the model minus each baseline",
        "metrics": f"{name} of the model and the baselines",
        "recall": f"Validation {metric_name(measured.removeprefix('validation_'))}" if measured else "",
    }


def metric_name(name: str) -> str:
    """``ndcg@10`` as ``NDCG@10``."""
    kind, _, k = name.partition("@")
    return f"{METRIC_NAMES[kind]}@{k}"


def verdict(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Is the model good: a word, a sentence, and which of good, bad and open it is."""
    found = metrics["verdict"]
    if found["good"] is None:
        return {
            "kind": "open",
            "word": "Not judged",
            "sentence": f"Whether the model is good cannot be said: {found['reason']}.",
        }
    beaten = [MODEL_NAMES[n] for n, yes in metrics["beats"].items() if yes]
    rest = [MODEL_NAMES[n] for n, yes in metrics["beats"].items() if not yes]
    measure = (
        f"{metric_name(found['metric'])} on {'items new to the user' if found['protocol'] == 'novel' else 'all items'}"
    )
    if found["good"]:
        return {
            "kind": "good",
            "word": "Good",
            "sentence": f"In {measure} the model beats all {len(beaten)} baselines: every 95 % interval of the "
            "difference lies above zero.",
        }
    known = (
        f"the model beats {_words(beaten, 'and')}, but not {_words(rest, 'or')}"
        if beaten
        else "the model beats no baseline"
    )
    return {
        "kind": "bad",
        "word": "Not good",
        "sentence": f"In {measure} {known}. A baseline is beaten where the whole 95 % interval of the difference "
        "lies above zero, and only a model that beats all of them is called good.",
    }


def _words(names: Sequence[str], last: str) -> str:
    names = [n[0].lower() + n[1:] for n in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def comparison(metrics: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each protocol, the verdict's first, a row for each baseline: values, difference, interval, word."""
    metric, first = metrics["verdict"]["metric"], metrics["verdict"]["protocol"]
    found = []
    for protocol in sorted(PROTOCOL_NAMES, key=lambda p: p != first):
        rows = []
        for name, values in metrics["differences"][protocol].items():
            low, mean, high = values[metric]
            ours, theirs = metrics[protocol]["model"][metric], metrics[protocol][name][metric]
            kind = "better" if low > 0 else "worse" if high < 0 else "same"
            row = {"baseline": MODEL_NAMES[name], "meaning": MODEL_MEANINGS[name], "ours": ours, "theirs": theirs}
            row |= {"low": low, "mean": mean, "high": high, "kind": kind}
            row |= {"word": "no clear difference" if kind == "same" else kind}
            rows.append(row | {"ratio": ours / theirs if theirs else None})
        if rows:
            found.append((PROTOCOL_NAMES[protocol], rows))
    return found


def boards(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each protocol, a block of rows for each cut-off: the models' metrics, the best of each marked."""
    found, shown = [], int(metrics["verdict"]["metric"].partition("@")[2])
    for protocol, title in PROTOCOL_NAMES.items():
        if not metrics[protocol]:
            continue
        blocks = []
        for k in metrics["k"]:
            rows = {
                model: [*(values[f"{m}@{k}"] for m in METRIC_NAMES if m != "coverage"),
                        metrics["coverage"][protocol][model][f"coverage@{k}"]]
                for model, values in metrics[protocol].items()
            }  # fmt: skip
            best = [max(column) for column in zip(*rows.values(), strict=True)]
            blocks.append(
                {
                    "k": k,
                    "open": k == shown,
                    "rows": [
                        (MODEL_NAMES[m], m == "model", [(v, v == b and v > 0) for v, b in zip(row, best, strict=True)])
                        for m, row in rows.items()
                    ],
                }
            )
        found.append({"protocol": protocol, "title": title, "blocks": blocks, "names": list(METRIC_NAMES.values())})
    return found


def profile(data: ReportData) -> list[tuple[str, str]]:
    """The numbers at the head of the data section."""
    s, lengths = data.statistics, data.history_lengths
    source = s["sources"]["purchases"]
    lost = sum(source["rejected"].values()) + source.get("duplicates", 0)
    return [
        ("Rows read", f"{source['rows']:,}"),
        ("Rows left out", f"{lost:,} ({_share(lost, source['rows'])})"),
        ("Purchases before the date", f"{s['events']:,}"),
        ("Held-out purchases", f"{s['heldout_events']:,}"),
        ("Users", f"{s['users']:,}"),
        ("Items", f"{s['items']:,}"),
        ("Items never sold", f"{s['items_without_sales']:,}"),
        ("Purchases of the middle user", f"{float(np.median(lengths)) if len(lengths) else 0:,.0f}"),
    ]


def reject_rows(statistics: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    """Source, reason, rows and share of its rows, most first within a source."""
    rows = []
    for name, source in statistics["sources"].items():
        if not source:
            continue
        reasons = {**source["rejected"]}
        if source.get("duplicates"):
            reasons["exact duplicate of another row"] = source["duplicates"]
        for reason, number in sorted(reasons.items(), key=lambda r: (-r[1], r[0])):
            rows.append((name, reason, number, _share(number, source["rows"])))
    return rows


def list_rows(data: ReportData) -> dict[str, list[tuple[str, int, str]]]:
    """Users by the source of their list, and short lists by reason."""
    users = sum(data.list_users.values())
    return {
        "sources": [
            (SOURCE_NAMES.get(n, n), v, _share(v, users))
            for n, v in sorted(data.list_users.items(), key=lambda x: (-x[1], x[0]))
        ],
        "short": [
            (n.replace("_", " "), v, _share(v, data.statistics["users"]))
            for n, v in sorted(data.short_lists.items(), key=lambda x: (-x[1], x[0]))
        ],
    }


def published(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of the published lists under their own rule."""
    found = metrics["published"]
    ks = [k for k in metrics["k"] if f"recall@{k}" in found["metrics"]]
    return {
        "users": found["users"],
        "rule": RULES[found["policy"]],
        "names": list(METRIC_NAMES.values()),
        "rows": [
            (k, [*(found["metrics"][f"{m}@{k}"] for m in METRIC_NAMES if m != "coverage"),
                 found["coverage"][f"coverage@{k}"]])
            for k in ks
        ],
    }  # fmt: skip


def validation(data: ReportData) -> str:
    """What the training itself measured, in a sentence; empty where it measured nothing."""
    found = data.metrics.get("validation") or {}
    name = next((n for n in found if n.partition("@")[0] in METRIC_NAMES), None)
    if name is None or found[name] is None:
        return ""
    return f"On the last days before the date, which training kept aside, {metric_name(name)} was {found[name]:.3f}."


def draw(data: ReportData) -> dict[str, str]:
    """Every chart that the data have enough for, by name."""
    drawn = {**_draw_metrics(data.metrics), **_draw_data(data), **_draw_training(data.training)}
    places = data.item_map
    if places is not None:
        by = "their sales, in tenths: the larger and stronger, the more sold" if places.ordered else "category"
        drawn["map"] = charts.scatter_map(
            "map",
            "Map of the items",
            f"The {len(places.points)} best-sold items in the plane of the two main directions of their vectors, "
            f"by {by}. Items that are bought by the same users lie near each other.",
            places.points,
            places.groups,
            [charts.shorten(n, 24) for n in places.names],
            [(i, charts.shorten(text, 30)) for i, text in places.labels],
            ordered=places.ordered,
        )
    return drawn


def _draw_metrics(metrics: Mapping[str, Any]) -> dict[str, str]:
    metric = metrics["verdict"]["metric"]
    values, apart = [], []
    for protocol, title in PROTOCOL_NAMES.items():
        spread = metrics["intervals"][protocol]
        if spread:
            bars = [
                charts.Bar(MODEL_NAMES[m], s[metric][1], s[metric][0], s[metric][2], m == "model")
                for m, s in spread.items()
            ]
            values.append((title, bars))
            differences = metrics["differences"][protocol].items()
            rows = [charts.Bar(MODEL_NAMES[n], d[metric][1], d[metric][0], d[metric][2]) for n, d in differences]
            apart.append((title, rows))
    if not values:
        return {}
    name = metric_name(metric)
    said = "; ".join(f"{title}: " + ", ".join(f"{b.name} {b.value:.3f}" for b in bars) for title, bars in values)
    return {
        "metrics": charts.bar_groups("metrics", f"{name} of the model and the baselines", said, values),
        "differences": charts.interval_plot(
            "differences",
            f"{name}: the model minus each baseline",
            "; ".join(f"{title}: " + ", ".join(f"{b.name} {b.value:+.3f}" for b in bars) for title, bars in apart),
            apart,
        ),
    }


def _draw_data(data: ReportData) -> dict[str, str]:
    drawn = {}
    months = data.months
    if months:
        columns = []
        for m in months:
            year, month = m.name.split("-")
            name = (
                f"{'JFMAMJJASOND'[int(month) - 1]}" if len(months) > 30 else f"{datetime(int(year), int(month), 1):%b}"
            )
            name = f"{name} {year[2:]}" if month == "01" or m is months[0] else name
            columns.append(charts.Column(name, m.known, m.held_out))
        drawn["months"] = charts.histogram(
            "months",
            "Purchases per month",
            f"Purchases from {months[0].name} to {months[-1].name}; hollow parts are held out.",
            columns,
        )
    sold = np.sort(data.item_events[data.item_events > 0])[::-1]
    if len(sold) > 1:
        total = np.concatenate([[0], np.cumsum(sold)]) / sold.sum()
        at = [100 * float(np.interp(s / 100 * len(sold), np.arange(len(sold) + 1), total)) for s in TAIL_SHARES]
        drawn["tail"] = charts.line_chart(
            "tail",
            "The long tail",
            f"The best-sold tenth of the items makes {at[2]:.0f} % of the purchases, the half {at[10]:.0f} %.",
            [charts.Line("purchases", TAIL_SHARES, at)],
            x_label="best-sold items, % of all sold",
            y_label="purchases, %",
            mark=(10, f"a tenth of the items: {at[2]:.0f} %"),
            from_zero=True,
        )
    for key, what, values in (("lengths", "users", data.history_lengths), ("sales", "items", data.item_events)):
        if len(values):
            names, numbers = bins(values)
            drawn[key] = charts.histogram(
                key,
                f"{what.capitalize()} by their number of purchases",
                ", ".join(f"{n}: {v} {what}" for n, v in zip(names, numbers, strict=True)),
                [charts.Column(n, v) for n, v in zip(names, numbers, strict=True)],
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


def _draw_training(training: Mapping[str, Any]) -> dict[str, str]:
    epochs = training.get("epochs") or []
    best, drawn = training.get("best_epoch"), {}
    for key, field, title in (("loss", "loss", "Training loss"), ("recall", None, "Validation recall")):
        name = field or next((n for e in epochs for n in e if n.startswith("validation_")), None)
        points = [(e["epoch"], e[name]) for e in epochs if name and e.get(name) is not None]
        if points:
            shown = title if field else f"Validation {metric_name(str(name).removeprefix('validation_'))}"
            drawn[key] = charts.line_chart(
                key,
                f"{shown} by epoch",
                ", ".join(f"epoch {e}: {v:.4g}" for e, v in points),
                [charts.Line(shown, [e for e, _ in points], [v for _, v in points])],
                x_label="epoch",
                mark=(best, f"kept: epoch {best}") if best and not field else None,
                whole=True,
                height=210,
            )
    return drawn
