"""SimCLR and its kind: formulas against loops, and that each learns to ignore what views change."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.metrics.retrieval import knn_accuracy
from topkin.models.self_supervised.barlow_twins import BarlowTwins, barlow_loss
from topkin.models.self_supervised.base import SelfSupervised
from topkin.models.self_supervised.byol import BYOL, byol_loss
from topkin.models.self_supervised.history_crops import HistoryCrops
from topkin.models.self_supervised.simclr import SimCLR
from topkin.models.self_supervised.simsiam import SimSiam, simsiam_loss
from topkin.models.self_supervised.swav import SwAV, sinkhorn, swapped_loss
from topkin.models.self_supervised.vicreg import VICReg, vicreg_parts

METHODS = [SimCLR, BYOL, SwAV, VICReg, BarlowTwins, SimSiam]


def rows(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def identity(dim: int) -> keras.Model:
    inputs = keras.Input((dim,))
    return keras.Model(inputs, keras.layers.Activation("linear")(inputs))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_simclr_is_the_papers_loss() -> None:
    first, second = rows(5, 3, 0), rows(5, 3, 1)
    model = SimCLR(identity(3), lambda x: x, temperature=0.3, projector=identity(3))
    both, total = np.concatenate([first, second]).astype(np.float64), 0.0
    for i in range(10):
        positive = (i + 5) % 10
        crowd = sum(math.exp(cosine(both[i], both[j]) / 0.3) for j in range(10) if j != i)
        total -= math.log(math.exp(cosine(both[i], both[positive]) / 0.3) / crowd)
    loss, embedding = model.loss_of(tf.constant(first), tf.constant(second), training=False)
    assert float(loss) == pytest.approx(total / 10, rel=1e-5)
    assert embedding.shape == (10, 3)


def test_byol_is_the_papers_loss_and_its_target_has_no_gradient() -> None:
    p, z = rows(6, 4, 2), rows(6, 4, 3)
    naive = np.mean([np.sum((a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2) for a, b in zip(p, z, strict=True)])
    target = tf.Variable(z)
    with tf.GradientTape() as tape:
        loss = byol_loss(p, target)
    assert float(loss) == pytest.approx(float(naive), rel=1e-5)
    assert tape.gradient(loss, target) is None


def test_byols_target_follows_slowly_and_is_never_trained() -> None:
    model = BYOL(encoder_of(), hide, momentum=0.9)
    before = [v.numpy().copy() for v in model.target_encoder.trainable_variables]
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(points(32, 0)[0], batch_size=32, epochs=1, verbose=0)
    online = model.encoder.trainable_variables
    for old, new, source in zip(before, model.target_encoder.trainable_variables, online, strict=True):
        np.testing.assert_allclose(new.numpy(), 0.9 * old + 0.1 * source.numpy(), atol=1e-6)
    assert any(np.abs(s.numpy() - o).max() > 1e-4 for s, o in zip(online, before, strict=True))
    targets = {id(v) for v in (*model.target_encoder.variables, *model.target_projector.variables)}
    assert not targets & {id(v) for v in model.learned()}
    assert not targets & {id(v) for v in model.encoder.variables}


def test_byols_momentum_rises_to_one() -> None:
    model = BYOL(encoder_of(), hide, momentum=0.9, steps=10)
    for step, want in ((0, 0.9), (5, 0.95), (10, 1.0), (50, 1.0)):
        model.done.assign(float(step))
        assert float(model._momentum()) == pytest.approx(want)


def naive_sinkhorn(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    q = np.exp(scores.astype(np.float64) / epsilon).T
    q /= q.sum()
    k, n = q.shape
    for _ in range(iterations):
        q /= q.sum(axis=1, keepdims=True) * k
        q /= q.sum(axis=0, keepdims=True) * n
    return (q * n).T


def test_sinkhorn_is_the_papers_and_uses_all_prototypes() -> None:
    scores = np.clip(rows(12, 4, 4), -1, 1)
    got = sinkhorn(scores, epsilon=0.1, iterations=3).numpy()
    np.testing.assert_allclose(got, naive_sinkhorn(scores, 0.1, 3), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)
    long = sinkhorn(np.tile([[1.0, 0, 0, 0]], (8, 1)), epsilon=0.05, iterations=3).numpy()
    np.testing.assert_allclose(long.sum(axis=0), 2, atol=1e-5)
    assert np.isfinite(sinkhorn(np.float32([[500, -500], [500, -500]]), epsilon=0.01)).all()


def test_swav_tells_one_view_from_the_others_assignment() -> None:
    first, second = np.clip(rows(8, 3, 5), -1, 1), np.clip(rows(8, 3, 6), -1, 1)
    total = 0.0
    for asked, other in ((first, second), (second, first)):
        target = naive_sinkhorn(other, 0.2, 3)
        for i in range(8):
            crowd = sum(math.exp(v / 0.1) for v in asked[i].astype(np.float64))
            total -= sum(target[i, j] * math.log(math.exp(asked[i, j] / 0.1) / crowd) for j in range(3))
    got = swapped_loss(tf.constant(first), tf.constant(second), temperature=0.1, epsilon=0.2, iterations=3)
    assert float(got) == pytest.approx(total / 16, rel=1e-4)


def test_swavs_prototypes_are_unit_rows_and_held_at_first() -> None:
    model = SwAV(encoder_of(), hide, prototypes=6, frozen_steps=2, seed=0)
    start = model.prototypes.numpy()
    model.compile(keras.optimizers.SGD(0.5))
    x = points(32, 0)[0]
    model.fit(x, batch_size=16, verbose=0)
    np.testing.assert_allclose(model.prototypes.numpy(), start, atol=1e-6)
    model.fit(x, batch_size=16, verbose=0)
    assert np.abs(model.prototypes.numpy() - start).max() > 1e-4
    np.testing.assert_allclose(np.linalg.norm(model.prototypes.numpy(), axis=1), 1, atol=1e-5)


def test_vicreg_is_the_papers_loss() -> None:
    first, second = rows(7, 4, 7), rows(7, 4, 8) * 0.3
    invariance = np.mean([(first[i, j] - second[i, j]) ** 2 for i in range(7) for j in range(4)])
    variance = covariance = 0.0
    for view in (first.astype(np.float64), second.astype(np.float64)):
        mean = view.mean(axis=0)
        for a in range(4):
            own = sum((view[i, a] - mean[a]) ** 2 for i in range(7)) / 6
            variance += max(1 - math.sqrt(own + 1e-4), 0) / 4 / 2
            for b in range(4):
                if a != b:
                    covariance += (sum((view[i, a] - mean[a]) * (view[i, b] - mean[b]) for i in range(7)) / 6) ** 2 / 4
    got = [float(part) for part in vicreg_parts(first, second)]
    assert got == pytest.approx([invariance, variance, covariance], rel=1e-4)


def test_barlow_twins_is_the_papers_loss() -> None:
    first, second = rows(7, 4, 9), rows(7, 4, 10) * 3 + 1
    total = 0.0
    for a in range(4):
        for b in range(4):
            x, y = first[:, a].astype(np.float64), second[:, b].astype(np.float64)
            share = np.mean((x - x.mean()) * (y - y.mean())) / (x.std() * y.std())
            total += (1 - share) ** 2 if a == b else 0.1 * share**2
    assert float(barlow_loss(first, second, redundancy=0.1)) == pytest.approx(total, rel=1e-4)


def test_barlow_twins_is_finite_where_a_coordinate_never_changes() -> None:
    x = tf.Variable(np.ones((4, 3), "float32"))
    with tf.GradientTape() as tape:
        loss = barlow_loss(x, x, redundancy=0.1)
    assert float(loss) == 3
    assert np.isfinite(tape.gradient(loss, x).numpy()).all()


def test_simsiam_is_the_papers_loss_and_its_target_has_no_gradient() -> None:
    first, second = rows(6, 4, 11), rows(6, 4, 12)
    model = SimSiam(identity(4), lambda x: x, projector=identity(4), predictor=identity(4))
    naive = -np.mean([cosine(a, b) for a, b in zip(first, second, strict=True)])
    assert float(model.loss_of(tf.constant(first), tf.constant(second), False)[0]) == pytest.approx(naive, rel=1e-5)
    target = tf.Variable(second)
    with tf.GradientTape() as tape:
        loss = simsiam_loss(tf.constant(first), target)
    assert tape.gradient(loss, target) is None
    zero = tf.Variable(np.zeros((2, 4), "float32"))
    with tf.GradientTape() as tape:
        loss = simsiam_loss(zero, zero)
    assert np.isfinite(tape.gradient(loss, zero).numpy()).all()


def points(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four kinds told by four small coordinates, beside four large ones that tell nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    return np.hstack([np.eye(4)[labels] + rng.normal(size=(n, 4)) * 0.25, rng.normal(size=(n, 4))]).astype(
        np.float32
    ), labels


def hide(x: Any) -> Any:
    """A view: what tells nothing is drawn anew."""
    n = tf.shape(x)[0]
    return tf.concat([x[:, :4] + tf.random.normal((n, 4), stddev=0.1), tf.random.normal((n, 4))], axis=1)


def encoder_of() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    x = keras.layers.Dense(32, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, keras.layers.Dense(8)(x))


@pytest.mark.parametrize("method", [*METHODS[:2], *(pytest.param(m, marks=pytest.mark.slow) for m in METHODS[2:])])
def test_each_method_learns_to_ignore_what_views_change(method: type[SelfSupervised]) -> None:
    x, labels = points(512, 0)
    settings: dict[str, Any] = {"prototypes": 16} if method is SwAV else {}
    model = method(encoder_of(), hide, **settings)
    before = knn_accuracy(model.encoder.predict(x, verbose=0), labels, ks=(5,))[5]
    model.compile(keras.optimizers.Adam(0.005))
    history = model.fit(x, batch_size=128, epochs=12, verbose=0).history
    after = knn_accuracy(model.encoder.predict(x, verbose=0), labels, ks=(5,))[5]
    assert history["loss"][-1] < history["loss"][0]
    assert history["spread"][-1] > 0.2
    assert after > before + 0.05
    assert np.isfinite(model.evaluate(x, verbose=0, return_dict=True)["loss"])
    np.testing.assert_array_equal(model.predict(x[:4], verbose=0), model.encoder.predict(x[:4], verbose=0))


@pytest.mark.parametrize("method", [SimCLR, VICReg])
def test_two_crops_of_a_history_are_a_pair(method: type[SelfSupervised]) -> None:
    rng = np.random.default_rng(0)
    taste = np.arange(300) % 3
    histories = rng.integers(1, 31, (300, 12)) + 30 * taste[:, None]  # thirty items for each taste
    strays = rng.random(histories.shape) < 0.3
    histories[strays] = rng.integers(1, 91, int(strays.sum()))
    histories[rng.random(histories.shape) < 0.2] = 0
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,), dtype="int64")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(91, 16, mask_zero=True)(inputs))
    model = method(keras.Model(inputs, pooled), HistoryCrops())
    before = knn_accuracy(model.encoder.predict(histories, verbose=0), taste, ks=(5,))[5]
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(histories, batch_size=100, epochs=10, verbose=0)
    assert knn_accuracy(model.encoder.predict(histories, verbose=0), taste, ks=(5,))[5] > before + 0.05


@pytest.mark.slow
def test_mixed_precision_trains() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        for method in (SimCLR, SwAV, BYOL):
            model = method(encoder_of(), hide)
            model.compile(keras.optimizers.Adam(0.001))
            assert np.isfinite(model.fit(points(64, 0)[0], batch_size=32, verbose=0).history["loss"]).all()
    finally:
        keras.config.set_dtype_policy("float32")


def test_wrong_use_is_told() -> None:
    with pytest.raises(ValueError, match="built Keras model"):
        SimCLR(keras.Sequential([keras.layers.Dense(3)]), hide)
    with pytest.raises(TypeError, match="augment must be a function"):
        SimCLR(encoder_of(), None)  # type: ignore[arg-type]
    model = VICReg(encoder_of(), hide)
    model.compile("adam")
    x, labels = points(8, 0)
    with pytest.raises(ValueError, match="takes no labels"):
        model.fit(x, labels, verbose=0)
    with pytest.raises(ValueError, match="at 1 the target never moves"):
        BYOL(encoder_of(), hide, momentum=1.0)
    with pytest.raises(ValueError, match="epsilon must be above 0"):
        SwAV(encoder_of(), hide, epsilon=0)
    with pytest.raises(ValueError, match="redundancy must be at least 0, got -1"):
        BarlowTwins(encoder_of(), hide, redundancy=-1)
    with pytest.raises(ValueError, match="weights must be at least 0"):
        VICReg(encoder_of(), hide, variance=-1)
