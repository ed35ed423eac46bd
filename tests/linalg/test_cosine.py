import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances

from topkin.linalg.cosine import cosine_matrix, cosine_rows, unit_rows

A = [[0.2, 0.3], [0, 0], [-0.4, 0.7]]
B = [[1.1, 0.1], [-0.3, -0.4], [0, 0.2]]
KNOWN = [[0.62775, -0.99846, 0.83205], [0, 0, 0], [-0.41549, -0.39691, 0.86824]]

FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def naive(a, b):
    """One cosine in Python floats."""
    a, b = [float(x) for x in a], [float(x) for x in b]
    lengths = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def arrays(shape, dtype):
    return hnp.arrays(dtype, shape, elements=st.integers(-8, 8).map(float))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_known_answer_in_every_precision(dtype):
    cosines = cosine_matrix(np.array(A, dtype), np.array(B, dtype))
    assert cosines.dtype == dtype
    np.testing.assert_allclose(cosines, KNOWN, atol=2 * np.finfo(dtype).eps + 1e-5)


@settings(max_examples=100)
@given(st.data(), FLOATS, st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_every_form_equals_naive_loops(data, dtype, d, n, m):
    a, b = data.draw(arrays((2, n, d), dtype)), data.draw(arrays((2, m, d), dtype))
    expected = [[[naive(x, y) for y in b[g]] for x in a[g]] for g in range(2)]
    near = {"atol": 8 * np.finfo(dtype).eps, "rtol": 0}
    np.testing.assert_allclose(cosine_matrix(a, b), expected, **near)
    np.testing.assert_allclose(cosine_matrix(a[0]), [[naive(x, y) for y in a[0]] for x in a[0]], **near)
    np.testing.assert_allclose(cosine_rows(a[0], a[1]), [naive(x, y) for x, y in zip(*a, strict=True)], **near)
    np.testing.assert_allclose(cosine_rows(a[0], b[0, 0]), [naive(x, b[0, 0]) for x in a[0]], **near)


@settings(max_examples=100)
@given(st.data(), st.sampled_from([np.float32, np.float64]), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))
def test_it_is_the_cosine_of_scikit_learn_zero_rows_included(data, dtype, d, n, m):
    a, b = data.draw(arrays((n, d), dtype)), data.draw(arrays((m, d), dtype))
    a[0] = 0
    near = {"atol": 8 * np.finfo(dtype).eps, "rtol": 0}
    np.testing.assert_allclose(cosine_matrix(a, b), cosine_similarity(a, b), **near)
    np.testing.assert_allclose(cosine_matrix(a), cosine_similarity(a), **near)
    several = cosine_matrix(np.stack([a, 2 * a]), b)
    np.testing.assert_allclose(several, [cosine_similarity(a, b)] * 2, **near)
    rows, other = a[a.any(axis=1)], np.resize(b, a.shape)[a.any(axis=1)]  # its paired form calls a zero row .5 away
    other[~other.any(axis=1)] = 1
    if len(rows):
        np.testing.assert_allclose(cosine_rows(rows, other), 1 - paired_cosine_distances(rows, other), **near)


@settings(max_examples=50)
@given(arrays((6, 3), np.float64), st.floats(1e-3, 1e3))
def test_unit_rows_have_length_one_or_are_zero_and_forget_scale(x, scale):
    lengths = np.linalg.norm(unit_rows(x), axis=1)
    np.testing.assert_allclose(lengths, x.any(axis=1), atol=1e-12)
    np.testing.assert_allclose(unit_rows(x * scale), unit_rows(x), atol=1e-12)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e30), (np.float32, 1e-30), (np.float64, 1e200)])
def test_squares_that_leave_the_range_of_the_dtype_do_no_harm(dtype, scale):
    x = (np.array(A) * scale).astype(dtype)
    np.testing.assert_allclose(cosine_matrix(x, np.array(B, dtype)), KNOWN, atol=2e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_row_is_the_same_beside_any_others_and_in_any_layout(dtype):
    x = np.random.default_rng(0).normal(size=(40, 37)).astype(dtype)
    x[3], x[5, 2], x[7] = 0, np.nan, x[7] * dtype(1e-7 if dtype == np.float16 else np.finfo(dtype).tiny * 1e9)
    unit = unit_rows(x)
    np.testing.assert_array_equal(unit_rows(np.asfortranarray(x)), unit)
    np.testing.assert_array_equal(unit_rows(np.repeat(x, 2, axis=1)[:, ::2]), unit)
    for row, expected in zip(x, unit, strict=True):
        np.testing.assert_array_equal(unit_rows(row), expected)
        np.testing.assert_array_equal(unit_rows(row[None]), expected[None])


def test_integers_are_taken_as_float64():
    assert cosine_rows(np.array([3, 4]), np.array([4, 3])) == pytest.approx(0.96)
    assert unit_rows(np.array([[3, 4]])).dtype == np.float64


def test_not_a_number_stays_one():
    cosines = cosine_matrix(np.array([[np.nan, 1], [1, 0]]), np.array([[1.0, 1]]))
    assert np.isnan(cosines[0, 0])
    assert cosines[1, 0] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3)])
def test_empty_arrays_give_empty_or_zero_cosines(shape):
    x = np.ones(shape, np.float32)
    assert unit_rows(x).shape == shape
    assert cosine_rows(x, x).shape == shape[:-1]
    assert cosine_matrix(x).shape == (*shape[:-1], shape[-2])
    assert not cosine_matrix(x).any()


def test_wrong_use_is_told():
    with pytest.raises(ValueError, match="same number of coordinates"):
        cosine_matrix(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="same number of coordinates"):
        cosine_rows(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="arrays of rows"):
        cosine_matrix(np.ones(3))
    with pytest.raises(ValueError, match="at least one axis"):
        unit_rows(np.float64(3))
    with pytest.raises(TypeError, match="real numbers"):
        unit_rows(np.array(["a"]))
