"""From the values of every user to ``metrics.json``: means, intervals of the differences, and a verdict.

The values are read a few columns at a time, users in the order of their ids, and summed without rounding;
what lists hold is counted in whole numbers. So the result depends neither on how the users were split into
parts nor on who worked on which part, and no more than ``BUDGET_BYTES``, or a few columns of all users, are
in memory at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.evaluation import promise
from topkin.evaluation.protocol import COLD_ITEM_DAYS, COLD_ITEM_SALES, MEASURED, PROTOCOLS, RULED, published_ks
from topkin.evaluation.results import EvaluationContext, EvaluationResults, intervals, mean
from topkin.evaluation.segments import beyond_accuracy, deciles, groups
from topkin.metrics.bootstrap import MIN_USERS, bootstrap
from topkin.metrics.ranking import METRICS
from topkin.recommend.bought import BOUGHT

BUDGET_BYTES = 256 << 20
NO_PURCHASES = "the input has no purchases after the as-of date"
NONE_IN_PERIOD = "the input has no purchases in the days after the as-of date that evaluate.days asks for"
NONE_WITH_VECTORS = "no held-out purchase is by a user and of an item with a vector"
NONE_JUDGED = "no purchase after the as-of date is by a user who bought before it, of an item sold before it"


def headline(ks: Sequence[int], bought: str) -> tuple[str, str]:
    """The protocol and the metric that the verdict reads: NDCG at 10, or at the middle cut-off without 10.

    Where bought items may be listed the verdict is on all items, else on novel ones.
    """
    k = 10 if 10 in ks else sorted(ks)[len(ks) // 2]
    return BOUGHT[bought].protocol, f"ndcg@{k}"


def nothing_held_out(as_of: datetime, ks: Sequence[int], bought: str, reason: str) -> dict[str, Any]:
    """``metrics.json`` of a run that has nothing to be judged by, as a nightly run has."""
    zeros = ["events", "users", "pairs", "users_without_vector", "events_of_new_users", "events_of_new_items"]
    zeros += ["users_in_period", *(f"{t}_{what}" for t in ("novel", "repeat", "cold") for what in ("users", "pairs"))]
    protocol, metric = headline(ks, bought)
    by_protocol = ("differences", "p", "intervals", "coverage", "lists", "segments")
    return {
        "as_of": as_of.isoformat(),
        "k": list(ks),
        "split": "time",
        "judged": None,
        "holdout": None,
        "resamples": 0,
        "sampled": None,
        "models": [],
        "left_out": {},
        "heldout": {**dict.fromkeys(zeros, 0), "from": None, "to": None, "reason": reason},
        "all": {},
        "novel": {},
        "repeat": {},
        **{name: {"all": {}, "novel": {}} for name in by_protocol},
        "cold_items": {},
        "published": {
            "policy": bought,
            "rule": f"{BOUGHT[bought].meaning}, and {BOUGHT[bought].judged}",
            "users": 0,
            "metrics": {},
            "coverage": {},
            "reason": None,
        },
        "beats": {},
        "verdict": {"protocol": protocol, "metric": metric, "good": None, "reason": reason},
    }


def scoreboard(results: EvaluationResults, facts: EvaluationContext, *, resamples: int, seed: int) -> dict[str, Any]:
    """``metrics.json``: see the table of its keys in the documentation of the evaluation."""
    counts, ks = results.counts, facts.ks
    reason = None if counts["events"] else NONE_IN_PERIOD
    if reason is None and not counts["users"]:
        reason = NONE_JUDGED if facts.known_items is None else NONE_WITH_VECTORS
    result = nothing_held_out(facts.as_of, ks, facts.bought, reason or "")
    result |= {"models": list(facts.models), "left_out": dict(facts.left_out)}
    result["heldout"] = {**counts, "reason": reason}
    result["published"].update(_published(results, facts))
    if facts.ruled:
        result["published"]["rules_cost"] = _rules_cost(results, facts, resamples, seed)
    if reason is not None:
        return result
    result |= {"judged": "heldout", "resamples": resamples}
    metric = result["verdict"]["metric"]
    compare = _Comparison(results, facts, resamples, seed)
    for protocol in PROTOCOLS:
        if not counts["users" if protocol == "all" else "novel_users"]:
            continue
        names = [f"{m}@{k}" for k in ks for m in METRICS]
        result[protocol], result["differences"][protocol], result["p"][protocol] = compare(protocol, names)
        values = results.columns([f"{protocol}/{model}/{metric}" for model in facts.models])
        bounds = intervals(values, resamples, seed)
        result["intervals"][protocol] = {m: {metric: v} for m, v in zip(facts.models, bounds, strict=True)}
        if protocol == promise.PROTOCOL and promise.METRIC in names:
            values = results.columns([f"{protocol}/model/{promise.METRIC}"])
            result["intervals"][protocol]["model"][promise.METRIC] = intervals(values, resamples, seed)[0]
        given = {model: results.recommended_counts.get((protocol, model)) for model in facts.models}
        n_sold = int((facts.sales > 0).sum()) if facts.known_items is None else facts.known_items
        result["coverage"][protocol] = {model: _coverage(table, ks, n_sold) for model, table in given.items()}
        tallies = _tallies(results, protocol)
        result["lists"][protocol] = {
            model: beyond_accuracy(table, tallies.get((model, "diversity"), {}), facts)
            for model, table in given.items()
        }
        result["segments"][protocol] = groups(results, protocol, metric, facts, resamples, seed)
        result["segments"][protocol]["decile"] = deciles(tallies, facts)
    if counts["repeat_users"]:
        result["repeat"] = compare("repeat", _names("repeat", ks))[0]
    if counts["cold_users"]:
        result["cold_items"] = _cold(compare, facts, counts)
    result["beats"], result["verdict"] = _verdict(result, facts)
    return result


def _names(truth: str, ks: Sequence[int]) -> list[str]:
    return [f"{m}@{k}" for k in ks for m in MEASURED[truth]]


@dataclass(frozen=True)
class _Comparison:
    """Means of every model, and the differences of the model to its rivals with their p-values."""

    results: EvaluationResults
    facts: EvaluationContext
    resamples: int
    seed: int

    def __call__(self, truth: str, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        models, rivals = self.facts.models, self.facts.rivals
        means: dict[str, Any] = {model: {} for model in models}
        apart: dict[str, Any] = {model: {} for model in rivals}
        chance: dict[str, Any] = {model: {} for model in rivals}
        per_name = 32 * max(len(self.results.row_order), 1) * len(models)  # values, differences, and copies
        step = max(1, BUDGET_BYTES // per_name)
        for start in range(0, len(names), step):
            some = names[start : start + step]
            values = self.results.columns([f"{truth}/{model}/{name}" for model in models for name in some])
            values = values.reshape(len(values), len(models), len(some))
            for m, model in enumerate(models):
                means[model] |= {name: mean(values[:, m, c]) for c, name in enumerate(some)}
            if not rivals:
                continue
            others = values[:, [models.index(model) for model in rivals]]
            differences = (values[:, :1] - others).reshape(len(values), -1)
            bounds = bootstrap(differences, self.resamples, self.seed)
            for column, (model, name) in enumerate((model, name) for model in rivals for name in some):
                low, high = float(bounds.low[column]), float(bounds.high[column])
                apart[model][name] = [low, mean(differences[:, column]), high]
                chance[model][name] = float(bounds.p[column])
        return means, apart, chance


def _coverage(given: pa.Table | None, ks: Sequence[int], n_items: int) -> dict[str, float]:
    if given is None or not n_items:
        return {f"coverage@{k}": 0.0 for k in ks}
    return {f"coverage@{k}": int((np.asarray(given[f"lists@{k}"]) > 0).sum()) / n_items for k in ks}


def _tallies(results: EvaluationResults, protocol: str) -> dict[tuple[str, str], dict[int, tuple[int, int]]]:
    """By model and name: k to the sum and the number, of all parts."""
    rows = pa.concat_tables(list(results.tables("tallies"))).filter(pc.field("protocol") == protocol)
    rows = rows.group_by(["model", "name", "k"], use_threads=False).aggregate([("sum", "sum"), ("n", "sum")])
    tallies: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}
    for row in rows.to_pylist():
        tallies.setdefault((row["model"], row["name"]), {})[row["k"]] = row["sum_sum"], row["n_sum"]
    return tallies


def _published(results: EvaluationResults, facts: EvaluationContext) -> dict[str, Any]:
    ks = published_ks(facts.ks, facts.listed)
    names = [f"{m}@{k}" for k in ks for m in METRICS]
    values = results.columns([f"published/lists/{name}" for name in names])
    users = len(values) if names else 0
    return {
        "users": users,
        "metrics": {name: mean(column) for name, column in zip(names, values.T, strict=True)} if users else {},
        "coverage": _coverage(results.recommended_counts.get(("published", "lists")), ks, len(facts.sales)),
    }


def _rules_cost(
    results: EvaluationResults, facts: EvaluationContext, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """By cut-off, the NDCG of the model's published lists, what it would be without rules, and the interval.

    That is of the first less the second, 95 %, paired by users.
    """
    costs: dict[str, dict[str, Any]] = {}
    for k in published_ks(facts.ks, facts.listed):
        values = results.columns([f"published/{name}/ndcg@{k}" for name in RULED])
        if len(values):
            low, difference, high = intervals(values[:, :1] - values[:, 1:], resamples, seed)[0]
            means = {name: mean(column) for name, column in zip(RULED, values.T, strict=True)}
            costs[f"ndcg@{k}"] = {**means, "difference": [low, difference, high], "users": len(values)}
    return costs


def _cold(compare: _Comparison, facts: EvaluationContext, counts: Mapping[str, Any]) -> dict[str, Any]:
    """How well new and rare items are found: in the novel lists, and in lists of such items alone."""
    figures: dict[str, Any] = {"days": COLD_ITEM_DAYS, "sales": COLD_ITEM_SALES, "items": int(facts.cold.sum())}
    figures |= {"users": counts["cold_users"], "pairs": counts["cold_pairs"], "over_popularity": {}, "differences": {}}
    for name, truth in (("of_all", "cold"), ("among_cold", "among_cold")):
        figures[name], figures["differences"][name], _ = compare(truth, _names(truth, facts.ks))
        base = figures[name].get("popularity", {})
        figures["over_popularity"][name] = {m: figures[name]["model"][m] / v if v else None for m, v in base.items()}
    return figures


def _verdict(result: Mapping[str, Any], facts: EvaluationContext) -> tuple[dict[str, bool], dict[str, Any]]:
    """Which baselines the model beats, the whole interval above zero, and whether it may be called good."""
    protocol, metric = result["verdict"]["protocol"], result["verdict"]["metric"]
    verdict: dict[str, Any] = {"protocol": protocol, "metric": metric, "good": None, "reason": None}
    users = result["heldout"]["users" if protocol == "all" else "novel_users"]
    if users < MIN_USERS:
        verdict["reason"] = f"{users} users with held-out purchases are too few to tell; it takes {MIN_USERS}"
        return dict.fromkeys(facts.rivals, False), verdict
    beats = {name: values[metric][0] > 0 for name, values in result["differences"][protocol].items()}
    if not beats:
        other = (
            "no baseline" if facts.made_by == "encoder" else f"no baseline beside {facts.made_by}, which is the model,"
        )
        verdict["reason"] = f"{other} was measured: evaluate.baselines names none that can be fitted here"
        return beats, verdict
    verdict["good"] = all(beats.values())
    return beats, verdict
