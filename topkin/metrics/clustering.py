"""Do vectors fall into clusters that are their labels? k-means and normalised mutual information, by scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from topkin.linalg.cosine import unit_rows
from topkin.metrics.labels import values_of
from topkin.metrics.retrieval import codes_of


def nmi(vectors: np.ndarray, labels: Sequence[Any] | np.ndarray, *, seed: int, unit: bool = True) -> float:
    """How far k-means clusters, as many as there are labels, agree with the labels.

    A collapsed model gets 0, and a random one nearly 0. The same seed gives the same figure.

    Args:
        vectors: (n, d) finite floats.
        labels: (n,), of any hashable type.
        seed: Of the starts, which are drawn by k-means++.
        unit: Whether unit rows are clustered.

    Returns:
        Normalised mutual information, 0 to 1: that of both labellings by the mean of their entropies; 0 where either
        is one label only.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: Vectors are not finite, or not as many as labels.
    """
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import normalized_mutual_info_score
    except ImportError as e:
        raise ImportError("nmi needs scikit-learn, which is not installed: pip install topkin[eval]") from e
    x = np.asarray(vectors)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"vectors must be finite, (n, d), got shape {x.shape}: set aside those with NaN")
    labels = values_of(labels)
    if len(labels) != len(x):
        raise ValueError(f"vectors must have a label each, got {len(labels)} labels for {len(x)} rows")
    (codes,), count = codes_of(labels)
    x = unit_rows(x) if unit else x
    clusters = min(count, len(np.unique(x, axis=0)))
    if clusters < 2:
        return 0.0
    clusters_of = KMeans(clusters, n_init=1, random_state=seed).fit_predict(x)
    return float(normalized_mutual_info_score(codes, clusters_of))
