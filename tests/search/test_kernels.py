import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.search.kernels import BLAS, few_places, pair_products


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 70), st.integers(1, 5), st.booleans())
def test_what_passes_is_what_is_not_below_the_floors_and_not_barred(seed, b, m, blocks, one):
    rng = np.random.default_rng(seed)
    blocks = min(blocks, m)
    queries, items = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (b, m))
    products = BLAS.load(items, blocks)(b)
    for j in rng.permutation(blocks):
        whole = queries @ items[j::blocks].T
        np.testing.assert_array_equal(products.scores(queries, j), whole)
        floors = np.float32(1) if one else rng.integers(-9, 9, (b, 1)).astype(np.float32)
        barred = rng.random(whole.shape) < 0.2
        at, values = products.scores_above(queries, j, floors, np.nonzero(barred))
        expected = np.flatnonzero((whole >= floors) & ~barred)
        np.testing.assert_array_equal(at, expected)
        np.testing.assert_array_equal(values, whole.ravel()[expected])


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(1, 70), st.sampled_from([0.0, 0.02, 1.0]))
def test_places_are_those_of_flatnonzero(seed, b, m, share):
    passed = np.random.default_rng(seed).random((b, m)) < share
    np.testing.assert_array_equal(few_places(passed), np.flatnonzero(passed))


def test_products_of_pairs_are_those_of_the_matrix_however_they_are_cut(monkeypatch):
    monkeypatch.setattr("topkin.search.kernels._PAIRS_VALUES", 20)
    rng = np.random.default_rng(1)
    queries, items = (rng.integers(-9, 10, (n, 5)).astype(np.float32) for n in (6, 40))
    row, column = rng.integers(0, 6, 99), rng.integers(0, 40, 99)
    np.testing.assert_array_equal(pair_products(queries, items, row, column), (queries @ items.T)[row, column])
