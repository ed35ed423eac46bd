"""What the held-out purchases say of the model and of the baselines, user by user.

Two protocols. ``all``: every item sold before the as-of date is ranked, those that the user bought too;
true are the distinct ones that the user bought after it. ``novel``: what the user bought before is masked
in the lists and left out of the truth. Users are those who bought before the date and have true items.
``published`` judges the published tables under their own rule for bought items, as far down as they go.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.baselines import BASELINES, Baseline, ItemKNN
from topkin.interactions import Interactions, rows_of
from topkin.metrics import METRICS, ranking_metrics
from topkin.policy import excluded_items
from topkin.topk import top_k, top_k_of_scores

Csr = tuple[np.ndarray, np.ndarray]
"""``indptr`` (n_users + 1,) int64 and ``items`` int32, ascending and distinct within a user."""

PROTOCOLS = ("all", "novel")
MODELS = ("model", *BASELINES)
BUDGET_BYTES = 64 << 20
COUNTS_KEY = b"topkin.heldout"
NEVER = np.int32(np.iinfo(np.int32).max)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What is the same for every part: items, baselines, protocol. Loaded once a process.

    item_ids: the catalogue's. sold: (n_items,) bool, sold before ``as_of``. vectors: (n_items, dim) float32.
    baselines: fitted on the histories of all users, in the order of the parts. until: held-out purchases from
    then on do not count. bought, cooldown, listed: the rule of the published lists, its days per item
    (n_items,) float32, and their length.
    """

    item_ids: pa.Array | pa.ChunkedArray
    sold: np.ndarray
    vectors: np.ndarray
    baselines: Mapping[str, Baseline]
    as_of: datetime
    ks: tuple[int, ...]
    until: datetime | None = None
    bought: str = "exclude"
    cooldown: np.ndarray
    listed: int = 0

    @cached_property
    def listable(self) -> np.ndarray:
        """The items that the model may rank, (n_items,) bool: sold before, and with a vector."""
        return self.sold & self.vectors.any(axis=1)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The users of one partition, in the order of ``histories``.

    first: the number of its first user among all users. vectors: (n, dim) float32, zero for a user without
    one. heldout: ``schemas.events`` of purchases after the as-of date. recommendations: the published rows.
    """

    first: int
    histories: pa.Table
    vectors: np.ndarray
    heldout: pa.Table
    recommendations: pa.Table


def fit_baselines(history: Interactions, neighbours: int) -> dict[str, Baseline]:
    """Every baseline, fitted on the purchases before the as-of date."""
    fitted = {}
    for name, make in BASELINES.items():
        baseline = make()
        if isinstance(baseline, ItemKNN):
            baseline.neighbours = neighbours
        fitted[name] = baseline.fit(history)
    return fitted


def published_ks(ks: Sequence[int], listed: int) -> tuple[int, ...]:
    """The cut-offs that lists of ``listed`` items can be judged at."""
    return tuple(k for k in ks if k <= listed)


def result_schema(user: pa.DataType, ks: Sequence[int], listed: int) -> pa.Schema:
    """One row per judged user: user_id, then ``protocol/model/metric@k`` as float64.

    A column is null for the users that its protocol leaves out.
    """
    names = [f"{p}/{m}/{metric}@{k}" for p in PROTOCOLS for m in MODELS for k in ks for metric in METRICS]
    names += [f"published/lists/{metric}@{k}" for k in published_ks(ks, listed) for metric in METRICS]
    return pa.schema([pa.field("user_id", user, False), *(pa.field(n, pa.float64()) for n in names)])


LISTED = pa.schema(
    [
        pa.field("protocol", pa.string(), False),
        pa.field("model", pa.string(), False),
        pa.field("item", pa.int32(), False),  # row of the catalogue
        pa.field("rank", pa.int32(), False),  # best rank at which any judged user got it, from 1
    ]
)


def csr(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> Csr:
    """The distinct pairs of two arrays of equal length, as CSR by user."""
    keys = np.unique(users.astype(np.int64) * max(n_items, 1) + items)
    rows, columns = np.divmod(keys, max(n_items, 1))
    indptr = np.zeros(n_users + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n_users), out=indptr[1:])
    return indptr, columns.astype(np.int32)


def rows_taken(pairs: Csr, rows: np.ndarray) -> Csr:
    """The pairs of some users, in the order of ``rows``."""
    indptr, items = pairs
    lengths = np.diff(indptr)[rows]
    new = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=new[1:])
    at = np.arange(new[-1]) - np.repeat(new[:-1], lengths) + np.repeat(indptr[:-1][rows], lengths)
    return new, items[at]


def without(pairs: Csr, other: Csr, n_items: int) -> Csr:
    """The pairs that are not among the other pairs of the same user."""
    n = len(pairs[0]) - 1
    users, taken = (np.repeat(np.arange(n, dtype=np.int64), np.diff(p[0])) for p in (pairs, other))
    keep = ~np.isin(users * max(n_items, 1) + pairs[1], taken * max(n_items, 1) + other[1])
    return csr(users[keep], pairs[1][keep], n, n_items)


def truth_of(heldout: pa.Table, user_ids: Any, shop: Shop) -> tuple[Csr, dict[str, Any]]:
    """What each user bought after the as-of date, of the catalogue, and counts of the purchases read.

    The counts: events, from, to (of the period that counts), users, and the events that cannot be judged:
    of users not in ``user_ids``, of items not in the catalogue, of items never sold before the date.
    """
    if shop.until is not None:
        heldout = heldout.filter(pc.less(heldout["timestamp"], pa.scalar(shop.until, pa.timestamp("us"))))
    users, items = rows_of(heldout["user_id"], user_ids), rows_of(heldout["item_id"], shop.item_ids)
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
    return csr(users[known], items[known], len(user_ids), len(shop.sold)), counts


def lists_of(recommendations: pa.Table, user_ids: Any, item_ids: Any, k: int) -> np.ndarray:
    """The published lists as item numbers, (n_users, k) int32 padded with -1."""
    ids = np.full((len(user_ids), k), -1, np.int32)
    if len(recommendations):
        rank = np.asarray(recommendations["rank"]).astype(np.int64)
        users, items = rows_of(recommendations["user_id"], user_ids), rows_of(recommendations["item_id"], item_ids)
        keep = (rank <= k) & (users >= 0)
        ids[users[keep], rank[keep] - 1] = items[keep]
    return ids


def evaluate_part(shop: Shop, part: Part, budget_bytes: int = BUDGET_BYTES) -> tuple[pa.Table, pa.Table]:
    """The metrics of a part's users, as :func:`result_schema`, and the items that they were given, as LISTED.

    Users come in the order of the part. Working memory beside the inputs and the result is a few times
    ``budget_bytes``, whatever the number of users. The counts of :func:`truth_of` are in the first table's
    metadata. A user without a vector gets no list from the model, and so scores nothing.
    """
    user_ids, n_items = part.histories["user_id"], len(shop.sold)
    top = min(max(shop.ks), max(n_items, 1))  # no list is longer
    history = Interactions.from_histories(part.histories, shop.item_ids, shop.as_of)
    later, counts = truth_of(part.heldout, user_ids, shop)
    bought = csr(history.users, history.items, len(user_ids), n_items)
    truth = {"all": _only(later, np.diff(history.indptr) > 0, shop.sold)}
    truth["novel"] = without(truth["all"], bought, n_items)
    judged = np.flatnonzero(np.diff(later[0]) > 0)
    schema = result_schema(user_ids.type, shop.ks, shop.listed)
    values = {name: np.full(len(judged), np.nan) for name in schema.names[1:]}
    best: dict[tuple[str, str], np.ndarray] = {}
    size = max(1, budget_bytes // (16 * max(n_items, 1)))
    for start in range(0, len(judged), size):
        block = judged[start : start + size]
        for model in MODELS:
            rank = _ranker(shop, part, model, block)
            for protocol in PROTOCOLS:
                among = np.flatnonzero(np.diff(truth[protocol][0])[block])
                if len(among):
                    mask = rows_taken(bought, block[among]) if protocol == "novel" else None
                    ids = rank(among, top, mask)
                    found = ranking_metrics(ids, rows_taken(truth[protocol], block[among]), shop.ks)
                    for name, column in found.items():
                        values[f"{protocol}/{model}/{name}"][start + among] = column
                    _note(best.setdefault((protocol, model), np.full(n_items, NEVER)), ids)
    if published_ks(shop.ks, shop.listed):
        lists = lists_of(part.recommendations, user_ids, shop.item_ids, min(shop.listed, max(n_items, 1)))
        allowed = without(later, excluded_items(history, shop.bought, shop.cooldown), n_items)
        among = np.flatnonzero((np.diff(allowed[0]) > 0)[judged] & (lists[judged] >= 0).any(axis=1))
        rows = judged[among]
        found = ranking_metrics(lists[rows], rows_taken(allowed, rows), published_ks(shop.ks, shop.listed))
        for name, column in found.items():
            values[f"published/lists/{name}"][among] = column
        _note(best.setdefault(("published", "lists"), np.full(n_items, NEVER)), lists)
    counts["users"], counts["pairs"] = int((np.diff(truth["all"][0]) > 0).sum()), len(truth["all"][1])
    counts["novel_users"], counts["novel_pairs"] = int((np.diff(truth["novel"][0]) > 0).sum()), len(truth["novel"][1])
    counts["users_without_vector"] = int((~part.vectors[np.diff(truth["all"][0]) > 0].any(axis=1)).sum())
    columns = [user_ids.take(pa.array(judged)), *(pa.array(v, from_pandas=True) for v in values.values())]
    users = pa.Table.from_arrays(columns, schema=schema.with_metadata({COUNTS_KEY: json.dumps(counts).encode()}))
    return users, _listed(best)


def _only(pairs: Csr, users: np.ndarray, items: np.ndarray) -> Csr:
    rows = np.repeat(np.arange(len(users)), np.diff(pairs[0]))
    keep = users[rows] & items[pairs[1]]
    return csr(rows[keep], pairs[1][keep], len(users), len(items))


Ranker = Callable[[np.ndarray, int, Csr | None], np.ndarray]


def _ranker(shop: Shop, part: Part, model: str, block: np.ndarray) -> Ranker:
    """What lists the k best items, (m, k) int32, for some users of a block, without what they may not get."""
    if model != "model":
        scores = shop.baselines[model].scores(part.first + block)
        return lambda among, k, mask: top_k_of_scores(scores[among], k, exclude=mask, allowed=shop.sold)[0]

    def rank(among: np.ndarray, k: int, mask: Csr | None) -> np.ndarray:
        queries = part.vectors[block[among]]
        ids = top_k(queries, shop.vectors, k, exclude=mask, allowed=shop.listable)[0].copy()
        ids[~queries.any(axis=1)] = -1
        return ids

    return rank


def _note(best: np.ndarray, ids: np.ndarray) -> None:
    """Keep the best rank, from 1, at which each item was listed."""
    for place in range(ids.shape[1] - 1, -1, -1):
        items = ids[:, place]
        items = items[items >= 0]
        best[items] = np.minimum(best[items], place + 1)


def _listed(best: Mapping[tuple[str, str], np.ndarray]) -> pa.Table:
    tables = []
    for (protocol, model), ranks in sorted(best.items()):
        items = np.flatnonzero(ranks < NEVER)
        columns = [[protocol] * len(items), [model] * len(items), items.astype(np.int32), ranks[items]]
        tables.append(pa.table(columns, schema=LISTED))
    return pa.concat_tables([LISTED.empty_table(), *tables])
