"""Do vectors fall into clusters that are their labels? Seeded k-means and normalised mutual information."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from topkin.linalg.cosine import unit_rows
from topkin.metrics.retrieval import codes_of


def kmeans(vectors: np.ndarray, clusters: int, *, seed: int, iterations: int = 50) -> np.ndarray:
    """The cluster of each row, (n,) int64 from 0; the same for the same seed.

    vectors: (n, d) finite floats. Starts are drawn by k-means++; a cluster that loses its rows takes the row
    farthest from its centre. Rows all equal are one cluster. Raises ValueError for clusters outside 1..n.

    Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007.
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"vectors must be finite, (n, d), got shape {x.shape}: set aside those with NaN")
    if not 1 <= clusters <= len(x):
        raise ValueError(f"clusters must be from 1 to the number of rows, {len(x)}, got {clusters}")
    rng = np.random.default_rng(seed)
    centres = _starts(x, clusters, rng)
    labels = np.full(len(x), -1)
    for _ in range(iterations):
        far = _squared(x, centres)
        nearest = far.argmin(axis=1)
        gap = far[np.arange(len(x)), nearest]
        if (nearest == labels).all():
            break
        labels = nearest
        counts = np.bincount(labels, minlength=clusters)
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, x)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
        farthest = np.argsort(-gap, kind="stable")
        for empty, row in zip(np.flatnonzero(~filled), farthest, strict=False):
            centres[empty] = x[row]
    return labels


def _starts(x: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    rows = [int(rng.integers(len(x)))]
    gap = _squared(x, x[rows])[:, 0]
    for _ in range(clusters - 1):
        total = gap.sum()
        rows.append(int(rng.choice(len(x), p=gap / total)) if total > 0 else int(rng.integers(len(x))))
        gap = np.minimum(gap, _squared(x, x[rows[-1:]])[:, 0])
    return x[rows]


def _squared(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances, (n, k); exactly 0 is kept where rows are equal by not going below 0."""
    far = np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("kd,kd->k", centres, centres) - 2 * x @ centres.T
    return np.where(far > 1e-12 * (1 + np.abs(far).max(initial=0)), far, 0)


def mutual_information(first: Sequence[Any] | np.ndarray, second: Sequence[Any] | np.ndarray) -> float:
    """Normalised mutual information of two labellings, 0 to 1: that of both by the mean of their entropies.

    0 where either is one label only. Raises ValueError where their lengths differ or are 0.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"labellings must have one length, at least 1, got {len(first)} and {len(second)}")
    ((a,), rows), ((b,), columns) = codes_of(first), codes_of(second)
    table = np.zeros((rows, columns))
    np.add.at(table, (a, b), 1.0 / len(a))
    p, q = table.sum(axis=1), table.sum(axis=0)
    entropy = -(p * np.log(p)).sum() - (q * np.log(q)).sum()
    at = table > 0
    shared = (table[at] * np.log(table[at] / np.outer(p, q)[at])).sum()
    return float(np.clip(2 * shared / entropy, 0, 1)) if min(rows, columns) > 1 else 0.0


def nmi(vectors: np.ndarray, labels: Sequence[Any] | np.ndarray, *, seed: int, unit: bool = True) -> float:
    """How far k-means clusters, as many as there are labels, agree with the labels, 0 to 1.

    vectors: (n, d). unit: cluster unit rows. A collapsed model gets 0, and a random one nearly 0.
    """
    if len(labels) != len(vectors):
        raise ValueError(f"vectors must have a label each, got {len(labels)} labels for {len(vectors)} rows")
    (codes,), count = codes_of(labels)
    x = np.asarray(vectors)
    return mutual_information(kmeans(unit_rows(x) if unit else x, count, seed=seed), codes)
