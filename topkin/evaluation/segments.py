"""Metrics by kinds of users and of items, and what lists are beside accurate."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.evaluation.protocol import DECILES, FINE
from topkin.evaluation.results import EvaluationContext, EvaluationResults, intervals, mean
from topkin.metrics.ranking import gini

COLD_USER_PURCHASES = 5
Sums = Mapping[int, tuple[int, int]]


def quartiles(users: Mapping[int, int]) -> tuple[int, ...]:
    """The most purchases that users of the first, second and third quarter have; users of one number stay together.

    users: of each number of purchases above 0 that users have, how many have it.
    """
    numbers = np.array(sorted(users), np.int64)
    ends = np.cumsum([users[int(n)] for n in numbers])
    return tuple(int(numbers[np.searchsorted(ends, -(-ends[-1] * q // 4))]) for q in (1, 2, 3)) if users else (0, 0, 0)


def user_groups(purchases: np.ndarray, edges: tuple[int, ...]) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Kinds of users: by how much is known of them, and by quarters of activity; each a name and a mask (n,) bool.

    Cold are users with fewer than COLD_USER_PURCHASES purchases before the date.
    """
    quarter = np.searchsorted(np.array(edges), purchases)
    cold = purchases < COLD_USER_PURCHASES
    return {
        "history": [("cold", cold), ("warm", ~cold)],
        "activity": [(str(q + 1), quarter == q) for q in range(4)],
    }


def groups(
    results: EvaluationResults, protocol: str, metric: str, facts: EvaluationContext, resamples: int, seed: int
) -> dict[str, Any]:
    """Recall and NDCG of every model for each kind of users; of ``metric`` the difference to each baseline too."""
    names = [f"{m}@{k}" for k in facts.ks for m in ("recall", "ndcg")]
    purchases = results.columns([f"{protocol}/model/{metric}", "purchases"])[:, 1]
    kinds = user_groups(purchases, facts.quartiles)
    entries: dict[str, Any] = {kind: [] for kind in kinds}
    for kind, members in kinds.items():
        for name, mask in members:
            if mask.any():
                own = purchases[mask]
                entry = {"name": name, "users": int(mask.sum()), "from": int(own.min()), "to": int(own.max())}
                entries[kind].append(entry | {"metrics": {}, "differences": {}})
    for model in facts.models:
        values = results.columns([f"{protocol}/{model}/{name}" for name in names])
        for kind, members in kinds.items():
            for entry, mask in zip(entries[kind], [m for _, m in members if m.any()], strict=True):
                entry["metrics"][model] = dict(zip(names, [mean(c) for c in values[mask].T], strict=True))
    if facts.rivals:
        values = results.columns([f"{protocol}/{model}/{metric}" for model in ("model", *facts.rivals)])
        for kind, members in kinds.items():
            for entry, mask in zip(entries[kind], [m for _, m in members if m.any()], strict=True):
                apart = intervals(values[mask, :1] - values[mask, 1:], resamples, seed)
                entry["differences"] = dict(zip(facts.rivals, apart, strict=True))
    return entries


def deciles(tallies: Mapping[tuple[str, str], Sums], facts: EvaluationContext) -> list[dict[str, Any]]:
    """For each tenth of the items sold, the best sold first: the share of its true pairs that lists hold.

    ``found@k`` is counted over pairs of user and item, not over users.
    """
    entries = []
    for d in reversed(range(DECILES)):
        sales = facts.sales[facts.deciles == d]
        pairs = next(iter(tallies.get(("model", f"decile {d}"), {}).values()), (0, 0))[1]
        if not len(sales) or not pairs:
            continue
        shares = {
            model: {f"found@{k}": hits / n for k, (hits, n) in sorted(tallies[model, f"decile {d}"].items())}
            for model in facts.models
        }
        entry = {"name": str(d + 1), "items": len(sales), "from": int(sales.min()), "to": int(sales.max())}
        entries.append(entry | {"pairs": pairs, "metrics": shares})
    return entries


def beyond_accuracy(given: pa.Table | None, diversity: Sums, facts: EvaluationContext) -> dict[str, float]:
    """What the lists of a model are beside accurate, over all places of the lists, for each cut-off.

    novelty: mean of -log2(share of the users who bought before the date that bought the item), in bits (Zhou et
    al., PNAS 2010). popularity: mean of that share itself. gini: how unequally the items sold share the places,
    0 for equal. diversity: mean over lists of 1 - the mean cosine of two of its items.
    """
    if given is None:
        return {}
    metrics = {}
    share = np.maximum(facts.buyers, 1) / max(facts.buying_users, 1)
    for k in facts.ks:
        items, counts = np.asarray(given["item"]), np.asarray(given[f"lists@{k}"])
        places = int(counts.sum())
        if not places:
            continue
        whole = np.zeros(len(facts.sales), np.int64)
        whole[items] = counts
        metrics[f"novelty@{k}"] = float(counts @ -np.log2(share[items])) / places
        metrics[f"popularity@{k}"] = float(counts @ share[items]) / places
        metrics[f"gini@{k}"] = gini(whole[facts.sales > 0])
        value, n = diversity.get(k, (0, 0))
        if n:
            metrics[f"diversity@{k}"] = value / FINE / n
    return metrics
