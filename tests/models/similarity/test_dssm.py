"""Two towers learn which answer belongs to which question, and are used one by one."""

import keras
import numpy as np
import pytest

from topkin.models.metric_learning.layers import MetricEmbedding
from topkin.models.metric_learning.losses.ranking import SampledSoftmax
from topkin.models.similarity.dssm import dssm


def tower(width: int, seed: int, dim: int = 8) -> keras.Model:
    inputs = keras.Input((width,))
    return keras.Model(inputs, MetricEmbedding(dim, seed=seed)(inputs))


def test_towers_learn_to_match_and_the_pair_model_survives_saving(tmp_path):
    rng = np.random.default_rng(0)
    answers = rng.normal(size=(40, 6)).astype(np.float32)
    kinds = np.repeat(np.arange(40), 12)
    asked = (answers[kinds] @ rng.normal(size=(6, 10)) + 0.1 * rng.normal(size=(480, 10))).astype(np.float32)
    keras.utils.set_random_seed(0)
    towers = dssm(tower(10, 1), tower(6, 2))

    def share() -> float:
        scores = towers.left.predict(asked, verbose=0) @ towers.right.predict(answers, verbose=0).T
        return float((scores.argmax(axis=1) == kinds).mean())

    before = share()
    towers.model.compile(keras.optimizers.Adam(0.02), loss=SampledSoftmax(np.full(40, 12)), jit_compile=False)
    towers.model.fit([asked, answers[kinds]], kinds, batch_size=96, epochs=30, verbose=0)
    assert before < 0.2
    assert share() > 0.9
    towers.model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    pair = [asked[:5], answers[kinds[:5]]]
    np.testing.assert_array_equal(again.predict(pair, verbose=0), towers.model.predict(pair, verbose=0))
    sides = np.stack([towers.left.predict(pair[0], verbose=0), towers.right.predict(pair[1], verbose=0)], axis=1)
    np.testing.assert_allclose(again.predict(pair, verbose=0), sides, atol=1e-6)


def test_towers_of_two_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"same dimension, got \(None, 8\) and \(None, 4\).*MetricEmbedding"):
        dssm(tower(3, 0), tower(3, 0, dim=4))
