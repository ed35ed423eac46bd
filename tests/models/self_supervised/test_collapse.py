"""Collapse is measured and stops a run that really collapses."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.models.ops.cosine import UnitRows
from topkin.models.self_supervised.collapse import CollapseError, StopAtCollapse, effective_rank, spread
from topkin.models.self_supervised.vicreg import VICReg


def noisy(x: Any) -> Any:
    return x + tf.random.normal(tf.shape(x), stddev=0.5)


def model_of(*, collapses: bool, seed: int = 0) -> VICReg:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8,))
    encoder = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Dense(16, activation="relu")(inputs)))
    model = VICReg(encoder, noisy, projector=unit(), **({"variance": 0.0, "covariance": 0.0} if collapses else {}))
    model.compile(keras.optimizers.Adam(0.01))
    return model


def unit() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, UnitRows()(inputs))


ROWS = (np.random.default_rng(0).normal(size=(256, 8)) + 1).astype(np.float32)


def test_the_spread_is_nought_for_one_vector_and_one_for_all_directions() -> None:
    rng = np.random.default_rng(0)
    assert float(spread(np.full((50, 6), 3.0))) == pytest.approx(0, abs=1e-6)
    assert float(spread(rng.normal(size=(5000, 32)))) == pytest.approx(1, abs=0.02)
    x = rng.normal(size=(40, 5))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    naive = sum(np.sqrt(((unit[:, j] - unit[:, j].mean()) ** 2).mean()) for j in range(5)) / 5 * np.sqrt(5)
    assert float(spread(x)) == pytest.approx(naive, rel=1e-5)
    assert float(spread(x * 100)) == pytest.approx(naive, rel=1e-5)


def test_the_effective_rank_counts_directions() -> None:
    rng = np.random.default_rng(1)
    assert effective_rank(np.full((9, 4), 2.0)) == 0
    assert effective_rank(rng.normal(size=(4000, 8))) == pytest.approx(8, abs=0.1)
    two = np.hstack([rng.normal(size=(4000, 2)), np.zeros((4000, 6))])
    assert effective_rank(two) == pytest.approx(2, abs=0.05)
    with pytest.raises(ValueError, match="a row at least"):
        effective_rank(np.zeros((0, 3)))


def test_a_run_that_collapses_stops_with_advice() -> None:
    model, stop = model_of(collapses=True), StopAtCollapse(least=0.3)
    with pytest.raises(CollapseError, match=r"at least 0.3 .* got 0\.\d+\. Try a lower learning rate"):
        model.fit(ROWS, epochs=200, batch_size=64, verbose=0, callbacks=[stop])
    assert len(stop.history) < 200


def test_it_may_stop_quietly_and_waits_as_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(collapses=True)
    stop = StopAtCollapse(ROWS[:100], encoder=model.encoder, least=0.9999, patience=3, error=False)
    model.fit(ROWS, epochs=50, batch_size=64, verbose=0, callbacks=[stop])
    assert len(stop.history) == 3
    assert "the embedding collapsed" in stop.reason
    assert stop.reason in capsys.readouterr().out


def test_a_healthy_run_goes_on() -> None:
    stop = StopAtCollapse()
    history = model_of(collapses=False).fit(ROWS, epochs=4, batch_size=64, verbose=0, callbacks=[stop])
    assert len(history.history["loss"]) == 4
    assert stop.reason == ""
    np.testing.assert_allclose(stop.history, history.history["spread"])


def test_it_watches_any_model_by_its_outputs() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.compile("adam", loss="mse")
    with pytest.raises(ValueError, match=r"give it inputs, such as StopAtCollapse\(images"):
        model.fit(ROWS, ROWS[:, :3], verbose=0, callbacks=[StopAtCollapse()])
    stop = StopAtCollapse(ROWS)
    model.fit(ROWS, ROWS[:, :3], verbose=0, callbacks=[stop])
    assert stop.history[0] > 0.05


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        StopAtCollapse(least=2)
    with pytest.raises(ValueError, match="at least 1 epoch, got 0"):
        StopAtCollapse(patience=0)
