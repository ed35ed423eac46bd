"""Linear algebra of tall arrays: many rows of a few hundred float32 columns, by their inner products.

QR and SVD of the whole array are replaced by a product with a small square one, made in float64. Rows are multiplied
some at a time by threads of our own, each by one of the BLAS: its own threads wait for each other by spinning, which
takes several times the processors' time of the products where they are small or the machine has other work.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import scipy.linalg

from topkin.linalg.blas import one_blas_thread, processors

_ROWS = 1 << 13  # rows whose inner products are summed in float32 before they are added up in float64
_BLOCK = 192  # columns of a symmetric product multiplied at a time
_LEAST = 1e-6  # of the largest eigenvalue: what float32 sums cannot tell from zero

T = TypeVar("T")


def by_rows(work: Callable[[slice], T], n: int) -> Iterator[T]:
    """What ``work`` makes of some rows of n at a time, in their order, several at once."""
    parts = [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]
    with one_blas_thread():
        if len(parts) < 2:
            yield from map(work, parts)
        else:
            with ThreadPoolExecutor(processors()) as pool:
                yield from pool.map(work, parts)


def product(X: np.ndarray, M: np.ndarray) -> np.ndarray:
    """``X M`` of (n, p) and (p, q) float32."""
    out = np.empty((len(X), M.shape[1]), np.result_type(X, M))

    def work(rows: slice) -> None:
        np.matmul(X[rows], M, out=out[rows])

    list(by_rows(work, len(X)))
    return out


def inner(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """``X'Y`` of (n, p) and (n, q) float32, (p, q) float64."""
    total = np.zeros((X.shape[1], Y.shape[1]))
    for some in by_rows(lambda rows: X[rows].T @ Y[rows], len(X)):
        total += some
    return total


def inner_weighted(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``X' diag(weights) X`` of (n, p) and (n,) float32, (p, p) float64."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for some in by_rows(lambda rows: X[rows].T @ (X[rows] * weights[rows, None]), len(X)):
        total += some
    return total


def subtract(Y: np.ndarray, share: np.float32, Q: np.ndarray) -> None:
    """``Y - share Q`` in the place of Y, both (n, p) float32."""

    def work(rows: slice) -> None:
        Y[rows] -= share * Q[rows]

    list(by_rows(work, len(Y)))


def inner_symmetric(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """``X'Y`` where it is known to be symmetric, (p, p) float64: only blocks on and below the diagonal are made."""
    p = X.shape[1]
    firsts, total = range(0, p, _BLOCK), np.zeros((p, p))

    def work(rows: slice) -> list[np.ndarray]:
        return [X[rows, first:].T @ Y[rows, first : first + _BLOCK] for first in firsts]

    for blocks in by_rows(work, len(X)):
        for first, block in zip(firsts, blocks, strict=True):
            total[first:, first : first + _BLOCK] += block
    return np.tril(total) + np.tril(total, -1).T


def times_root(Y: np.ndarray, T: np.ndarray) -> np.ndarray:
    """``Y T`` for a :func:`root` T, float32; in the place of Y where T is triangular, in two thirds of the work."""
    upper = T.astype(np.float32)
    if T.shape[0] != T.shape[1] or np.tril(T, -1).any():
        return product(Y, upper)

    def work(rows: slice) -> None:
        for first in reversed(range(0, len(T), _BLOCK)):  # columns before them are still those of Y
            end = first + _BLOCK
            Y[rows, first:end] = Y[rows, :end] @ upper[:end, first:end]

    list(by_rows(work, len(Y)))
    return Y


def eigh(S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, and vectors of a symmetric float64 matrix, which is overwritten."""
    values, vectors = scipy.linalg.eigh(S, overwrite_a=True, check_finite=False, driver="evd")
    return values[::-1], vectors[:, ::-1]


def rank(values: np.ndarray) -> int:
    """How many eigenvalues of a Gram matrix, largest first, are more than rounding."""
    return int((values > _LEAST * values[0]).sum()) if len(values) else 0


def root(S: np.ndarray) -> np.ndarray:
    """T with ``T'ST = 1`` for a symmetric S, (p, r) float64; r < p where directions of S are next to nothing."""
    try:
        lower = scipy.linalg.cholesky(S, lower=True, check_finite=False)
        if np.diag(lower).min() ** 2 > _LEAST * np.abs(np.diag(S)).max():
            return scipy.linalg.solve_triangular(lower, np.eye(len(S)), lower=True, check_finite=False).T
    except np.linalg.LinAlgError:
        pass  # not positive definite to rounding
    values, vectors = eigh(S.copy())
    r = rank(values)
    return vectors[:, :r] / np.sqrt(values[:r])


def least(T: np.ndarray) -> float:
    """About the least singular value of an array whose inner products have the :func:`root` T."""
    x = np.ones(len(T))
    length = 1.0
    for _ in range(12):
        x = T @ (T.T @ (x / np.linalg.norm(x)))
        length = float(np.linalg.norm(x))
    return length**-0.5


def signs(V: np.ndarray) -> np.ndarray:
    """1 or -1 for each column of V, by its product with a fixed random vector.

    An entry of V would do, but the largest of several about equal ones changes with rounding.
    """
    against = np.random.default_rng(0).standard_normal(len(V)).astype(V.dtype)
    with np.errstate(invalid="ignore"):  # a BLAS may set the flag in lanes beside a small product, all values finite
        along = against @ V
    return np.where(along < 0, -1, 1).astype(V.dtype)


def principal_axes(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The principal components' axes of rows, (n, d) floats, by the covariance of their columns.

    Returns:
        The rows' mean (d,), the variances (d,), largest first, and the axes (d, d), a column each, all float64. A
        sign is free: the largest coordinate of each axis is positive, so that a rerun gives the same.
    """
    mean = X.mean(axis=0, dtype=np.float64)
    centred = X - mean.astype(X.dtype)
    variances, axes = eigh(inner_symmetric(centred, centred) / max(len(X) - 1, 1))
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))]
    return mean, np.maximum(variances, 0), axes * np.where(largest < 0, -1, 1)
