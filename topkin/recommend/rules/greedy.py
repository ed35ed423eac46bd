"""The best list that keeps caps: the next best item that breaks none, again and again.

``max_per = {category = 3}`` means that a list has at most three items of a category. The greedy list over all items in
the order of their scores is found from the first of them: what it takes depends on what stands above alone. So it is
known once it is full, and where the first items do not fill it more are asked for.
"""

from typing import NamedTuple

import numpy as np

_CACHE_BYTES = 2 << 20  # of candidates' vectors that are compared at a time


class Caps(NamedTuple):
    """At most ``most[c]`` items of a list with one label of column c.

    codes: (n_columns, n_items) int32, each item's label by its number, -1 for none. most: (n_columns,) int.
    """

    codes: np.ndarray
    most: np.ndarray


def first(ids: np.ndarray, k: int) -> np.ndarray:
    """The places of the first k items of each row, (n, k) int32 padded -1. ids: (n, depth) int32, -1 for none."""
    there = ids >= 0
    rank = np.cumsum(there, axis=1) - 1
    row, place = np.nonzero(there & (rank < k))
    places = np.full((len(ids), k), -1, np.int32)
    places[row, rank[row, place]] = place
    return places


def greedy(ids: np.ndarray, caps: Caps, k: int) -> np.ndarray:
    """The places of the first k candidates of each row that break no cap, (n, k) int32 padded -1.

    ids: (n, depth) int32 in their order, -1 for what may not be taken.
    """
    n, depth = ids.shape
    places = np.full((n, k), -1, np.int32)
    taken = np.full((len(caps.most), k, n), -2, np.int32)  # labels, by column, place in the list and row
    items, count, rows = np.ascontiguousarray(ids.T), np.zeros(n, np.int64), np.arange(n)
    for place in range(depth):
        labels = caps.codes[:, items[place]]
        free = (items[place] >= 0) & (count < k)
        for own, label, most in zip(taken[:, : min(place, k)], labels, caps.most, strict=True):
            free &= ((own == label).sum(axis=0) < most) | (label < 0)
        at = np.flatnonzero(free)
        places[rows[at], count[at]] = place
        taken[:, count[at], at] = labels[:, at]
        count[at] += 1
        left = count < k
        if 2 * left.sum() < len(rows):
            items, count, rows, taken = items[:, left], count[left], rows[left], taken[:, :, left]
            if not len(rows):
                break
    return places


def diverse(
    ids: np.ndarray, relevance: np.ndarray, vectors: np.ndarray, numbers: np.ndarray, caps: Caps, k: int, weight: float
) -> np.ndarray:
    """The places of k candidates by maximal marginal relevance that break no cap, (n, k) int32 padded -1.

    The next item is the one of highest

        (1 - weight) * relevance - weight * max over the items taken of the cosine with it,

    the earlier place among equals; nothing is taken off the first. Carbonell and Goldstein, The use of MMR, SIGIR 1998,
    whose lambda is 1 - weight.

    Args:
        ids: (n, depth) int32, -1 for what may not be taken.
        relevance: (n, depth) float32, finite where there is an item.
        vectors: (m, d) float32 unit rows of the items ``numbers``, (m,) int32 ascending: all that are candidates.
        caps: None of its columns where there are none.
        k: Length of a list.
        weight: From 0 to 1.
    """
    places = np.full((len(ids), k), -1, np.int32)
    row = np.zeros(caps.codes.shape[1], np.int32)
    row[numbers] = np.arange(len(numbers))
    size = max(1, _CACHE_BYTES // max(4 * ids.shape[1] * max(vectors.shape[1], 1), 1))
    for start in range(0, len(ids), size):
        part = slice(start, start + size)
        if len(numbers):
            places[part] = _diverse(ids[part], relevance[part], vectors[row[ids[part]]], caps, k, weight)
    return places


def _diverse(ids: np.ndarray, relevance: np.ndarray, own: np.ndarray, caps: Caps, k: int, weight: float) -> np.ndarray:
    """own: (n, depth, d) float32, the candidates' vectors; any where there is none."""
    n = len(ids)
    labels, rows = caps.codes[:, ids], np.arange(n)
    gain = np.where(ids >= 0, np.float32(1 - weight) * relevance, np.float32(-np.inf))
    like = np.full(ids.shape, -np.inf, np.float32)  # the highest cosine with an item taken
    places = np.full((n, k), -1, np.int32)
    for rank in range(k):
        value = gain if not rank else gain - np.float32(weight) * like
        best = value.argmax(axis=1)
        there = gain[rows, best] > -np.inf
        if not there.any():
            break
        places[there, rank] = best[there]
        gain[rows, best] = -np.inf
        if rank == k - 1:
            break
        np.maximum(like, np.matmul(own, own[rows, best][:, :, None])[:, :, 0], out=like)
        for label, most in zip(labels, caps.most, strict=True):
            mine = label[rows, best]
            alike = (label == mine[:, None]) & (mine >= 0)[:, None]
            so_far = places[:, : rank + 1]
            n_taken = (np.take_along_axis(alike, np.maximum(so_far, 0), axis=1) & (so_far >= 0)).sum(axis=1)
            gain[alike & (n_taken >= most)[:, None]] = -np.inf
    return places
