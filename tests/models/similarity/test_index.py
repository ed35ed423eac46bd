"""The growing index against a list that is searched by brute force, through additions, removals and saves."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from topkin.config.sections import IndexSettings
from topkin.errors import ArtifactError
from topkin.linalg.cosine import unit_rows
from topkin.models.similarity.index import GrowingIndex, Growth
from topkin.search.hnsw.build import build_index
from topkin.search.hnsw.files import load_index
from topkin.search.hnsw.grow import grow_index

GROWTH = Growth(graph_from=60, rest_share=0.2, removed_share=0.3)
MAKE = {"int": lambda i: i * 2**40, "str": lambda i: f"ü{i}", "bytes": lambda i: b"\x00%d\x00" % i}


def vectors_of(n: int, seed: int, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def brute(known: dict[Any, np.ndarray], queries: np.ndarray, k: int) -> list[list[Any]]:
    items = list(known)
    scores = unit_rows(queries) @ np.stack([known[i] for i in items]).T
    return [[items[j] for j in np.argsort(-row, kind="stable")[:k]] for row in scores]


def nearest(index: GrowingIndex, queries: np.ndarray, k: int) -> list[list[Any]]:
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
        assert nearest(index, queries, k) == brute(known, queries, k), step
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
    path = tmp_path / "shard-00000.nmslib"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="damaged"):
        GrowingIndex.load(str(tmp_path))


def test_one_id_alone_is_one_id_and_never_its_letters() -> None:
    index = GrowingIndex(4, encoder="e")
    index.add(["1", "2", "12"], np.eye(4)[:3], ["a", "b", "c"])
    index.remove("12")
    assert [i for i in ("1", "2", "12") if i in index] == ["1", "2"]
    index.add("mug", np.eye(4)[3:], "cup")
    assert (index.ids[-1], index.labels[-1]) == ("mug", "cup")
    index.remove(np.str_("mug"))
    index.remove(pa.scalar("1"))
    assert index.alive()[0] == ["2"]
    with pytest.raises(ValueError, match=r"got 2 ids, vectors of shape .* and 1 labels"):
        index.add(["x", "y"], np.eye(4)[:2], "mug")
    with pytest.raises(TypeError, match=r"ids must all be int, str or bytes.*str so far.*got 12 \(int\): cast"):
        index.remove(12)

    raw = GrowingIndex(2, encoder="e")
    raw.add(b"ab", np.eye(2)[:1], b"x")
    raw.remove(bytearray(b"ab"))
    assert len(raw) == 0
    numbers = GrowingIndex(2, encoder="e")
    numbers.add(7, np.eye(2)[:1], np.int32(3))
    numbers.remove(np.int64(7))
    assert (len(numbers), numbers.labels) == (0, [])


MANY = {
    "a column of pandas": lambda values: pd.Series(values, dtype="string"),
    "an index of pandas": pd.Index,
    "a frame of one column": lambda values: pd.DataFrame({"label": values}),
    "numpy text": np.array,
    "numpy objects": lambda values: np.array(values, object),
    "a column (n, 1)": lambda values: np.array(values)[:, None],
    "rows of one": lambda values: [[v] for v in values],
    "arrow": pa.array,
    "arrow codes": lambda values: pa.array(values).dictionary_encode(),
    "arrow, in pieces": lambda values: pa.chunked_array([values[:1], values[1:]]),
    "scalars of arrow": lambda values: list(pa.array(values)),
    "a generator": lambda values: (v for v in values),
    "keys of a dict": lambda values: dict.fromkeys(values).keys() if len(set(values)) == len(values) else values,
}


@pytest.mark.parametrize("make", MANY.values(), ids=MANY)
def test_many_ids_may_come_in_any_container(make: Any) -> None:
    index = GrowingIndex(3, encoder="e")
    if make is MANY["keys of a dict"]:
        index.add(["p", "q", "r"], np.eye(3), ["b", "a", "b"])  # a view of keys is a set: without a place for rows
    else:
        index.add(make(["p", "q", "r"]), np.eye(3), make(["b", "a", "b"]))
    assert (index.ids, index.labels) == (["p", "q", "r"], ["b", "a", "b"])
    index.remove(make(["q", "p"]))
    assert index.alive()[0] == ["r"]


@pytest.mark.parametrize(
    ("ids", "labels", "error", "message"),
    [
        ({"a", "b"}, None, TypeError, "ids must be a list or an array, in order, got set"),
        ({"a": 1, "b": 2}, None, TypeError, "in order, got dict"),
        (None, None, TypeError, "got NoneType"),
        (["a", "b"], np.eye(2), ValueError, r"labels must be one for each row, .*shape \(2, 2\): of one-hot"),
        (["a", "b"], [1.0, 2.0], TypeError, r"labels must all be .*got 1.0 \(float\): cast"),
        (["a", "b"], [np.nan, 2.0], ValueError, "labels must not be NaN, got 1"),
        (["a", "b"], [True, False], TypeError, r"got True \(bool\)"),
        (["a", "b"], np.array(["2024-01-01"] * 2, "datetime64[D]"), TypeError, "labels must all be"),
        (["a", None], None, TypeError, "ids must all be"),
        ([("a", "b"), ("c", "d")], None, TypeError, "ids must all be"),
        (["a", "b"], [[0], [1, 2]], TypeError, "labels must all be"),
        (object(), None, TypeError, "ids must be a list or an array, got object"),
    ],
)
def test_what_is_no_list_of_ids_is_told(ids: Any, labels: Any, error: type[Exception], message: str) -> None:
    index = GrowingIndex(2, encoder="e")
    with pytest.raises(error, match=message):
        index.add(ids, np.eye(2), labels)
    assert len(index) == 0


def test_vectors_of_any_length_and_type_of_number_count_by_direction() -> None:
    index = GrowingIndex(2, encoder="e")
    index.add(["huge", "tiny", "whole"], np.array([[1e300, 0], [0, 1e-300], [3, 3]]))
    index.add([], [])
    rows, scores = index.search(np.array([[0, 5e-320], [2e305, 0]]), 1)
    assert [index.ids[r] for r in rows[:, 0]] == ["tiny", "huge"]
    np.testing.assert_allclose(scores, 1, rtol=1e-6)
    assert index.search(np.zeros((0, 2)), 2)[0].shape == (0, 2)
    with pytest.raises(TypeError, match="vectors must be numbers, got <U1"):
        index.add(["x"], np.array([["a", "b"]]))
    with pytest.raises(TypeError, match=r"k must be a whole number, got 1.0"):
        index.search(np.eye(2), 1.0)  # type: ignore[arg-type]


def test_a_saved_index_is_one_of_the_nightly_job_and_the_other_way_round(tmp_path: Path) -> None:
    vectors = unit_rows(vectors_of(90, 0))
    index = GrowingIndex(6, encoder="e" * 64, growth=GROWTH)
    index.add([f"sku-{i}" for i in range(80)], vectors[:80])
    index.save(str(tmp_path / "grown"))
    job = load_index(str(tmp_path / "grown"), encoder="e" * 64, dim=6)
    assert job.item_ids.to_pylist() == index.ids
    assert job.info["recall"] == index.recall
    np.testing.assert_array_equal(job.search(vectors[:5], 3)[0], index.search(vectors[:5], 3)[0])

    ids = pa.array([f"sku-{i}" for i in range(80)])
    build_index(
        np.r_[vectors[:79], np.zeros((1, 6), np.float32)],
        str(tmp_path / "job"),
        IndexSettings(m=9),
        0,
        ids=ids,
        encoder="e" * 64,
    )
    grown = GrowingIndex.load(str(tmp_path / "job"))
    assert (len(grown), grown.settings.m, grown.encoder) == (79, 9, "e" * 64)
    grown.add(["new"], vectors[85:86])
    grown.remove(["sku-3"])
    assert nearest(grown, vectors[[85, 3]], 1) == [
        ["new"],
        brute({i: v for i, v in zip(index.ids, vectors[:79], strict=False) if i != "sku-3"}, vectors[[3]], 1)[0],
    ]
    grown.save(str(tmp_path / "night"))
    again = GrowingIndex.load(str(tmp_path / "night"))
    assert again.alive()[0] == grown.alive()[0]
    assert again.in_graph == 79


def test_recall_is_measured_and_many_equal_vectors_hide_nothing() -> None:
    vectors = vectors_of(900, 4)
    vectors[100:700] = vectors[100]
    index = GrowingIndex(6, encoder="e", settings=IndexSettings(m=8, ef_search=60), growth=Growth(graph_from=100))
    assert index.recall == {"queries": 0, "source": "exact", "recall@10": 1.0, "recall@50": 1.0}
    index.add(range(900), vectors)
    assert index.in_graph == 900
    assert index.recall["source"] == "items"
    assert index.recall["queries"] == 900
    assert index.recall["recall@10"] > 0.99
    queries = vectors_of(50, 5)
    exact = GrowingIndex(6, encoder="e")
    exact.add(range(900), vectors)
    got, want = index.search(queries, 10)[0], exact.search(queries, 10)[0]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(got.tolist(), want.tolist(), strict=True)]) > 9.9


def test_an_index_that_a_night_grew_is_read_and_grows_on(tmp_path: Path) -> None:
    vectors, how = unit_rows(vectors_of(1500, 0)), IndexSettings(m=8, ef_search=60, sample=5)
    ids = pa.array([f"sku-{i}" for i in range(1500)])
    build_index(vectors[:1400], str(tmp_path / "one"), how, 0, ids=ids[:1400], encoder="e" * 64)
    grow_index(str(tmp_path / "one"), str(tmp_path / "two"), vectors[20:], how, 0, ids=ids[20:], encoder="e" * 64)
    grown = GrowingIndex.load(str(tmp_path / "two"))
    assert sorted(grown.ids) == sorted(ids[20:].to_pylist())
    grown.remove(["sku-1450"])
    grown.add(["again"], vectors[3:4])
    grown.save(str(tmp_path / "three"))
    again = GrowingIndex.load(str(tmp_path / "three"))
    assert again.in_graph == 1480
    now = {f"sku-{i}": vectors[i] for i in range(20, 1500) if i != 1450} | {"again": vectors[3]}
    for index in (grown, again):
        assert nearest(index, vectors[[3, 7, 1450]], 1) == brute(now, vectors[[3, 7, 1450]], 1)


def test_an_index_is_printed_in_a_line_without_its_vectors() -> None:
    vectors = vectors_of(1_000, 0)
    index = GrowingIndex(6, encoder="e" * 64, growth=GROWTH)
    index.add(list(range(1_000)), vectors)
    assert repr(index) == "GrowingIndex(1,000 items, 6 dimensions, encoder eeeeeeeeeeee)"
