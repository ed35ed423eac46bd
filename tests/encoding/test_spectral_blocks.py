"""The decomposition by blocks of rows against that of whole arrays, in one process and without Beam."""

import numpy as np
import pytest
import scipy.sparse as sp

from topkin.encoding import svd
from topkin.encoding.spectral_blocks import Grams, Turn, blocks_of, cuts_of, leading
from topkin.encoding.svd import ROWS, SpectralSettings, decompose, products_of, scale_of, start_rows


def shop(n_users=900, n_items=400, seed=0):
    """Users who mostly buy of one of five kinds, most items rarely; float32 CSR."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.integers(5, size=n_users), rng.integers(5, size=n_items)
    chance = np.where(taste[:, None] == kind, 0.2, 0.02) * rng.uniform(0.1, 1, n_items) ** 2
    bought = rng.random(chance.shape) < chance
    return sp.csr_matrix(np.where(bought, rng.uniform(0.3, 1.5, chance.shape), 0).astype(np.float32))


def by_blocks(R, settings):
    """The passes as workers do them, the whole matrix as one part."""
    n_items, width = R.shape[1], settings.dim + settings.oversampling
    numbers, scale = range(blocks_of(n_items)), None
    Q = np.concatenate([start_rows(settings.seed, number, n_items, width) for number in numbers])
    for done in range(1, settings.passes + 1):
        Y, degrees, _ = products_of(R, Q, scale, settings)
        Q = Q / scale_of(degrees, settings)[:, None] if scale is None else Q
        scale = scale_of(degrees, settings)
        Y *= scale[:, None]
        rows = [slice(number * svd.ROWS, (number + 1) * svd.ROWS) for number in numbers]
        grams = Grams.sum_of([Grams.of(Q[r], Y[r], number) for number, r in enumerate(rows)])
        if done < settings.passes:
            turn = Turn.of(grams, done)
            Q = np.concatenate([turn.next(Q[r], Y[r]) for r in rows])
    s, M = leading(grams, settings)
    return s, Y @ M


@pytest.fixture
def small_blocks(monkeypatch):
    for module in ("topkin.encoding.svd", "topkin.encoding.spectral_blocks"):
        monkeypatch.setattr(f"{module}.ROWS", 64)


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_blocks_give_the_vectors_of_whole_arrays(small_blocks, passes):
    R = shop()
    settings = SpectralSettings(dim=12, oversampling=20, passes=passes)
    whole = decompose(lambda: [R], R.shape[1], settings)
    s, V = by_blocks(R, settings)
    np.testing.assert_allclose(s, whole.s, rtol=1e-4)
    np.testing.assert_allclose(V[:, :4], whole.V[:, :4], atol=2e-3)  # signs too
    np.testing.assert_allclose((V * s) @ V.T, (whole.V * whole.s) @ whole.V.T, atol=1e-3)


def test_fewer_directions_than_columns_are_as_many_either_way(small_blocks):
    R = sp.csr_matrix(np.kron(np.eye(6), np.ones((20, 30))).astype(np.float32))
    settings = SpectralSettings(dim=12, oversampling=20, passes=3)
    s, V = by_blocks(R, settings)
    assert V.shape == (180, 6)
    np.testing.assert_allclose(s, decompose(lambda: [R], 180, settings).s, rtol=1e-4)


def test_items_are_cut_where_blocks_begin():
    items = np.array([0, 5, ROWS - 1, ROWS, 2 * ROWS + 3])
    assert cuts_of(items, 2 * ROWS + 4).tolist() == [0, 3, 4, 5]


def test_a_start_is_the_same_for_whoever_holds_a_block():
    n_items = ROWS + 10
    assert start_rows(3, 1, n_items, 4).shape == (10, 4)
    assert not np.array_equal(start_rows(3, 0, n_items, 4)[:10], start_rows(3, 1, n_items, 4))
    assert np.array_equal(start_rows(3, 1, n_items, 4), start_rows(3, 1, n_items, 4))
