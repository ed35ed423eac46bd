"""Two towers learn which answer belongs to which question, and are used one by one."""

import keras
import numpy as np
import pyarrow as pa
import pytest

from topkin.models import KerasEncoder, history_encoder
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


def test_towers_of_several_inputs_are_one_encoder_of_items_and_users(tmp_path):
    user = history_encoder(5, 4, seed=1)
    towers = dssm(user, tower(3, 2, dim=4))
    histories, ages, items = np.array([[1, 5, 0], [3, 0, 0]]), np.array([[9.0, 0, 0]] * 2, "f4"), np.eye(3)[:2]
    sides = towers.model.predict([histories, ages, items], verbose=0)
    np.testing.assert_allclose(sides[:, 0], user.predict([histories, ages], verbose=0), atol=1e-6)
    history = {name: {"column": name, "kind": "history"} for name in ("items", "ages")}
    towers.save(str(tmp_path / "towers"), {"sizes": "size"}, history)
    encoder = KerasEncoder.load(str(tmp_path / "towers"))
    users = encoder.embed_users(pa.table({"items": [[1, 5], [3]], "ages": [[9.0, 0.0], [9.0]]}))
    np.testing.assert_allclose(users.vectors, sides[:, 0], atol=1e-6)
    np.testing.assert_allclose(encoder.embed(pa.table({"size": list(items)})).vectors, sides[:, 1], atol=1e-6)
