"""Every library behind the index's interface: built, saved, read back, asked and grown alike."""

import importlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from topkin.config.sections import IndexSettings
from topkin.errors import ArtifactError, ConfigError
from topkin.linalg.cosine import unit_rows
from topkin.search.hnsw import engines
from topkin.search.hnsw.build import build_index
from topkin.search.hnsw.engines import ENGINES, engine_of, library_of
from topkin.search.hnsw.files import load_index, sealed
from topkin.search.hnsw.grow import grow_index
from topkin.search.topk import top_k

MODULES = {"faiss": "faiss", "hnswlib": "hnswlib", "usearch": "usearch"}
HOW = {"m": 12, "ef_construction": 80, "ef_search": 120, "shard_items": 900, "sample": 100}


def _vectors(n: int, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, 16)).astype(np.float32))


@pytest.fixture(params=sorted(ENGINES))
def name(request) -> str:
    if request.param in MODULES:
        pytest.importorskip(MODULES[request.param])
    return request.param


def _ids(n: int, first: int = 0) -> pa.Array:
    return pa.array([f"item {i}" for i in range(first, first + n)])


def test_an_index_finds_what_exact_search_finds(name, tmp_path):
    vectors, queries = _vectors(2000), _vectors(60, 1)
    vectors[[5, 700]] = 0
    vectors[20:40] = vectors[20]  # one point for all of them
    settings = IndexSettings(engine=name, **HOW)
    info = build_index(vectors, str(tmp_path), settings, 7, ids=_ids(2000), encoder="e" * 64, queries=queries)
    assert info["recall"]["recall@10"] > 0.97
    assert (info["indexed"], len(info["shards"])) == (1998, 3)
    assert info.get("engine") == (None if name == "nmslib" else name)
    assert name in info
    index = load_index(str(tmp_path), encoder="e" * 64, dim=16)
    rows, scores = index.search(queries, 10)
    exact, exact_scores = top_k(queries, vectors, 10)
    assert (rows == exact).mean() > 0.97
    same = rows == exact
    np.testing.assert_array_equal(scores[same], exact_scores[same])  # scored again from the vectors
    again = [index.search(queries, 10, threads=threads)[0] for threads in (1, 2)]
    np.testing.assert_array_equal(*again)
    assert set(index.search(vectors[20:21], 20)[0][0]) == set(range(20, 40))
    more, _ = index.search(queries[:3], 1998)  # all that there are: what is not reached is told by -1
    assert ((more >= 0).sum(axis=1) > 1900).all() or name == "hnswlib"


def test_the_same_vectors_give_the_same_answers(name, tmp_path):
    vectors, queries = _vectors(800), _vectors(50, 1)
    collected = []
    for at in ("a", "b"):
        settings = IndexSettings(engine=name, **{**HOW, "ef_search": 12})
        build_index(vectors, str(tmp_path / at), settings, 7, ids=_ids(800), encoder="e")
        collected.append(load_index(str(tmp_path / at)).search(queries, 10)[0])
    np.testing.assert_array_equal(*collected)


def test_graphs_of_items_split_by_length_are_read_as_they_were_written(name, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    length = np.exp(-rng.exponential(1.5, size=(900, 1))).astype(np.float32)
    vectors = unit_rows(np.concatenate([_vectors(900) * length, np.sqrt(1 - length**2)], axis=1))
    queries = np.concatenate([_vectors(50, 1), np.zeros((50, 1), np.float32)], axis=1)
    monkeypatch.setattr("topkin.search.hnsw.build.WORTH", -1.0)
    settings = IndexSettings(engine=name, **HOW)
    info = build_index(vectors, str(tmp_path), settings, 7, ids=_ids(900), encoder="e", queries=queries)
    index = load_index(str(tmp_path))
    assert info["split_by_length"]
    assert len(index.graphs) > 1
    assert (index.search(queries, 10)[0] == top_k(queries, vectors, 10)[0]).mean() > 0.97
    if name == "hnswlib":  # which checks nothing, and would read beyond each vector
        assert {part.graph.dim for part in index.graphs} == {16}


def test_an_index_grows_whatever_made_it(name, tmp_path):
    before, now = _vectors(850), _vectors(880)
    settings = IndexSettings(engine=name, **{**HOW, "shard_items": 10_000})
    build_index(before, str(tmp_path / "1"), settings, 7, ids=_ids(850), encoder="e")
    now[30:850] = before[30:]  # the first 30 have another vector, 30 are new
    monkey = pytest.MonkeyPatch()
    monkey.setattr("topkin.search.hnsw.grow.SMALL", 100)
    grown = grow_index(str(tmp_path / "1"), str(tmp_path / "2"), now, settings, 7, ids=_ids(880), encoder="e")
    assert (grown["growth"]["taken"], grown["growth"]["added"], len(grown["shards"])) == (1, 30, 2)
    assert grown["recall"]["recall@10"] > 0.97
    other = IndexSettings(engine="nmslib" if name != "nmslib" else "faiss", **{**HOW, "shard_items": 10_000})
    if other.engine == "faiss":
        pytest.importorskip("faiss")
    anew = grow_index(str(tmp_path / "2"), str(tmp_path / "3"), now, other, 7, ids=_ids(880), encoder="e")
    monkey.undo()
    assert anew["growth"]["built_anew"].startswith(f"the earlier index was built by {name} ")


def test_a_damaged_file_reaches_no_library(name, tmp_path):
    build_index(_vectors(300), str(tmp_path), IndexSettings(engine=name, **HOW), 7, ids=_ids(300), encoder="e")
    path = next(Path(tmp_path).glob(f"shard-00000.{name}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        load_index(str(tmp_path))


def test_a_library_that_is_not_there_is_named_with_its_command(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    build_index(_vectors(50), str(tmp_path), IndexSettings(engine="faiss", **HOW), 7, ids=_ids(50), encoder="e")

    def missing(module):
        if module == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
        return importlib.import_module(module)

    monkeypatch.setattr(engines, "import_module", missing)
    for use in (lambda: load_index(str(tmp_path)), lambda: library_of("faiss"), lambda: engine_of("faiss")):
        with pytest.raises(ConfigError, match=r"needs faiss-cpu: pip install 'topkin\[faiss\]'"):
            use()
    assert library_of("nmslib") == {}


def test_an_engine_of_another_version_of_topkin_is_told(tmp_path):
    build_index(_vectors(50), str(tmp_path), IndexSettings(**HOW), 7, ids=_ids(50), encoder="e")
    path = tmp_path / "index.json"
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), "engine": "scann"})))
    with pytest.raises(ArtifactError, match="an engine that this version of topkin has not, 'scann'"):
        load_index(str(tmp_path))
