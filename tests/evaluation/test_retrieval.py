"""Items judged by labels, against a loop over queries."""

import numpy as np
import pyarrow as pa
import pytest

from topkin.evaluation.retrieval import LabelledVectors, judge


def labelled(seed: int, labels: list[str | None], own: bool = False) -> LabelledVectors:
    vectors = np.random.default_rng(seed).normal(size=(len(labels), 3)).astype(np.float32)
    ids = pa.array([f"{seed}-{i}" for i in range(len(labels))])
    return LabelledVectors(ids, vectors, pa.array(labels, pa.string()), own=own)


def unit(rows: LabelledVectors) -> np.ndarray:
    return rows.vectors / np.linalg.norm(rows.vectors, axis=1, keepdims=True)


def draw(seed: int, n: int) -> list[str | None]:
    return [None if i % 7 == 3 else "abc"[i] for i in np.random.default_rng(seed).integers(0, 3, n)]


def by_hand(queries: LabelledVectors, items: LabelledVectors, among: list[int], skip: list[int]) -> list[bool | None]:
    """Whether the nearest item of each query has its label; None for queries without one."""
    cosines, own, theirs = unit(queries) @ unit(items).T, queries.labels.to_pylist(), items.labels.to_pylist()
    right: list[bool | None] = []
    for q, label in enumerate(own):
        others = [i for i in among if not (skip and skip[q] == i)]
        nearest = max(others, key=lambda i: cosines[q, i])
        right.append(None if label is None else theirs[nearest] == label)
    return right


@pytest.mark.parametrize("seed", range(4))
def test_queries_are_looked_up_among_the_labelled_items(seed: int) -> None:
    items, queries = labelled(seed, draw(seed, 40)), labelled(seed + 100, [*draw(seed + 9, 20), "unknown"])
    verdict = judge(queries, np.arange(21), items, ks=[3, 5])
    among = [i for i, label in enumerate(items.labels.to_pylist()) if label is not None]
    expected = by_hand(queries, items, among, [])
    assert verdict.right.tolist() == [bool(right) for right in expected]
    assert verdict.asked.tolist() == [right is not None for right in expected]
    known = [
        right for right, label in zip(expected, queries.labels.to_pylist(), strict=True) if label in ("a", "b", "c")
    ]
    assert verdict.metrics is not None
    assert verdict.metrics["recall_any@1"] == pytest.approx(np.mean(known))
    assert verdict.metrics["queries_left_out"] == 1
    assert verdict.knn[1] == pytest.approx(np.mean(known))
    assert set(verdict.nearest[0][verdict.nearest[0] >= 0]) <= set(among)


@pytest.mark.parametrize("seed", range(4))
def test_items_are_looked_up_among_each_other_or_those_not_drawn(seed: int) -> None:
    items = labelled(seed, draw(seed, 40), own=True)
    among = [i for i, label in enumerate(items.labels.to_pylist()) if label is not None]
    rows, queries = items.sample(40, seed=1)
    whole = judge(queries, rows, items, ks=[5])
    assert whole.right.tolist() == [bool(r) for r in by_hand(items, items, among, rows.tolist())]
    rows, some = items.sample(39, seed=1)
    assert len(rows) == 20
    drawn = judge(some, rows, items, ks=[5])
    rest = [i for i in among if i not in set(rows.tolist())]
    assert drawn.right.tolist() == [bool(r) for r in by_hand(some, items, rest, [])]
    assert drawn.metrics is not None
    assert whole.metrics is not None
    assert set(drawn.metrics) == set(whole.metrics)


def test_cut_offs_go_up_to_the_number_of_items() -> None:
    items, queries = labelled(1, ["a", "b"]), labelled(2, ["a", "a"])
    verdict = judge(queries, np.arange(2), items, ks=[2, 3])
    assert verdict.metrics is not None
    assert verdict.metrics["recall_any@2"] == 1.0
    assert "recall_any@3" not in verdict.metrics
    one = judge(labelled(3, ["a"]), np.arange(1), labelled(4, ["a"]), ks=[5])
    assert one.metrics is not None
    assert one.metrics["recall_any@1"] == 1.0


@pytest.mark.parametrize("labels", [["a"], ["a", "b"], [None, None], [None]])
def test_where_no_label_comes_twice_nothing_is_judged(labels: list[str | None]) -> None:
    items = labelled(1, labels, own=True)
    rows, queries = items.sample(10, seed=0)
    assert judge(queries, rows, items, ks=[1]).metrics is None
