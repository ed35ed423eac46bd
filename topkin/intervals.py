"""Confidence intervals of a difference between two recommenders judged on the same users."""

import numpy as np


def paired_bootstrap(a: np.ndarray, b: np.ndarray, resamples: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """The mean of ``a - b`` over users with its 95 % percentile interval: ``(low, mean, high)``.

    a, b: (n,) a metric of the same users in the same order; whole users are drawn with replacement
    (Efron & Tibshirani 1993). The same seed gives the same interval. Raises ValueError for unequal lengths,
    no users, or fewer than 1 resample.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"a pair needs two values for each user, got shapes {a.shape} and {b.shape}")
    if len(a) == 0:
        raise ValueError("an interval needs at least one user, got none")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    difference = a - b
    rng = np.random.default_rng(seed)
    means = [difference[rng.integers(len(a), size=len(a))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(difference.mean()), float(high)
