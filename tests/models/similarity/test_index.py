"""The growing index against a list that is searched by brute force, through additions, removals and saves."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topkin.errors import ArtifactError
from topkin.linalg.cosine import unit_rows
from topkin.models.similarity.index import GrowingIndex, Growth

GROWTH = Growth(graph_from=60, rest_share=0.2, removed_share=0.3)
MAKE = {"int": lambda i: i * 2**40, "str": lambda i: f"ü{i}", "bytes": lambda i: b"\x00%d\x00" % i}


def vectors_of(n: int, seed: int, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def brute(known: dict[Any, np.ndarray], queries: np.ndarray, k: int) -> list[list[Any]]:
    items = list(known)
    scores = unit_rows(queries) @ np.stack([known[i] for i in items]).T
    return [[items[j] for j in np.argsort(-row, kind="stable")[:k]] for row in scores]


def found(index: GrowingIndex, queries: np.ndarray, k: int) -> list[list[Any]]:
    rows, scores = index.search(queries, k)
    assert (np.diff(scores, axis=1) <= 0).all()
    return [[index.ids[r] for r in row] for row in rows]


@pytest.mark.parametrize("kind", MAKE)
def test_it_finds_what_a_list_finds_through_a_life_of_changes(kind: str, tmp_path: Path) -> None:
    make, rng = MAKE[kind], np.random.default_rng(0)
    index, known, number = GrowingIndex(6, encoder="e", growth=GROWTH), {}, 0
    queries = vectors_of(20, 99)
    for step in range(25):
        size = int(rng.integers(1, 15))
        new, x = [make(number + i) for i in range(size)], vectors_of(size, step)
        number += size
        index.add(new, x, [make(i % 3) for i in range(size)])
        known.update(zip(new, unit_rows(x), strict=True))
        if step % 3 == 2:
            gone = [list(known)[i] for i in rng.choice(len(known), len(known) // 4, replace=False)]
            index.remove(gone)
            for item in gone:
                del known[item]
        if step == 15:
            os.makedirs(tmp_path / "index")
            index.save(str(tmp_path / "index"))
            index = GrowingIndex.load(str(tmp_path / "index"))
        assert len(index) == len(known)
        k = min(5, len(known))
        assert found(index, queries, k) == brute(known, queries, k), step
    assert index.in_graph >= 60
    assert set(index.alive()[0]) == set(known)


def test_few_additions_are_builds() -> None:
    index = GrowingIndex(6, encoder="e", growth=GROWTH)
    for n in range(400):
        index.add([n], vectors_of(1, n))
    assert len(index) == 400
    assert 5 < index.compactions < 15  # 60, then each time the rest is a fifth: 60 * 1.25^9 is 447


def test_removing_a_large_part_compacts() -> None:
    index = GrowingIndex(6, encoder="e", growth=GROWTH)
    index.add(range(100), vectors_of(100, 0))
    assert (index.in_graph, index.compactions) == (100, 1)
    index.remove(range(30))
    assert index.in_graph == 100
    index.remove([30])
    assert (index.in_graph, len(index), index.compactions) == (69, 69, 2)
    index.remove(range(31, 60))
    assert (index.in_graph, len(index)) == (0, 40)


def test_a_removed_id_may_come_again_with_another_vector() -> None:
    index = GrowingIndex(2, encoder="e")
    index.add(["a", "b"], np.eye(2), ["x", "y"])
    index.remove(["a"])
    index.add(["a"], np.array([[-1.0, 0]]), ["z"])
    rows, scores = index.search(np.array([[-2.0, 0]]), 2)
    assert [index.ids[r] for r in rows[0]] == ["a", "b"]
    assert [index.labels[r] for r in rows[0]] == ["z", "y"]
    np.testing.assert_allclose(scores[0], [1, 0])


def test_labels_may_be_missing_and_survive_a_save(tmp_path: Path) -> None:
    index = GrowingIndex(2, encoder="e")
    index.add([2**62], np.eye(2)[:1])
    index.add([5], np.eye(2)[1:], [b"\xff"])
    index.save(str(tmp_path))
    again = GrowingIndex.load(str(tmp_path))
    assert (again.ids, again.labels) == ([2**62, 5], [None, b"\xff"])
    with pytest.raises(TypeError, match="labels must all be"):
        again.add([6], np.ones((1, 2)), ["text"])


@pytest.mark.parametrize(
    ("ids", "vectors", "error", "message"),
    [
        ([1, 1], np.eye(2), ValueError, "got 1 again"),
        ([7], np.eye(2)[:1], ValueError, "got 7 again"),
        (["a"], np.eye(2)[:1], TypeError, "ids must all be"),
        ([1.5], np.eye(2)[:1], TypeError, "ids must all be"),
        ([2**63], np.eye(2)[:1], TypeError, "fit int64"),
        ([1], np.eye(2), ValueError, "1 ids"),
        ([1], np.zeros((1, 2)), ValueError, "not zero, got 1"),
        ([1], np.array([[np.nan, 1]]), ValueError, "finite"),
    ],
)
def test_wrong_items_are_refused_and_nothing_is_added(
    ids: list[Any], vectors: np.ndarray, error: type[Exception], message: str
) -> None:
    index = GrowingIndex(2, encoder="e")
    index.add([7], np.eye(2)[:1])
    with pytest.raises(error, match=message):
        index.add(ids, vectors)
    assert index.ids == [7]
    assert len(index) == 1


def test_wrong_questions_are_refused() -> None:
    index = GrowingIndex(2, encoder="e")
    index.add([7, 8], np.eye(2))
    with pytest.raises(ValueError, match="from 1 to the number of items in the index, 2, got 3: lower k"):
        index.search(np.eye(2), 3)
    with pytest.raises(ValueError, match="finite"):
        index.search(np.array([[np.inf, 0]]), 1)
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        index.search(np.eye(3), 1)
    with pytest.raises(KeyError, match="1 are not, such as 9"):
        index.remove([7, 9])
    assert 7 in index


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    index = GrowingIndex(6, encoder="e", growth=GROWTH)
    index.add(range(70), vectors_of(70, 0))
    index.save(str(tmp_path))
    path = tmp_path / "graph" / "shard-00000.nmslib"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="damaged"):
        GrowingIndex.load(str(tmp_path))
