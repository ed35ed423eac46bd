"""Reasons: their shares add up to the score, and the largest are named."""

import numpy as np
import pytest

from topkin.encoding.blocks import Block, factors, user_vectors
from topkin.interactions import Interactions, history_weights
from topkin.linalg.cosine import unit_rows
from topkin.recommend import explain as module
from topkin.recommend.explain import explain

DIM = 8


def one(dim: int) -> Block:
    return Block(name="trained", dim=dim, weight=1, inverse_popularity=0.5, half_life_days=30, spread=(1.0,) * dim)


ONE = [one(DIM)]


def _shop(lengths: list[int], n_items: int = 40, seed: int = 0):
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.standard_normal((n_items, DIM)).astype(np.float32))
    in_vectors = rng.standard_normal((n_items, DIM)).astype(np.float32)
    items = [rng.permutation(n_items)[:length] for length in lengths]
    flat = np.concatenate([np.zeros(0, int), *items]).astype(np.int32)
    ages = rng.uniform(0, 100, len(flat)).astype(np.float32)
    indptr = np.cumsum([0, *lengths]).astype(np.int64)
    history = Interactions(indptr, flat, ages, np.ones(len(flat), np.float32), n_items)
    weights = history_weights(history, rng.integers(0, 9, n_items), inverse_popularity=0.5, half_life_days=30)
    return history, weights[:, None], in_vectors, vectors


def _naive(history, weights, in_vectors, vectors, lists, most):
    reasons = []
    for u in range(history.n_users):
        own = slice(history.indptr[u], history.indptr[u + 1])
        pooled = (in_vectors[history.items[own]].astype(np.float64) * weights[own].astype(np.float64)).sum(axis=0)
        norm = np.linalg.norm(pooled) or 1.0
        reasons.append([])
        for j in lists[u]:
            shares = (
                []
                if j < 0
                else [
                    (
                        np.float32(
                            np.dot(in_vectors[h].astype(np.float64) * float(w), vectors[j].astype(np.float64)) / norm
                        ),
                        int(h),
                    )
                    for h, w in zip(history.items[own], weights[own, 0], strict=True)
                ]
            )
            reasons[-1].append(sorted(((-s, h) for s, h in shares if s > 0))[:most])
    return reasons


@pytest.mark.parametrize("most", [1, 3, 20])
def test_reasons_are_those_of_a_loop(most, monkeypatch):
    monkeypatch.setattr(module, "_BUDGET_BYTES", 20_000)  # several blocks
    history, weights, in_vectors, vectors = _shop([0, 1, 5, 30, 2, 5, 0, 40])
    lists = np.random.default_rng(1).integers(-1, 40, (8, 6)).astype(np.int32)
    items, shares = explain(history, weights, ONE, in_vectors, vectors, lists, most)
    for u, rows in enumerate(_naive(history, weights, in_vectors, vectors, lists, most)):
        for c, expected in enumerate(rows):
            named = items[u, c] >= 0
            assert items[u, c][named].tolist() == [h for _, h in expected]
            assert shares[u, c][named] == pytest.approx([-s for s, _ in expected], rel=1e-5)
            assert (shares[u, c][~named] == 0).all()


def test_all_shares_add_up_to_the_score():
    history, weights, in_vectors, vectors = _shop([12, 3, 25])
    in_vectors = np.abs(in_vectors)  # every share is positive, so that all are named
    vectors = np.abs(vectors)
    pooled = np.array(
        [(in_vectors[history.take(np.array([u])).items] * weights[history.users == u]).sum(axis=0) for u in range(3)]
    )
    scores = unit_rows(pooled) @ vectors.T
    lists = np.tile(np.arange(5, dtype=np.int32), (3, 1))
    _, shares = explain(history, weights, ONE, in_vectors, vectors, lists, 25)
    assert shares.sum(axis=2) == pytest.approx(scores[:, :5], rel=1e-5)


def test_equal_shares_go_to_the_lower_item_number():
    in_vectors = np.ones((6, DIM), np.float32)
    vectors = unit_rows(np.ones((6, DIM), np.float32))
    history = Interactions(
        np.array([0, 4]), np.array([5, 2, 4, 3], np.int32), np.zeros(4, np.float32), np.ones(4, np.float32), 6
    )
    items, _ = explain(history, np.ones((4, 1), np.float32), ONE, in_vectors, vectors, np.array([[0]], np.int32), 3)
    assert items[0, 0].tolist() == [2, 3, 4]


def test_a_purchase_that_speaks_against_an_item_is_no_reason():
    vectors = np.eye(2, dtype=np.float32)
    in_vectors = np.array([[1, 0], [-0.5, 1]], np.float32)
    history = Interactions(
        np.array([0, 2]), np.array([0, 1], np.int32), np.zeros(2, np.float32), np.ones(2, np.float32), 2
    )
    items, _ = explain(
        history, np.ones((2, 1), np.float32), [one(2)], in_vectors, vectors, np.array([[0, 1]], np.int32), 2
    )
    assert items[0].tolist() == [[0, -1], [1, -1]]


def test_shares_of_several_blocks_add_up_to_the_score():
    rng = np.random.default_rng(2)
    history, _, in_vectors, vectors = _shop([12, 3, 25])
    in_vectors, vectors, buyers = np.abs(in_vectors), np.abs(vectors), rng.integers(1, 99, 40)
    blocks = [
        Block(
            name="svd", dim=5, weight=1, inverse_popularity=0.5, half_life_days=20, spread=tuple(rng.uniform(0.1, 2, 5))
        ),
        Block(name="trained", dim=2, weight=0.3, inverse_popularity=0, half_life_days=None, spread=(1.0, 0.5)),
        Block(name="recency", dim=1, weight=2, inverse_popularity=1, half_life_days=None, spread=(0.2,)),
    ]
    lists = np.tile(np.arange(5, dtype=np.int32), (3, 1))
    scores = user_vectors(history, in_vectors, buyers, blocks) @ vectors.T
    weights = factors(history, in_vectors, buyers, blocks)
    _, shares = explain(history, weights, blocks, in_vectors, vectors, lists, 25)
    assert shares.sum(axis=2) == pytest.approx(scores[:, :5], rel=1e-5)
