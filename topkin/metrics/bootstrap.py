"""Confidence intervals of a difference between two recommenders judged on the same users."""

from typing import NamedTuple

import numpy as np

from topkin.linalg.blas import one_blas_thread

MIN_USERS = 10
"""Users below whom a bootstrap says nothing."""
_BUDGET_BYTES = 64 << 20


class Bootstrap(NamedTuple):
    """Of each column: the ends of its mean's interval, and how likely as clear a difference is by chance."""

    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def bootstrap(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> Bootstrap:
    """The 95 % percentile interval of each column's mean over users, and its p-value, each (c,) float64.

    values: (n, c), a user a row; whole users are drawn with replacement, the same for every column (Efron &
    Tibshirani 1993). p: two-sided, twice the share of the resampled means on the lesser side of zero, itself
    counted among them: never below 2 / (resamples + 1). The same seed gives the same numbers, and a column the
    same beside any others but for the last bits. Raises ValueError for no users, or fewer than 1 resample.
    """
    n, columns = values.shape
    if n == 0:
        raise ValueError("an interval needs at least one user, got none")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, columns))
    block = max(1, _BUDGET_BYTES // (8 * n))
    with one_blas_thread():  # its sums then run in one order
        for start in range(0, resamples, block):
            stop = min(start + block, resamples)
            drawn = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(start, stop)]
            means[start:stop] = np.array(drawn, np.float64) @ values / n
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    lesser = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    return Bootstrap(low, high, np.minimum(1.0, 2 * (lesser + 1) / (resamples + 1)))


def paired_bootstrap(a: np.ndarray, b: np.ndarray, resamples: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """The mean of ``a - b`` over users with its 95 % percentile interval: ``(low, mean, high)``.

    a, b: (n,) a metric of the same users in the same order; see :func:`bootstrap`. Raises ValueError
    for unequal lengths, no users, or fewer than 1 resample.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"a pair needs two values for each user, got shapes {a.shape} and {b.shape}")
    low, high, _ = bootstrap((a - b)[:, None], resamples, seed)
    return float(low[0]), float((a - b).mean()), float(high[0])
