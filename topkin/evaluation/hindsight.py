"""Lists that were published on an earlier night, judged by what was bought since.

Tonight's histories tell both: what was known on that night is what they hold before its date, the ground truth is what
they hold from it on. Users, items, truths and lists of the baselines are those that the evaluation as of that date
would have (:mod:`topkin.evaluation.protocol`): users who bought before it, items sold before it; ``all`` that was
bought since, the ``novel`` ones and the ``repeat`` ones. The published lists are judged as they were; for novel items
without those that the user had bought.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.evaluation.protocol import COUNTS_KEY, ground_truths, lists_of, published_ks
from topkin.evaluation.results import EvaluationResults, intervals
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr, indptr_of
from topkin.metrics.ranking import hits_of, ranking_metrics
from topkin.search.topk import BUDGET_BYTES

TRUTHS = ("all", "novel", "repeat")
METRICS = ("hit_rate", "recall", "ndcg", "map")
BASELINES = ("popularity", "own_frequency")
MODELS = ("model", *BASELINES)
COLUMN_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class PastLists:
    """Published lists of an earlier night.

    Args:
        days: About how many days before, as the settings ask.
        version: The name of their run.
        as_of: Its date.
        k: Items of a list.
        bought: The rule for bought items, see ``recommend.bought``.
        model: What made them: ``encoder``, or a baseline.
    """

    days: int
    version: str
    as_of: datetime
    k: int
    bought: str
    model: str

    def ks(self, asked: Sequence[int]) -> tuple[int, ...]:
        """The cut-offs that they can be judged at: of those asked for, else their length."""
        return published_ks(asked, self.k) or (self.k,)

    @property
    def rivals(self) -> tuple[str, ...]:
        """The baselines that they are compared with: not the one that made them."""
        return tuple(name for name in BASELINES if name != self.model)


def known_before(histories: pa.Table, date: datetime) -> pa.Table:
    """Histories as they were on a date: the same users in the same order, with their purchases before it."""
    times = pc.list_flatten(histories["times"])
    kept = np.asarray(pc.less(times, pa.scalar(date, schemas.TIME)))
    users = np.repeat(np.arange(len(histories)), np.asarray(pc.list_value_length(histories["times"])))
    offsets = pa.array(indptr_of(np.bincount(users[kept], minlength=len(histories))).astype(np.int32))
    fields = [histories.schema.field(name) for name in ("user_id", "items", "times", "weights")]
    columns = [histories["user_id"]]
    for field in fields[1:]:
        values = pc.list_flatten(histories[field.name]).filter(pa.array(kept)).combine_chunks()
        columns.append(pa.ListArray.from_arrays(offsets, values).cast(field.type))
    return pa.table(columns, schema=pa.schema(fields))


def buyers_before(histories: pa.Table, item_ids: pa.Array, date: datetime) -> np.ndarray:
    """How many of the users had bought each item before a date, (n_items,) int64; sums over parts are of all users."""
    known = Interactions.from_histories(known_before(histories, date), item_ids, date)
    return np.bincount(known.distinct().items, minlength=len(item_ids))


def result_schema(user: pa.DataType, ks: Sequence[int]) -> pa.Schema:
    """One row per judged user: user_id, then ``truth/model/metric@k`` as float64, null where nothing is true."""
    names = [f"{t}/{m}/{metric}@{k}" for t in TRUTHS for m in MODELS for k in ks for metric in METRICS]
    return pa.schema([pa.field("user_id", user, False), *(pa.field(name, pa.float64()) for name in names)])


def judge_part(
    lists: PastLists,
    histories: pa.Table,
    recommendations: pa.Table,
    *,
    item_ids: pa.Array,
    buyers: np.ndarray,
    ks: Sequence[int],
    budget_bytes: int = BUDGET_BYTES,
) -> pa.Table:
    """The metrics of a part's users.

    Users who bought since and were given no list score nothing with the model.

    Args:
        lists: What is judged.
        histories: Tonight's, of the part.
        recommendations: The rows published for the part's users: user_id, rank, item_id; others are passed over.
        item_ids: Tonight's catalogue.
        buyers: (n_items,) distinct buyers of each item before ``lists.as_of``, of all parts.
        ks: Cut-offs.
        budget_bytes: Bound of the working memory of the baselines' scores.

    Returns:
        :func:`result_schema`, with counts in its metadata.

    Raises:
        TypeError: The published ids are of another type.
    """
    user_ids, n_items = histories["user_id"], len(item_ids)
    known = Interactions.from_histories(known_before(histories, lists.as_of), item_ids, lists.as_of)
    since, purchases = _bought_since(histories, item_ids, lists.as_of)
    returning, sold = np.diff(known.indptr) > 0, buyers > 0
    later = since.keep(returning[since.rows] & sold[since.indices])
    bought = Csr.of_pairs(known.users, known.items, known.n_users, n_items)
    truths = ground_truths(later, bought, np.zeros(n_items, bool))
    judged = np.flatnonzero(later.lengths)
    cuts = lists.ks(ks)
    mine, history, top = bought.take(judged), known.take(judged), max(cuts)
    given = lists_of(recommendations, user_ids, item_ids, max(lists.k, 1))[judged]
    ranked = {"model": (given, without(given, mine)), **baseline_lists(history, buyers, top, budget_bytes)}
    schema = result_schema(user_ids.type, cuts)
    values = {name: np.full(len(judged), np.nan) for name in schema.names[1:]}
    for truth in TRUTHS:
        true = truths[truth].take(judged)
        some = np.flatnonzero(true.lengths)
        for model, (of_all, new) in ranked.items():
            metrics = ranking_metrics((new if truth == "novel" else of_all)[some], true.take(some), cuts)
            for metric in (f"{m}@{k}" for k in cuts for m in METRICS):
                values[f"{truth}/{model}/{metric}"][some] = metrics[metric]
    counts: dict[str, int] = {"purchases": purchases, "buyers": int((since.lengths > 0).sum())}
    counts |= {f"{truth}_users": int((truths[truth].lengths > 0).sum()) for truth in TRUTHS}
    counts["users_without_list"] = int((~(given >= 0).any(axis=1)).sum())
    columns = [user_ids.take(pa.array(judged)), *(pa.array(v, from_pandas=True) for v in values.values())]
    return pa.Table.from_arrays(columns, schema=schema.with_metadata({COUNTS_KEY: json.dumps(counts).encode()}))


def _bought_since(histories: pa.Table, item_ids: pa.Array, date: datetime) -> tuple[Csr, int]:
    """The distinct items that each user bought from a date on, and how many purchases these were."""
    whole = Interactions.from_histories(histories, item_ids, date)
    times = pc.list_flatten(histories["times"])
    new = np.asarray(pc.greater_equal(times, pa.scalar(date, schemas.TIME)))
    return Csr.of_pairs(whole.users[new], whole.items[new], whole.n_users, len(item_ids)), int(new.sum())


def baseline_lists(
    history: Interactions, buyers: np.ndarray, k: int, budget_bytes: int = BUDGET_BYTES
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The lists of BASELINES of all items and of novel ones, each (n_users, k) int32 padded with -1.

    They are those of :class:`topkin.baselines.popularity.Popularity` and ``OwnFrequency`` over the items sold, in their
    order of ties, without a score for every user and item: what is new to a user is the most popular rest, and the
    user's own frequency lists that after the user's own items.

    Args:
        history: What the users had bought.
        buyers: (n_items,) distinct buyers of each item.
        k: Items of a list.
        budget_bytes: Bound of the working memory, but for one user's row.
    """
    best = np.lexsort((np.arange(len(buyers)), -buyers)).astype(np.int32)
    best = best[buyers[best] > 0]
    mine = Csr.of_pairs(history.users, history.items, history.n_users, history.n_items)
    new, width = np.full((history.n_users, k), -1, np.int32), k + int(mine.lengths.max(initial=0))
    rows = max(1, budget_bytes // (40 * width))
    for start in range(0, history.n_users, rows):
        some = mine.slice(start, min(start + rows, history.n_users))
        rest = without(np.tile(best[:width], (some.n_rows, 1)), some)[:, :k]
        new[start : start + some.n_rows, : rest.shape[1]] = rest
    popular = np.full(k, -1, np.int32)
    popular[: min(k, len(best))] = best[:k]
    own = _compacted(np.concatenate([_own_items(history, buyers, k), new], axis=1))[:, :k]
    return {"popularity": (np.tile(popular, (history.n_users, 1)), new), "own_frequency": (own, new)}


def _own_items(history: Interactions, buyers: np.ndarray, k: int) -> np.ndarray:
    """The items that each user bought at most times, then of most buyers, (n_users, k) int32 padded with -1."""
    order = np.lexsort((history.ages, history.items, history.users))
    moments = np.array([history.users[order], history.items[order], history.ages[order]])
    first = np.ones(len(order), bool)
    first[1:] = (moments[:, 1:] != moments[:, :-1]).any(axis=0)  # lines of one moment are one time
    cells = history.users.astype(np.int64)[order][first] * history.n_items + history.items[order][first]
    cells, times = np.unique(cells, return_counts=True)
    users, items = np.divmod(cells, max(history.n_items, 1))
    order = np.lexsort((items, -buyers[items], -times, users))
    users, items = users[order], items[order]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    lists = np.full((history.n_users, k), -1, np.int32)
    lists[users[place < k], place[place < k]] = items[place < k]
    return lists


def _compacted(ids: np.ndarray) -> np.ndarray:
    """Rows with their -1 moved to the end."""
    return np.take_along_axis(ids, np.argsort(ids < 0, axis=1, kind="stable"), axis=1)


def without(ids: np.ndarray, bought: Csr) -> np.ndarray:
    """Lists without some items of each user, the rest moved up: (n, k) of (n, k) int32, padded with -1.

    Items that are gone from the catalogue, -1 within a list, keep their places.
    """
    gone = hits_of(ids, bought)
    order = np.argsort(gone, axis=1, kind="stable")
    return np.where(np.take_along_axis(gone, order, axis=1), -1, np.take_along_axis(ids, order, axis=1))


def compare(
    results: EvaluationResults, lists: PastLists, night: datetime, ks: Sequence[int], *, resamples: int, seed: int
) -> pa.Table:
    """``schemas.HINDSIGHT`` of one night and one version, from what :func:`judge_part` gave for every part.

    Means are summed without rounding over users in the order of their ids, so that no split into parts changes them;
    the model and a baseline are resampled together. Truths that no user has are left out.
    """
    names = [f"{metric}@{k}" for k in lists.ks(ks) for metric in METRICS]
    step = max(1, COLUMN_BYTES // (32 * max(len(results.row_order), 1) * len(MODELS)))
    common = {"night": night, "version": lists.version, "as_of": lists.as_of, "days": lists.days}
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for truth in TRUTHS:
        users = results.counts[f"{truth}_users"]
        for start in range(0, len(names) if users else 0, step):
            some = names[start : start + step]
            values = results.columns([f"{truth}/{model}/{name}" for model in MODELS for name in some])
            of = values.reshape(len(values), len(MODELS), len(some))
            both = np.concatenate([of, of[:, :1] - of[:, 1:]], axis=1)
            bounds = intervals(both.reshape(len(values), -1), resamples, seed)
            for m, model in enumerate(MODELS):
                for n, name in enumerate(some):
                    low, value, high = bounds[m * len(some) + n]
                    row = {"truth": truth, "model": model, "metric": name, "users": users}
                    row |= {"value": value, "low": low, "high": high}
                    if model in lists.rivals:
                        apart = bounds[(len(MODELS) + m - 1) * len(some) + n]
                        row |= dict(zip(("difference_low", "difference", "difference_high"), apart, strict=True))
                    rows[truth, model, name] = common | row
    ordered = [rows[t, m, name] for t in TRUTHS for m in MODELS for name in names if (t, m, name) in rows]
    return pa.Table.from_pylist(ordered, schema=schemas.HINDSIGHT)
