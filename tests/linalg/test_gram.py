"""Tall arrays by their inner products, against NumPy's QR and SVD."""

import numpy as np
import pytest

from topkin.linalg import gram


def array(condition, n=20_000, p=30, seed=0):
    """(n, p) float32 with singular values from 1 down to 1 / condition."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((n, p)))
    P, _ = np.linalg.qr(rng.standard_normal((p, p)))
    return ((Q * np.geomspace(1, 1 / condition, p)) @ P).astype(np.float32)


def test_inner_products_are_summed_over_all_blocks_of_rows():
    X, Y = array(3), array(3, seed=1)[:, :7]
    np.testing.assert_allclose(gram.inner(X, Y), X.T.astype(float) @ Y, atol=1e-6)


def test_a_symmetric_product_is_the_whole_product():
    X = np.random.default_rng(0).standard_normal((9000, 450), dtype=np.float32)
    Y = X @ np.diag(np.arange(450)).astype(np.float32)
    np.testing.assert_allclose(gram.inner_symmetric(X, X), gram.inner(X, X), atol=0.02)
    lower = np.tril(gram.inner(X, Y))
    np.testing.assert_allclose(gram.inner_symmetric(X, Y), lower + np.tril(lower, -1).T, rtol=1e-4, atol=5)


@pytest.mark.parametrize("rank", [30, 20])
def test_a_product_with_a_root_is_the_same_in_place(rank):
    X = array(5) if rank == 30 else array(5) @ np.diag(np.arange(30) < 20).astype(np.float32)
    T = gram.root(gram.inner(X, X))
    assert T.shape == (30, rank)
    np.testing.assert_allclose(gram.times_root(X.copy(), T), X @ T, atol=1e-4)


def test_a_triangular_root_of_many_columns_is_applied_block_by_block_in_place():
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((9000, 450), dtype=np.float32)
    T = np.triu(rng.standard_normal((450, 450))) / 20
    wanted = Y.astype(float) @ T
    assert gram.times_root(Y, T) is Y
    np.testing.assert_allclose(Y, wanted, atol=1e-4)


@pytest.mark.parametrize("n", [0, 5, 20_000])
def test_a_product_by_rows_is_the_product(n):
    rng = np.random.default_rng(0)
    X, M = rng.standard_normal((n, 7), dtype=np.float32), rng.standard_normal((7, 3), dtype=np.float32)
    product = gram.product(X, M)
    assert product.dtype == np.float32
    np.testing.assert_allclose(product, X @ M, atol=1e-5)


@pytest.mark.parametrize("condition", [2, 300])
def test_a_root_makes_columns_orthonormal(condition):
    X = array(condition)
    T = gram.root(gram.inner(X, X))
    assert T.shape == (30, 30)
    np.testing.assert_allclose((X @ T).T @ (X @ T), np.eye(30), atol=1e-2)


def test_directions_next_to_nothing_are_left_out():
    X = np.column_stack([array(2), array(2)[:, :5]])
    T = gram.root(gram.inner(X, X))
    assert T.shape == (35, 30)
    np.testing.assert_allclose((X @ T).T @ (X @ T), np.eye(30), atol=1e-3)


def test_the_least_singular_value_is_about_right():
    X = array(20)
    assert gram.least(gram.root(gram.inner(X, X))) == pytest.approx(1 / 20, rel=0.2)


def test_signs_hold_under_rounding_and_turn_with_the_vector():
    V = np.ones((1000, 1), np.float32) * np.tile([1, -1], 500)[:, None].astype(np.float32)
    noise = V + np.random.default_rng(1).uniform(-1e-6, 1e-6, V.shape).astype(np.float32)
    assert gram.signs(V) == gram.signs(noise) == -gram.signs(-V)


@pytest.mark.parametrize(("n", "d"), [(9000, 12), (5, 12), (4, 1)])
def test_principal_axes_are_those_of_the_centred_rows_svd(n: int, d: int) -> None:
    X = np.random.default_rng(0).standard_normal((n, d)) * np.linspace(3, 1, d) + 7
    mean, variances, axes = gram.principal_axes(X)
    np.testing.assert_allclose(mean, X.mean(axis=0))
    _, sizes, rows = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    k = min(n - 1, d)
    np.testing.assert_allclose(variances[:k], sizes[:k] ** 2 / (n - 1))
    np.testing.assert_allclose(np.abs(np.einsum("kd,dk->k", rows[:k], axes[:, :k])), 1)
    np.testing.assert_allclose(variances[k:], 0, atol=1e-12)
    np.testing.assert_allclose(axes.T @ axes, np.eye(d), atol=1e-12)
    assert (axes.max(axis=0) >= -axes.min(axis=0)).all()


def test_weighted_products_and_differences_are_those_of_the_whole_arrays():
    rng = np.random.default_rng(0)
    X, Q = rng.standard_normal((2, 10_000, 7), np.float32)
    weights = rng.random(10_000, np.float32)
    np.testing.assert_allclose(gram.inner_weighted(X, weights), X.T @ (X * weights[:, None]), rtol=1e-3, atol=0.1)
    wanted = X - np.float32(0.3) * Q
    gram.subtract(X, np.float32(0.3), Q)
    np.testing.assert_array_equal(X, wanted)
