"""The users drawn by a hash are the same in every table and version, from as few files as hold them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vector_column
from topkin.artifacts.partition import split_by_partition
from topkin.gates.samples import UserSample, lists_of, purchases_of, sample_vectors


def written(folder: Path, table: pa.Table, parts: int) -> str:
    rows = split_by_partition(table, "user_id", parts)
    for part in range(parts):
        path = str(folder / storage.part_name(part, parts))
        storage.write_parquet(rows.get(part, table.slice(0, 0)), path, row_group_rows=7)
    return str(folder)


@settings(max_examples=30)
@given(users=st.integers(0, 300), parts=st.integers(1, 9), most=st.integers(1, 400))
def test_a_sample_is_about_as_large_as_asked(users: int, parts: int, most: int) -> None:
    ids = pa.chunked_array([pa.array(np.arange(users), pa.int64())])
    sample = UserSample.of(users, parts, most)
    n = int(sample.has(ids).sum())
    if users <= most:
        assert n == users
    else:
        expected = users * sample.taken / parts / sample.step
        assert most / 2 <= expected <= 2 * most
        assert abs(n - expected) <= 5 * np.sqrt(expected) + 1


def test_the_same_users_come_from_versions_of_other_parts(tmp_path: Path) -> None:
    table = pa.table({"user_id": pa.array(np.arange(500), pa.int64()), "n": pa.array(np.arange(500) * 2)})
    sample = UserSample.of(500, 4, 60)
    samples = [sample.rows(written(tmp_path / str(parts), table, parts), ["user_id", "n"]) for parts in (4, 3)]
    want = table.filter(pa.array(sample.has(table["user_id"])))
    assert 20 < len(want) < 120
    for rows in samples:
        assert rows.sort_by("user_id") == want


def test_only_files_that_may_hold_its_users_are_opened(tmp_path: Path) -> None:
    table = pa.table({"user_id": pa.array(np.arange(400), pa.int64())})
    folder = written(tmp_path, table, 4)
    sample = UserSample.of(400, 4, 50)
    (tmp_path / storage.part_name(3, 4)).write_bytes(b"not looked at")
    assert len(sample.rows(folder, ["user_id"])) == sample.has(table["user_id"]).sum()


@pytest.mark.parametrize("most", [3, 10, 1000])
def test_every_so_many_th_vector_is_drawn_across_files(tmp_path: Path, most: int) -> None:
    vectors = np.arange(60, dtype=np.float32).reshape(30, 2)
    for number, some in enumerate(np.split(vectors, [11, 12])):
        path = str(tmp_path / storage.part_name(number, 3))
        storage.write_parquet(pa.table({"vector": vector_column(some)}), path, row_group_rows=4)
    assert (sample_vectors(str(tmp_path), most) == vectors[:: max(1, -(-30 // most))]).all()
    assert sample_vectors(str(tmp_path / "none")).shape == (0, 0)


def test_lists_are_numbers_in_the_order_of_ranks() -> None:
    ranked = pa.table({"user_id": [5, 5, 7, 5, 9], "rank": [2, 1, 1, 3, 1], "item_id": ["b", "a", "c", "d", "a"]})
    lists = lists_of(ranked, pa.array([7, 5, 6]), pa.array(["a", "b", "c", "d"]), 2)
    assert lists.tolist() == [[2, -1], [0, 1], [-1, -1]]


def test_purchases_are_a_row_each() -> None:
    histories = pa.table({"user_id": ["x", "y", "z"], "items": [[1, 1], [], [2]], "times": [[5, 6], [], [7]]})
    assert purchases_of(histories, timed=True).to_pylist() == [
        {"user_id": "x", "item_id": 1, "time": 5},
        {"user_id": "x", "item_id": 1, "time": 6},
        {"user_id": "z", "item_id": 2, "time": 7},
    ]
    assert purchases_of(histories, timed=False).column_names == ["user_id", "item_id"]
