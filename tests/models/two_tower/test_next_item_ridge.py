"""The regression of what was taken up next, against loops over users and windows."""

import numpy as np
import pytest

from topkin.interactions import Interactions, concatenate
from topkin.models.two_tower.next_item_ridge import NextItemSettings, next_item_ridge

N, DIM = 9, 3
HISTORIES = [
    [(0, 60.0), (1, 40.0), (2, 20.0), (1, 11.0), (3, 9.0), (0, 2.0), (4, 1.0)],
    [(5, 33.0), (6, 12.0), (7, 12.0), (5, 3.0)],
    [(2, 3.0)],
    [],
    [(1, 50.0), (8, 15.0), (2, 5.0), (3, 4.0)],
]
SETTINGS = NextItemSettings(windows=3, days=10.0, decay=0.5, ridge=0.7, inverse_popularity=0.5, half_life_days=30.0)


def of(histories) -> Interactions:
    flat = [purchase for history in histories for purchase in history]
    indptr = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    items, ages = np.array([i for i, _ in flat], np.int32), np.array([a for _, a in flat], np.float32)
    return Interactions(indptr, items, ages, np.ones(len(flat), np.float32), N)


def naive(histories, E, buyers):
    G, C = np.zeros((DIM, DIM)), np.zeros((N, DIM))
    for history in histories:
        for window in range(SETTINGS.windows):
            until, since = SETTINGS.days * window, SETTINGS.days * (window + 1)
            before = {i: a for i, a in history if a > since}
            after = {i for i, a in history if until < a <= since} - set(before)
            if not before or not after:
                continue
            latest = min(before.values())
            x = sum(buyers[i] ** -0.5 * 2 ** (-(a - latest) / 30) * E[i].astype(float) for i, a in before.items())
            x = x / np.linalg.norm(x)
            G += SETTINGS.decay**window * np.outer(x, x)
            for item in after:
                C[item] += SETTINGS.decay**window * x / np.sqrt(len(after))
    return np.linalg.solve(G + SETTINGS.ridge * np.trace(G) / DIM * np.eye(DIM), C.T).T


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, DIM)).astype(np.float32), rng.integers(1, 40, N)


def test_it_is_the_regression_of_a_loop(vectors):
    got = next_item_ridge(lambda: [of(HISTORIES)], *vectors, SETTINGS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, naive(HISTORIES, *vectors), rtol=1e-4, atol=1e-6)
    assert not got[5].any()  # bought again, never for the first time in a window


def test_parts_add_up_in_any_order(vectors):
    parts = [of(HISTORIES[:2]), of(HISTORIES[2:])]
    whole = next_item_ridge(lambda: [concatenate(parts)], *vectors, SETTINGS)
    np.testing.assert_allclose(next_item_ridge(lambda: parts[::-1], *vectors, SETTINGS), whole, rtol=1e-5, atol=1e-7)


def test_what_came_last_weighs_more(vectors):
    early = [[(0, 50.0), (1, 25.0)]] * 3 + [[(0, 50.0), (2, 5.0)]] * 2
    got = next_item_ridge(lambda: [of(early)], *vectors, SETTINGS)
    x = vectors[0][0] / np.linalg.norm(vectors[0][0])
    assert got[2] @ x > got[1] @ x > 0


def test_nothing_taken_up_gives_zeros(vectors):
    assert not next_item_ridge(lambda: [of([[(1, 90.0), (2, 80.0)], []])], *vectors, SETTINGS).any()
    assert not next_item_ridge(lambda: [], *vectors, SETTINGS).any()
