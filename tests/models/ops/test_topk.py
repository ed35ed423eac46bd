from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topkin.search.topk as core
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr, indptr_of
from topkin.models.ops.topk import tensorflow_engine

PRODUCTS = ("float32", "bfloat16")


def top_k(queries, items, k, *, product="bfloat16", **how):
    """The search of the core by TensorFlow's products."""
    return core.top_k(queries, items, k, engine=tensorflow_engine(product), **how)


def assert_same(result, expected):
    for got, wanted in zip(result, expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


def brute_force(queries, items, k, exclude):
    """Lists by Python's sort, of products that are exact in float32."""
    ids, best = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    for r, row in enumerate(queries @ items.T):
        barred = set(exclude[1][exclude[0][r] : exclude[0][r + 1]].tolist())
        listed = sorted((i for i in range(len(row)) if i not in barred), key=lambda i: (-row[i], i))[:k]
        ids[r, : len(listed)], best[r, : len(listed)] = listed, row[listed] + np.float32(0)
    return ids, best


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(1, 7),
    st.integers(1, 60),
    st.integers(1, 4),
    st.sampled_from([(1024, 2048), (2, 8), (1, 5)]),
    st.sampled_from(PRODUCTS),
)
def test_lists_equal_brute_force_with_ties_zero_vectors_and_exclusions(seed, n, m, d, blocks, product):
    rng = np.random.default_rng(seed)
    queries, items = (rng.integers(-2, 3, (rows, d)).astype(np.float32) for rows in (n, m))
    each = rng.integers(0, rng.choice([2, 2 * m]), n, endpoint=True)
    exclude = Csr(indptr_of(each), rng.integers(0, m, each.sum()).astype(np.int32))
    k = int(rng.integers(1, m + 4))
    engine = replace(tensorflow_engine(product), query_block=blocks[0], item_block=blocks[1])
    neighbours = core.top_k(queries, items, k, exclude=exclude, threads=2, engine=engine)
    assert_same(neighbours, brute_force(queries, items, k, exclude))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("size", [1.0, 3e-22, 1e15])
def test_lists_equal_numpys_to_the_last_bit(product, size):
    rng = np.random.default_rng(1)
    queries, items = (unit_rows(rng.standard_normal((n, 33), dtype=np.float32)) for n in (150, 9000))
    items[::7] = items[3::7][: len(items[::7])]  # duplicates tie
    items[11], queries[3] = 0, 0
    queries, items = queries * np.float32(size), items * np.float32(size)
    exclude, allowed = Csr(np.arange(151) * 40, rng.integers(9000, size=6000)), rng.random(9000) < 0.9
    whole = core.top_k(queries, items, 50, exclude=exclude, allowed=allowed)
    rows = top_k(queries, items, 50, exclude=exclude, allowed=allowed, product=product)
    assert_same(rows, whole)
    rows = top_k(queries, items, 50, exclude=exclude, allowed=allowed, product=product, budget_bytes=1 << 20, threads=3)
    assert_same(rows, whole)


def test_lengths_too_unlike_for_one_scale_are_ranked_by_their_exact_values():
    rng = np.random.default_rng(2)
    lengths = 10.0 ** rng.uniform(-20, 20, (40, 1))
    queries = (rng.standard_normal((40, 16)) * lengths).astype(np.float32)
    items = (rng.standard_normal((4000, 16)) * 10.0 ** rng.uniform(-17, 17, (4000, 1))).astype(np.float32)
    for product in PRODUCTS:
        assert_same(top_k(queries, items, 30, product=product), core.top_k(queries, items, 30))


def test_scores_that_the_product_cannot_tell_apart_are_ranked_by_their_exact_values():
    rng = np.random.default_rng(3)
    queries = unit_rows(rng.standard_normal((9, 64), dtype=np.float32))
    items = queries[:1] + rng.normal(0, 1e-4, (5000, 64)).astype(np.float32)
    for product in PRODUCTS:
        assert_same(top_k(queries, items, 30, product=product), core.top_k(queries, items, 30))


def test_a_user_from_whom_everything_is_excluded_gets_an_empty_list():
    items = np.random.default_rng(4).standard_normal((6000, 8), dtype=np.float32)
    ids, scores = top_k(items[:2], items, 4, exclude=Csr(np.array([0, 6000, 6000]), np.arange(6000)))
    assert (ids[0] == -1).all()
    assert (scores[0] == -np.inf).all()
    assert ids[1, 0] == 1 or scores[1, 0] >= scores[1, 1]


def test_products_lie_within_their_margin():
    rng = np.random.default_rng(5)
    queries, items = (rng.standard_normal((300, 64), dtype=np.float32) for _ in range(2))
    from topkin.search.pair_scores import error_bounds

    margins = error_bounds(queries, items)
    for product in PRODUCTS:
        products = tensorflow_engine(product).load(items, 1)(300)
        away = np.abs(products.scores(queries, 0) - queries.astype(np.float64) @ items.T.astype(np.float64))
        assert (away <= products.error_bounds(margins)[:, None]).all()


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("one", [True, False])
def test_what_reaches_a_floor_passes_though_every_coordinate_is_rounded_down(product, one):
    items = np.full((9, 128), 1 + 2.0**-8, np.float32)  # to 1 in bfloat16
    items[:, -1] = 2.0**-7
    queries = np.full((2, 128), (1 + 2.0**-8) / 128, np.float32)
    assert 1 <= np.vecdot(queries[0].astype(np.float64), items[0]) < 1.0001
    items[3] = 0
    products = tensorflow_engine(product).load(items, 1)(2)
    floors = np.float32(1) if one else np.ones((2, 1), np.float32)
    at, values = products.scores_above(queries, 0, floors, (np.array([1]), np.array([8])))
    assert at.tolist() == [i for i in range(17) if i % 9 != 3]
    np.testing.assert_allclose(values, 1, atol=1e-4)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from(PRODUCTS), st.sampled_from([0, 1, 3]))
def test_popularity_in_a_last_coordinate_that_users_do_not_have_changes_no_list(seed, product, unused):
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((20, 12)).astype(np.float32)
    items = (rng.standard_normal((3000, 12)) * 10.0 ** rng.uniform(-3, 0, (3000, 1))).astype(np.float32)
    queries[:, 12 - unused :] = 0
    items[:, 12 - unused :] = 9
    used = 12 - unused
    expected = core.top_k(queries[:, :used], items[:, :used], 15)
    assert_same(core.top_k(queries, items, 15), expected)
    assert_same(top_k(queries, items, 15, product=product), expected)
    nobody = np.zeros((2, 12), np.float32)
    assert_same(top_k(nobody, items, 15, product=product), core.top_k(nobody, items, 15))


def test_another_product_is_refused():
    with pytest.raises(ValueError, match="must be float32 or bfloat16, got 'float64'"):
        tensorflow_engine("float64")


@pytest.mark.parametrize("product", ["float32", "bfloat16"])
def test_vectors_without_a_coordinate_score_zero(product):
    ids, scores = top_k(np.empty((2, 0)), np.empty((3, 0)), 2, product=product)
    assert ids.tolist() == [[0, 1]] * 2
    assert not scores.any()
