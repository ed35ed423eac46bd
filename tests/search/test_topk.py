import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topkin.search.topk as module
from topkin.linalg.blas import controller, one_blas_thread
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr, indptr_of
from topkin.search.kernels import BLAS
from topkin.search.topk import merge_top_k, top_k, top_k_of_scores


def exact_scores(queries, items):
    return (queries.astype(np.float64) @ items.T.astype(np.float64)).astype(np.float32)


def brute_force(scores, k, exclude=None, allowed=None):
    """Lists by Python's sort."""
    ids = np.full((len(scores), k), -1, np.int32)
    best = np.full((len(scores), k), -np.inf, np.float32)
    for r, row in enumerate(scores):
        barred = set() if exclude is None else set(exclude[1][exclude[0][r] : exclude[0][r + 1]].tolist())
        may = [i for i in range(len(row)) if i not in barred and (allowed is None or allowed[i]) and row[i] > -np.inf]
        listed = sorted(may, key=lambda i: (-row[i], i))[:k]
        ids[r, : len(listed)], best[r, : len(listed)] = listed, row[listed] + np.float32(0)
    return ids, best


def assert_same(result, expected):
    for got, wanted in zip(result, expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def vectors(seed, n, d=16):
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32))


def barred_items(seed, n, m, each):
    return Csr(np.arange(n + 1) * each, np.random.default_rng(seed).integers(m, size=n * each))


@st.composite
def problems(draw):
    """Small whole coordinates: duplicates, ties and zero vectors are common, and products exact."""
    n, m, d = draw(st.integers(1, 7)), draw(st.integers(1, 60)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries, items = (rng.integers(-2, 3, (rows, d)).astype(np.float32) for rows in (n, m))
    exclude = allowed = None
    if draw(st.booleans()):
        each = rng.integers(0, draw(st.sampled_from([3, 2 * m])), n)
        exclude = Csr(indptr_of(each), rng.integers(0, m, each.sum()).astype(np.int32))
    if draw(st.booleans()):
        allowed = rng.random(m) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    return queries, items, draw(st.integers(1, m + 3)), exclude, allowed


@settings(max_examples=300)
@given(problems(), st.integers(1, 3), st.sampled_from([(512, 2048), (2, 8), (3, 5), (1, 1)]))
def test_lists_equal_brute_force_whatever_the_blocks_and_threads(problem, threads, blocks):
    queries, items, k, exclude, allowed = problem
    engine = replace(BLAS, query_block=blocks[0], item_block=blocks[1])
    rows = top_k(queries, items, k, exclude=exclude, allowed=allowed, threads=threads, engine=engine)
    assert_same(rows, brute_force(exact_scores(queries, items), k, exclude, allowed))


@settings(max_examples=200)
@given(problems())
def test_lists_of_dense_scores_equal_brute_force(problem):
    queries, items, k, exclude, allowed = problem
    scores = exact_scores(queries, items)
    scores[scores == 2] = -np.inf
    before = scores.copy()
    assert_same(top_k_of_scores(scores, k, exclude=exclude, allowed=allowed), brute_force(scores, k, exclude, allowed))
    np.testing.assert_array_equal(scores, before)


@settings(max_examples=300)
@given(problems(), st.integers(1, 20), st.integers(1, 4), st.booleans())
def test_lists_of_long_rows_equal_brute_force(problem, sampled, long, spread):
    queries, items, k, exclude, allowed = problem
    scores = exact_scores(queries, items)
    scores[scores == 2] = -np.inf
    scores += np.float32(0.25) * np.arange(len(items), dtype=np.float32) if spread else 0  # with fewer ties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("topkin.linalg.sort_keys.SAMPLED", sampled)
        patch.setattr("topkin.linalg.sort_keys.LONG", long)
        lists = top_k_of_scores(scores, k, exclude=exclude, allowed=allowed)
    assert_same(lists, brute_force(scores, k, exclude, allowed))


@settings(max_examples=100)
@given(problems(), st.data())
def test_shards_merged_in_any_order_and_grouping_equal_one_search(problem, data):
    queries, items, k, exclude, allowed = problem
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=3)))
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, len(items)], strict=True):
        mine = np.zeros(len(items), bool)
        mine[start:stop] = True if allowed is None else allowed[start:stop]
        parts.append(top_k(queries, items, k, exclude=exclude, allowed=mine))
    parts = data.draw(st.permutations(parts))
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        parts[at : at + 2] = [merge_top_k(parts[at : at + 2], k)]
    assert_same(parts[0], top_k(queries, items, k, exclude=exclude, allowed=allowed))


