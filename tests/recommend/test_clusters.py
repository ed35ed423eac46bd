"""Neighbours in clusters: those of a look at everybody, of whom the searched clusters hold a measured share."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.linalg.cosine import unit_rows
from topkin.linalg.sort_keys import keys_of, lists_of
from topkin.recommend import clusters
from topkin.recommend.clusters import (
    Measured,
    centroids_of,
    merged,
    n_clusters,
    nearest_clusters,
    nearest_to,
    search_cluster,
)
from topkin.recommend.similar import similar_users


def cloud(n: int, seed: int, zeros: int = 0) -> np.ndarray:
    """Unit rows around some directions."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((5, 6))
    rows = centers[rng.integers(5, size=n)] + 0.6 * rng.standard_normal((n, 6))
    vectors = np.array(unit_rows(rows.astype(np.float32)))
    vectors[:zeros] = 0
    return vectors


def in_clusters(vectors: np.ndarray, centroids: np.ndarray, probes: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    near, lists = nearest_clusters(vectors, centroids, probes), []
    for cluster in range(len(centroids)):
        numbers, rank = np.nonzero(near == cluster)
        shuffled = np.random.default_rng(cluster).permutation(len(numbers))
        numbers, rank = numbers[shuffled], rank[shuffled]
        lists.append((numbers, search_cluster(numbers, rank == 0, vectors[numbers], k)))
    keys = merged([rows for rows, _ in lists], [keys for _, keys in lists], len(vectors), k)
    return lists_of(keys)


@given(st.integers(0, 99), st.integers(1, 7), st.integers(1, 40), st.integers(0, 4))
def test_all_clusters_give_what_a_look_at_everybody_gives(seed, n, k, zeros):
    vectors = cloud(30, seed, zeros)
    vectors[7] = vectors[9]  # equal scores
    centroids = centroids_of(vectors[vectors.any(axis=1)], n, seed)
    ids, scores = in_clusters(vectors, centroids, len(centroids), k)
    want_ids, want_scores = similar_users(vectors, 0, [(0, vectors)], k)
    assert np.array_equal(ids, want_ids)
    assert scores.tobytes() == want_scores.tobytes()


def test_the_recall_that_is_measured_is_the_recall_of_the_search():
    vectors, k = cloud(400, 3), 5
    centroids = centroids_of(vectors, 12, 3)
    exact, _ = similar_users(vectors, 0, [(0, vectors)], k)
    homes = nearest_clusters(vectors, centroids, 1)[:, 0][exact]
    order = nearest_clusters(vectors, centroids, 12)
    shares = [np.mean([np.isin(a, b).mean() for a, b in zip(homes, order[:, :p], strict=True)]) for p in range(1, 13)]
    measured = Measured.of(order, homes)
    assert measured.probes == next(p for p, share in enumerate(shares, 1) if share >= clusters.RECALL)
    assert measured.recall == pytest.approx(shares[measured.probes - 1])
    nearest, _ = in_clusters(vectors, centroids, measured.probes, k)
    hits = np.mean([np.isin(a, b).mean() for a, b in zip(exact, nearest, strict=True)])
    assert measured.recall == pytest.approx(hits)
    assert 1 < measured.probes < 12
    assert Measured.of(order[:, :1], homes) == (1, pytest.approx(shares[0]))


def test_users_of_a_kind_are_one_cluster():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(4), 50)
    vectors = unit_rows((np.eye(4)[kinds] + 0.05 * rng.standard_normal((200, 4))).astype(np.float32))
    own = nearest_clusters(vectors, centroids_of(vectors, 16, 1), 1)[:, 0]
    assert all(len(set(kinds[own == cluster])) == 1 for cluster in np.unique(own))


@given(st.integers(0, 99), st.lists(st.integers(0, 30), max_size=3), st.integers(1, 6))
def test_the_nearest_of_some_users_come_together_from_parts(seed, cuts, k):
    vectors, own = cloud(30, seed, 2), np.array([3, 9, 29])
    want, _ = similar_users(vectors, 0, [(0, vectors)], k)
    parts = [(s, vectors[s:e]) for s, e in itertools.pairwise([0, *sorted(cuts), 30])]
    nearest = [nearest_to(vectors[own], own, theirs, first, k) for first, theirs in parts]
    keys = np.sort(np.concatenate([keys_of(scores, ids) for ids, scores in nearest], axis=1), axis=1)[:, :k]
    assert np.array_equal(lists_of(keys)[0], want[own])


def test_no_user_with_a_vector_is_in_no_cluster():
    centroids = centroids_of(np.zeros((0, 3), np.float32), 2, 0)
    assert nearest_clusters(np.zeros((2, 3), np.float32), centroids, 4).tolist() == [[-1], [-1]]
    assert Measured.of(np.zeros((0, 1), np.int32), np.zeros((0, 3), np.int32)) == (1, 1.0)
    assert (n_clusters(0), n_clusters(1), n_clusters(1_000_000)) == (1, 1, 500)
