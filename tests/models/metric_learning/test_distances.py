"""Distances: each equals plain loops, row by row and all with all, with finite gradients."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.models.metric_learning.distances import (
    SNR,
    Cosine,
    Distance,
    Euclidean,
    InnerProduct,
    Manhattan,
    SquaredEuclidean,
)
from topkin.models.metric_learning.serialization import Configured, serializable


def loop_variance(x: Any) -> float:
    centre = sum(x) / len(x)
    return sum((v - centre) ** 2 for v in x) / len(x)


def loop_cosine(a: Any, b: Any) -> float:
    lengths = math.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
    return sum(p * q for p, q in zip(a, b, strict=True)) / lengths if lengths else 0.0


LOOPS = {
    Cosine: loop_cosine,
    InnerProduct: lambda a, b: sum(p * q for p, q in zip(a, b, strict=True)),
    Euclidean: lambda a, b: math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True))),
    SquaredEuclidean: lambda a, b: sum((p - q) ** 2 for p, q in zip(a, b, strict=True)),
    Manhattan: lambda a, b: sum(abs(p - q) for p, q in zip(a, b, strict=True)),
    SNR: lambda a, b: loop_variance([q - p for p, q in zip(a, b, strict=True)]) / loop_variance(a),
}
every_distance = pytest.mark.parametrize("kind", LOOPS, ids=lambda kind: kind.__name__)
DRAW = np.random.default_rng(2)
A, B = DRAW.normal(size=(4, 5)) + 3, DRAW.normal(size=(6, 5)) + 3


@every_distance
@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 2e-3), ("float32", 2e-5), ("float64", 1e-11)])
def test_it_equals_loops(kind: type[Distance], dtype: str, rtol: float) -> None:
    a, b, loop = A.astype(dtype), B.astype(dtype), LOOPS[kind]
    expected = [[loop(x, y) for y in b.astype(float)] for x in a.astype(float)]
    for b_or_none, answer in ((b, expected), (None, [[loop(x, y) for y in a.astype(float)] for x in a.astype(float)])):
        distances = kind().matrix(tf.constant(a), None if b_or_none is None else tf.constant(b))
        assert distances.dtype == dtype
        np.testing.assert_allclose(distances, answer, rtol=rtol, atol=rtol)
    rows = kind().rows(tf.constant(a), tf.constant(b[:4]))
    assert rows.dtype == dtype
    np.testing.assert_allclose(rows, np.diag(np.array(expected)[:, :4]), rtol=rtol, atol=rtol)


@every_distance
def test_far_is_larger_for_what_is_farther(kind: type[Distance]) -> None:
    near_and_far = tf.constant([[1.0, 2.0, 3.1], [-3.0, -2.0, 1.0]])
    far = kind().dissimilarity(tf.constant([[1.0, 2.0, 3.0]]), near_and_far).numpy()[0]
    assert far[0] < far[1]
    assert kind().larger_is_nearer == (kind in (Cosine, InnerProduct))


@every_distance
def test_gradients_are_finite_at_zero_distance_and_zero_rows(kind: type[Distance]) -> None:
    x = tf.Variable([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    for compare in (
        lambda: kind().matrix(x),
        lambda: kind().matrix(x, tf.identity(x)),
        lambda: kind().rows(x, x[::-1]),
        lambda: kind().rows(x, x),
    ):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(compare())
        assert np.isfinite(float(total))
        assert np.isfinite(tf.convert_to_tensor(tape.gradient(total, x)).numpy()).all()


@every_distance
def test_the_gradient_is_that_of_differences(kind: type[Distance]) -> None:
    weight = tf.constant(DRAW.normal(size=(4, 6)))
    theory, seen = tf.test.compute_gradient(
        lambda a, b: tf.reduce_sum(weight * kind().matrix(a, b)), [tf.constant(A), tf.constant(B)]
    )
    for one, other in zip(theory, seen, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@every_distance
def test_a_distance_survives_its_configuration(kind: type[Distance]) -> None:
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(kind()))
    assert type(again) is kind
    assert repr(again) == f"{kind.__name__}()"


def test_a_row_is_at_zero_from_itself_and_nothing_is_below_zero() -> None:
    x = tf.constant(1000 + DRAW.normal(size=(50, 8)) * 1e-3, tf.float32)
    assert (np.diag(Euclidean().matrix(x)) == 0).all()
    assert (SquaredEuclidean().matrix(x, tf.identity(x)).numpy() >= 0).all()


def test_far_from_the_origin_distances_keep_their_digits() -> None:
    x = DRAW.normal(size=(20, 8))
    distances = Euclidean().matrix(tf.constant(x + 100, tf.float32), tf.constant(x[:5] + 100, tf.float32))
    exact = np.sqrt(((x[:, None] - x[None, :5]) ** 2).sum(2))
    off = exact > 0
    np.testing.assert_allclose(distances.numpy()[off], exact[off], rtol=1e-4)


def test_misuse_is_explained() -> None:
    with pytest.raises(ValueError, match=r"needs rows, \(n, d\) and \(m, d\), got \(5,\)"):
        Cosine().matrix(tf.constant(A[0]), tf.constant(B))
    with pytest.raises(ValueError, match="same number of coordinates"):
        Euclidean().rows(tf.constant(A), tf.constant(B[:4, :2]))


def test_two_saved_classes_cannot_have_one_name() -> None:
    with pytest.raises(
        ValueError, match=r"must be unique, got Cosine of topkin.models.metric_learning.distances again"
    ):
        serializable(type("Cosine", (Configured,), {}))
