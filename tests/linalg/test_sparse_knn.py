"""Neighbours of items against loops over the rows."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.linalg import sparse_knn
from topkin.linalg.sparse_knn import following_neighbours, walk_neighbours

NEARBY = {"decay": 1.0, "before": 1.0, "alpha": 0.5, "beta": 0.5}
FOLLOWING = {"decay": 0.5, "before": 0.3, "alpha": 0.7, "beta": 0.2}


@pytest.mark.parametrize("cells", [1, 40, 1 << 20])
@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4), st.sampled_from([NEARBY, FOLLOWING]))
def test_what_stands_near_equals_loops_whatever_the_block_and_the_order_of_rows(cells, seed, window, k, how):
    rng, n = np.random.default_rng(seed), 6
    rows = [rng.permutation(n)[: rng.integers(0, n + 1)] for _ in range(5)]
    places = [np.sort(rng.integers(0, 4, len(row)))[::-1] for row in rows]
    holders = [sum(item in row for row in rows) for item in range(n)]
    similar = np.zeros((n, n))
    for row, of in zip(rows, places, strict=True):
        for a in range(len(row)):
            for b in range(len(row)):
                if a != b and abs(a - b) <= window:
                    share = (1 + abs(int(of[a]) - int(of[b]))) ** -how["decay"]
                    similar[row[a], row[b]] += share * (how["before"] if of[b] > of[a] else 1)
    expected = np.zeros((n, n))
    for item in range(n):
        for other in range(n):
            similar[item, other] *= max(holders[item], 1) ** -how["alpha"] * max(holders[other], 1) ** -how["beta"]
        # equal sums of fractions may differ in float64: compared as the neighbours are chosen
        near = [o for o in np.argsort(-similar[item].astype(np.float32), kind="stable")[:k] if similar[item, o] > 0]
        expected[item, near] = similar[item, near]

    def make(order):
        indptr = np.concatenate([[0], np.cumsum([len(rows[r]) for r in order])]).astype(np.int64)
        items = np.concatenate([rows[r] for r in order]).astype(np.int32)
        positions = np.concatenate([places[r] for r in order]).astype(np.int64)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sparse_knn, "BLOCK_CELLS", cells)
            return following_neighbours(indptr, items, positions, n, window=window, k=k, **how).toarray()

    whole = make(range(5))
    np.testing.assert_allclose(whole.sum(axis=1), expected.sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(np.sort(whole, axis=1), np.sort(expected, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(whole, make([3, 1, 4, 0, 2]))


@pytest.mark.parametrize("cells", [1, 40, 1 << 20])
@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.3]))
def test_walks_equal_loops_whatever_the_block_and_the_order_of_users(cells, seed, k, alpha, beta):
    rng, n = np.random.default_rng(seed), 6
    bought = rng.random((7, n)) < 0.4
    buyers = np.maximum(bought.sum(axis=0), 1).astype(float)
    expected = np.zeros((n, n))
    for start in range(n):
        for user in range(len(bought)):
            for end in range(n):
                if bought[user, start] and bought[user, end] and start != end:
                    step = (buyers[start] * bought[user].sum()) ** -alpha
                    expected[start, end] += step * buyers[end] ** -beta
        expected[start, np.argsort(-expected[start].astype(np.float32), kind="stable")[k:]] = 0

    def make(order):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sparse_knn, "BLOCK_CELLS", cells)
            purchases = sp.csr_array(bought[order].astype(np.float32))
            return walk_neighbours(purchases, k, alpha=alpha, beta=beta).toarray()

    whole = make(np.arange(7))
    np.testing.assert_allclose(np.sort(whole, axis=1), np.sort(expected, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(whole, make(np.array([6, 2, 0, 5, 1, 4, 3])))


def test_with_every_probability_as_it_is_walks_of_two_steps_add_up_to_one():
    purchases = sp.csr_array((np.random.default_rng(0).random((40, 9)) < 0.5).astype(np.float32))
    leaves = walk_neighbours(purchases, 9, alpha=1.0, beta=0.0).toarray().sum(axis=1)
    known, buyers = purchases.toarray(), purchases.toarray().sum(axis=0)
    stays = (known / known.sum(axis=1, keepdims=True)).sum(axis=0) / buyers  # back at the item where it began
    np.testing.assert_allclose(leaves + stays, 1, rtol=1e-6)
