"""What the held-out purchases say of the model and of the baselines, user by user.

Lists are made in three ways. ``all``: of every item sold before the as-of date, those that the user bought
too. ``novel``: without what the user bought before. ``among_cold``: as novel, of cold items alone. They are
judged by five truths. ``all``: the distinct items sold before the date that the user bought after it;
``novel``: those of them that the user had not bought before; ``repeat``: those that the user had, in the
lists over all; ``cold``: the novel ones that are cold, in the novel lists; ``among_cold``: the same in the
lists of cold items alone. Cold is an item first sold in the last COLD_ITEM_DAYS before the date, or with
fewer than COLD_ITEM_SALES purchases before it. Users are those who bought before the date and have true items.
``published`` judges the published tables under their own rule for bought items, as far down as they go.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.baselines.registry import Baseline
from topkin.interactions import Interactions, encode_ids
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import METRICS, hits_of, list_diversity, ranking_metrics
from topkin.recommend.bought import excluded_items
from topkin.recommend.repurchase.blend import Repurchase
from topkin.recommend.second.stage import SecondStage
from topkin.search.topk import top_k, top_k_of_scores

PROTOCOLS = ("all", "novel")
JUDGED = {"all": ("all", "repeat"), "novel": ("novel", "cold"), "among_cold": ("among_cold",)}
MEASURED = {"all": METRICS, "novel": METRICS, **dict.fromkeys(("repeat", "cold", "among_cold"), ("recall", "ndcg"))}
COLD_ITEM_DAYS = 30
COLD_ITEM_SALES = 5
DECILES = 10
FINE = 1 << 32
BUDGET_BYTES = 64 << 20
COUNTS_KEY = b"topkin.heldout"


@dataclass(frozen=True, kw_only=True)
class EvaluationCatalogue:
    """What is the same for every part: items, baselines, protocol. Loaded once a process.

    item_ids: the catalogue's. sales: (n_items,) purchases before ``as_of``. cold: (n_items,) bool, see
    :func:`cold_items`. vectors: (n_items, dim) float32, what is scored. preferences: of item numbers, (n,) int
    ascending, the unit rows that say how alike they are, (n, dim) float32. baselines: fitted on the histories of all
    users. until: held-out purchases from then on do not count. bought, cooldown, listed: the rule of the published
    lists, its days per item (n_items,) float32, and their length. repurchase: how these lists rank bought items, if
    they may hold them: the model's lists of all items are then ranked so too. model: the baseline that made these
    lists and is judged as the model; None where the encoder did, by its vectors. second: what ranked beside it; None
    where it ranked alone. unruled: (n_items,) bool, the items that might be listed without rules of the shop; None
    where there are none of these. by_vectors: whether there are no purchases before ``as_of``, so that users and items
    are known by their vectors.
    """

    item_ids: pa.Array | pa.ChunkedArray
    sales: np.ndarray
    cold: np.ndarray
    vectors: np.ndarray
    preferences: Callable[[np.ndarray], np.ndarray]
    baselines: Mapping[str, Baseline]
    as_of: datetime
    ks: tuple[int, ...]
    until: datetime | None = None
    bought: str = "exclude"
    cooldown: np.ndarray
    listed: int = 0
    repurchase: Repurchase | None = None
    model: Baseline | None = None
    second: SecondStage | None = None
    unruled: np.ndarray | None = None
    by_vectors: bool = False

    @cached_property
    def sold(self) -> np.ndarray:
        """The items sold before, or known by a vector, (n_items,) bool."""
        return self.has_vector if self.by_vectors else np.asarray(self.sales > 0)

    @cached_property
    def has_vector(self) -> np.ndarray:
        """The items that the model can score, (n_items,) bool."""
        return np.asarray(self.vectors.any(axis=1))

    @cached_property
    def deciles(self) -> np.ndarray:
        """See :func:`sales_deciles`."""
        return sales_deciles(self.sales)

    @property
    def models(self) -> tuple[str, ...]:
        """What is judged: the model, then the baselines."""
        return ("model", *self.baselines)


@dataclass(frozen=True, kw_only=True)
class EvaluationPart:
    """The users of one partition, in the order of ``histories``.

    vectors: (n, dim) float32, zero for a user without one. heldout: ``schemas.events`` of purchases after the
    as-of date. recommendations: the published rows; None where ``listed`` is 0.
    """

    histories: pa.Table
    vectors: np.ndarray
    heldout: pa.Table
    recommendations: pa.Table | None


class JudgedUsers(NamedTuple):
    """Of the users of a part: :func:`result_schema` with the counts of :func:`ground_truth_of` in its metadata;
    :func:`listed_schema`; and TALLIES."""

    users: pa.Table
    listed: pa.Table
    tallies: pa.Table


def cold_items(sales: np.ndarray, first_sale: pa.Array | pa.ChunkedArray, as_of: datetime) -> np.ndarray:
    """The items sold before ``as_of`` of which little is known, (n_items,) bool.

    sales: (n_items,) purchases before it. first_sale: timestamp, null for items never sold.
    """
    young = pc.greater_equal(first_sale, pa.scalar(as_of - timedelta(days=COLD_ITEM_DAYS), pa.timestamp("us")))
    return (sales > 0) & ((sales < COLD_ITEM_SALES) | np.asarray(pc.fill_null(young, False)).astype(bool))


def sales_deciles(sales: np.ndarray) -> np.ndarray:
    """The tenth of the items sold that each is in, by its sales, (n_items,) int8; -1 for items never sold.

    0 holds the tenth sold least, 9 that sold most; ties by item number, the smaller one in the higher tenth.
    """
    order = np.lexsort((np.arange(len(sales)), -sales))
    order = order[sales[order] > 0]
    deciles = np.full(len(sales), -1, np.int8)
    deciles[order] = DECILES - 1 - np.arange(len(order)) * DECILES // max(len(order), 1)
    return deciles


def published_ks(ks: Sequence[int], listed: int) -> tuple[int, ...]:
    """The cut-offs that lists of ``listed`` items can be judged at."""
    return tuple(k for k in ks if k <= listed)


RULED = ("with_rules", "without_rules")
"""Lists of the model that were published under rules of a shop, and what they would have been without these."""


def result_schema(
    user: pa.DataType, models: Sequence[str], ks: Sequence[int], listed: int, *, ruled: bool = False
) -> pa.Schema:
    """One row per judged user: user_id, purchases before the date, then ``truth/model/metric@k`` as float64.

    A column is null for the users who have nothing true in it.
    """
    names = [f"{t}/{m}/{metric}@{k}" for t, of in MEASURED.items() for m in models for k in ks for metric in of]
    names += [f"published/lists/{metric}@{k}" for k in published_ks(ks, listed) for metric in METRICS]
    names += [f"published/{name}/ndcg@{k}" for k in published_ks(ks, listed) for name in RULED if ruled]
    fields = [pa.field("user_id", user, False), pa.field("purchases", pa.int64(), False)]
    return pa.schema([*fields, *(pa.field(n, pa.float64()) for n in names)])


def listed_schema(ks: Sequence[int]) -> pa.Schema:
    """How many judged users got an item in their first k: ``lists@k``; items in no list are left out."""
    fields = [pa.field("protocol", pa.string(), False), pa.field("model", pa.string(), False)]
    fields.append(pa.field("item", pa.int32(), False))  # row of the catalogue
    return pa.schema([*fields, *(pa.field(f"lists@{k}", pa.int64(), False) for k in ks)])


TALLIES = pa.schema(
    [
        pa.field("protocol", pa.string(), False),
        pa.field("model", pa.string(), False),
        pa.field("name", pa.string(), False),  # diversity, or decile 0 to decile 9
        pa.field("k", pa.int64(), False),
        pa.field("sum", pa.int64(), False),  # of diversities in 1 / FINE, of hits in true items of the decile
        pa.field("n", pa.int64(), False),  # of lists of two items or more, of true items of the decile
    ]
)
"""Sums of whole numbers, which are the same however users are split into parts."""


def ground_truth_of(heldout: pa.Table, user_ids: Any, shop: EvaluationCatalogue) -> tuple[Csr, dict[str, Any]]:
    """What each user bought after the as-of date, of the catalogue, and counts of the purchases read.

    The counts: events, from, to (of the period that counts), users, and the events that cannot be judged:
    of users not in ``user_ids``, of items not in the catalogue, of items never sold before the date.
    """
    if shop.until is not None:
        heldout = heldout.filter(pc.less(heldout["timestamp"], pa.scalar(shop.until, pa.timestamp("us"))))
    users, items = encode_ids(heldout["user_id"], user_ids), encode_ids(heldout["item_id"], shop.item_ids)
    known = (users >= 0) & (items >= 0)
    span = pc.min_max(heldout["timestamp"]).as_py() if len(heldout) else {"min": None, "max": None}
    counts = {
        "events": len(heldout),
        "from": span["min"] and span["min"].isoformat(),
        "to": span["max"] and span["max"].isoformat(),
        "users_in_period": pc.count_distinct(heldout["user_id"]).as_py(),
        "events_of_new_users": int((users < 0).sum()),
        "events_of_new_items": int(((users >= 0) & ~np.append(shop.sold, False)[items]).sum()),
    }
    return Csr.of_pairs(users[known], items[known], len(user_ids), len(shop.sold)), counts


def lists_of(recommendations: pa.Table, user_ids: Any, item_ids: Any, k: int) -> np.ndarray:
    """The published lists as item numbers, (n_users, k) int32 padded with -1."""
    ids = np.full((len(user_ids), k), -1, np.int32)
    if len(recommendations):
        rank = np.asarray(recommendations["rank"]).astype(np.int64)
        users = encode_ids(recommendations["user_id"], user_ids)
        items = encode_ids(recommendations["item_id"], item_ids)
        keep = (rank <= k) & (users >= 0)
        ids[users[keep], rank[keep] - 1] = items[keep]
    return ids


def evaluate_part(shop: EvaluationCatalogue, part: EvaluationPart, budget_bytes: int = BUDGET_BYTES) -> JudgedUsers:
    """The metrics of a part's users, what they were given, and sums over their lists.

    Users come in the order of the part. Working memory beside the inputs and the result is a few times
    ``budget_bytes``, whatever the number of users. A user without a vector gets no list from the encoder, and so
    scores nothing.
    """
    user_ids, n_items = part.histories["user_id"], len(shop.sales)
    history = Interactions.from_histories(part.histories, shop.item_ids, shop.as_of)
    later, counts = ground_truth_of(part.heldout, user_ids, shop)
    bought = Csr.of_pairs(history.users, history.items, len(user_ids), n_items)
    known = np.asarray(part.vectors.any(axis=1) if shop.by_vectors else np.diff(history.indptr) > 0)
    truth = ground_truths(_only(later, known, shop.sold), bought, shop.cold)
    judged = np.flatnonzero(later.lengths)
    ruled = shop.unruled is not None
    schema = result_schema(user_ids.type, shop.models, shop.ks, shop.listed, ruled=ruled)
    values = {name: np.full(len(judged), np.nan) for name in schema.names[2:]}
    tallies, listed = _Tallies(shop), []
    top = min(max(shop.ks), max(n_items, 1))  # no list is longer
    size = max(1, budget_bytes // max(16 * n_items, 8 * top * shop.vectors.shape[1], 1))
    for model in shop.models:
        given = {p: np.zeros((len(shop.ks), n_items), np.int64) for p in PROTOCOLS}
        for start in range(0, len(judged), size):
            block = judged[start : start + size]
            rank = _ranker(shop, part, model, block, history)
            for protocol, names in JUDGED.items():
                among = np.flatnonzero(truth[names[0]].lengths[block])
                if not len(among):
                    continue
                mask = None if protocol == "all" else bought.take(block[among])
                ids = rank(among, top, mask, shop.cold if protocol == "among_cold" else shop.sold)
                for name in names:
                    true = truth[name].take(block[among])
                    some = np.flatnonzero(true.lengths)
                    metrics = ranking_metrics(ids[some], true.take(some), shop.ks)
                    for metric in (f"{m}@{k}" for k in shop.ks for m in MEASURED[name]):
                        values[f"{name}/{model}/{metric}"][start + among[some]] = metrics[metric]
                if protocol in PROTOCOLS:
                    _count(given[protocol], ids, shop.ks)
                    tallies.add(protocol, model, ids, truth[protocol].take(block[among]))
        listed += [_listed(protocol, model, metrics, shop.ks) for protocol, metrics in given.items()]
    ks = published_ks(shop.ks, shop.listed)
    if ks and part.recommendations is not None:
        lists = lists_of(part.recommendations, user_ids, shop.item_ids, min(shop.listed, max(n_items, 1)))
        allowed = later.without(excluded_items(history, shop.bought, shop.cooldown), n_items)
        among = np.flatnonzero((allowed.lengths > 0)[judged] & (lists[judged] >= 0).any(axis=1))
        metrics = ranking_metrics(lists[judged[among]], allowed.take(judged[among]), ks)
        for metric, column in metrics.items():
            values[f"published/lists/{metric}"][among] = column
        if shop.unruled is not None:
            _without_rules(shop, part, history, judged[among], allowed, size, values, among, metrics)
        given_lists = np.zeros((len(shop.ks), n_items), np.int64)
        _count(given_lists, lists, shop.ks)
        listed.append(_listed("published", "lists", given_lists, shop.ks))
    users_of = {name: true.lengths > 0 for name, true in truth.items()}
    counts["users"], counts["pairs"] = int(users_of["all"].sum()), len(truth["all"].indices)
    for name in ("novel", "repeat", "cold"):
        counts[f"{name}_users"], counts[f"{name}_pairs"] = int(users_of[name].sum()), len(truth[name].indices)
    needed = users_of["all"] if shop.model is None else np.zeros(len(part.vectors), bool)  # a baseline needs none
    counts["users_without_vector"] = int((~part.vectors[needed].any(axis=1)).sum())
    columns = [user_ids.take(pa.array(judged)), pa.array(np.diff(history.indptr)[judged])]
    columns += [pa.array(v, from_pandas=True) for v in values.values()]
    users = pa.Table.from_arrays(columns, schema=schema.with_metadata({COUNTS_KEY: json.dumps(counts).encode()}))
    return JudgedUsers(users, pa.concat_tables([listed_schema(shop.ks).empty_table(), *listed]), tallies.table())


def _without_rules(
    shop: EvaluationCatalogue,
    part: EvaluationPart,
    history: Interactions,
    users: np.ndarray,
    truth: Csr,
    size: int,
    values: dict[str, np.ndarray],
    rows: np.ndarray,
    metrics: Mapping[str, np.ndarray],
) -> None:
    """Judge what the model would have listed for users without rules of the shop, beside what it did, into ``values``.

    users: (m,) of the part, in ``rows`` of the values. truth: of all users. size: users at a time. found: the metrics
    of their published lists. Those whose list is not the model's are left out.
    """
    assert part.recommendations is not None, "they were judged"
    of_model = part.recommendations.filter(pc.equal(part.recommendations["source"], "model"))["user_id"]
    mine = np.isin(users, encode_ids(of_model, part.histories["user_id"]))
    ks, excluded = published_ks(shop.ks, shop.listed), excluded_items(history, shop.bought, shop.cooldown)
    for start in range(0, len(users), size):
        at = np.flatnonzero(mine[start : start + size]) + start
        if not len(at):
            continue
        rank = _ranker(shop, part, "model", users[at], history)
        mask = excluded.take(users[at]) if len(excluded.indices) else None
        ids = rank(np.arange(len(at)), min(max(ks), len(shop.sales)), mask, np.asarray(shop.unruled))
        plain = ranking_metrics(ids, truth.take(users[at]), ks)
        for k in ks:
            values[f"published/with_rules/ndcg@{k}"][rows[at]] = metrics[f"ndcg@{k}"][at]
            values[f"published/without_rules/ndcg@{k}"][rows[at]] = plain[f"ndcg@{k}"]


def ground_truths(later: Csr, bought: Csr, cold: np.ndarray) -> dict[str, Csr]:
    """The true items of each user by the name of the truth. later: those that count, bought before or not."""
    novel = later.without(bought, len(cold))
    everyone = np.ones(later.n_rows, bool)
    cold_ones = _only(novel, everyone, cold)
    repeat = later.without(novel, len(cold))
    return {"all": later, "novel": novel, "repeat": repeat, "cold": cold_ones, "among_cold": cold_ones}


def _only(pairs: Csr, users: np.ndarray, items: np.ndarray) -> Csr:
    """The pairs of some users and some items, (n_users,) and (n_items,) bool."""
    return pairs.keep(users[pairs.rows] & items[pairs.indices])


Ranker = Callable[[np.ndarray, int, Csr | None, np.ndarray], np.ndarray]


def _ranker(
    shop: EvaluationCatalogue, part: EvaluationPart, model: str, block: np.ndarray, history: Interactions
) -> Ranker:
    """What lists the k best of the allowed items, (m, k) int32, for some users of a block, without the masked."""
    baseline = shop.model if model == "model" else shop.baselines[model]
    if baseline is not None:
        scores = baseline.scores(history.take(block))
        return lambda among, k, mask, allowed: top_k_of_scores(scores[among], k, exclude=mask, allowed=allowed)[0]

    def rank(among: np.ndarray, k: int, mask: Csr | None, allowed: np.ndarray) -> np.ndarray:
        queries = part.vectors[block[among]]
        allowed = allowed & shop.has_vector
        depth = k if shop.second is None else min(shop.second.depth(k), len(allowed))
        ids, scores = top_k(queries, shop.vectors, depth, exclude=mask, allowed=allowed)
        if shop.second is not None:
            known = history.take(block[among])
            exclude = Csr.empty(len(among)) if mask is None else mask
            ids = shop.second.ranked(
                ids,
                k,
                history=known,
                exclude=exclude,
                queries=queries,
                vectors=shop.vectors,
                allowed=allowed,
                repurchase=shop.repurchase if mask is None else None,
            ).ids
        elif mask is None and shop.repurchase is not None:
            known = history.take(block[among])
            ids, _ = shop.repurchase.ranked(
                ids, scores, history=known, queries=queries, vectors=shop.vectors, allowed=allowed
            )
        ids = ids.copy()
        ids[~queries.any(axis=1)] = -1
        return ids

    return rank


def _count(given: np.ndarray, ids: np.ndarray, ks: Sequence[int]) -> None:
    """Add to (n_ks, n_items) how many lists hold each item in their first k."""
    for row, k in zip(given, ks, strict=True):
        first = ids[:, :k]
        row += np.bincount(first[first >= 0], minlength=len(row))


def _listed(protocol: str, model: str, given: np.ndarray, ks: Sequence[int]) -> pa.Table:
    items = np.flatnonzero(given.any(axis=0))
    columns = [[protocol] * len(items), [model] * len(items), items.astype(np.int32), *given[:, items]]
    return pa.table([pa.array(c) for c in columns], schema=listed_schema(ks))


class _Tallies:
    """Adds up TALLIES."""

    def __init__(self, shop: EvaluationCatalogue):
        self._shop = shop
        self._sums: dict[tuple[str, str, str, int], tuple[int, int]] = {}

    def add(self, protocol: str, model: str, ids: np.ndarray, truth: Csr) -> None:
        """Lists of some users, (n, k) int32, and what was true for each."""
        ks = self._shop.ks
        items = np.unique(np.maximum(ids, 0))
        rows = np.where(ids < 0, -1, np.searchsorted(items, ids))
        hits, diverse = hits_of(ids, truth), list_diversity(rows, self._shop.preferences(items), ks)
        true = self._by_decile(truth.indices)
        for column, k in enumerate(ks):
            known = diverse[:, column][~np.isnan(diverse[:, column])]
            self._add((protocol, model, "diversity", k), int(np.rint(known * FINE).astype(np.int64).sum()), len(known))
            hits_by_decile = self._by_decile(ids[:, :k][hits[:, :k]])
            for d in range(DECILES):
                self._add((protocol, model, f"decile {d}", k), int(hits_by_decile[d]), int(true[d]))

    def _by_decile(self, items: np.ndarray) -> np.ndarray:
        """How many of some items are in each tenth, (DECILES,); of items known by vectors alone none is."""
        deciles = self._shop.deciles[items]
        return np.bincount(deciles[deciles >= 0], minlength=DECILES)

    def _add(self, key: tuple[str, str, str, int], value: int, n: int) -> None:
        before = self._sums.get(key, (0, 0))
        self._sums[key] = before[0] + value, before[1] + n

    def table(self) -> pa.Table:
        """All sums, in the order of their keys."""
        rows = [(*key, *value) for key, value in sorted(self._sums.items())]
        return pa.Table.from_pylist([dict(zip(TALLIES.names, row, strict=True)) for row in rows], schema=TALLIES)
