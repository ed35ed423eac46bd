"""What the report says of earlier nights' lists: the verdict at its head, a chart of the series, tonight's figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.recommend.bought import BOUGHT
from topkin.report import svg
from topkin.report.wording import METRIC_NAMES, MODEL_NAMES, PROTOCOL_NAMES, day, in_order, metric_name, plural

SERIES, SUMMARY = "hindsight.parquet", "hindsight.json"
WORDS = {True: ("good", "Good"), False: ("bad", "Not good"), None: ("open", "No clear difference")}
TRUTH_NAMES = {"all": "All items bought since", "novel": "New to the user", "repeat": "Bought before"}


@dataclass(frozen=True, kw_only=True)
class Hindsight:
    """The files of the stage: ``hindsight.json``, and the series as rows of ``schemas.HINDSIGHT``."""

    summary: Mapping[str, Any]
    series: pa.Table

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """Of tonight, or of the last night that came to one."""
        verdict: Mapping[str, Any] | None = self.summary["verdict"]
        return verdict

    @property
    def shown(self) -> bool:
        """Whether there is anything to show but a reason."""
        return self.verdict is not None or bool(self.summary["versions"])


def read(folder: str) -> Hindsight:
    """From the folder of the stage."""
    summary = storage.read_json(storage.join(folder, SUMMARY))
    return Hindsight(summary=summary, series=storage.read_parquet(storage.join(folder, SERIES)))


def head(hindsight: Hindsight, unmeasured: str) -> dict[str, str]:
    """The verdict at the head of a page where no held-out purchases judge: a kind, a word and a sentence."""
    verdict, why = hindsight.verdict, hindsight.summary["reason"]
    if verdict is None:
        sentence = f"Whether the model is good cannot be said: {unmeasured}, and {why}."
        return {"kind": "open", "word": "Not judged", "sentence": sentence}
    kind, word = WORDS[verdict["good"]]
    sentence = f"{verdict['sentence']}."
    if why is not None:
        sentence = f"On {day(verdict['night'])}, the last night that could tell: {sentence} Tonight could not: {why}."
    return {"kind": kind, "word": f"{word} in hindsight", "sentence": sentence}


def draw(hindsight: Hindsight) -> dict[str, str]:
    """A chart for each age of lists that two nights or more have judged, by name."""
    verdict = hindsight.verdict
    if verdict is None:
        return {}
    drawn, metric = {}, metric_name(verdict["metric"])
    rows = _rows(hindsight.series, truth=verdict["protocol"], metric=verdict["metric"])
    rows = [row for row in rows if row["users"] >= hindsight.summary["least_users"]]
    for days in sorted({row["days"] for row in rows}):
        lines = []
        for model in MODEL_NAMES:
            of = sorted((r for r in rows if (r["days"], r["model"]) == (days, model)), key=lambda r: r["night"])
            if len(of) < 2:
                continue
            ends = {end: [r[end] for r in of] if model == "model" else () for end in ("low", "high")}
            x = [_ordinal(r["night"]) for r in of]
            lines.append(svg.Line(_name(model), x, [r["value"] for r in of], **ends))
        if lines:
            values = "; ".join(f"{line.name}: " + ", ".join(f"{v:.3f}" for v in line.y) for line in lines)
            drawn[f"hindsight-{days}"] = svg.line_chart(
                f"hindsight-{days}",
                f"{metric} of lists {_old(days)} old, night by night",
                f"From {day(of_first(lines))} on: {values}",
                lines,
                x_label="night that judged",
                from_zero=True,
                whole=True,
                x_text=lambda x: f"{date.fromordinal(int(x)).day} {date.fromordinal(int(x)):%b}",
                height=220,
            )
    return drawn


def of_first(lines: Sequence[svg.Line]) -> datetime:
    """The first night of some lines."""
    return datetime.fromordinal(int(min(line.x[0] for line in lines)))


def _name(model: str) -> str:
    return "The lists" if model == "model" else MODEL_NAMES[model]


def _rows(series: pa.Table, **values: object) -> list[dict[str, Any]]:
    """The rows with some values."""
    for name, value in values.items():
        series = series.filter(pc.equal(series[name], value))
    rows: list[dict[str, Any]] = series.to_pylist()
    return rows


def _ordinal(moment: datetime) -> float:
    return moment.toordinal() + (moment.hour * 60 + moment.minute) / 1440


def _old(days: int) -> str:
    return f"about {plural(days, 'day')}"


def captions(hindsight: Hindsight, drawn: Mapping[str, str]) -> list[tuple[str, str]]:
    """The name and the caption of each chart of :func:`draw`."""
    metric = metric_name(hindsight.verdict["metric"]) if hindsight.verdict else ""
    numbers = sorted(int(name.partition("-")[2]) for name in drawn if name.startswith("hindsight-"))
    return [(f"hindsight-{n}", f"{metric} of lists {_old(n)} old") for n in numbers]


def section(hindsight: Hindsight) -> dict[str, Any] | None:
    """What the section shows: a row for each version of tonight, and its metrics; None where there is nothing."""
    if not hindsight.shown:
        return None
    versions = [_version(entry) for entry in hindsight.summary["versions"]]
    return {
        "versions": [v for v in versions if v["judged"]],
        "unjudged": [v["reason"] for v in versions if not v["judged"]],
        "tables": [
            t for entry in hindsight.summary["versions"] if "metric" in entry and (t := _table(hindsight, entry))
        ],
    }


def _version(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry["reason"] is not None:
        return {"judged": False, "reason": entry["reason"]}
    rows = []
    for name, (low, mean, high) in in_order(entry["differences"]):
        kind = "better" if low > 0 else "worse" if high < 0 else "same"
        word = "no clear difference" if kind == "same" else kind
        row = {"baseline": MODEL_NAMES[name], "ours": entry["values"]["model"][1], "theirs": entry["values"][name][1]}
        rows.append(row | {"low": low, "mean": mean, "high": high, "kind": kind, "word": word})
    return {
        "judged": True,
        "title": f"Lists of {day(entry['as_of'])}, {_age(entry['age'])} before; {plural(entry['users'], 'user')}; "
        f"{metric_name(entry['metric'])}, {PROTOCOL_NAMES[entry['protocol']][0].lower()}"
        f"{PROTOCOL_NAMES[entry['protocol']][1:]}",
        "rows": rows,
        "without_list": entry["counts"]["users_without_list"],
    }


def _age(days: float) -> str:
    return f"{days:.3g} day{'' if days == 1 else 's'}"


def _table(hindsight: Hindsight, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Every metric of one version at the headline's cut-off, each truth apart."""
    k, night = entry["metric"].partition("@")[2], datetime.fromisoformat(hindsight.summary["night"])
    tonight = _rows(hindsight.series, night=pa.scalar(night, pa.timestamp("us")), version=entry["version"])
    rows = [row for row in tonight if row["metric"].endswith(f"@{k}")]
    metrics = list(dict.fromkeys(r["metric"] for r in rows))
    groups = []
    for truth, title in TRUTH_NAMES.items():
        of = {(r["model"], r["metric"]): r for r in rows if r["truth"] == truth}
        if of:
            models = [name for name in MODEL_NAMES if (name, metrics[0]) in of]
            lines = [(_name(m), m == "model", [of[m, name]["value"] for name in metrics]) for m in models]
            groups.append((f"{title}; {plural(of['model', metrics[0]]['users'], 'user')}", lines))
    if not groups:
        return None
    names = [METRIC_NAMES[name.partition("@")[0]] for name in metrics]
    title = f"Lists of {day(entry['as_of'])}: the first {k}, every metric; {BOUGHT[entry['bought']].meaning}"
    return {"title": title, "names": names, "groups": groups}
