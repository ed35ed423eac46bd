"""The report of a run: one page that needs no network and no other file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from topkin.baselines.registry import BASELINES
from topkin.recommend.bought import BOUGHT
from topkin.report import hindsight
from topkin.report.browse.content import held
from topkin.report.charts import draw, validation_metric
from topkin.report.data import ReportData
from topkin.report.gate_rows import GateRow, by_verdict
from topkin.report.held_out import lead, stand_in
from topkin.report.hindsight import Hindsight
from topkin.report.metrics_file import Metrics, TrainingRecord, protocol_scores
from topkin.report.night.words import alarms, change_section, plain_verdict, settings_rows
from topkin.report.tables import cold_items, item_kinds, list_qualities, metric_rows, user_kinds
from topkin.report.template import template
from topkin.report.wording import (
    METRIC_NAMES,
    MODEL_NAMES,
    PROTOCOL_NAMES,
    SOURCE_NAMES,
    in_order,
    metric_name,
    plural,
    share,
)


def render(data: ReportData, gates: Sequence[GateRow], settings: Mapping[str, Any] | None = None) -> str:
    """The whole page as HTML. Everything that comes from the data is escaped.

    gates: what those of [publish] found. settings: those of the run that are not as by default.
    """
    made_by = MODEL_NAMES.get(data.metrics.get("made_by", ""))
    drawn = {name: Markup(chart) for name, chart in draw(data).items()}
    return template("report.html.j2").render(
        data=data,
        charts=drawn,
        verdict=verdict(data.metrics, data.hindsight),
        plain=plain_verdict(data.metrics, data.hindsight, made_by),
        alarms=alarms(data.metrics),
        changes=change_section(data.changes) if data.changes else None,
        held=held(data.content, data.statistics),
        settings=settings_rows(settings or {}),
        hindsight=_hindsight(data, drawn),
        gates=by_verdict(gates),
        comparison=comparison(data.metrics),
        grids=[g for g in (user_kinds(data.metrics), cold_items(data.metrics)) if g],
        folded=[g for g in (item_kinds(data.metrics), list_qualities(data.metrics)) if g],
        left_out=[(MODEL_NAMES[name], reason) for name, reason in in_order(data.metrics["left_out"])],
        boards=metric_tables(data.metrics),
        profile=profile(data),
        joins=[join["line"] for join in data.statistics.get("joins", ())],
        undated=[*data.statistics.get("without_times", ()), *data.statistics.get("without_purchases", ())],
        by_vectors="without_purchases" in data.statistics,
        rejects=reject_rows(data.statistics),
        lists=list_rows(data),
        made_by=made_by,
        published=published(data.metrics),
        source_names=SOURCE_NAMES,
        validation=validation(data),
        kept="positions" if by_order(data) else "days",
        training_text=training_text(data.training, by_order=by_order(data)),
        stand_in=stand_in(
            data.metrics,
            later=data.statistics["heldout_events"],
            made_by=made_by,
        ),
        unjudged=unjudged_purchases(data.metrics["heldout"]),
        headline=metric_name(data.metrics["verdict"]["metric"]),
        charts_caption=captions(data),
    )


def captions(data: ReportData) -> dict[str, str]:
    """The captions that depend on what was measured."""
    name = metric_name(data.metrics["verdict"]["metric"])
    measured = validation_metric(data.training)
    return {
        "differences": f"{name}: the model minus each baseline",
        "metrics": f"{name} of the model and the baselines",
        "recall": f"Validation {metric_name(measured.removeprefix('validation_'))}" if measured else "",
    }


def _hindsight(data: ReportData, drawn: Mapping[str, str]) -> dict[str, Any] | None:
    """What the section on earlier nights shows, None where there is nothing."""
    result = data.hindsight
    section = None if result is None else hindsight.section(result)
    return section if result is None or section is None else section | {"captions": hindsight.captions(result, drawn)}


def verdict(metrics: Metrics, earlier: Hindsight | None = None) -> dict[str, str]:
    """Is the model good: a word, a sentence, and which of good, bad and open it is.

    Where no held-out purchases tell, as on any night, it is that of hindsight.
    """
    verdict = metrics["verdict"]
    if verdict["good"] is None and earlier is not None and earlier.summary["days"]:
        return hindsight.head(earlier, str(verdict["reason"]))
    if verdict["good"] is None:
        return {
            "kind": "open",
            "word": "Not judged",
            "sentence": f"Whether the model is good cannot be said: {verdict['reason']}.",
        }
    beaten = [MODEL_NAMES[n] for n, yes in in_order(metrics["beats"]) if yes]
    made_by = metrics.get("made_by")
    itself = f" {MODEL_NAMES[made_by]} is the model, and is not compared with itself." if made_by else ""
    itself += "".join(f" But {doubt}." for doubt in metrics.get("doubts", ()))
    rest = [MODEL_NAMES[n] for n, yes in in_order(metrics["beats"]) if not yes]
    items = "items new to the user" if verdict["protocol"] == "novel" else "all items"
    measure = f"{lead(metrics)} {metric_name(verdict['metric'])} on {items}"
    if verdict["good"]:
        return {
            "kind": "good",
            "word": "Good",
            "sentence": f"{measure} the model beats all {len(beaten)} baselines: every 95 % interval of the "
            f"difference lies above zero.{itself}",
        }
    outcome = "the model beats no baseline"
    if beaten:
        outcome = f"the model beats {_words(beaten, 'and')}, but not {_words(rest, 'or')}"
    return {
        "kind": "bad",
        "word": "Not good",
        "sentence": f"{measure} {outcome}. A baseline is beaten where the whole 95 % interval of the difference "
        f"lies above zero, and only a model that beats all of them is called good.{itself}",
    }


def _words(names: Sequence[str], last: str) -> str:
    names = [n[0].lower() + n[1:] for n in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def unjudged_purchases(heldout: Mapping[str, int]) -> str:
    """Which held-out purchases judge nobody, in a sentence; empty where all do."""
    users, items = heldout["events_of_new_users"], heldout["events_of_new_items"]
    parts = []
    if users:
        parts.append(f"{plural(users, 'held-out purchase')} by users who had bought nothing before the date")
    if items:
        parts.append(f"{plural(items, 'held-out purchase') if not users else f'{items:,}'} of items not sold before it")
    verb = "judges" if users + items == 1 else "judge"
    return f"{' and '.join(parts)} {verb} nobody." if parts else ""


def comparison(metrics: Metrics) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each protocol, the verdict's first, a row for each baseline: values, difference, interval, word."""
    metric, first = metrics["verdict"]["metric"], metrics["verdict"]["protocol"]
    tables = []
    for protocol in sorted(PROTOCOL_NAMES, key=lambda p: p != first):
        scores, rows = protocol_scores(metrics, protocol), []
        for name, differences in in_order(metrics["differences"][protocol]):
            low, mean, high = differences[metric]
            ours, theirs = scores["model"][metric], scores[name][metric]
            kind = "better" if low > 0 else "worse" if high < 0 else "same"
            row = {"baseline": MODEL_NAMES[name], "meaning": BASELINES[name].meaning, "ours": ours, "theirs": theirs}
            row |= {"low": low, "mean": mean, "high": high, "kind": kind}
            row |= {"p": p_value(metrics["p"][protocol][name][metric], metrics.get("resamples"))}
            row |= {"word": "no clear difference" if kind == "same" else kind}
            rows.append(row | {"ratio": ours / theirs if theirs and kind != "same" else None})
        if rows:
            tables.append((PROTOCOL_NAMES[protocol], rows))
    return tables


