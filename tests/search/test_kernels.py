import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.search.kernels import BLAS


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
