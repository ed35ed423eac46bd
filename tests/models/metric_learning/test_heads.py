"""Heads with several vectors a class, against loops."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.models.metric_learning.heads import SoftCentres, SubCentres
from topkin.models.metric_learning.losses import ArcFace, SoftTriple, SubCenterArcFace

ROWS = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")


def cos(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def cosines(head: SubCentres | SoftCentres) -> np.ndarray:
    """(n, classes, centres), by loops over the vectors."""
    vectors = head.proxies.numpy().reshape(head.classes, head.centres, 4)
    return np.array([[[cos(x, v) for v in own] for own in vectors] for x in ROWS])


def test_the_nearest_of_a_classs_vectors_counts() -> None:
    head = SubCenterArcFace(centres=3).head(classes=2)
    assert isinstance(head, SubCentres)
    logits = head(tf.constant(ROWS))
    np.testing.assert_allclose(logits, cosines(head).max(axis=2), atol=1e-6)
    one = SubCenterArcFace(centres=1)
    single = one.head(classes=2)(tf.constant(ROWS))
    labels = [0, 1, 0, 1, 1]
    assert float(one(labels, single)) == float(ArcFace()(labels, single))


def test_soft_centres_are_the_papers_relaxation_and_regulariser() -> None:
    head = SoftTriple(centres=3, temperature=0.2).head(classes=2)
    assert isinstance(head, SoftCentres)
    logits, by_hand = head(tf.constant(ROWS)).numpy(), cosines(head)
    weights = np.exp(by_hand / 0.2)
    weights /= weights.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(logits[..., 0], (weights * by_hand).sum(axis=2), atol=1e-6)
    vectors = head.proxies.numpy().reshape(2, 3, 4)
    for c in range(2):
        apart = [np.sqrt(2 - 2 * cos(vectors[c, i], vectors[c, j])) for i in range(3) for j in range(i + 1, 3)]
        np.testing.assert_allclose(logits[:, c, 1], np.mean(apart), rtol=1e-5)


@pytest.mark.parametrize("head", [SubCentres(2, 3), SoftCentres(2, 3), SoftCentres(2, 1)])
def test_equal_vectors_and_zero_rows_have_finite_gradients(head: SubCentres | SoftCentres) -> None:
    rows = tf.constant(np.vstack([ROWS, np.zeros((1, 4), "float32")]))
    head(rows)
    head.set_weights([np.ones_like(head.proxies.numpy())])
    with tf.GradientTape() as tape:
        tape.watch(rows)
        total = tf.reduce_sum(head(rows))
    for slope in tape.gradient(total, [rows, head.proxies.value]):
        assert np.isfinite(slope.numpy()).all()


def test_a_head_is_saved_with_its_settings() -> None:
    head = SoftCentres(2, 4, 0.3, seed=5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
    assert (again.classes, again.centres, again.temperature, again.seed) == (2, 4, 0.3, 5)
    with pytest.raises(ValueError, match="centres must be at least 1, got 0"):
        SubCentres(2, 0)
