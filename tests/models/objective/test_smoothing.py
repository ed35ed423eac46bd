import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.interactions import Interactions
from topkin.linalg.sparse_knn import cosine_neighbours
from topkin.models.objective.smoothing import Smoothing


@pytest.fixture
def history() -> Interactions:
    """Thirty users with six purchases each of 12 items; item 12 was never bought."""
    rng = np.random.default_rng(4)
    items = np.concatenate([rng.choice(12, 6, replace=False) for _ in range(30)]).astype(np.int32)
    return Interactions(np.arange(31) * 6, items, np.zeros(180, np.float32), np.ones(180, np.float32), 13)


def test_a_row_is_the_mean_of_its_own_and_its_neighbours_by_their_cosine(history):
    rows = np.arange(1, 14)
    rows[12] = 0  # the item never bought has no row
    rows[5] = 0
    smoothing = Smoothing.over(history, rows, 12, neighbours=3, strength=0.5)
    table = np.random.default_rng(0).normal(size=(13, 4)).astype(np.float32)
    got = smoothing.all(table)
    sets = [set(np.flatnonzero(history.items == i) // 6) for i in range(13)]
    for item in range(12):
        if rows[item] == 0:
            continue
        cosine = {
            j: len(sets[item] & sets[j]) / np.sqrt(len(sets[item]) * len(sets[j])) for j in range(12) if j != item
        }
        near = sorted(cosine, key=lambda j: (-np.float32(cosine[j]), j))[:3]
        near = [j for j in near if rows[j] > 0]
        total = sum(cosine[j] for j in near)
        around = sum(cosine[j] / total * table[rows[j]].astype(float) for j in near)
        np.testing.assert_allclose(got[rows[item]], (table[rows[item]] + 0.5 * around) / 1.5, rtol=1e-5)
    assert (got[[6, 0]] == table[[6, 0]]).all()  # row 6 is nobody's


def test_the_rows_of_a_batch_are_those_of_the_table(history):
    smoothing = Smoothing.over(history, np.arange(1, 14), 13, neighbours=4, strength=1.0)
    table = np.random.default_rng(0).normal(size=(14, 4)).astype(np.float32)
    table[0] = 0
    ids = np.array([3, 9, 0, 13, 3])
    rows, entries, shares = smoothing.of(ids)
    assert (np.diff(rows) > 0).all()
    got = np.zeros((5, 4))
    np.add.at(got, entries[:, 0], shares[:, None] * table[rows[entries[:, 1]]])
    np.testing.assert_allclose(got, smoothing.all(table)[ids], rtol=1e-5, atol=1e-6)
    assert not got[2].any()


def test_the_map_holds_the_shares_of_neighbours_and_nothing_else(history):
    near = cosine_neighbours(history.binary(), 3).tocoo()
    around = np.zeros((14, 14))
    around[near.row + 1, near.col + 1] = near.data
    total = around.sum(axis=1)
    want = sp.csr_array(
        np.diag(np.where(total > 0, 1 / 1.5, 1.0)) + around * (0.5 / np.where(total > 0, total * 1.5, 1))[:, None]
    )
    got = Smoothing.over(history, np.arange(1, 14), 13, neighbours=3, strength=0.5).matrix
    assert got.nnz == want.nnz
    np.testing.assert_allclose(got.toarray(), want.toarray(), rtol=1e-6)


@settings(max_examples=40)
@given(st.data())
def test_rows_sum_to_one_and_what_has_no_neighbours_stays(data):
    n = data.draw(st.integers(2, 9))
    sizes = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=8))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    items = np.concatenate([rng.choice(n, size, replace=False) for size in sizes]).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    known = rng.random(n) < 0.8
    rows = np.where(known, np.cumsum(known), 0)
    neighbours = data.draw(st.integers(1, 4))
    ones = np.ones(len(items), np.float32)
    history = Interactions(indptr, items, np.zeros(len(items), np.float32), ones, n)
    smoothing = Smoothing.over(history, rows, int(known.sum()), neighbours=neighbours, strength=2.0)
    shares = smoothing.matrix.toarray()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert (shares >= 0).all()
    assert (np.diag(shares) > 0).all()
    assert ((shares > 0).sum(axis=1) <= neighbours + 1).all()
    assert (shares[0] == np.eye(len(shares))[0]).all()
    assert not shares[1:, 0].any()
    table = rng.normal(size=(len(shares), 3)).astype(np.float32)
    alone = np.diag(shares) == 1
    assert (smoothing.all(table)[alone] == table[alone]).all()
