import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.linalg.csr import Csr
from topkin.metrics.ranking import METRICS, coverage, hits_of, ranking_metrics

KS = (1, 3, 10)


def csr(lists):
    return Csr(np.cumsum([0, *map(len, lists)]), np.array([i for one in lists for i in one], np.int32))


def padded(lists, k):
    return np.array([[*one[:k], *[-1] * (k - len(one))] for one in lists], np.int32).reshape(len(lists), k)


def naive(listed, true, k):
    """Every metric of one user, by loops over the definitions."""
    hits = [r for r, item in enumerate(listed[:k], 1) if item in true]
    possible = min(k, len(true))
    return {
        "recall": len(hits) / len(true),
        "precision": len(hits) / k,
        "ndcg": sum(1 / math.log2(r + 1) for r in hits) / sum(1 / math.log2(r + 1) for r in range(1, possible + 1)),
        "map": sum(sum(h <= r for h in hits) / r for r in hits) / possible,
        "mrr": 1 / hits[0] if hits else 0,
        "hit_rate": float(bool(hits)),
    }


@st.composite
def users(draw):
    """Lists and truths over 12 items, at least one true item each."""
    n = draw(st.integers(1, 5))
    items = st.integers(0, 11)
    lists = [draw(st.lists(items, unique=True, max_size=8)) for _ in range(n)]
    return lists, [draw(st.lists(items, unique=True, min_size=1, max_size=12)) for _ in range(n)]


@settings(max_examples=200)
@given(users(), st.integers(1, 12))
def test_every_metric_equals_naive_loops(data, width):
    lists, truths = data
    lists = [one[:width] for one in lists]
    metrics = ranking_metrics(padded(lists, width), csr(truths), KS)
    assert list(metrics) == [f"{m}@{k}" for k in KS for m in METRICS]
    for r, (one, true) in enumerate(zip(lists, truths, strict=True)):
        for k in KS:
            for name, value in naive(one, true, k).items():
                assert metrics[f"{name}@{k}"][r] == pytest.approx(value, abs=1e-12), name


@settings(max_examples=50)
@given(users(), st.randoms())
def test_users_in_another_order_keep_their_values(data, random):
    lists, truths = data
    order = list(range(len(lists)))
    random.shuffle(order)
    metrics = ranking_metrics(padded(lists, 8), csr(truths), KS)
    moved = ranking_metrics(padded([lists[r] for r in order], 8), csr([truths[r] for r in order]), KS)
    for name, values in metrics.items():
        np.testing.assert_array_equal(moved[name], values[order])


@pytest.mark.parametrize("true", [[4], [7, 2, 9], list(range(30))])
def test_a_perfect_list_scores_one(true):
    metrics = ranking_metrics(padded([true], 10), csr([true]), [1, 3, 10])
    for k in (1, 3, 10):
        for name in ("ndcg", "map", "mrr", "hit_rate"):
            assert metrics[f"{name}@{k}"][0] == pytest.approx(1)
        assert metrics[f"recall@{k}"][0] == pytest.approx(min(k, len(true)) / len(true))
        assert metrics[f"precision@{k}"][0] == pytest.approx(min(k, len(true)) / k)


def test_a_worse_rank_never_scores_more():
    lists = [[*range(100, 100 + r), 5] for r in range(9)]
    metrics = ranking_metrics(padded(lists, 10), csr([[5]] * 9), [10])
    for name in ("ndcg", "map", "mrr"):
        assert (np.diff(metrics[f"{name}@10"]) < 0).all()


def test_padding_is_never_a_hit():
    ids = np.full((2, 5), -1, np.int32)
    assert not hits_of(ids, csr([[3], [11, 0]])).any()
    assert all((v == 0).all() for v in ranking_metrics(ids, csr([[3], [11, 0]]), [5]).values())


def test_a_user_is_judged_by_the_own_truth_alone():
    metrics = ranking_metrics(np.array([[1], [2]]), csr([[2], [1]]), [1])
    assert metrics["recall@1"].tolist() == [0, 0]


def test_coverage_counts_listed_items_once():
    assert coverage(np.array([[0, 2, -1], [2, -1, -1]]), 8) == 0.25
    assert coverage(np.full((3, 2), -1), 8) == 0
    assert coverage(np.empty((0, 5), np.int32), 0) == 0


@pytest.mark.parametrize(
    ("ids", "truth", "ks", "message"),
    [
        ([[1]], [[1], [2]], [1], "2 rows for 1 lists"),
        ([[1]], [[]], [1], "must have true items, 1 have none"),
        ([[1, 1]], [[1]], [1], "twice"),
        ([[1]], [[1]], [0], "at least 1"),
        ([[1]], [[1]], [], "at least 1"),
    ],
)
def test_wrong_use_is_told(ids, truth, ks, message):
    with pytest.raises(ValueError, match=message):
        ranking_metrics(np.array(ids), csr(truth), ks)


def test_a_cut_off_beyond_every_list_costs_nothing_and_changes_no_hit():
    metrics = ranking_metrics(padded([[1, 2]], 2), csr([[2, 3]]), [2, 10**12])
    assert metrics[f"recall@{10**12}"] == metrics["recall@2"]
    assert metrics[f"precision@{10**12}"] == pytest.approx(1e-12)
