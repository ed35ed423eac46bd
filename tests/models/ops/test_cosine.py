"""Cosine in TensorFlow: the twin of topkin.linalg.cosine, with finite gradients, as layers."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics.pairwise import cosine_similarity

from topkin.linalg import cosine as core
from topkin.models.ops.cosine import CosineMatrix, CosineRows, UnitRows, cosine_matrix, cosine_rows, unit_rows

A = np.array([[0.2, 0.3], [0, 0], [-0.4, 0.7]])
B = np.array([[1.1, 0.1], [-0.3, -0.4], [0, 0.2]])
ANSWER = [[0.62775, -0.99846, 0.83205], [0, 0, 0], [-0.41549, -0.39691, 0.86824]]
numbers = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


def test_the_known_answer() -> None:
    np.testing.assert_allclose(cosine_matrix(A, B), ANSWER, atol=5e-6)
    np.testing.assert_allclose(cosine_rows(A, B), np.diag(ANSWER), atol=5e-6)


@settings(max_examples=60)
@given(
    arrays(np.float32, (3, 4), elements=numbers),
    arrays(np.float32, (5, 4), elements=numbers),
    st.sampled_from(["float32", "float64"]),
)
def test_the_twins_agree(a: np.ndarray, b: np.ndarray, dtype: str) -> None:
    a, b = a.astype(dtype), b.astype(dtype)
    rounding = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(unit_rows(a), core.unit_rows(a), atol=rounding)
    np.testing.assert_allclose(cosine_matrix(a, b), core.cosine_matrix(a, b), atol=rounding)
    np.testing.assert_allclose(cosine_matrix(a), core.cosine_matrix(a), atol=rounding)
    np.testing.assert_allclose(cosine_rows(a, b[:3]), core.cosine_rows(a, b[:3]), atol=rounding)
    batched = cosine_matrix(np.stack([a, 2 * a]), np.stack([b, b[::-1]]))
    np.testing.assert_allclose(batched, core.cosine_matrix(np.stack([a, a]), np.stack([b, b[::-1]])), atol=rounding)


@pytest.mark.parametrize(("dtype", "rounding"), [("float16", 1e-3), ("float32", 1e-6), ("float64", 1e-14)])
def test_it_is_the_cosine_of_scikit_learn_zero_rows_included(dtype: str, rounding: float) -> None:
    draw = np.random.default_rng(3)
    a, b = (draw.normal(size=(4, n, 17)).astype(dtype) for n in (6, 5))
    a[0, 0] = b[1, 2] = 0
    expected = [cosine_similarity(x.astype("float64"), y.astype("float64")) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(cosine_matrix(a, b), expected, atol=rounding)
    np.testing.assert_allclose(cosine_matrix(a[0], b[0]), expected[0], atol=rounding)
    np.testing.assert_allclose(cosine_rows(a[0, :5], b[0]), np.diag(expected[0]), atol=rounding)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "int32"])
def test_a_float_dtype_comes_back_and_integers_become_float64(dtype: str) -> None:
    a = tf.cast(tf.constant([[1, 2], [0, 0]]), dtype)
    assert cosine_matrix(a).dtype == ("float64" if dtype == "int32" else dtype)
    np.testing.assert_allclose(tf.cast(cosine_matrix(a), "float64"), [[1, 0], [0, 0]], atol=1e-2)
    assert cosine_rows(a, a).dtype == unit_rows(a).dtype == cosine_matrix(a).dtype


def test_float16_is_computed_in_float32_and_rounded_once() -> None:
    a = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float16)
    np.testing.assert_array_equal(cosine_matrix(a), core.cosine_matrix(a))
    assert np.isfinite(cosine_matrix(np.full((2, 64), 60000, np.float16))).all()


@pytest.mark.parametrize("function", [lambda x: cosine_matrix(x), lambda x: cosine_rows(x, x[::-1]), unit_rows])
def test_gradients_are_finite_at_zero_and_at_tiny_rows(function: Any) -> None:
    x = tf.Variable([[0.0, 0.0], [1e-30, 0.0], [3.0, 4.0], [1e30, 1e30]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(function(x))
    gradient = tape.gradient(total, x).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[0] == 0).all()


def test_the_gradient_is_that_of_differences() -> None:
    draw = np.random.default_rng(1)
    a, b = tf.constant(draw.normal(size=(3, 4))), tf.constant(draw.normal(size=(2, 4)))
    weight = tf.constant(draw.normal(size=(3, 2)))
    theory, seen = tf.test.compute_gradient(lambda a: tf.reduce_sum(weight * cosine_matrix(a, b)), [a])
    np.testing.assert_allclose(theory[0], seen[0], rtol=1e-5, atol=1e-5)


def test_nan_stays_nan_in_its_row_alone() -> None:
    result = cosine_matrix(np.array([[np.nan, 1], [1, 0]]), np.eye(2)).numpy()
    assert np.isnan(result[0]).all()
    np.testing.assert_array_equal(result[1], [1, 0])


def test_misuse_is_explained() -> None:
    with pytest.raises(ValueError, match="same number of coordinates"):
        cosine_matrix(A, B[:, :1])
    with pytest.raises(ValueError, match=r"tensors of rows, \(..., n, d\)"):
        cosine_matrix(A[0], B)
    with pytest.raises(TypeError, match=r"one dtype, got \['float32', 'float64'\]: cast"):
        cosine_rows(A.astype("float32"), B)
    with pytest.raises(TypeError, match="real numbers, got dtype bool"):
        unit_rows(A > 0)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_layers_do_the_same_and_are_saved(policy: str, tmp_path: Path) -> None:
    a, b = keras.Input((3, 2)), keras.Input((3, 2))
    outputs = [
        CosineRows(dtype=policy)(a, b),
        CosineMatrix(dtype=policy)(a, b),
        CosineMatrix(dtype=policy)(a),
        UnitRows(dtype=policy)(a),
    ]
    model = keras.Model([a, b], outputs)
    model.save(tmp_path / "layers.keras")
    loaded = keras.saving.load_model(tmp_path / "layers.keras", safe_mode=True)
    inputs = [x[None].astype("float32") for x in (A, B)]
    expected = core.cosine_rows(A, B), core.cosine_matrix(A, B), core.cosine_matrix(A), core.unit_rows(A)
    for result, again, answer in zip(model(inputs), loaded(inputs), expected, strict=True):
        assert result.dtype == ("float16" if policy == "mixed_float16" else "float32")
        np.testing.assert_allclose(result[0], answer, atol=1e-3 if policy == "mixed_float16" else 1e-6)
        np.testing.assert_array_equal(result, again)
