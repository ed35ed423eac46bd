"""The cross-batch memory: what it remembers, what it forgets, and that validation never enters it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.models.metric_learning.losses.cross_batch_memory import CrossBatchMemory
from topkin.models.metric_learning.losses.pair import Contrastive, Triplet
from topkin.models.metric_learning.losses.proxy import ArcFace, ProxyAnchor
from topkin.models.metric_learning.losses.softmax import NTXent
from topkin.models.metric_learning.losses.weighted_sum import WeightedSum

DRAW = np.random.default_rng(4)
ROWS, LABELS = DRAW.normal(size=(12, 3)), np.arange(12) % 3


def test_a_step_is_the_loss_against_the_last_rows_without_oneself() -> None:
    memory, inner = CrossBatchMemory(NTXent(0.5), size=7, dim=3), NTXent(0.5)
    for start in range(0, 12, 3):
        rows, labels = ROWS[start : start + 3], LABELS[start : start + 3]
        value = float(memory(labels, tf.constant(rows)))
        kept = slice(max(start - 4, 0), start + 3)  # 7 rows, this batch among them
        far = inner.distance.matrix(tf.constant(rows), tf.constant(ROWS[kept])).numpy() / 0.5
        losses = []
        for i in range(3):
            own = i + start - kept.start
            others = [j for j in range(far.shape[1]) if j != own]
            crowd = sum(np.exp(far[i, j]) for j in others if LABELS[kept][j] != labels[i])
            losses += [np.log1p(crowd / np.exp(far[i, j])) for j in others if LABELS[kept][j] == labels[i]]
        assert value == pytest.approx(np.mean(losses) if losses else 0, rel=1e-6)


def test_remembered_rows_have_no_gradient_and_can_be_forgotten() -> None:
    memory = CrossBatchMemory(Contrastive(), size=12, dim=3)
    old = tf.Variable(ROWS[:6])
    memory(LABELS[:6], old)
    with tf.GradientTape() as tape:
        value = memory(LABELS[6:], tf.constant(ROWS[6:]))
    assert tape.gradient(value, old) is None
    alone = float(Contrastive()(LABELS[6:], tf.constant(ROWS[6:])))
    assert float(value) != alone
    memory.reset()
    assert float(memory(LABELS[6:], tf.constant(ROWS[6:]))) == pytest.approx(alone)


@pytest.mark.parametrize("jit", [False, True])
def test_fit_fills_the_memory_and_validation_leaves_it_alone(jit: bool) -> None:
    loss = CrossBatchMemory(Triplet(0.5), size=8, dim=3)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, loss.head()(keras.layers.Dense(3)(inputs)))
    model.compile("sgd", loss=loss, jit_compile=jit)
    model.fit(ROWS, LABELS, batch_size=6, epochs=2, shuffle=False, verbose=0)
    seen, vectors = int(loss._seen), loss._vectors.numpy()
    assert seen == 24
    assert (np.abs(vectors).sum(axis=1) > 0).all()
    model.evaluate(ROWS, LABELS, batch_size=6, verbose=0)
    assert int(loss._seen) == seen
    np.testing.assert_array_equal(loss._vectors.numpy(), vectors)
    embeddings = model.predict(ROWS, verbose=0)
    assert embeddings.shape == (12, 4)
    assert (embeddings[:, 3] == 0).all()
    value = float(loss(LABELS[:6], embeddings[:6]))
    assert value == pytest.approx(float(Triplet(0.5)(LABELS[:6], embeddings[:6, :3])), rel=1e-5)


def test_misuse_is_explained() -> None:
    with pytest.raises(TypeError, match=r"needs a loss over pairs or triplets .* got ArcFace"):
        CrossBatchMemory(ArcFace())
    with pytest.raises(ValueError, match="embeddings must have dim = 5 coordinates, got 3"):
        CrossBatchMemory(Triplet(), 8, 5)(LABELS, tf.constant(ROWS))
    with pytest.raises(tf.errors.InvalidArgumentError, match="must hold a batch at least: raise size"):
        CrossBatchMemory(Triplet(), 8, 3)(LABELS, tf.constant(ROWS))


def test_a_sum_of_losses_has_the_head_they_share() -> None:
    head = WeightedSum([ArcFace(), ProxyAnchor()], [1, 0.5]).head(3)
    assert head(tf.constant(ROWS, tf.float32)).shape == (12, 3)
    assert WeightedSum([Triplet(), NTXent()]).head() is None
    with pytest.raises(ValueError, match="must read the same predictions, got heads NoneType, Proxies: give the model"):
        WeightedSum([Triplet(), ArcFace()]).head(3)
    with pytest.raises(ValueError, match="one weight, got 1 losses and 2 weights"):
        WeightedSum([Triplet()], [1, 2])
    with pytest.raises(TypeError, match="got MeanSquaredError: a Keras loss needs an output of its own"):
        WeightedSum([keras.losses.MeanSquaredError()])
