"""Whitening against what it promises: uncorrelated columns, widths to a power, the same distances where turned only."""

import keras
import numpy as np
import pytest

from topkin.models.similarity.whitening import principal, whitened

X = (np.random.default_rng(0).normal(size=(300, 5)) * [9, 4, 2, 1, 0.5]) @ np.random.default_rng(1).normal(
    size=(5, 5)
) + 7


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_columns_are_uncorrelated_and_as_wide_as_told(power: float) -> None:
    matrix, shift = principal(X, 4, power)
    y = X @ matrix + shift
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-9)
    variances = np.linalg.eigvalsh(np.cov(X.T))[::-1][:4]
    np.testing.assert_allclose(np.cov(y.T), np.diag(variances ** (1 - power)), atol=1e-9)


def test_turning_alone_keeps_distances() -> None:
    matrix, shift = principal(X, 5, 0.0)
    y = X @ matrix + shift
    np.testing.assert_allclose(np.linalg.norm(y[:50] - y[50:100], axis=1), np.linalg.norm(X[:50] - X[50:100], axis=1))


def test_a_direction_without_width_is_not_blown_up() -> None:
    flat = X.copy()
    flat[:, 2] = 1.0
    matrix, shift = principal(flat, 5, 1.0)
    assert np.abs(flat @ matrix + shift).max() < 10


def test_a_whitened_encoder_is_one_model() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    encoder = keras.Model(inputs, keras.layers.Dense(6, activation="relu")(inputs))
    model = whitened(encoder, X, dim=3, power=1.0)
    y = model.predict(X, verbose=0)
    np.testing.assert_allclose(np.cov(y.T), np.eye(3), atol=1e-3)
    assert model.output_shape == (None, 3)


def test_wrong_use_is_told() -> None:
    with pytest.raises(ValueError, match="from 1 to 5 and power from 0 to 1, got 6 and 0"):
        principal(X, 6, 0.0)
    with pytest.raises(ValueError, match="two rows at least"):
        principal(X[:1], 2, 0.5)