def p_value(p: float, resamples: int | None) -> str:
    """A bootstrap's p-value; the least that so many resamples can tell is a bound, not a value."""
    least = 2 / (resamples + 1) if resamples else 0.0
    return f"≤ {least:.3f}" if p <= least else f"{p:.3f}"


def metric_tables(metrics: Metrics) -> list[dict[str, Any]]:
    """For each protocol, a block of rows for each cut-off: the models' metrics, the best of each marked."""
    shown = int(metrics["verdict"]["metric"].partition("@")[2])
    tables = []
    for protocol, title in PROTOCOL_NAMES.items():
        if protocol_scores(metrics, protocol):
            blocks = [{"k": k, "open": k == shown, "rows": metric_rows(metrics, protocol, k)} for k in metrics["k"]]
            tables.append({"title": title, "blocks": blocks, "names": list(METRIC_NAMES.values())})
    return tables


def profile(data: ReportData) -> list[tuple[str, str]]:
    """The numbers at the head of the data section."""
    s, lengths = data.statistics, data.history_lengths
    held_out = ("Held-out purchases", f"{s['heldout_events']:,}")
    if (source := s["sources"].get("purchases")) is None:
        return [held_out, ("Users", f"{s['users']:,}"), ("Items", f"{s['items']:,}")]
    lost = sum(source["rejected"].values()) + source.get("duplicates", 0)
    return [
        ("Rows read", f"{source['rows']:,}"),
        ("Rows left out", f"{lost:,} ({share(lost, _judged(source))})"),
        ("Purchases before the date", f"{s['events']:,}"),
        *((f"Events: {name}", f"{n['before']:,}") for name, n in s.get("event_types", {}).items()),
        held_out,
        ("Users", f"{s['users']:,}"),
        ("Items", f"{s['items']:,}"),
        ("Items never sold", f"{s['items_without_sales']:,}"),
        ("Purchases of the middle user", f"{float(np.median(lengths)) if len(lengths) else 0:,.0f}"),
    ]


