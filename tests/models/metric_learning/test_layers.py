"""The generalised mean against loops, and at its edges."""

import numpy as np
import pytest
import tensorflow as tf

from topkin.models import GeneralizedMeanPooling


@pytest.mark.parametrize("shape", [(2, 5, 3), (2, 3, 4, 3)])
@pytest.mark.parametrize("p", [1.0, 3.0, 7.5])
def test_the_pooling_is_the_generalised_mean(shape: tuple[int, ...], p: float) -> None:
    x = np.random.default_rng(0).random(shape) * 4
    flat = x.reshape(shape[0], -1, shape[-1])
    expected = [[np.mean([v**p for v in flat[n, :, d]]) ** (1 / p) for d in range(shape[-1])] for n in range(shape[0])]
    np.testing.assert_allclose(GeneralizedMeanPooling(p, dtype="float64")(x), expected, rtol=1e-9)


def test_it_is_finite_for_zeros_and_large_numbers_and_nears_the_maximum() -> None:
    x = tf.Variable(np.array([[[0.0, -3.0], [0.0, 1e30]]], "float32"))
    with tf.GradientTape() as tape:
        pooled = GeneralizedMeanPooling(3.0)(x)
        total = tf.reduce_sum(pooled)
    assert np.isfinite(pooled).all()
    assert np.isfinite(tape.gradient(total, x)).all()
    rows = np.random.default_rng(1).random((2, 9, 3))
    np.testing.assert_allclose(GeneralizedMeanPooling(200.0)(rows), rows.max(axis=1), rtol=0.02)
    with pytest.raises(ValueError, match="p and epsilon must be above 0, got 0 and 1e-06"):
        GeneralizedMeanPooling(0)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_whole_numbers_are_pooled_as_numbers_with_a_point(dtype: str) -> None:
    x = np.arange(24).reshape(2, 4, 3).astype(dtype)
    pooled = GeneralizedMeanPooling(3.0)(x)
    assert pooled.dtype == tf.float32
    np.testing.assert_allclose(pooled, GeneralizedMeanPooling(3.0)(x.astype("float32")))
