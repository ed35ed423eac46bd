"""What is carried over from the night before is what a search over everything finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topkin.encoding.blocks import Block, user_vectors
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.recommend.explain import ExplainableScores
from topkin.recommend.searchers import ExactSearcher, UserQueries
from topkin.recommend.unchanged.carry import carried, search_again
from topkin.recommend.unchanged.rows import OldLists
from topkin.recommend.unchanged.searcher import CarryingSearcher
from topkin.search.topk import top_k

QUERIES, N = 6, 12


def _vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    return unit_rows(rng.integers(-1, 2, (n, 3)).astype(np.float32))  # ties abound


@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(0, 1), st.floats(0, 1))
def test_a_carried_list_is_that_of_a_search_over_all(seed, k, of_candidates, of_queries):
    rng = np.random.default_rng(seed)
    queries, candidates = _vectors(rng, QUERIES), _vectors(rng, N)
    might = rng.random(N) < 0.8
    old_ids, old_scores = top_k(queries, candidates, k, allowed=might)
    changed = rng.random(N) < of_candidates
    now = np.where(changed[:, None], _vectors(rng, N), candidates)
    may = might ^ (rng.random(N) < of_candidates)  # some leave, some come
    same = rng.random(QUERIES) >= of_queries
    asked = np.where(same[:, None], queries, _vectors(rng, QUERIES))
    stays = ~changed & (may == might)
    numbers = np.where((old_ids >= 0) & (stays & may)[old_ids], old_ids, -1)
    ids, scores = search_again(
        same,
        (numbers, old_scores),
        lambda rows: top_k(asked[rows], now, k, allowed=may & ~stays),
        lambda rows: top_k(asked[rows], now, k, allowed=may),
        k,
    )
    expected = top_k(asked, now, k, allowed=may)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_a_list_whose_last_place_is_open_is_to_be_searched_again():
    ids, scores = np.array([[0, 1, -1], [0, 1, -1], [0, -1, -1]], np.int32), np.array([[0.9, 0.8, 0.7]] * 3, np.float32)
    scores[2] = [0.9, -np.inf, -np.inf]  # all there were
    fresh = np.array([[5], [5], [5]], np.int32), np.array([[0.75], [0.7], [0.1]], np.float32)
    best, _, again = carried(ids, scores, fresh, 3)
    assert best.tolist() == [[0, 1, 5], [0, 1, 5], [0, 5, -1]]
    assert again.tolist() == [False, True, False]  # one that scores as the lost last one may come after another


def test_nothing_is_searched_again_where_nothing_changed():
    rng = np.random.default_rng(3)
    queries, candidates = _vectors(rng, QUERIES), _vectors(rng, N)
    old = top_k(queries, candidates, 4)
    none = np.full((QUERIES, 4), -1, np.int32), np.full((QUERIES, 4), -np.inf, np.float32)

    def refuse(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise AssertionError(f"searched for {len(rows)} queries")

    ids, _ = search_again(np.ones(QUERIES, bool), old, lambda rows: none, refuse, 4)
    np.testing.assert_array_equal(ids, old[0])


BLOCKS = [Block.unscaled("svd", 3, 0.4, None)]


def _searcher(rng: np.random.Generator, in_vectors: np.ndarray, out: np.ndarray) -> ExactSearcher:
    scores = ExplainableScores(
        vectors=out, in_vectors=in_vectors, buyers=np.arange(1, N + 1), blocks=BLOCKS, history_length=4
    )
    return ExactSearcher(out, scores)


def _users(histories: list[list[int]], in_vectors: np.ndarray) -> UserQueries:
    lengths = [len(h) for h in histories]
    items = np.concatenate([np.asarray(h, np.int32) for h in histories])
    ones = np.ones(len(items), np.float32)
    history = Interactions(np.cumsum([0, *lengths]), items, ones, ones, N)
    vectors = user_vectors(history, in_vectors, np.arange(1, N + 1), BLOCKS, length=4)
    users = history.users
    return UserQueries(history, vectors, Csr.of_pairs(users, items, len(histories), N))


@given(
    st.integers(0, 10_000),
    st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=5), min_size=5, max_size=5),
    st.lists(st.lists(st.integers(0, N - 1), min_size=1, max_size=5), min_size=2, max_size=2),
    st.lists(st.integers(0, N - 1), max_size=4),
    st.integers(1, 6),
)
def test_lists_and_reasons_of_the_night_before_are_those_of_tonight(seed, before, new, moved, k):
    rng = np.random.default_rng(seed)
    in_vectors, out = _vectors(rng, N), _vectors(rng, N)
    old_users, old = _users(before, in_vectors), _searcher(rng, in_vectors, out)
    allowed = np.ones(N, bool)
    ids, scores = old.search(old_users, k, allowed)
    because = old.explain(old_users, ids, 2)
    changed = np.zeros(N, bool)
    changed[moved] = True
    may = ~(changed & (rng.random(N) < 0.5))
    now = _searcher(rng, in_vectors, np.where(changed[:, None], _vectors(rng, N), out))
    users = _users([*new, *before[2:]], in_vectors)
    same = np.array([False, False, True, True, True])
    numbers = np.where((ids >= 0) & ~changed[ids], ids, np.int32(-1))
    carrying = CarryingSearcher(
        now, same=same, old=OldLists(numbers, scores, np.zeros(ids.shape, np.int64)), because=because, changed=changed
    )
    rows, expected = carrying.search(users, k, may), now.search(users, k, may)
    np.testing.assert_array_equal(rows[0], expected[0])
    np.testing.assert_array_equal(rows[1], expected[1])
    reasons = carrying.explain(users, rows[0], 2)
    np.testing.assert_array_equal(reasons, now.explain(users, rows[0], 2))
    assert carrying.knows(users).tolist() == now.knows(users).tolist()
    assert carrying.n_candidates(may) == now.n_candidates(may)
    assert carrying.shortfall == now.shortfall
