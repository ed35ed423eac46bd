"""Retrieval metrics against loops over every order of every tie, and the properties they promise."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.metrics import retrieval
from topkin.metrics.retrieval import knn_accuracy, retrieval_metrics, retrieval_scores


def naive_of_order(labels: list[int], want: int, ks: tuple[int, ...]) -> dict[str, Fraction]:
    """The metrics of one order of the references, by loops."""
    hits = [label == want for label in labels]
    total = sum(hits)
    out = {"mrr": Fraction(1, hits.index(True) + 1)}
    for k in ks:
        out[f"recall_any@{k}"] = Fraction(int(any(hits[:k])))
        out[f"recall_fraction@{k}"] = Fraction(sum(hits[:k]), total)
        out[f"precision@{k}"] = Fraction(sum(hits[:k]), k)
    out["r_precision"] = Fraction(sum(hits[:total]), total)
    out["map@r"] = sum((Fraction(sum(hits[: i + 1]), i + 1) for i in range(total) if hits[i]), Fraction(0)) / total
    return out


def naive(scores: list[float], labels: list[int], want: int, ks: tuple[int, ...]) -> dict[str, float]:
    """The mean over every order in which equal scores may stand."""
    by_score = [[i for i, s in enumerate(scores) if s == value] for value in sorted(set(scores), reverse=True)]
    orders = itertools.product(*(itertools.permutations(tie) for tie in by_score))
    values = [naive_of_order([labels[i] for part in order for i in part], want, ks) for order in orders]
    return {name: float(sum(f[name] for f in values) / len(values)) for name in values[0]}


def line(scores: list[int]) -> np.ndarray:
    """References whose inner product with (1,) is the score."""
    return np.array(scores, np.float32)[:, None]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=3, max_size=6))
def test_metrics_are_the_mean_over_all_orders_of_ties(pairs: list[tuple[int, int]]) -> None:
    scores, labels = [list(part) for part in zip(*pairs, strict=True)]
    got = retrieval_scores(
        np.ones((1, 1), np.float32), [1], line(scores), labels, ks=(1, 2, 3), distance="inner_product"
    )
    if 1 not in labels:
        assert all(np.isnan(values).all() for values in got.values())
        return
    want = naive(scores, labels, 1, (1, 2, 3))
    assert set(got) == set(want)
    for name, value in want.items():
        assert got[name][0] == pytest.approx(value, abs=1e-12), name


def naive_without_ties(queries: np.ndarray, labels: np.ndarray, ks: tuple[int, ...]) -> dict[str, float]:
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    values = []
    for i in range(len(queries)):
        others = [j for j in range(len(queries)) if j != i]
        others.sort(key=lambda j: -float(unit[i].astype(np.float64) @ unit[j].astype(np.float64)))
        if any(labels[j] == labels[i] for j in others):
            values.append(naive_of_order([int(labels[j]) for j in others], int(labels[i]), ks))
    return {name: float(sum(f[name] for f in values) / len(values)) for name in values[0]}


def test_each_query_is_left_out_of_its_own_list() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 4, 40)
    labels[7] = 99  # has no other of its label
    got = retrieval_metrics(x, labels, ks=(1, 5))
    assert got.pop("queries") == 39
    assert got.pop("queries_left_out") == 1
    assert got == pytest.approx(naive_without_ties(x, labels, (1, 5)), abs=1e-12)


@pytest.mark.parametrize("per_label", [1, 6])
def test_a_collapsed_model_scores_chance(per_label: int) -> None:
    labels = np.repeat(np.arange(5), per_label + 1)
    n = len(labels) - 1
    got = retrieval_metrics(np.full((n + 1, 3), 0.5, np.float32), labels, ks=(1, 3))
    chance = per_label / n
    for name in ("recall_any@1", "precision@1", "precision@3", "r_precision"):
        assert got[name] == pytest.approx(chance), name
    assert got["recall_fraction@3"] == pytest.approx(3 / n)
    none = math.comb(n - per_label, 3) / math.comb(n, 3)
    assert got["recall_any@3"] == pytest.approx(1 - none)
    accuracy = knn_accuracy(np.full((n + 1, 3), 0.5), labels, np.full((n + 1, 3), 0.5), labels, ks=(1, 4))
    assert accuracy == pytest.approx({1: 1 / 5, 4: 1 / 5})


def test_chance_of_long_lists_is_the_hypergeometric() -> None:
    labels = [1] * 3 + [2] * 298
    got = retrieval_scores(np.ones((1, 2)), [1], np.ones((301, 2)), labels, ks=(64, 65, 150, 299))
    for k in (64, 65, 150, 299):
        assert got[f"recall_any@{k}"][0] == pytest.approx(1 - math.comb(298, k) / math.comb(301, k), abs=1e-9)


def test_order_of_the_references_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (60, 3)).astype(np.float32)  # many equal vectors
    labels = rng.integers(0, 3, 60)
    queries, asked = rng.integers(0, 2, (9, 3)).astype(np.float32), rng.integers(0, 3, 9)
    order = rng.permutation(60)
    first = retrieval_scores(queries, asked, x, labels, ks=(1, 7))
    second = retrieval_scores(queries, asked, x[order], labels[order], ks=(1, 7))
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=1e-12)
    assert knn_accuracy(queries, asked, x, labels) == pytest.approx(
        knn_accuracy(queries, asked, x[order], labels[order])
    )


@pytest.mark.parametrize("own", [True, False])
def test_lists_from_top_k_equal_whole_lists(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    x, labels = rng.normal(size=(80, 4)).round(0).astype(np.float32), rng.integers(0, 30, 80)
    case: tuple[Any, ...] = (x, labels) if own else (x[:20], labels[:20], x[20:], labels[20:])
    arguments: dict[str, Any] = {"ks": (1, 3), "to_r": False}
    whole, votes = retrieval_scores(*case, **arguments), knn_accuracy(*case, ks=(1, 3))
    monkeypatch.setattr(retrieval, "_SHALLOW", 8)
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", 2000)
    asked = []
    real = retrieval.top_k
    monkeypatch.setattr(retrieval, "top_k", lambda *a, **k: asked.append(1) or real(*a, **k))
    part = retrieval_scores(*case, **arguments)
    assert asked
    for name in whole:
        np.testing.assert_allclose(part[name], whole[name], atol=1e-12)
    assert knn_accuracy(*case, ks=(1, 3)) == pytest.approx(votes)


def test_euclidean_ranks_by_distance() -> None:
    rng = np.random.default_rng(3)
    x, labels = (rng.normal(size=(50, 6)) + 1000).astype(np.float32), rng.integers(0, 5, 50)
    queries, asked = (rng.normal(size=(20, 6)) + 1000).astype(np.float32), rng.integers(0, 5, 20)
    far = np.linalg.norm(queries[:, None].astype(np.float64) - x[None], axis=2)
    right = float((labels[far.argmin(axis=1)] == asked).mean())
    assert retrieval_metrics(queries, asked, x, labels, distance="euclidean")["recall_any@1"] == pytest.approx(right)
    assert knn_accuracy(queries, asked, x, labels, ks=(1,), distance="euclidean")[1] == pytest.approx(right)


def test_a_vote_is_won_by_the_most_frequent_of_the_nearest() -> None:
    references = line([9, 8, 7, 6, 5])
    labels = ["a", "b", "b", "c", "c"]
    accuracy = knn_accuracy(
        np.ones((2, 1), np.float32), ["a", "b"], references, labels, ks=(1, 2, 3, 5), distance="inner_product"
    )
    # k = 2 and 5: "a" and "b", "b" and "c" tie, and a guess is right half of the time.
    assert accuracy == pytest.approx({1: 0.5, 2: 0.5, 3: 0.5, 5: 0.25})


@pytest.mark.parametrize("labels", [[b"a", b"a\0", b"a"], ["a", "a\0", "a"], [2**62, 2**62 + 1, 2**62]])
def test_labels_that_differ_are_kept_apart(labels: list[Any]) -> None:
    x = np.eye(3, dtype=np.float32)
    got = retrieval_scores(x, labels, x, labels, ks=(3,))
    assert got["precision@3"] == pytest.approx([2 / 3, 1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 2)), [1, 2]), "2 labels for 3 rows"),
        ((np.array([[1.0, np.nan], [1, 1]]), [1, 1]), "finite, got 1 rows"),
        ((np.ones((2, 2)), [1, 1], np.ones((2, 3)), [1, 1]), "one dim"),
        ((np.ones((2, 2)), [1, 1], np.ones((2, 2))), "give both or neither"),
    ],
)
def test_wrong_input_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_scores(*arguments, ks=(1,))


def test_a_k_above_the_references_is_refused() -> None:
    x = np.ones((4, 2))
    with pytest.raises(ValueError, match="at most the number of references in a list, 3, got 4"):
        retrieval_scores(x, [1] * 4, ks=(4,))
    with pytest.raises(ValueError, match="at least 1, got"):
        knn_accuracy(x, [1] * 4, ks=(0,))
    with pytest.raises(ValueError, match="none of 2 has"):
        retrieval_metrics(x[:2], [1, 2], x, [3] * 4, ks=(1,))
    with pytest.raises(ValueError, match="distance must be one of"):
        retrieval_metrics(x, [1] * 4, distance="cosin")
