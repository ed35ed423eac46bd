"""Views of histories: what is kept, what may change, and known answers."""

import keras
import numpy as np
import pytest

from topkin.models.self_supervised.history_crops import HistoryCrops
from topkin.models.self_supervised.simclr import SimCLR


def test_a_crop_is_a_stretch_of_the_history_in_its_places() -> None:
    rng = np.random.default_rng(0)
    histories = rng.integers(1, 1000, (200, 15))
    histories[rng.random(histories.shape) < 0.3] = 0
    histories[0] = 0
    crops = HistoryCrops(share=(0.4, 0.6), drop=0.0)(histories).numpy()
    assert crops.dtype == histories.dtype
    kept = crops != 0
    np.testing.assert_array_equal(crops[kept], histories[kept])
    assert not kept[0].any()
    for row, whole in zip(kept[1:], histories[1:] != 0, strict=True):
        of_bought = row[whole]
        first, last = np.flatnonzero(of_bought)[[0, -1]]
        assert of_bought[first : last + 1].all()
        assert 0.4 * whole.sum() - 0.5 <= of_bought.sum() <= max(0.6 * whole.sum() + 0.5, 1)
    starts = [np.flatnonzero(r[w])[0] for r, w in zip(kept[1:], histories[1:] != 0, strict=True)]
    assert min(starts) == 0 < np.mean(starts)


def test_dropping_leaves_a_purchase_at_least() -> None:
    histories = np.arange(1, 601).reshape(200, 3)
    kept = HistoryCrops(share=(1.0, 1.0), drop=0.9)(histories).numpy() != 0
    assert kept[:, 0].all()
    assert kept[:, 1:].mean() < 0.3


def test_wrong_use_is_told() -> None:
    with pytest.raises(ValueError, match="smaller first"):
        HistoryCrops(share=(0.8, 0.4))
    with pytest.raises(ValueError, match="item numbers, got float32"):
        HistoryCrops()(np.zeros((3, 9), np.float32))
    with pytest.raises(ValueError, match="drop below 1"):
        HistoryCrops(drop=1.0)


def test_a_pipeline_of_keras_layers_gives_two_views() -> None:
    read = keras.Input((8, 8, 1))
    layers = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(0.2, 0.2)]
    learner = SimCLR(keras.Model(read, keras.layers.Flatten()(read)), keras.layers.Pipeline(layers))
    learner.compile("adam", jit_compile=False)
    images = np.random.default_rng(0).random((16, 8, 8, 1)).astype(np.float32)
    first, second = (np.asarray(learner.augment(images)) for _ in range(2))
    assert np.abs(first - images).max() > 0.1
    assert np.abs(first - second).max() > 0.1
    loss = learner.fit(images, batch_size=8, verbose=0).history["loss"][0]
    assert 0.01 < loss < 10  # the views differ: of equal ones each finds the other at once
