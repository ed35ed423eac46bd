import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.config.sections import IndexSettings
from topkin.linalg.cosine import unit_rows
from topkin.search.hnsw.build import build_index
from topkin.search.hnsw.files import load_index
from topkin.search.norm_bands import directions, norm_ranges, norms
from topkin.search.topk import top_k

HOW = IndexSettings(m=8, ef_construction=60, ef_search=60, sample=200)


def reduced(out: np.ndarray) -> np.ndarray:
    """Out-vectors with the coordinate that makes all equally long, as unit rows."""
    out = out / np.linalg.norm(out, axis=1).max()
    return np.c_[out, np.sqrt(np.maximum(1 - (out**2).sum(axis=1), 0))].astype(np.float32)


def shop(n: int, skew: float, dim: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Items whose lengths fall off as popularity does, and users who end in 0."""
    rng = np.random.default_rng(seed)
    tastes = rng.standard_normal((30, dim))
    out = unit_rows(tastes[rng.integers(30, size=n)] + 0.7 * rng.standard_normal((n, dim)))
    users = unit_rows(tastes[rng.integers(30, size=300)] + rng.standard_normal((300, dim))).astype(np.float32)
    return reduced(out * rng.random((n, 1)) ** skew), np.c_[users, np.zeros(300, np.float32)]


def build(folder, items, queries, **changes):
    how = HOW.model_copy(update=changes)
    info = build_index(items, str(folder), how, 3, ids=pa.array(range(len(items))), encoder="e", queries=queries)
    return info, load_index(str(folder))


@given(st.lists(st.floats(0, 1, width=32), max_size=60), st.integers(1, 9))
def test_every_row_is_in_one_band_and_a_band_is_a_halving(values, fewest):
    long = np.array(values, np.float64)
    ranges = norm_ranges(long, fewest)
    assert np.sort(np.concatenate(ranges)).tolist() == list(range(len(values)))
    for number, band in enumerate(ranges):
        assert (np.diff(band) > 0).all()
        if number < len(ranges) - 1:  # the last takes all that is left
            assert long[band].min() >= long[band].max() / 2 or len(values) == 0
            assert long[ranges[number + 1]].max(initial=0) < long[band].min()
            assert sum(map(len, ranges[number + 1 :])) >= fewest


def test_lengths_and_directions_leave_the_last_coordinate_out():
    vectors = np.array([[3, 4, 12], [0, 0, 1]], np.float32)
    assert norms(vectors).tolist() == [5, 0]
    assert directions(vectors).tolist() == [[np.float32(0.6), np.float32(0.8)], [1, 0]]


def test_skewed_items_are_split_and_found_as_exact_search_finds_them(tmp_path):
    items, users = shop(6000, 3.0)
    info, index = build(tmp_path, items, users)
    one, other = info["trial"]["one_graph"], info["trial"]["split_by_length"]
    assert info["split_by_length"]
    assert info["trial"]["items"] == 6000
    assert one["recall@10"] < 0.97 < 0.99 < other["recall@10"]
    assert info["recall"]["recall@10"] > 0.99
    assert info["recall"]["recall@50"] > 0.99
    sizes = [shard["items"] for shard in info["shards"]]
    assert len(sizes) > 4
    assert sum(sizes) == 6000
    ids, scores = index.search(users, 10)
    exact = top_k(users, items, 10)
    same = ids == exact[0]
    assert same.mean() > 0.98
    assert np.array_equal(scores[same], exact[1][same])


def test_lengths_that_hardly_differ_make_one_graph(tmp_path):
    items, users = shop(2000, 0.2)
    items = reduced(items[:, :-1] / np.maximum(np.linalg.norm(items[:, :-1], axis=1, keepdims=True), 0.6))
    info, _ = build(tmp_path, items, users)
    assert (info["split_by_length"], info["trial"], len(info["shards"])) == (False, None, 1)


def test_a_split_that_gains_nothing_is_not_made(tmp_path):
    items, users = shop(400, 2.0)
    info, _ = build(tmp_path, items, users, ef_search=400)
    assert not info["split_by_length"]
    assert info["trial"]["one_graph"]["recall@10"] > 0.99
    assert len(info["shards"]) == 1


def test_bands_are_cut_into_shards_too_and_zero_rows_stay_out(tmp_path):
    items, users = shop(3000, 3.0)
    items[[5, 77]] = 0
    info, index = build(tmp_path, items, users, shard_items=300)
    assert max(shard["items"] for shard in info["shards"]) == 300
    assert np.sort(index.rows).tolist() == sorted({*range(3000)} - {5, 77})
    assert index.item_ids.to_pylist() == index.rows.tolist()
    assert info["recall"]["recall@10"] > 0.99


def test_a_split_index_is_the_same_with_any_number_of_threads(tmp_path):
    items, users = shop(3000, 3.0)
    answers = []
    for threads in (1, 3):
        folder = str(tmp_path / str(threads))
        ids = pa.array(range(3000))
        build_index(items, folder, HOW, 3, ids=ids, encoder="e", queries=users, threads=threads)
        answers.append(load_index(folder).search(users, 20, threads=threads))
    assert np.array_equal(answers[0][0], answers[1][0])
    assert answers[0][1].tobytes() == answers[1][1].tobytes()


def test_a_split_index_is_asked_with_user_vectors_only(tmp_path):
    items, users = shop(3000, 3.0)
    _, index = build(tmp_path, items, users)
    with pytest.raises(ValueError, match=r"must end in 0, as user vectors do.*got 7 others"):
        index.search(items[:7], 5)
    zero = np.zeros_like(users[:1])
    assert index.search(zero, 4)[0].tolist() == [[0, 1, 2, 3]]
    assert (index.search(users[:3], 3000)[0] >= 0).all(axis=1).all()


def test_items_of_length_zero_do_no_harm(tmp_path):
    items, users = shop(3000, 3.0)
    items[:40] = 0
    items[:40, -1] = 1
    info, _ = build(tmp_path, items, users)
    assert info["recall"]["recall@10"] > 0.99