def test_a_catalogue_of_many_blocks_gives_exact_lists():
    queries, items = vectors(0, 300), vectors(1, 9000)
    items[::7] = items[3::7][: len(items[::7])]  # duplicates tie
    exclude, allowed = barred_items(2, 300, 9000, 40), np.random.default_rng(3).random(9000) < 0.9
    rows = top_k(queries, items, 50, exclude=exclude, allowed=allowed, threads=2)
    assert_same(rows, brute_force(exact_scores(queries, items), 50, exclude, allowed))


def test_scores_that_a_float32_product_cannot_tell_apart_are_ranked_by_their_exact_values():
    rng = np.random.default_rng(4)
    queries = vectors(5, 20, 64)
    items = vectors(6, 1, 64) + rng.normal(0, 3e-8, (5000, 64)).astype(np.float32)
    assert_same(top_k(queries, items, 30), brute_force(exact_scores(queries, items), 30))


def test_products_below_the_normal_range_of_float32_are_ranked_by_their_exact_values():
    queries, items = vectors(7, 5) * np.float32(3e-22), vectors(8, 5000) * np.float32(3e-22)
    assert_same(top_k(queries, items, 10), brute_force(exact_scores(queries, items), 10))


def test_lengths_that_differ_a_millionfold_are_ranked_by_their_exact_values():
    lengths = 10 ** np.random.default_rng(9).uniform(-3, 3, (9000, 1)).astype(np.float32)
    queries, items = vectors(10, 30), vectors(11, 9000) * lengths
    assert_same(top_k(queries, items, 20), brute_force(exact_scores(queries, items), 20))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("budget", [1, 3 << 20, 1 << 30])
def test_a_pair_has_one_score_however_the_work_is_cut(threads, budget):
    queries, items = vectors(12, 130, 33), vectors(13, 5000, 33)
    whole = top_k(queries, items, 25)
    assert_same(top_k(queries, items, 25, threads=threads, budget_bytes=budget), whole)
    some = np.random.default_rng(14).permutation(130)[:17]
    assert_same(top_k(queries[some], items, 25, threads=threads, budget_bytes=budget), tuple(w[some] for w in whole))
    alone = top_k(queries[5:6], items[whole[0][5]], 25)[1]
    np.testing.assert_array_equal(alone[0], whole[1][5])


def test_a_threshold_set_too_high_is_noticed_and_the_row_done_again(monkeypatch):
    queries, items = vectors(15, 40), vectors(16, 6000)
    exclude = barred_items(17, 40, 6000, 30)
    monkeypatch.setattr(module._Search, "_rank", lambda self, seen: 1)
    rows = top_k(queries, items, 60, exclude=exclude, threads=1)
    assert_same(rows, brute_force(exact_scores(queries, items), 60, exclude))


def test_items_whose_order_has_the_rhythm_of_the_blocks_are_ranked_all_the_same():
    blocks = module._blocks(9000, BLAS.item_block)
    kinds = vectors(30, blocks, 8)
    items = unit_rows(kinds[np.arange(9000) % blocks] + vectors(31, 9000, 8) * np.float32(0.1))
    queries = unit_rows(kinds[:1] + vectors(32, 40, 8) * np.float32(0.1))  # the first block holds all that they want
    assert blocks == 5
    assert_same(top_k(queries, items, 50), brute_force(exact_scores(queries, items), 50))


