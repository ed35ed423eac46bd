"""Products with purchases, strip by strip in place, against those of whole arrays."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from topkin.encoding.strips import joined, multiply, split, strips_of
from topkin.encoding.svd import COLUMNS


@given(st.integers(0, 9), st.integers(1, 3 * COLUMNS))
def test_strips_lie_one_behind_the_other_and_join_to_the_whole(rows, width):
    whole = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    strips = strips_of(whole)
    assert all(strip.shape[1] <= COLUMNS for strip in strips)
    np.testing.assert_array_equal(joined(strips), whole)
    if rows:
        flat = np.concatenate([strip.reshape(-1) for strip in strips])
        apart = split(flat, rows)
        np.testing.assert_array_equal(joined(apart), whole)
        assert all(np.shares_memory(strip, flat) and strip.flags.c_contiguous for strip in apart)


@pytest.mark.parametrize("scaled", [False, True])
def test_strips_are_multiplied_in_place_by_any_number_of_threads(scaled):
    rng = np.random.default_rng(0)
    A = sp.random(50, 30, 0.2, "csr", np.float32, rng=rng)
    Z = rng.standard_normal((30, 2 * COLUMNS + 5), dtype=np.float32)
    scale = rng.uniform(0.1, 3, 30).astype(np.float32) if scaled else None
    products = []
    for threads in (1, 2, 7):
        strips = [strip.copy() for strip in strips_of(Z)]
        multiply(A, strips, scale, threads=threads)
        products.append(joined(strips))
    by_rows = Z if scale is None else Z * scale[:, None]
    np.testing.assert_allclose(products[0], A.T @ (A @ by_rows), rtol=1e-4, atol=1e-4)
    assert products[0].tobytes() == products[1].tobytes() == products[2].tobytes()


def test_a_product_that_fails_in_a_thread_is_told_and_nothing_waits():
    strips = strips_of(np.ones((5, 6 * COLUMNS), np.float32))
    with pytest.raises(ValueError, match="broadcast"):
        multiply(sp.csr_matrix(np.ones((3, 5), np.float32)), strips, np.ones(4, np.float32), threads=2)
