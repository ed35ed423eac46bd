"""Ranking metrics of recommended lists against what was bought later, a value per user.

Of a list's first k items: recall@k = hits / number of true items; precision@k = hits / k; hit_rate@k = 1
where there is a hit; mrr@k = 1 / rank of the first hit, or 0; map@k = mean over min(k, true items) of the
precision at each hit; ndcg@k = sum over hits of 1 / log2(rank + 1), divided by the same sum of a perfect
list of min(k, true items). A padded -1 is never a hit. Means over users are the caller's.
"""

from collections.abc import Sequence

import numpy as np

from topkin.linalg.csr import Csr

METRICS = ("recall", "precision", "ndcg", "map", "mrr", "hit_rate")


def hits_of(ids: np.ndarray, truth: Csr) -> np.ndarray:
    """Which places of the lists hold a true item, (n, k) bool.

    ids: (n, k) int, padded with -1. truth: each user's true items.
    """
    width = int(max(ids.max(initial=0), truth.indices.max(initial=0))) + 1
    true = np.unique(truth.rows * width + truth.indices)
    listed = np.arange(len(ids), dtype=np.int64)[:, None] * width + ids
    if not len(true):
        return np.zeros(ids.shape, bool)
    at = np.minimum(np.searchsorted(true, listed.ravel()), len(true) - 1).reshape(ids.shape)
    return (true[at] == listed) & (ids >= 0)


def ranking_metrics(ids: np.ndarray, truth: Csr, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Every metric at every k, ``{"recall@10": (n,) float64, …}``, in the order of ``ids``' rows.

    ids: (n, k) int, best first, padded with -1; a list shorter than k counts as padded. truth: each user's
    distinct true items. Raises ValueError for a user without true
    items (leave such users out first), an item listed twice, or k below 1.
    """
    ids = np.asarray(ids)
    if truth.n_rows != len(ids):
        raise ValueError(f"truth must have a row for each list, got {truth.n_rows} rows for {len(ids)} lists")
    if len(ks) == 0 or min(ks) < 1:
        raise ValueError(f"k must be at least 1, got {list(ks)}")
    n_true = truth.lengths
    if (n_true == 0).any():
        raise ValueError(f"every user must have true items, {int((n_true == 0).sum())} have none: leave them out")
    ordered = np.sort(ids, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("a list must not name an item twice")
    hits = hits_of(ids, truth)[:, : max(ks)]
    width = max(hits.shape[1], 1)
    if hits.shape[1] < width:
        hits = np.pad(hits, ((0, 0), (0, 1)))
    ranks = np.arange(1, width + 1)
    hits_up_to = np.cumsum(hits, axis=1)
    gain = np.cumsum(hits / np.log2(ranks + 1), axis=1)
    ideal = np.cumsum(1 / np.log2(np.arange(1, int(n_true.max(initial=1)) + 1) + 1))
    precise = np.cumsum(hits * (hits_up_to / ranks), axis=1)
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
    out: dict[str, np.ndarray] = {}
    for k in ks:
        at, possible = min(k, width) - 1, np.minimum(n_true, k)
        out[f"recall@{k}"] = hits_up_to[:, at] / n_true
        out[f"precision@{k}"] = hits_up_to[:, at] / k
        out[f"ndcg@{k}"] = gain[:, at] / ideal[possible - 1]
        out[f"map@{k}"] = precise[:, at] / possible
        out[f"mrr@{k}"] = np.where((first > 0) & (first <= k), 1 / np.maximum(first, 1), 0.0)
        out[f"hit_rate@{k}"] = (hits_up_to[:, at] > 0).astype(np.float64)
    return out


def ndcg_of_ranks(rows: np.ndarray, ranks: np.ndarray, n_true: np.ndarray, k: int) -> np.ndarray:
    """The NDCG@k of each list, (n,) float64, from its hits alone: to the last bit that of :func:`ranking_metrics`.

    rows, ranks: (hits,) int, the list of each hit and its rank from 1, in any order. n_true: (n,) int true items of
    each list, at least 1.
    """
    order = np.lexsort((ranks, rows))
    rows, ranks = rows[order], ranks[order]
    gain = np.bincount(rows, np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0), minlength=len(n_true))
    ideal = np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1))
    return np.asarray(gain / ideal[np.minimum(n_true, k) - 1])


def coverage(ids: np.ndarray, n_items: int) -> float:
    """The share of the catalogue that is in at least one list, 0 to 1. ids: int, padded with -1."""
    listed = np.unique(ids)
    return float((listed >= 0).sum() / n_items) if n_items else 0.0


def list_diversity(ids: np.ndarray, preferences: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """1 - the mean cosine of two items of a list's first k, (n, n_ks) float64; NaN for fewer than two items.

    ids: (n, k) int, padded with -1. preferences: (n_items, dim) unit rows; a zero row is like no other item
    (intra-list distance: Ziegler et al., WWW 2005). ks: ascending.
    """
    out = np.full((len(ids), len(ks)), np.nan)
    total = np.zeros((len(ids), preferences.shape[1]))
    squares, number, start = np.zeros(len(ids)), np.zeros(len(ids)), 0
    for column, k in enumerate(ks):
        some = ids[:, start:k]
        vectors = np.where((some >= 0)[..., None], preferences[some], np.float32(0)).astype(np.float64)
        total += vectors.sum(axis=1)
        squares += np.einsum("nkd,nkd->n", vectors, vectors)
        number += (some >= 0).sum(axis=1)
        pairs = number * (number - 1)
        apart = 1 - (np.einsum("nd,nd->n", total, total) - squares) / np.maximum(pairs, 1)
        out[:, column] = np.where(pairs > 0, apart, np.nan)
        start = min(k, ids.shape[1])
    return out


def gini(counts: np.ndarray) -> float:
    """How unequal non-negative counts are: 0 where all are equal, towards 1 where one has everything."""
    ordered = np.sort(counts.astype(np.float64))
    n, total = len(ordered), ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total else 0.0


def ranked_above(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How many scores of its row stand above each of some, (m,) int64: higher ones, and equal ones before it.

    scores: (n, width) float32. rows, columns: (m,) int, the places of those.
    """
    above = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), 256):  # as many as stay in the cache
        part = slice(start, start + 256)
        mine, column = scores[rows[part]], columns[part, None]
        own = np.take_along_axis(mine, column, axis=1)
        if np.isnan(own).any():
            raise ValueError("scores must be numbers, got NaN")
        before = np.arange(scores.shape[1]) < column
        above[part] = np.count_nonzero((mine > own) | ((mine == own) & before), axis=1)
    return above