def test_items_that_all_tie_are_listed_by_number():
    ids, scores = top_k(np.ones((3, 8), np.float32), np.ones((7000, 8), np.float32), 5)
    assert ids.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert (scores == 8).all()


def test_zero_vectors_score_zero_with_everything():
    ids, scores = top_k(np.zeros((1, 4), np.float32), vectors(18, 50, 4), 3, allowed=np.arange(50) >= 10)
    assert ids.tolist() == [[10, 11, 12]]
    assert scores.tolist() == [[0, 0, 0]]


def test_a_user_from_whom_everything_is_excluded_gets_an_empty_list():
    exclude = Csr(np.array([0, 6000, 6000]), np.arange(6000))
    ids, scores = top_k(vectors(19, 2), vectors(20, 6000), 4, exclude=exclude)
    assert (ids[0] == -1).all()
    assert (scores[0] == -np.inf).all()
    assert (ids[1] >= 0).all()


@pytest.mark.parametrize(("n", "m"), [(0, 5), (3, 0), (0, 0)])
def test_no_queries_or_no_items_give_empty_lists(n, m):
    for ids, scores in (top_k(np.ones((n, 2)), np.ones((m, 2)), 4), top_k_of_scores(np.ones((n, m)), 4)):
        assert ids.shape == scores.shape == (n, 4)
        assert (ids == -1).all()


def test_working_memory_stays_within_the_budget():
    queries, items = vectors(21, 2000, 8), np.repeat(vectors(22, 300, 8), 100, axis=0)  # ties fill every buffer
    for budget in (4 << 20, 32 << 20):
        tracemalloc.start()
        top_k(queries[: 50 if budget < 5 << 20 else 200], items, 20, budget_bytes=budget, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.5 * budget + (12 << 20)


def test_inputs_are_left_as_they_were():
    queries, items, exclude = vectors(23, 4), vectors(24, 50), barred_items(25, 4, 50, 9)
    copies = [a.copy() for a in (queries, items, *exclude)]
    top_k(queries, items, 5, exclude=exclude, allowed=np.arange(50) > 2)
    for before, after in zip(copies, (queries, items, *exclude), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"items": np.ones((5, 3))}, r"must be \(n, d\) and \(m, d\)"),
        ({"queries": np.full((2, 2), np.nan)}, "finite"),
        ({"items": np.full((5, 2), np.inf)}, "finite"),
        ({"items": np.full((5, 2), 1e38)}, "within float32"),
        ({"allowed": np.ones(4, bool)}, r"allowed must be \(5,\) bool"),
        ({"exclude": Csr(np.array([0, 1]), np.array([0]))}, "CSR with 2 rows"),
        ({"exclude": Csr(np.array([0, 1, 1]), np.array([5]))}, "from 0 to 4, got 5"),
        ({"threads": -1}, "threads must be at least 1"),
    ],
)
def test_wrong_use_is_told(change, message):
    arguments = {"queries": np.full((2, 2), 10.0), "items": np.ones((5, 2)), "k": 1, **change}
    with pytest.raises(ValueError, match=message):
        top_k(**arguments)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        top_k_of_scores(np.array([[1, np.nan]]), 1)


def test_both_zeros_are_one_score():
    assert top_k_of_scores(np.array([[-0.0, 0.0, -0.0]]), 3)[0].tolist() == [[0, 1, 2]]
    assert top_k_of_scores(np.array([[0.0, -0.0, 0.0]]), 3)[0].tolist() == [[0, 1, 2]]


def test_a_merge_of_nothing_is_refused():
    with pytest.raises(ValueError, match="needs parts"):
        merge_top_k([], 3)


def test_the_threads_of_blas_are_restored_when_the_last_one_leaves():
    def threads():
        return {info["num_threads"] for info in controller().info()}

    assert threads(), "NumPy's BLAS is not seen"
    with controller().limit(limits=2):
        with one_blas_thread():
            assert threads() == {1}
            with one_blas_thread():
                assert threads() == {1}
            assert threads() == {1}
        assert threads() == {2}
