import numpy as np
import pytest

from topkin.interactions import Interactions
from topkin.models.smoothing import Smoothing


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
