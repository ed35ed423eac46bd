"""Users like a user where there are many: of those in the clusters nearest to it, in the place of all.

An inverted file (Jégou, Douze and Schmid, PAMI 2011): each user belongs to the nearest of some centroids, of spherical
k-means over a sample (Dhillon and Modha, Machine Learning 2001), and is compared, exactly, with the users of the
clusters whose centroids are nearest. How many clusters that takes is measured: on some users, whose nearest among all
users are found.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from topkin.linalg.cosine import unit_rows
from topkin.linalg.sort_keys import best_keys, keys_of
from topkin.recommend.similar import nearest
from topkin.search.topk import TopK, top_k

LEARNED_FROM = 64
"""Users a cluster from whom the centroids are learned."""
QUERIES = 1_000
"""Users who measure, and the clusters that are enough find this share of their nearest:"""
RECALL = 0.95
MOST_PROBES = 16
"""Clusters that are searched, at most."""
_ROUNDS = 10


def n_clusters(users: int) -> int:
    """How many clusters so many users have: a user costs its centroids as much as a few clusters' members."""
    return max(1, math.ceil(math.sqrt(users) / 2))


def centroids_of(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The centroids of spherical k-means, (min(clusters, n), dim) float32 unit rows. vectors: (n, dim) unit rows.

    The first ones are drawn by the seed; one that nobody is nearest to stays where it is.
    """
    rng = np.random.default_rng(seed)
    centroids = vectors[np.sort(rng.choice(len(vectors), min(clusters, len(vectors)), replace=False))]
    for _ in range(_ROUNDS if len(centroids) else 0):
        own = top_k(vectors, centroids, 1)[0][:, 0]
        order = np.argsort(own, kind="stable")
        there, starts = np.unique(own[order], return_index=True)
        sums = np.add.reduceat(vectors[order], starts, axis=0, dtype=np.float64)
        moved = np.array(centroids)
        moved[there] = unit_rows(sums.astype(np.float32))
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return np.ascontiguousarray(centroids)


def nearest_clusters(vectors: np.ndarray, centroids: np.ndarray, probes: int) -> np.ndarray:
    """The clusters of the nearest centroids, the nearest first, (n, probes) int32; -1 for a user without a vector."""
    if not len(centroids):
        return np.full((len(vectors), 1), -1, np.int32)
    ids = top_k(vectors, centroids, min(probes, len(centroids)))[0]
    ids[~vectors.any(axis=1)] = -1
    return ids


class Measured(NamedTuple):
    """How many clusters are searched, and the share of the nearest that they hold."""

    probes: int
    recall: float

    @classmethod
    def of(cls, order: np.ndarray, homes: np.ndarray, recall: float = RECALL) -> "Measured":
        """The fewest clusters that hold a share of the nearest users, or as many as are given.

        order: (n, most) the clusters of some users' nearest centroids. homes: (n, k) those of their nearest users,
        padded -1.
        """
        true = int((homes >= 0).sum())
        if not true:
            return cls(order.shape[1], 1.0)
        held = np.array([((homes == cluster[:, None]) & (homes >= 0)).sum() for cluster in order.T]).cumsum() / true
        probes = int(np.argmax(held >= recall)) + 1 if held[-1] >= recall else order.shape[1]
        return cls(probes, float(held[probes - 1]))


def search_cluster(numbers: np.ndarray, home: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """The k nearest members of a cluster to each user who asks, as ``sort_keys.keys_of``, (n, k) uint64.

    numbers: (n,) the users' numbers. home: (n,) bool, the members. vectors: (n, dim) float32, theirs, none zero.
    """
    members = np.flatnonzero(home)
    members = members[np.argsort(numbers[members])]  # of equal scores the lower number is the better
    own = np.full(len(numbers), -1)
    own[members] = np.arange(len(members))
    ids, scores = nearest(vectors, vectors[members], own, np.ones(len(members), bool), k)
    return keys_of(scores, np.where(ids < 0, np.int32(-1), numbers[members].astype(np.int32)[ids]))


def merged(rows: Sequence[np.ndarray], keys: Sequence[np.ndarray], n: int, k: int) -> np.ndarray:
    """The k best of each of n users out of lists of several clusters, (n, k) uint64; padded.

    rows: the users of each list, (m,); keys: (m, k), see :func:`search_cluster`.
    """
    row = np.concatenate([np.zeros(0, np.int64), *rows])
    every = np.concatenate([np.zeros((0, k), np.uint64), *keys])
    order = np.argsort(row, kind="stable")
    return best_keys(np.repeat(row[order], k), every[order].ravel(), n, k)


def nearest_to(queries: np.ndarray, own: np.ndarray, vectors: np.ndarray, first: int, k: int) -> TopK:
    """The k users of a part nearest to some users. own: (n,) their numbers; vectors: the part's, from ``first`` on."""
    ids, scores = nearest(queries, vectors, own - first, (vectors != 0).any(axis=1), k)
    return np.where(ids < 0, np.int32(-1), ids + np.int32(first)), scores
