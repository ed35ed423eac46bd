from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topkin.search.pair_scores as module
from topkin.search.pair_scores import error_bounds, pair_scores


def rounded(exact):
    """The float32 nearest to a fraction, ties to the even one, by comparing neighbours."""
    start = np.float32(float(exact))
    near = [np.nextafter(start, np.float32(-np.inf)), start, np.nextafter(start, np.float32(np.inf))]
    return min(near, key=lambda f: (abs(Fraction(float(f)) - exact), int(f.view(np.uint32)) & 1))


def exact(a, b):
    return sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction(0))


def scores(queries, items):
    row, column = (a.ravel() for a in np.indices((len(queries), len(items))))
    return pair_scores(queries, items, error_bounds(queries, items), row, column)


def assert_rounded(queries, items):
    expected = [[rounded(exact(query, item)) for item in items] for query in queries]
    for few in (0, module._FEW):  # few sums are made another way than many
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_FEW", few)
            actual = scores(queries, items).reshape(len(queries), len(items))
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, expected)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 70), st.sampled_from([0, 4, 12]))
def test_a_score_is_the_exact_inner_product_rounded(seed, d, spread):
    rng = np.random.default_rng(seed)
    queries, items = (
        (rng.standard_normal((4, d)) * 2.0 ** rng.integers(-spread, spread + 1, (4, d))).astype(np.float32)
        for _ in range(2)
    )
    assert_rounded(queries, items)
    assert_rounded(np.concatenate([queries, queries], axis=1), np.concatenate([items, -items], axis=1))  # cancels


def test_what_cancels_is_nothing():
    rng = np.random.default_rng(64)
    queries, items = (
        (rng.standard_normal((4, 64)) * 2.0 ** rng.integers(-12, 13, (4, 64))).astype(np.float32) for _ in range(2)
    )
    actual = scores(np.concatenate([queries, queries], axis=1), np.concatenate([items, -items], axis=1))
    assert not actual.any()


def test_what_lies_beside_the_middle_of_two_float32_is_rounded_to_its_own_side():
    query = np.ones((1, 3), np.float32)
    middle = [1, 2.0**-24, 0]
    sides = [[1, 2.0**-24, sign * 2.0**-60] for sign in (1, -1)]
    odd = [1 + 2.0**-23, 2.0**-24, -(2.0**-80)]
    items = np.array([middle, *sides, odd], np.float32)
    assert scores(query, items).tolist() == [1, 1 + 2.0**-23, 1, 1 + 2.0**-23]
    assert_rounded(query, items)


def test_the_order_of_the_coordinates_does_not_matter():
    rng = np.random.default_rng(1)
    queries, items = (rng.standard_normal((50, 33)).astype(np.float32) for _ in range(2))
    order = rng.permutation(33)
    np.testing.assert_array_equal(scores(queries, items), scores(queries[:, order], items[:, order]))


def test_both_ways_of_scoring_agree(monkeypatch):
    rng = np.random.default_rng(2)
    queries, items = (rng.standard_normal((40, 64)).astype(np.float32) for _ in range(2))
    actual = scores(queries, items)
    monkeypatch.setattr(module.np, "vecdot", lambda a, b: np.full(len(a), np.nan))  # nothing is sure: all summed again
    np.testing.assert_array_equal(scores(queries, items), actual)


def test_a_float32_product_lies_within_the_margin():
    rng = np.random.default_rng(3)
    queries, items = (rng.standard_normal((30, 64)).astype(np.float32) for _ in range(2))
    away = np.abs(queries @ items.T - scores(queries, items).reshape(30, 30))
    assert (away <= error_bounds(queries, items)[:, None]).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e38])
def test_vectors_whose_products_are_no_float32_are_refused(wrong):
    with pytest.raises(ValueError, match="finite and their products within float32"):
        error_bounds(np.full((1, 2), 10, np.float32), np.array([[1, wrong]], np.float32))


def test_pairs_in_any_order_have_their_scores_a_query_cut_in_steps_too(monkeypatch):
    monkeypatch.setattr(module, "_STEP_VALUES", 16)
    rng = np.random.default_rng(65)
    queries, items = (rng.integers(-9, 10, (n, 5)).astype(np.float32) for n in (6, 40))
    whole = queries @ items.T
    for row in (rng.integers(0, 6, 200), np.sort(rng.integers(0, 6, 200)), np.zeros(0, np.int64)):
        column = rng.integers(0, 40, len(row))
        pairs = pair_scores(queries, items, error_bounds(queries, items), row, column)
        np.testing.assert_array_equal(pairs, whole[row, column])
