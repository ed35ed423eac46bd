"""Mutual information of k-means clusters and labels: known answers, and what collapse gives."""

import builtins

import numpy as np
import pytest

from topkin.metrics.clustering import nmi


@pytest.mark.parametrize("unit", [True, False])
def test_clouds_are_found_by_any_names_and_again(unit: bool) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), 25)
    x = rng.normal(size=(100, 4)) * 0.05 + 10 * np.eye(4)[labels]
    assert nmi(x, labels, seed=5, unit=unit) == pytest.approx(1)
    assert nmi(x, [f"class {label}" for label in labels], seed=5, unit=unit) == nmi(x, labels, seed=5, unit=unit)


def test_a_random_model_has_nearly_no_mutual_information() -> None:
    rng = np.random.default_rng(2)
    assert nmi(rng.normal(size=(600, 8)), rng.integers(0, 3, 600), seed=0) < 0.05


def test_a_collapsed_model_has_no_mutual_information() -> None:
    labels = np.repeat(np.arange(5), 20)
    assert nmi(np.full((100, 8), 0.3, np.float32), labels, seed=0) == 0
    assert nmi(np.eye(5)[labels], labels, seed=0) == pytest.approx(1)
    assert nmi(np.eye(5)[labels], np.zeros(100), seed=0) == 0


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        nmi(np.full((3, 2), np.nan), [1, 2, 3], seed=0)
    with pytest.raises(ValueError, match="2 labels for 3 rows"):
        nmi(np.ones((3, 2)), [1, 2], seed=0)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return load(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install topkin\[eval\]"):
        nmi(np.ones((3, 2)), [1, 2, 3], seed=0)
