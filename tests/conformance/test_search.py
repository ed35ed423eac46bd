"""What every search must do under the rules: one suite for the exact one and for the index."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from topkin.config.sections import IndexSettings
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.recommend.searchers import ExactSearcher, IndexSearcher, Searcher, UserQueries
from topkin.search.hnsw import index as search_module
from topkin.search.hnsw.build import build_index
from topkin.search.hnsw.files import load_index

N, DIM = 120, 6
NONE = Csr.empty(8)


def _vectors(n: int, seed: int) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32))


def asked(queries: np.ndarray, exclude: Csr) -> UserQueries:
    """Queries of users whose purchases do not matter to a search by vectors."""
    n = len(queries)
    return UserQueries(
        Interactions(np.zeros(n + 1, np.int64), *(np.zeros(0, t) for t in ("i4", "f4", "f4")), N), queries, exclude
    )


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rows_of = _vectors(N, 0)
    rows_of[[5, 60]] = 0  # without a vector
    rows_of[[7, 8, 9]] = rows_of[7]  # equals
    return rows_of


def _make(kind: str, vectors: np.ndarray, folder: str) -> Searcher:
    if kind == "exact":
        return ExactSearcher(vectors)
    how = IndexSettings(m=16, ef_construction=100, ef_search=100, shard_items=50)
    if kind == "poor index":
        how = IndexSettings(m=2, ef_construction=2, ef_search=1)
    build_index(vectors, folder, how, 0, ids=pa.array(range(N)), encoder="e")
    return IndexSearcher(load_index(folder), vectors)


@pytest.fixture(scope="module", params=["exact", "index"])
def search(request, vectors, tmp_path_factory) -> Searcher:
    return _make(request.param, vectors, str(tmp_path_factory.mktemp("index")))


@pytest.fixture(scope="module", params=["exact", "index", "poor index"])
def any_search(request, vectors, tmp_path_factory) -> Searcher:
    """A graph that misses most of what it is asked must keep the rules too."""
    return _make(request.param, vectors, str(tmp_path_factory.mktemp("index")))


def _oracle(queries, vectors, k, exclude, allowed):
    """Item numbers by descending score, then number; one list a query."""
    lists = []
    for row, query in enumerate(queries):
        out = set(exclude[1][exclude[0][row] : exclude[0][row + 1]].tolist())
        scores = (vectors.astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
        left = [i for i in range(len(vectors)) if allowed[i] and i not in out and vectors[i].any()]
        lists.append([(i, scores[i]) for i in sorted(left, key=lambda i: (-scores[i], i))[:k]])
    return lists


rules = st.tuples(
    st.integers(1, N + 5),
    st.lists(st.lists(st.integers(0, N - 1), max_size=90), min_size=8, max_size=8),
    st.sampled_from([1.0, 0.5, 0.05, 0.0]),
    st.integers(0, 1000),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules)
def test_rules_are_kept_and_lists_are_as_long_as_they_allow(any_search, vectors, rule):
    k, excluded, share, seed = rule
    allowed = np.random.default_rng(seed).random(N) < share
    exclude = Csr(
        np.cumsum([0, *map(len, excluded)]).astype(np.int64),
        np.array([i for e in excluded for i in e], np.int32),
    )
    queries = _vectors(8, seed)
    queries[3] = 0
    ids, scores = any_search.search(asked(queries, exclude), k, allowed)
    assert (ids.shape, ids.dtype, scores.dtype) == ((8, k), np.int32, np.float32)
    for row, expected in enumerate(_oracle(queries, vectors, k, exclude, allowed)):
        listed = ids[row][ids[row] >= 0]
        assert (ids[row, len(listed) :] == -1).all()
        assert np.isneginf(scores[row, len(listed) :]).all()
        assert len(listed) == len(expected) == len(set(listed.tolist()))
        assert allowed[listed].all()
        assert not set(listed.tolist()) & set(excluded[row])
        assert vectors[listed].any(axis=1).all()
        order = list(zip((-scores[row, : len(listed)]).tolist(), listed.tolist(), strict=True))
        assert order == sorted(order)
        if type(any_search) is ExactSearcher:
            assert listed.tolist() == [i for i, _ in expected]
        known = dict(_oracle(queries[[row]], vectors, N, (np.zeros(2, int), exclude[1][:0]), allowed)[0])
        assert [known[i] for i in listed.tolist()] == scores[row, : len(listed)].tolist()


def test_it_finds_nearly_what_exact_search_finds(search, vectors):
    queries = _vectors(8, 1)
    ids, _ = search.search(asked(queries, NONE), 10, np.ones(N, bool))
    expected = _oracle(queries, vectors, 10, NONE, np.ones(N, bool))
    assert np.mean([len(set(a.tolist()) & {i for i, _ in e}) / 10 for a, e in zip(ids, expected, strict=True)]) > 0.95


def test_equal_scores_are_ordered_by_number(search, vectors):
    query = np.repeat(vectors[[7]], 8, axis=0)
    ids, _ = search.search(asked(query, NONE), 3, np.ones(N, bool))
    assert ids.tolist() == [[7, 8, 9]] * 8


def test_a_zero_query_gets_the_first_items_at_score_zero(search):
    ids, scores = search.search(asked(np.zeros((8, DIM), np.float32), NONE), 6, np.arange(N) > 3)
    assert ids.tolist() == [[4, 6, 7, 8, 9, 10]] * 8
    assert (scores == 0).all()


def test_what_cannot_be_asked_is_refused(search):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        search.search(asked(_vectors(8, 0), NONE), 0, np.ones(N, bool))
    with pytest.raises(ValueError, match="must be finite"):
        search.search(asked(np.full((8, DIM), np.nan, np.float32), NONE), 3, np.ones(N, bool))


def test_the_index_is_asked_and_exact_search_only_for_what_it_missed(vectors, tmp_path, monkeypatch):
    how = IndexSettings(m=16, ef_construction=100, ef_search=100)
    build_index(vectors, str(tmp_path), how, 0, ids=pa.array(range(N)), encoder="e")
    searched = IndexSearcher(load_index(str(tmp_path)), vectors)

    def refuse(*args, **kwargs):
        raise AssertionError("exact search was asked")

    monkeypatch.setattr(search_module, "top_k", refuse)
    exclude = Csr(np.arange(0, 17, 2).astype(np.int64), np.arange(16, dtype=np.int32))
    ids, _ = searched.search(asked(_vectors(8, 2), exclude), 5, np.arange(N) % 2 == 0)
    assert (ids >= 0).all()
