"""The index: what it refuses, what it measures, and that no damaged byte reaches NMSLIB."""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.config.sections import IndexSettings
from topkin.errors import ArtifactError
from topkin.linalg.cosine import unit_rows
from topkin.search.hnsw import engines, files
from topkin.search.hnsw.build import build_index
from topkin.search.hnsw.files import load_index
from topkin.search.hnsw.index import Folding, points_of
from topkin.search.topk import top_k

DIM = 16
SETTINGS = IndexSettings(m=8, ef_construction=60, ef_search=60, shard_items=200, sample=50)


def _vectors(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    vectors = _vectors(500)
    vectors[[3, 77]] = 0
    folder = str(tmp_path_factory.mktemp("index"))
    ids = pa.array([f"item {n}" for n in range(500)])
    info = build_index(vectors, folder, SETTINGS, 7, ids=ids, encoder="e" * 64, queries=_vectors(80, 1))
    return folder, vectors, info


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(built[0], tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def forbidden(monkeypatch):
    """NMSLIB must not be reached."""

    def refuse(*args):
        raise AssertionError("a file was given to NMSLIB unverified")

    monkeypatch.setattr(files, "load_graph", refuse)
    monkeypatch.setattr(engines, "new_graph", refuse)


def test_an_index_is_printed_in_a_line_without_its_arrays(built):
    rows = repr(load_index(built[0]))
    assert rows.startswith("AnnIndex(498 items, ")
    assert "array" not in rows
    assert "\n" not in rows


def test_zero_vectors_are_left_out_and_counted(built):
    folder, _, info = built
    assert (info["items"], info["indexed"], info["without_vector"]) == (500, 498, 2)
    index = load_index(folder)
    assert not {3, 77} & set(index.rows)
    ids, scores = index.search(_vectors(20, 2), 498)
    assert not {3, 77} & set(ids.ravel())
    assert np.isfinite(scores[ids >= 0]).all()


def test_recall_is_measured_against_exact_search(built):
    folder, vectors, info = built
    assert info["recall"]["queries"] == 50
    assert info["recall"]["source"] == "users"
    assert info["recall"]["recall@10"] > 0.9
    queries = _vectors(80, 1)
    chosen = np.sort(np.random.default_rng(7).permutation(80)[:50])
    got, _ = load_index(folder).search(queries[chosen], 10)
    exact, _ = top_k(queries[chosen], vectors, 10, allowed=(vectors != 0).any(axis=1))
    shared = np.mean([len(set(g) & set(e)) / 10 for g, e in zip(got, exact, strict=True)])
    assert info["recall"]["recall@10"] == pytest.approx(shared)


def test_a_poor_graph_shows_in_the_measured_recall(tmp_path):
    vectors = _vectors(3000, 4, 64)
    poor = IndexSettings(m=2, ef_construction=2, ef_search=1, sample=100)
    info = build_index(vectors, str(tmp_path), poor, 0, ids=pa.array(range(3000)), encoder="e")
    assert info["recall"]["source"] == "items"
    assert info["recall"]["recall@10"] < 0.6


def test_scores_are_those_of_exact_search_over_several_shards(built):
    folder, vectors, info = built
    assert len(info["shards"]) == 3
    queries = _vectors(40, 5) * np.float32(3)
    ids, scores = load_index(folder).search(queries, 25)
    exact_ids, exact_scores = top_k(queries, vectors, 500)
    for row in range(40):
        known = dict(zip(exact_ids[row].tolist(), exact_scores[row].tolist(), strict=True))
        assert [known[i] for i in ids[row].tolist()] == scores[row].tolist()
        assert (np.diff(scores[row]) <= 0).all()


def test_ties_go_to_the_lower_id(tmp_path):
    vectors = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    build_index(vectors, str(tmp_path), SETTINGS, 0, ids=pa.array(range(20)), encoder="e")
    ids, scores = load_index(str(tmp_path)).search(np.eye(4, dtype=np.float32), 5)
    assert ids.tolist() == np.arange(20).reshape(4, 5).tolist()
    assert (scores == 1).all()


def test_one_thread_gives_the_same_answers_each_time(tmp_path):
    vectors, queries = _vectors(800, 8), _vectors(60, 9)
    answers = []
    for name in ("a", "b"):
        folder = str(tmp_path / name)
        build_index(vectors, folder, SETTINGS, 0, ids=pa.array(range(800)), encoder="e")
        answers.append(load_index(folder).search(queries, 10, threads=2))
    assert np.array_equal(answers[0][0], answers[1][0])
    assert answers[0][1].tobytes() == answers[1][1].tobytes()


def test_a_zero_query_scores_zero_with_the_first_items(built):
    queries = np.zeros((2, DIM), np.float32)
    queries[1] = _vectors(1, 3)
    ids, scores = load_index(built[0]).search(queries, 4)
    assert ids[0].tolist() == [0, 1, 2, 4]  # item 3 has no vector
    assert (scores[0] == 0).all()
    assert scores[1, 0] > 0.3


def test_more_than_there_are_is_padded(tmp_path):
    vectors = _vectors(3)
    build_index(vectors, str(tmp_path), SETTINGS, 0, ids=pa.array(range(3)), encoder="e")
    ids, scores = load_index(str(tmp_path)).search(vectors, 5)
    assert np.array_equal(np.sort(ids, axis=1), np.tile([-1, -1, 0, 1, 2], (3, 1)))
    assert np.isneginf(scores[ids < 0]).all()


def test_an_index_without_a_vector_finds_nothing(tmp_path):
    vectors = np.zeros((3, 4), np.float32)
    info = build_index(vectors, str(tmp_path), SETTINGS, 0, ids=pa.array(range(3)), encoder="e", queries=vectors)
    assert info["recall"] == {"queries": 0, "source": "users"}
    ids, _ = load_index(str(tmp_path)).search(_vectors(2, 0, 4), 2)
    assert (ids == -1).all()


def test_bad_vectors_are_refused_before_nmslib(built, tmp_path, forbidden):
    def build(vectors, n=2):
        build_index(vectors, str(tmp_path / "x"), SETTINGS, 0, ids=pa.array(range(n)), encoder="e")

    with pytest.raises(TypeError, match="floating point, got int64"):
        build(np.ones((2, 4), np.int64))
    with pytest.raises(ValueError, match=r"must have shape \(n, dim\), got \(4,\)"):
        build(np.ones(4, np.float32))
    with pytest.raises(ValueError, match="got 1 rows with a NaN or an infinity"):
        build(np.array([[np.nan, 1], [1, 0]], np.float32))
    with pytest.raises(ValueError, match="got a row of length 2"):
        build(np.array([[2, 0], [1, 0]], np.float32))
    with pytest.raises(ValueError, match="ids must be as many as vectors"):
        build(_vectors(3))


def test_bad_queries_are_refused(built):
    index = load_index(built[0])
    with pytest.raises(ValueError, match=r"must have shape \(n, 16\), got \(2, 15\)"):
        index.search(_vectors(2, 0, 15), 3)
    with pytest.raises(ValueError, match="NaN or an infinity"):
        index.search(np.full((1, DIM), np.inf, np.float32), 3)
    with pytest.raises(ValueError, match="NaN or an infinity"):
        index.search(np.full((1, DIM), 1e300), 3)  # an infinity in float32
    with pytest.raises(TypeError, match="got int64"):
        index.search(np.ones((1, DIM), np.int64), 3)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        index.search(_vectors(1), 0)


def test_any_flipped_bit_is_found_before_nmslib_opens_a_file(copy, forbidden):
    rng = np.random.default_rng(0)
    names = [n for n in storage.files(str(copy)) if n != "index.json"]
    assert len(names) == 7
    for name in names:
        whole = (copy / name).read_bytes()
        for at in [0, len(whole) - 1, *rng.integers(0, len(whole), 20)]:
            data = bytearray(whole)
            data[at] ^= 1 << int(rng.integers(8))
            (copy / name).write_bytes(data)
            with pytest.raises(ArtifactError, match=f"{name} is damaged"):
                load_index(str(copy))
        (copy / name).write_bytes(whole)


def test_any_flipped_bit_in_the_description_is_found(copy, forbidden):
    whole = (copy / "index.json").read_bytes()
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(whole), 150):
        data = bytearray(whole)
        data[at] ^= 1 << int(rng.integers(8))
        try:
            same = json.loads(data) == json.loads(whole)  # blanks between tokens carry nothing
        except ValueError:
            same = False
        if not same:
            (copy / "index.json").write_bytes(data)
            with pytest.raises(ArtifactError, match=r"index\.json"):
                load_index(str(copy))


@pytest.mark.parametrize("keep", [0, 0.5, 0.999])
def test_a_cut_off_file_is_found(copy, forbidden, keep):
    for name in storage.files(str(copy)):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(ArtifactError, match=name):
            load_index(str(copy))
        (copy / name).write_bytes(whole)


def test_a_missing_file_is_found(copy, forbidden):
    for name in storage.files(str(copy)):
        whole = (copy / name).read_bytes()
        (copy / name).unlink()
        with pytest.raises(ArtifactError, match=f"{name} is missing"):
            load_index(str(copy))
        (copy / name).write_bytes(whole)


def test_a_foreign_encoder_or_dimension_is_refused(copy, forbidden):
    with pytest.raises(ArtifactError, match=r"was made by encoder eeee.*the vectors by ffff"):
        load_index(str(copy), encoder="f" * 64)
    with pytest.raises(ArtifactError, match="is for vectors of 16 coordinates, got 8"):
        load_index(str(copy), encoder="e" * 64, dim=8)


def test_ids_of_another_encoder_are_refused_though_checksums_fit(copy, forbidden):
    table = storage.read_parquet(str(copy / "ids.parquet"))
    storage.write_parquet(table.cast(schemas.with_encoder(table.schema, "f" * 64)), str(copy / "ids.parquet"))
    info = storage.read_json(str(copy / "index.json"))
    info["files"]["ids.parquet"] = files.fingerprint(str(copy / "ids.parquet"))
    storage.write_json(files.sealed(info), str(copy / "index.json"))
    with pytest.raises(ArtifactError, match="tell of another encoder or dimension"):
        load_index(str(copy))


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(range(2**40, 2**40 + 9)),
        pa.array([f"é{n}" for n in range(9)]),
        pa.array([b"\x00\xff%d" % n for n in range(9)]),
    ],
)
def test_ids_of_any_type_survive(tmp_path, ids):
    vectors = _vectors(9)
    vectors[4] = 0
    build_index(vectors, str(tmp_path), SETTINGS, 0, ids=pa.chunked_array([ids]), encoder="e")
    index = load_index(str(tmp_path))
    assert index.item_ids.equals(ids.take(pa.array([0, 1, 2, 3, 5, 6, 7, 8])))
    rows, _ = index.search(vectors[[0, 5]], 1)
    assert rows.ravel().tolist() == [0, 5]


