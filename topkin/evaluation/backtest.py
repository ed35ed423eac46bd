"""A rolling back-test: the evaluations of several cut dates gathered, in one table and in one sentence.

A baseline counts as beaten at a cut where the whole interval of the model's difference to it lies above zero.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from topkin.errors import ConfigError, InputError
from topkin.evaluation.protocol import PROTOCOLS
from topkin.metrics.bootstrap import MIN_USERS

KEPT = ("heldout", "models", "left_out", "all", "novel", "differences", "p", "cold_items", "coverage", "verdict")
TITLES = {"novel": "items new to the user", "all": "all items, bought ones too"}


def spaced_cuts(number: int, every: timedelta, end: datetime) -> list[datetime]:
    """``number`` cut dates ``every`` apart, ascending, the last one ``every`` before ``end``."""
    return [end - every * step for step in range(number, 0, -1)]


def periods(cuts: Sequence[datetime], days: float | None, end: datetime | None) -> list[float | None]:
    """How many days after each cut are held out: ``days`` where set, else to the next cut, the last to ``end``.

    None for all that come. Raises ConfigError for no cuts, or cuts that are not ascending up to ``end``.
    """
    if not cuts:
        raise ConfigError("--cuts must name at least one date, got none")
    ends = [*cuts[1:], end]
    if any(b is not None and a >= b for a, b in zip(cuts, ends, strict=True)):
        raise ConfigError(
            f"--cuts must be ascending dates before --as-of, got {', '.join(c.isoformat() for c in cuts)}: sort them"
        )
    if days is not None:
        return [days] * len(cuts)
    return [None if b is None else (b - a) / timedelta(days=1) for a, b in zip(cuts, ends, strict=True)]


def gather(runs: Sequence[tuple[str, float | None, Mapping[str, Any]]]) -> dict[str, Any]:
    """The back-test of the runs of several cuts: id, days held out and ``metrics.json`` of each, in time order.

    Raises InputError where a cut has nothing to be judged by.
    """
    cuts: list[dict[str, Any]] = []
    for run_id, days, metrics in runs:
        if metrics["heldout"]["reason"]:
            raise InputError(
                f"every cut must have held-out purchases, {metrics['as_of']} has none that judge: "
                f"{metrics['heldout']['reason']}; choose other --cuts"
            )
        cuts.append({"as_of": metrics["as_of"], "days": days, "run_id": run_id, **{n: metrics[n] for n in KEPT}})
    first = runs[0][2]
    names = [f"{metric}@{k}" for metric in ("ndcg", "recall") for k in first["k"]]
    above = {protocol: {name: _above(cuts, protocol, name) for name in names} for protocol in PROTOCOLS}
    return {"k": first["k"], "headline": first["verdict"]["metric"], "cuts": cuts, "above": above}


def _above(cuts: Sequence[Mapping[str, Any]], protocol: str, metric: str) -> dict[str, Any]:
    """Over how many cuts the model is above each baseline and above all of them, the interval above zero."""
    judged = [c for c in cuts if c["heldout"]["users" if protocol == "all" else "novel_users"] >= MIN_USERS]
    beaten = [{b: d[metric][0] > 0 for b, d in c["differences"][protocol].items()} for c in judged]
    baselines = dict.fromkeys(b for verdict in beaten for b in verdict)
    return {
        "cuts": len(cuts),
        "every_baseline": sum(bool(verdict) and all(verdict.values()) for verdict in beaten),
        "baselines": {b: sum(verdict.get(b, False) for verdict in beaten) for b in baselines},
        "mean_difference": {
            b: sum(c["differences"][protocol][b][metric][1] for c in judged) / len(judged)
            for b in baselines
            if all(b in c["differences"][protocol] for c in judged)
        },
    }


Rows = list[list[str]]
"""A table: names of the columns, then its rows; all but the first column are figures."""


def tables(result: Mapping[str, Any]) -> list[Rows | str]:
    """The back-test, for each protocol the headline metric and recall, then differences, then cold items; a text is a
    sentence below the table before it.
    """
    metric = result["headline"]
    blocks: list[Rows | str] = []
    for protocol in ("novel", "all"):
        cuts = [c for c in result["cuts"] if c[protocol]]
        if not cuts:
            continue
        for name in (metric, metric.replace("ndcg", "recall")):
            above = result["above"][protocol][name]
            blocks += [
                _values(cuts, protocol, name),
                _differences(cuts, protocol, name),
                f"{name}, {TITLES[protocol]}: above every baseline with interval above zero: "
                f"{above['every_baseline']} of {above['cuts']} cuts",
            ]
    return [*blocks, *_cold(result["cuts"], metric.replace("ndcg", "recall"))]


def table(result: Mapping[str, Any]) -> str:
    """The same as a text of any width."""
    blocks = (block if isinstance(block, str) else "\n".join(_aligned(block)) for block in tables(result))
    return "\n\n".join(blocks) + "\n"


def _columns(cuts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [c["as_of"].removesuffix("T00:00:00") for c in cuts]


def _models(cuts: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(model for c in cuts for model in c["models"]))


def _values(cuts: Sequence[Mapping[str, Any]], protocol: str, metric: str) -> Rows:
    rows = [[f"{metric}, {TITLES[protocol]}", *_columns(cuts), "mean"]]
    for model in _models(cuts):
        values = [c[protocol].get(model, {}).get(metric) for c in cuts]
        known = [v for v in values if v is not None]
        rows.append([model, *("-" if v is None else f"{v:.4f}" for v in [*values, sum(known) / len(known)])])
    users = [c["heldout"]["users" if protocol == "all" else "novel_users"] for c in cuts]
    return [*rows, ["users", *(f"{u:,}" for u in users), ""]]


def _differences(cuts: Sequence[Mapping[str, Any]], protocol: str, metric: str) -> Rows:
    rows = [["model minus, with 95 % interval (p)", *_columns(cuts)]]
    for baseline in _models(cuts)[1:]:
        row = [baseline]
        for c in cuts:
            if baseline not in c["differences"][protocol]:
                row.append("-")
                continue
            low, mean, high = c["differences"][protocol][baseline][metric]
            p = c["p"][protocol][baseline][metric]
            mark = "+" if low > 0 else "-" if high < 0 else " "
            row.append(f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] ({p:.3f}) {mark}")
        rows.append(row)
    return rows


def _cold(cuts: Sequence[Mapping[str, Any]], metric: str) -> list[Rows]:
    known = [c for c in cuts if c["cold_items"]]
    if not known:
        return []
    blocks = []
    for name, title in (("of_all", "lists of all items"), ("among_cold", "lists of cold items alone")):
        rows = [[f"{metric} of cold items, {title}", *_columns(known)]]
        for model in _models(known):
            values = [c["cold_items"][name].get(model, {}).get(metric) for c in known]
            rows.append([model, *("-" if v is None else f"{v:.4f}" for v in values)])
        ratios = [c["cold_items"]["over_popularity"][name].get(metric) for c in known]
        rows.append(["model over popularity", *("-" if r is None else f"{r:.1f} x" for r in ratios)])
        blocks.append(rows)
    return blocks


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
