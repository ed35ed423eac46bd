"""An index built shard by shard is the one that is built in one go.

Tables, figures and answers are compared. NMSLIB saves what memory held behind a node's last neighbour, so that the
bytes of a graph's file are others each time.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import ITEMS, StoredItems
from topkin.config.sections import IndexSettings
from topkin.linalg.cosine import unit_rows
from topkin.search.hnsw.build import build_index
from topkin.search.hnsw.files import load_index
from topkin.search.hnsw.shards import build_shard, join_shards, plan_shards

ENCODER = "e" * 64


def stored(folder: Path, vectors: np.ndarray, ids: pa.Array, rows: int) -> StoredItems:
    """The item table with ``rows`` rows a row group, in two files."""
    schema = pa.schema([pa.field("item_id", ids.type), pa.field("vector", schemas.vector(vectors.shape[1]))])
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    table = pa.Table.from_arrays([ids, flat], schema=schemas.with_encoder(schema, ENCODER))
    half = len(ids) // 2
    for part, some in enumerate((table.slice(0, half), table.slice(half))):
        path = storage.join(str(folder), ITEMS, storage.part_name(part, 2))
        storage.write_parquet(some, path, row_group_rows=rows)
    return StoredItems(str(folder), ENCODER)


def shop(n: int, users: int, skewed: bool) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Items, some equal and some without a vector, of lengths that differ where they are skewed; and queries."""
    rng = np.random.default_rng(n)
    vectors = rng.standard_normal((n, 8)).astype(np.float32)
    vectors[5:9] = vectors[4]
    if skewed:
        vectors = np.array(unit_rows(vectors)) * (rng.random((n, 1)) ** 4).astype(np.float32) * np.float32(0.9)
        vectors = np.concatenate([vectors, np.sqrt(1 - (vectors**2).sum(1, keepdims=True))], axis=1)
    vectors = np.array(unit_rows(vectors))
    vectors[::50] = 0
    queries = np.array(unit_rows(rng.standard_normal((users, vectors.shape[1])).astype(np.float32)))
    if skewed:
        queries[:, -1] = 0
    return vectors, queries, pa.array([f"item {i}" for i in range(n)])


def without_seals(info: dict[str, Any]) -> dict[str, Any]:
    """What index.json says but for the hashes of the graphs, and of itself."""
    files = {n: f["bytes"] if n.endswith(".nmslib") else f for n, f in info["files"].items()}
    return {**info, "files": files, "sha256": None}


@pytest.mark.parametrize(
    ("n", "shard_items", "users", "skewed"),
    [(600, 10_000, 40, False), (600, 170, 40, False), (600, 200, 0, False), (900, 300, 60, True), (60, 7, 20, False)],
)
def test_it_is_the_index_built_in_one_go(tmp_path, monkeypatch, n, shard_items, users, skewed):
    monkeypatch.setattr(storage, "ROW_GROUP_ROWS", 128)
    monkeypatch.setattr(storage.write_parquet, "__kwdefaults__", {"row_group_rows": 128})
    vectors, queries, ids = shop(n, users, skewed)
    settings = IndexSettings(m=6, ef_construction=40, ef_search=60, shard_items=shard_items, sample=30)
    items = stored(tmp_path / "embeddings", vectors, ids, rows=64)
    one, many, scratch = str(tmp_path / "one"), str(tmp_path / "many"), str(tmp_path / "scratch")
    asked = queries if users else None
    info = build_index(vectors, one, settings, 3, ids=ids, encoder=ENCODER, queries=asked)
    shards = plan_shards(items, queries, settings, 3, scratch)
    assert shards == len(info["shards"])
    assert skewed == info["split_by_length"]
    for number in reversed(range(shards)):
        build_shard(items, settings, scratch, number)
    joined = join_shards(items, settings, scratch, many)
    assert list(joined) == list(info)
    assert without_seals(joined) == without_seals(info)
    assert storage.files(one) == storage.files(many)
    for name in ("ids.parquet", *(f"shard-{number:05d}.nmslib.dat" for number in range(shards))):
        assert storage.read_bytes(storage.join(one, name)) == storage.read_bytes(storage.join(many, name)), name
    got, want = (load_index(folder, encoder=ENCODER).search(queries, 20) for folder in (many, one))
    assert np.array_equal(got[0], want[0])
    assert got[1].tobytes() == want[1].tobytes()


def test_no_item_with_a_vector_is_an_index_of_none(tmp_path):
    vectors, ids = np.zeros((3, 4), np.float32), pa.array([1, 2, 3])
    items = stored(tmp_path / "embeddings", vectors, ids, rows=2)
    info = build_index(vectors, str(tmp_path / "one"), IndexSettings(), 0, ids=ids, encoder=ENCODER)
    assert plan_shards(items, vectors[:0], IndexSettings(), 0, str(tmp_path / "scratch")) == 0
    assert join_shards(items, IndexSettings(), str(tmp_path / "scratch"), str(tmp_path / "many")) == info


def test_what_was_built_before_a_job_died_is_taken(tmp_path):
    vectors, queries, ids = shop(300, 20, skewed=False)
    settings = IndexSettings(m=6, ef_construction=40, shard_items=100, sample=10)
    items, scratch = stored(tmp_path / "embeddings", vectors, ids, rows=64), str(tmp_path / "scratch")
    assert plan_shards(items, queries, settings, 3, scratch) == 3
    build_shard(items, settings, scratch, 1)
    marker = tmp_path / "scratch" / "shard-00001" / "built.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "points": 77}))
    assert plan_shards(items, queries, settings, 3, scratch) == 3
    for number in range(3):
        build_shard(items, settings, scratch, number)
    assert join_shards(items, settings, scratch, str(tmp_path / "index"))["shards"][1]["points"] == 77