class Watched:
    """A graph that gives another thread the time to change its parameters before it is asked."""

    def __init__(self, graph):
        self.graph, self.mine, self.changed, self.wrong = graph, threading.local(), threading.Event(), 0

    def setQueryTimeParams(self, values):  # noqa: N802 - NMSLIB's name
        self.graph.setQueryTimeParams(values)
        self.mine.ef = self.ef = values["efSearch"]
        self.changed.set()

    def knnQueryBatch(self, *args, **kwargs):  # noqa: N802
        self.changed.clear()
        self.changed.wait(0.2)
        self.wrong += self.ef != self.mine.ef
        return self.graph.knnQueryBatch(*args, **kwargs)


def test_threads_that_share_an_index_do_not_change_each_others_search(copy):
    index = load_index(str(copy))
    watched = Watched(index.graphs[0].graph)
    index = replace(index, graphs=(index.graphs[0]._replace(graph=watched),))
    threads = [threading.Thread(target=index.search, args=(_vectors(5, n), k)) for n, k in enumerate((1, 150))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watched.wrong == 0


def test_importing_nmslib_says_nothing_and_hides_nothing_else():
    code = "\n".join(
        [
            "import os",
            "from topkin.search.hnsw import engines",
            "with engines.stderr_without(engines._BANNER):",
            "    os.write(2, b'a word of ours\\n')",
            "engines.nmslib()",
            "os.write(2, b'after\\n')",
        ]
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "a word of ours\nafter\n")


@pytest.mark.parametrize("shard_items", [200, 10_000])
def test_many_equal_vectors_hide_nothing_behind_them(tmp_path, shard_items):
    vectors = _vectors(1200, 3)
    vectors[100:1100] = vectors[100]  # a graph of these alone would be their neighbours, and nobody else's
    ids = pa.array([f"item {n}" for n in range(1200)])
    settings = SETTINGS.model_copy(update={"shard_items": shard_items, "sample": 400})
    info = build_index(vectors, str(tmp_path), settings, 7, ids=ids, encoder="e" * 64)
    assert info["indexed"] == 1200
    assert info["points"] == (201 if shard_items > 1200 else 206)
    assert info["recall"]["recall@10"] > 0.99
    index = load_index(str(tmp_path))
    rows, scores = index.search(vectors[[100, 7, 1150]], 1200)
    for row, score, query in zip(rows, scores, (100, 7, 1150), strict=True):
        got = row[row >= 0]
        assert len(set(got.tolist())) == len(got) >= 200
        best, _ = top_k(vectors[[query]], vectors, 60)
        assert (row[:60] == best[0]).mean() > 0.95
        assert (np.diff(score[: len(got)]) <= 0).all()
    assert rows[0, :1000].tolist() == list(range(100, 1100))


def test_points_number_equal_rows_of_a_shard_as_they_come():
    rows = np.array([[1, 0], [0, 1], [1, -0.0], [1, 0], [0, 1]], np.float32)
    assert points_of(rows, [3, 2]).tolist() == [0, 1, 0, 2, 3]
    assert points_of(rows[:0], []).tolist() == []
    folding = Folding.of(np.array([0, 1, 0, 2, 3], np.int32))
    assert folding.first.tolist() == [0, 1, 3, 4]
    assert folding.unfolded(np.array([[0, 3, -1], [2, 1, 0]], np.int32)).tolist() == [[0, 2, 4], [3, 1, 0]]
