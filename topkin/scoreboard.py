"""From the values of every user to ``metrics.json``: means, intervals of the differences, and a verdict.

The values are read one column at a time, users in the order of their ids, and summed without rounding, so
that the result depends neither on how the users were split into parts nor on who worked on which part.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.evaluation import COUNTS_KEY, MODELS, PROTOCOLS, published_ks
from topkin.intervals import bootstrap_intervals
from topkin.metrics import METRICS

MIN_USERS = 10  # below, a bootstrap of the users says nothing
POLICIES = {
    "exclude": "bought items are never listed, and bought again they do not count as true",
    "keep": "bought items may be listed, and all that was bought later is true",
    "cooldown": "bought items are listed again after the cool-down, and before it do not count as true",
}
NO_PURCHASES = "the input has no purchases after the as-of date"
NONE_IN_PERIOD = "the input has no purchases in the days after the as-of date that evaluate.days asks for"
NONE_JUDGED = "no purchase after the as-of date is by a user who bought before it, of an item sold before it"


@dataclass(frozen=True)
class Judgement:
    """The values of every judged user, and what the users were given.

    users: ``evaluation.result_schema`` of all parts, with the parts' counts. listed: ``evaluation.LISTED`` of
    all parts. counts: of each part.
    """

    users: pa.Table
    listed: pa.Table
    counts: Sequence[Mapping[str, Any]]

    @classmethod
    def of_parts(cls, parts: Sequence[tuple[pa.Table, pa.Table]]) -> "Judgement":
        """From what ``evaluate_part`` gave for each part."""
        counts = [json.loads(users.schema.metadata[COUNTS_KEY]) for users, _ in parts]
        users = pa.concat_tables([users.replace_schema_metadata(None) for users, _ in parts])
        listed = pa.concat_tables([listed.replace_schema_metadata(None) for _, listed in parts])
        return cls(users, listed, counts)


def headline(ks: Sequence[int], bought: str) -> tuple[str, str]:
    """The protocol and the metric that the verdict reads: NDCG at 10, or at the middle cut-off without 10.

    Where bought items may be listed the verdict is on all items, else on novel ones.
    """
    k = 10 if 10 in ks else sorted(ks)[len(ks) // 2]
    return ("all" if bought == "keep" else "novel"), f"ndcg@{k}"


def nothing_held_out(as_of: datetime, ks: Sequence[int], bought: str, reason: str) -> dict[str, Any]:
    """``metrics.json`` of a run that has nothing to be judged by, as a nightly run has."""
    zeros = ("events", "users", "pairs", "novel_users", "novel_pairs", "users_without_vector")
    heldout = {**dict.fromkeys(zeros, 0), "events_of_new_users": 0, "events_of_new_items": 0, "users_in_period": 0}
    protocol, metric = headline(ks, bought)
    return {
        "as_of": as_of.isoformat(),
        "k": list(ks),
        "heldout": {**heldout, "from": None, "to": None, "reason": reason},
        "all": {},
        "novel": {},
        "differences": {"all": {}, "novel": {}},
        "intervals": {"all": {}, "novel": {}},
        "coverage": {"all": {}, "novel": {}},
        "published": {"policy": bought, "rule": POLICIES[bought], "users": 0, "metrics": {}, "coverage": {}},
        "beats": {},
        "verdict": {"protocol": protocol, "metric": metric, "good": None, "reason": reason},
    }


def scoreboard(
    judgement: Judgement,
    *,
    as_of: datetime,
    ks: Sequence[int],
    listed: int,
    bought: str,
    n_sold: int,
    n_items: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """``metrics.json``: see the table of its keys in the documentation of the evaluation.

    listed: length of the published lists. bought: their rule for bought items. n_sold, n_items: the items
    ranked in the protocols, and in the catalogue, for the coverage.
    """
    counts = _sum(judgement.counts)
    reason = None if counts["events"] else NONE_IN_PERIOD
    if reason is None and not counts["users"]:
        reason = NONE_JUDGED
    result = nothing_held_out(as_of, ks, bought, reason or "")
    result["heldout"] = {**counts, "reason": reason}
    order = pc.sort_indices(judgement.users, sort_keys=[("user_id", "ascending")])
    result["published"].update(_published(judgement, order, published_ks(ks, listed), n_items))
    if reason is not None:
        return result
    metric = result["verdict"]["metric"]
    for protocol in PROTOCOLS:
        if not counts["users" if protocol == "all" else "novel_users"]:
            continue
        names = [f"{m}@{k}" for k in ks for m in METRICS]
        ours = _columns(judgement.users, order, f"{protocol}/model", names)
        for model in MODELS:
            values = ours if model == "model" else _columns(judgement.users, order, f"{protocol}/{model}", names)
            result[protocol][model] = dict(zip(names, _means(values), strict=True))
            spread = _intervals(values[:, [names.index(metric)]], resamples, seed)
            result["intervals"][protocol][model] = {metric: spread[0]}
            if model != "model":
                apart = _intervals(ours - values, resamples, seed)
                result["differences"][protocol][model] = dict(zip(names, apart, strict=True))
        result["coverage"][protocol] = {
            model: _coverage(judgement.listed, protocol, model, ks, n_sold) for model in MODELS
        }
    result["beats"], result["verdict"] = _verdict(result)
    return result


def _sum(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name in counts[0]:
        values = [c[name] for c in counts if c[name] is not None]
        if name in ("from", "to"):  # ISO times of one format: their order is that of time
            total[name] = (min if name == "from" else max)(values, default=None)
        else:
            total[name] = sum(values)
    return total


def _column(users: pa.Table, order: pa.Array, name: str) -> np.ndarray:
    return np.asarray(users[name].take(order).drop_null())


def _columns(users: pa.Table, order: pa.Array, of: str, names: Sequence[str]) -> np.ndarray:
    """Several metrics of one model, (n_users, n_names) float64."""
    return np.column_stack([_column(users, order, f"{of}/{name}") for name in names])


def _means(values: np.ndarray) -> list[float]:
    return [math.fsum(column) / len(column) for column in values.T]


def _intervals(values: np.ndarray, resamples: int, seed: int) -> list[list[float]]:
    """[low, mean, high] of each column."""
    low, high = bootstrap_intervals(values, resamples, seed)
    return [[float(a), mean, float(b)] for a, mean, b in zip(low, _means(values), high, strict=True)]


def _coverage(listed: pa.Table, protocol: str, model: str, ks: Sequence[int], n_items: int) -> dict[str, float]:
    chosen = listed.filter((pc.field("protocol") == protocol) & (pc.field("model") == model))
    items, ranks = np.asarray(chosen["item"]), np.asarray(chosen["rank"])
    return {f"coverage@{k}": len(np.unique(items[ranks <= k])) / n_items if n_items else 0.0 for k in ks}


def _published(judgement: Judgement, order: pa.Array, ks: Sequence[int], n_items: int) -> dict[str, Any]:
    metrics, users = {}, 0
    for name in (f"{m}@{k}" for k in ks for m in METRICS):
        values = _column(judgement.users, order, f"published/lists/{name}")
        users = len(values)
        if users:
            metrics[name] = math.fsum(values) / users
    return {
        "users": users,
        "metrics": metrics,
        "coverage": _coverage(judgement.listed, "published", "lists", ks, n_items),
    }


def _verdict(result: Mapping[str, Any]) -> tuple[dict[str, bool], dict[str, Any]]:
    """Which baselines the model beats, the whole interval above zero, and whether it may be called good."""
    protocol, metric = result["verdict"]["protocol"], result["verdict"]["metric"]
    verdict: dict[str, Any] = {"protocol": protocol, "metric": metric, "good": None, "reason": None}
    users = result["heldout"]["users" if protocol == "all" else "novel_users"]
    if users < MIN_USERS:
        verdict["reason"] = f"{users} users with held-out purchases are too few to tell; it takes {MIN_USERS}"
        return dict.fromkeys(MODELS[1:], False), verdict
    beats = {name: values[metric][0] > 0 for name, values in result["differences"][protocol].items()}
    verdict["good"] = all(beats.values())
    return beats, verdict
