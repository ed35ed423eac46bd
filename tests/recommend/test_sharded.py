"""Item shards: their lists merge into those of one search, whatever the cuts, the order and the grouping."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import StoredItems, vector_column
from topkin.errors import ArtifactError
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.recommend.searchers import MergedSearcher, UserQueries
from topkin.recommend.sharded import Shard, lists_of, lists_table, merge_lists, shard_bounds
from topkin.search.topk import top_k

AS_OF = datetime(2024, 5, 1)
DIM = 4


def write_items(folder: Path, vectors: np.ndarray, parts: int, row_group_rows: int = 3) -> StoredItems:
    """An item table in ``parts`` files of small row groups; in_vector is minus vector."""
    schema = schemas.with_encoder(schemas.item_embeddings(pa.int64(), DIM), "e")
    ids = pa.array(np.arange(len(vectors)))
    table = pa.Table.from_arrays([ids, vector_column(vectors), vector_column(-vectors)], schema=schema)
    bounds = shard_bounds(len(vectors), parts)
    for part in range(parts):
        rows = table.slice(bounds[part], bounds[part + 1] - bounds[part])
        path = storage.join(str(folder), "items", storage.part_name(part, parts))
        storage.write_parquet(rows, path, row_group_rows=row_group_rows)
    return StoredItems(str(folder), "e")


def some_vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    """Few values, so that scores tie; some rows are zero."""
    return unit_rows(rng.integers(-1, 2, (n, DIM)).astype(np.float32))


@settings(max_examples=100)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(1, 12), st.integers(0, 6), st.integers(0, 10**6))
def test_any_cut_in_any_order_gives_the_lists_of_one_search(n_items, shards, k, n_users, seed):
    rng = np.random.default_rng(seed)
    items, users = some_vectors(rng, n_items), some_vectors(rng, n_users)
    allowed = rng.random(n_items) < 0.8
    barred = [np.flatnonzero(rng.random(n_items) < 0.3) for _ in range(n_users)]
    indptr = np.concatenate([[0], np.cumsum([len(b) for b in barred], dtype=np.int64)]).astype(np.int64)
    exclude = Csr(indptr, np.concatenate([np.zeros(0, np.int64), *barred]).astype(np.int32))
    searched = (items != 0).any(axis=1) & allowed
    known = np.flatnonzero(rng.random(n_users) < 0.7)
    every = top_k(users, items, k, exclude=exclude, allowed=searched)
    bounds, tables = shard_bounds(n_items, shards), [pa.table({})]
    for shard in range(shards):
        numbers = bounds[shard] + np.flatnonzero(searched[bounds[shard] : bounds[shard + 1]])
        tables.append(Shard(numbers.astype(np.int32), items[numbers]).search(users[known], exclude.take(known), k))
    while len(tables) > 1:
        order = rng.permutation(len(tables))
        some, others = np.split(order, [rng.integers(1, len(tables) + 1)])
        tables = [merge_lists([tables[n] for n in some]), *(tables[n] for n in others)]
    ids, scores = lists_of(tables[0])
    assert np.array_equal(ids, every[0][known])
    assert np.array_equal(scores, every[1][known])
    assert tables[0]["offered"].to_pylist() == [int(searched.sum())] * len(known)


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_rows_of_the_item_table_are_read_by_their_numbers(tmp_path, parts):
    vectors = some_vectors(np.random.default_rng(1), 23)
    stored = write_items(tmp_path, vectors, parts)
    assert len(stored) == 23
    assert stored.ids().to_pylist() == list(range(23))
    for numbers in ([], [0], [22], [2, 3, 4, 11, 12, 20], range(23)):
        at = np.array(numbers, np.int32)
        got = stored.column("in_vector")[at]
        assert len(got) == len(at)
        assert np.array_equal(got, -vectors[at]) or not len(at)


def test_only_row_groups_that_hold_a_wanted_row_are_read(tmp_path):
    stored = write_items(tmp_path, some_vectors(np.random.default_rng(1), 23), 3)
    len(stored)  # the footers
    path = tmp_path / "items" / storage.part_name(1, 3)
    path.write_bytes(b"not read")
    stored.column("vector")[np.array([0, 6, 15, 22], np.int32)]
    with pytest.raises(ArtifactError, match=r"part-00001-of-00003.parquet is damaged .*: run topkin embed again"):
        stored.column("vector")[np.array([0, 8], np.int32)]
    path.unlink()
    with pytest.raises(ArtifactError, match=r"part-00001-of-00003.parquet is missing: run topkin embed again"):
        stored.column("vector")[np.array([8], np.int32)]


def test_a_shard_holds_its_allowed_items_with_a_vector(tmp_path):
    vectors = some_vectors(np.random.default_rng(2), 20)
    vectors[[7, 9]] = 0
    allowed = np.arange(20) % 3 != 0
    shard = Shard.load(write_items(tmp_path, vectors, 2), 5, 15, allowed)
    wanted = [n for n in range(5, 15) if allowed[n] and vectors[n].any()]
    assert shard.numbers.tolist() == wanted
    assert np.array_equal(shard.vectors, vectors[wanted])


def test_items_of_another_encoder_are_refused(tmp_path):
    write_items(tmp_path, some_vectors(np.random.default_rng(1), 5), 1)
    with pytest.raises(ArtifactError, match="must be made by encoder f…, got e…"):
        len(StoredItems(str(tmp_path), "f"))


def test_merged_lists_of_other_users_are_refused():
    lists = np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32)
    search = MergedSearcher(lists_table(lists, 9))
    nobody = Interactions(np.zeros(2, np.int64), *(np.zeros(0, t) for t in ("i4", "f4", "f4")), 9)
    assert search.n_candidates(np.ones(9, bool)) == 9
    with pytest.raises(ValueError, match=r"lists must be \(1, 3\), the shards gave \(2, 3\)"):
        search.search(UserQueries(nobody, np.zeros((1, 4), np.float32), Csr.empty(1)), 3, np.ones(9, bool))
