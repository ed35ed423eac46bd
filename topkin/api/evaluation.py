"""Judging lists by what was bought later, beside the baselines, in memory."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from topkin.api.inputs import ArrowStream, as_table, named_by_columns, prepare_tables
from topkin.api.recommender import Recommender
from topkin.artifacts.ids import canonical
from topkin.baselines import registry
from topkin.baselines.fitted import best_of, fit_baselines
from topkin.config.load import settings_of
from topkin.config.sections import EvaluateSettings
from topkin.errors import InputError
from topkin.evaluation.protocol import lists_of
from topkin.interactions import Interactions, encode_ids
from topkin.linalg.csr import Csr
from topkin.metrics.bootstrap import paired_bootstrap
from topkin.metrics.ranking import ranking_metrics

RESULT = pa.schema(
    [
        pa.field("model", pa.string(), False),
        pa.field("metric", pa.string(), False),
        pa.field("value", pa.float64(), False),
        pa.field("users", pa.int64(), False),
        pa.field("difference", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
    ]
)


def evaluate(
    model: Recommender | ArrowStream,
    heldout: ArrowStream,
    purchases: ArrowStream | None = None,
    *,
    k: Sequence[int] = (5, 10, 20),
    baselines: Sequence[str] | None = None,
    novel: bool = True,
) -> pa.Table:
    """Judge a recommender, or any lists, by held-out purchases, beside baselines on the same users.

    Judged are the users who bought before and who bought something true in the held-out purchases: an item sold before,
    and with ``novel`` one that the user had not bought. Baselines rank the items sold before.

    Args:
        model: A recommender, or a table of lists: ``user_id``, ``rank`` (from 1) and ``item_id``.
        heldout: What was bought later: ``user_id`` and ``item_id``, other columns do not count.
        purchases: What was bought before, as for :meth:`Recommender.fit`; a recommender knows it.
        k: The cut-offs of the metrics.
        baselines: Names in :data:`topkin.BASELINES`; those of ``evaluate.baselines`` by default.
        novel: Whether items that a user bought before count for nothing, and baselines do not list them: for lists that
            leave out what was bought. Otherwise all count.

    Returns:
        A row for each of ``model`` (named ``model``) and the baselines, and each metric, such as ``ndcg@10``: its mean
        over ``users``, and for a baseline the ``difference`` of the model's and its own with the ends ``low`` and
        ``high`` of the paired 95 % bootstrap interval.

    Raises:
        InputError: No user can be judged, or there are no purchases to fit baselines on.
        ValueError: A baseline or a cut-off is none.

    Examples:
        >>> import pyarrow as pa, topkin
        >>> bought = [("ann", "tea"), ("ann", "cup"), ("bob", "tea"), ("bob", "pot"), ("cat", "pot"), ("cat", "cup")]
        >>> purchases = pa.table({
        ...     "user_id": [user for user, _ in bought], "item_id": [item for _, item in bought],
        ...     "timestamp": ["2024-05-01"] * 6,
        ... })
        >>> lists = pa.table({"user_id": ["ann", "bob"], "rank": [1, 1], "item_id": ["pot", "tea"]})
        >>> heldout = pa.table({"user_id": ["ann", "bob"], "item_id": ["pot", "cup"]})
        >>> topkin.evaluate(lists, heldout, purchases, k=[1], baselines=["popularity"]).select(
        ...     ["model", "metric", "value"]).to_pylist()[0]
        {'model': 'model', 'metric': 'recall@1', 'value': 0.5}
    """
    if not len(k) or min(k) < 1:
        raise ValueError(f"k must be cut-offs of at least 1, got {list(k)}")
    settings = model._known.settings.evaluate if isinstance(model, Recommender) else EvaluateSettings()
    names = [n for n in settings.baselines if n not in registry.left_out([n])] if baselines is None else list(baselines)
    if baselines is None and purchases is not None and "timestamp" not in as_table(purchases, "purchases").column_names:
        names = [n for n in names if not registry.BASELINES[n].by_time]
    if unknown := sorted(set(names) - set(registry.BASELINES)):
        raise ValueError(f"baselines must be of {', '.join(registry.BASELINES)}, got {', '.join(unknown)}")
    user_ids, item_ids, history = _known(model, purchases)
    sold = np.bincount(history.items, minlength=len(item_ids)) > 0
    bought = Csr.of_pairs(history.users, history.items, len(user_ids), len(item_ids))
    later = _with_ids(as_table(heldout, "heldout"), "heldout", ("user_id", "item_id"))
    rows, items = encode_ids(later["user_id"], user_ids), encode_ids(later["item_id"], item_ids)
    counts = (rows >= 0) & (items >= 0) & sold[items]
    truth = Csr.of_pairs(rows[counts], items[counts], len(user_ids), len(item_ids))
    truth = truth.without(bought, len(item_ids)) if novel else truth
    judged = np.flatnonzero((truth.lengths > 0) & (np.diff(history.indptr) > 0))
    if not len(judged):
        raise InputError(
            f"heldout must hold {'new ' if novel else ''}items, sold before, of users who bought before; none of its "
            f"{len(later)} rows does: look at the ids and at the date of the split"
        )
    users, known = user_ids.take(pa.array(judged)), history.take(judged)
    lists = {"model": lists_of(_lists(model, users, max(k)), users, item_ids, max(k))}
    for name, baseline in fit_baselines(history, names, settings.neighbours).items():
        exclude = bought.take(judged) if novel else None
        lists[name], _ = best_of(baseline, known, max(k), exclude=exclude, allowed=sold)
    values = {name: ranking_metrics(ids, truth.take(judged), k) for name, ids in lists.items()}
    return _result(values, settings.bootstrap)


def _known(
    model: Recommender | ArrowStream, purchases: ArrowStream | None
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, Interactions]:
    """The users, the items, and what was bought before."""
    if isinstance(model, Recommender):
        histories, catalogue, as_of = model._known.histories, model._known.catalogue, model.as_of
    elif purchases is None:
        raise InputError("lists are judged beside baselines, which are fitted on purchases, got none: give purchases")
    else:
        table = as_table(purchases, "purchases")
        section = named_by_columns("purchases", {"path": "purchases"}, table)
        settings = settings_of({"purchases": section, "prepare": {"split": "time"}}, "evaluate")
        prepared, as_of = prepare_tables(settings, {"purchases": table}, None)
        histories, catalogue = prepared.histories, prepared.catalogue
    history = Interactions.from_histories(histories, catalogue["item_id"], as_of)
    return histories["user_id"], catalogue["item_id"], history


def _lists(model: Recommender | ArrowStream, users: pa.ChunkedArray, k: int) -> pa.Table:
    if isinstance(model, Recommender):
        return model.recommend(users, k)
    return _with_ids(as_table(model, "the lists"), "the lists", ("user_id", "item_id", "rank"))


def _with_ids(table: pa.Table, name: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a table, ids in the types in which topkin keeps them."""
    if missing := [column for column in columns if column not in table.column_names]:
        raise InputError(f"{name} must have the columns {', '.join(columns)}, got none of {', '.join(missing)}: rename")
    return pa.table({c: canonical(table[c]) if c.endswith("_id") else table[c] for c in columns})


def _result(values: Mapping[str, Mapping[str, np.ndarray]], resamples: int) -> pa.Table:
    rows = []
    for name, metrics in values.items():
        for metric, own in metrics.items():
            row = {"model": name, "metric": metric, "value": float(own.mean()), "users": len(own)}
            if name != "model":
                low, mean, high = paired_bootstrap(values["model"][metric], own, resamples)
                row |= {"difference": mean, "low": low, "high": high}
            rows.append(row)
    return pa.Table.from_pylist(rows, RESULT)
