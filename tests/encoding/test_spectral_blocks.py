"""The decomposition by blocks of rows against that of whole arrays, in one process and without Beam."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from topkin.encoding.spectral_blocks import ROWS, Grams, Turn, blocks_of, cuts_of, leading, rows_of_block
from topkin.encoding.strips import joined, multiply, strips_of
from topkin.encoding.svd import DRAWN, SpectralSettings, by_users, decompose, scale_of, start_rows


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
    rows = [rows_of_block(number, n_items) for number in numbers]
    Q = np.concatenate([start_rows(settings.seed, r, width) for r in rows])
    own = scale_of(np.bincount(R.indices, R.data, n_items).astype(np.float32), settings)
    for done in range(1, settings.passes + 1):
        strips = [strip.copy() for strip in strips_of(Q)]
        multiply(by_users(R, settings), strips, scale, threads=2)
        Y = joined(strips)
        Q = Q / own[:, None] if scale is None else Q
        scale = own
        Y *= scale[:, None]
        grams = Grams.sum_of([Grams.of(Q[r], Y[r], r.start if done == settings.passes else None) for r in rows])
        if done < settings.passes:
            turn = Turn.of(grams, done)
            Q = np.concatenate([turn.next(Q[r], Y[r]) for r in rows])
    s, M = leading(grams, settings)
    return s, Y @ M


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("topkin.encoding.spectral_blocks.ROWS", 64)
    monkeypatch.setattr("topkin.encoding.svd.DRAWN", 48)


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


@given(st.integers(1, 60 * ROWS))
def test_blocks_are_even_in_number_and_in_size(n_items):
    rows = [rows_of_block(number, n_items) for number in range(blocks_of(n_items))]
    assert len(rows) % 2 == 0
    assert [r.start for r in rows] == [0, *(r.stop for r in rows[:-1])]
    assert rows[-1].stop == n_items
    sizes = [r.stop - r.start for r in rows]
    assert max(sizes) <= ROWS
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 5 * ROWS), st.randoms(use_true_random=False))
def test_items_are_cut_where_blocks_begin(n_items, random):
    items = np.array(sorted(random.sample(range(n_items), min(n_items, 40))))
    cuts = cuts_of(items, n_items)
    for number in range(blocks_of(n_items)):
        rows = rows_of_block(number, n_items)
        mine = items[cuts[number] : cuts[number + 1]].tolist()
        assert mine == [i for i in items.tolist() if rows.start <= i < rows.stop]


@pytest.mark.parametrize(("start", "stop"), [(0, 9), (DRAWN - 3, DRAWN + 2), (DRAWN, DRAWN + 1), (5, 2 * DRAWN + 3)])
def test_a_start_is_the_same_for_whoever_holds_the_rows(start, stop):
    whole = start_rows(3, slice(0, 3 * DRAWN), 2)
    np.testing.assert_array_equal(start_rows(3, slice(start, stop), 2), whole[start:stop])
    assert not np.array_equal(whole[:DRAWN], whole[DRAWN : 2 * DRAWN])
