"""k-means and mutual information: known answers, a loop, and what collapse gives."""

import math
from collections import Counter

import numpy as np
import pytest

from topkin.metrics.clustering import kmeans, mutual_information, nmi


def naive_nmi(a: list[int], b: list[int]) -> float:
    n = len(a)
    p, q, both = Counter(a), Counter(b), Counter(zip(a, b, strict=True))
    shared = sum(c / n * math.log(c * n / (p[x] * q[y])) for (x, y), c in both.items())
    halves = [-sum(c / n * math.log(c / n) for c in part.values()) for part in (p, q)]
    return 2 * shared / sum(halves)


def test_mutual_information_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 4, 30).tolist(), rng.integers(0, 3, 30).tolist()
        assert mutual_information(a, b) == pytest.approx(naive_nmi(a, b), abs=1e-12)


def test_mutual_information_of_renamed_labels_is_one_and_of_one_label_nought() -> None:
    assert mutual_information([1, 1, 2, 3], ["x", "x", "y", "z"]) == pytest.approx(1)
    assert mutual_information([1, 2, 3], [0, 0, 0]) == 0


def test_kmeans_finds_clouds_and_repeats() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), 25)
    x = rng.normal(size=(100, 3)) * 0.05 + 10 * np.eye(4)[labels][:, :3]
    found = kmeans(x, 4, seed=5)
    assert mutual_information(found, labels) == pytest.approx(1)
    np.testing.assert_array_equal(found, kmeans(x, 4, seed=5))


def test_every_row_is_with_its_nearest_centre() -> None:
    x = np.random.default_rng(2).normal(size=(200, 5))
    found = kmeans(x, 7, seed=0, iterations=500)
    assert set(found.tolist()) == set(range(7))
    centres = np.stack([x[found == c].mean(axis=0) for c in range(7)])
    far = ((x[:, None] - centres) ** 2).sum(axis=2)
    np.testing.assert_array_equal(far.argmin(axis=1), found)


def test_a_collapsed_model_has_no_mutual_information() -> None:
    labels = np.repeat(np.arange(5), 20)
    assert nmi(np.full((100, 8), 0.3, np.float32), labels, seed=0) == 0
    assert nmi(np.eye(5)[labels], labels, seed=0) == pytest.approx(1)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="from 1 to the number of rows, 3, got 4"):
        kmeans(np.ones((3, 2)), 4, seed=0)
    with pytest.raises(ValueError, match="finite"):
        kmeans(np.full((3, 2), np.nan), 1, seed=0)
    with pytest.raises(ValueError, match="2 labels for 3 rows"):
        nmi(np.ones((3, 2)), [1, 2], seed=0)
    with pytest.raises(ValueError, match="one length"):
        mutual_information([1], [])