def _judged(source: Mapping[str, Any]) -> int:
    """Rows of an input's files, and those that its lists added."""
    return int(source["rows"] + source.get("unnested", 0))


def reject_rows(statistics: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    """Source, reason, rows and share of its rows, most first within a source."""
    rows = []
    for name in sorted(statistics["sources"], key=lambda n: (n != "purchases", n)):
        source = statistics["sources"][name]
        if not source:
            continue
        duplicates = {"exact duplicate of another row": source.get("duplicates", 0)}
        for reason, n in sorted({**source["rejected"], **duplicates}.items(), key=lambda r: (-r[1], r[0])):
            if n:
                rows.append((name, reason, n, share(n, _judged(source))))
    return rows


def list_rows(data: ReportData) -> dict[str, list[tuple[str, int, str]]]:
    """Users by the source of their list, and short lists by reason."""

    def rows(counts: Mapping[str, int], whole: int) -> list[tuple[str, int, str]]:
        by_count = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return [(SOURCE_NAMES.get(name, name.replace("_", " ")), n, share(n, whole)) for name, n in by_count]

    users = sum(data.list_users.values())
    return {"sources": rows(data.list_users, users), "short": rows(data.short_lists, data.statistics["users"])}


def published(metrics: Metrics) -> dict[str, Any]:
    """The metrics of the published lists under their own rule."""
    lists = metrics["published"]
    scores = {**lists["metrics"], **lists["coverage"]}
    return {
        "users": lists["users"],
        "reason": lists["reason"],
        "rule": BOUGHT[lists["policy"]].meaning,
        "rules_cost": rules_cost(lists.get("rules_cost") or {}),
        "names": list(METRIC_NAMES.values()),
        "rows": [
            (k, [scores[f"{m}@{k}"] for m in METRIC_NAMES]) for k in metrics["k"] if f"recall@{k}" in lists["metrics"]
        ],
    }


def rules_cost(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """What the shop's rules cost in NDCG, at the largest cut-off, in a sentence; empty where that is not measured."""
    if not costs:
        return ""
    name, cost = list(costs.items())[-1]
    low, middle, high = cost["difference"]
    return (
        f"Under the rules of the shop {metric_name(name)} of the model's lists is {cost['with_rules']:.4f}, without "
        f"them it would be {cost['without_rules']:.4f}: {middle:+.4f} ({low:+.4f} to {high:+.4f}, 95 %, "
        f"{cost['users']:,} users)."
    )


def validation(data: ReportData) -> str:
    """What the training itself measured, in a sentence; empty where it measured nothing."""
    scores = data.metrics.get("validation") or {}
    name = next((n for n in scores if n.partition("@")[0] in METRIC_NAMES), None)
    if name is None or scores[name] is None:
        return ""
    last = "last position of users" if by_order(data) else "last days before the date"
    between = "{:.3f} to {:.3f}".format(*scores["interval"]) if scores.get("interval") else ""
    text = f"On the {last}, which training kept aside, {metric_name(name)} was {scores[name]:.3f}"
    text += f" ({between}, 95 %)" if between else ""
    alarm = (data.metrics.get("promise") or {}).get("alarm")
    return f"{text}. {alarm[0].upper()}{alarm[1:]}." if alarm else f"{text}."


def by_order(data: ReportData) -> bool:
    """Whether the purchases have an order and no times."""
    return bool(data.statistics.get("times") == "order")


def training_text(training: TrainingRecord, *, by_order: bool = False) -> str:
    """How the training went, in a sentence or two."""
    if given := training.get("given"):
        return f"{given}."
    trial, final = len(training.get("epochs") or []), len(training.get("refit") or [])
    reason = training.get("stopped") or ""
    reasons = {"patience": "when it no longer rose", "epochs": "at the most that train.epochs allows"}
    reason = reasons.get(reason, reason)
    if not trial:
        return f"{plural(final, 'epoch')} over all purchases; {reason}." if final else ""
    kept = "positions" if by_order else "days"
    text = (
        f"{plural(trial, 'trial epoch')} without the last {kept}, whose purchases measured the recall, stopped {reason}"
    )
    if not final:
        return f"{text}; the encoder is that of epoch {training.get('best_epoch')}."
    again = f"The encoder was then trained anew on all purchases for {plural(final, 'epoch')}, as many as were best"
    return f"{text}. {again}."
