import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from topkin.models.losses import in_batch_softmax, log_inclusion  # noqa: E402
from topkin.models.towers import HistoryPooling  # noqa: E402


def naive(users, items, positive, masked, log_q, temperature, logq):
    losses = []
    for row in range(len(users)):
        scores = []
        for column in range(len(items)):
            if masked[row, column] and column != positive[row]:
                continue
            score = sum(users[row, k] * items[column, k] for k in range(users.shape[1])) / temperature
            scores.append((column, score - logq * log_q[column]))
        hit = dict(scores)[positive[row]]
        top = max(s for _, s in scores)
        losses.append(top + np.log(sum(np.exp(s - top) for _, s in scores)) - hit)
    return np.array(losses)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("logq", [0.0, 0.5, 1.0])
def test_the_loss_equals_naive_loops(dtype, tolerance, logq):
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(7, 4)).astype(dtype), rng.normal(size=(5, 4)).astype(dtype)
    positive, masked = rng.integers(0, 5, 7).astype(np.int32), rng.random((7, 5)) < 0.4
    log_q = np.log(rng.random(5)).astype(dtype)
    got = in_batch_softmax(users, items, positive, masked, log_q, temperature=0.2, logq=logq)
    want = naive(users.astype(float), items.astype(float), positive, masked, log_q.astype(float), 0.2, logq)
    np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance)


def test_a_users_own_purchases_are_no_negatives():
    users, items = np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)
    masked = np.array([[False, True, True]])
    alone = in_batch_softmax(users, items, np.array([0]), masked, np.zeros(3, np.float32), temperature=1.0)
    assert np.asarray(alone).tolist() == [0.0]


def mean_push(logq: float) -> np.ndarray:
    """The mean gradient on each item's score, where scores are already the log of the popularity."""
    rng = np.random.default_rng(1)
    counts = np.array([400, 200, 100, 50, 25, 13, 6, 3, 2, 1])
    n, size = len(counts), 8
    scores = np.log(counts / counts.sum()).astype(np.float32)
    log_q = log_inclusion(counts, size)
    total = np.zeros(n)
    for _ in range(200):
        targets = rng.choice(n, size, p=counts / counts.sum())
        found, positive = np.unique(targets, return_inverse=True)
        users = tf.constant(np.tile(scores, (size, 1)))
        with tf.GradientTape() as tape:
            tape.watch(users)
            items = tf.constant(np.eye(n, dtype=np.float32)[found])
            masked = np.zeros((size, len(found)), bool)
            losses = in_batch_softmax(
                users, items, positive.astype(np.int32), masked, log_q[found], temperature=1.0, logq=logq
            )
            loss = tf.reduce_mean(losses)
        total += np.asarray(tape.gradient(loss, users)).sum(axis=0)
    return total / 200


def test_without_the_correction_popular_items_are_learned_away():
    assert mean_push(0.0)[0] > 0.1  # a positive gradient lowers the score of the most popular item
    assert abs(mean_push(1.0)[0]) < 0.06


def test_the_chance_of_inclusion_is_a_probability_that_grows_with_the_batch():
    counts = np.array([1000, 10, 1, 0])
    small, large = np.exp(log_inclusion(counts, 10)), np.exp(log_inclusion(counts, 1000))
    assert (small <= large).all()
    assert (large <= 1).all()
    assert (small > 0).all()
    np.testing.assert_allclose(small[1], 1 - (1 - 10 / 1011.5) ** 10, rtol=1e-3)


def test_the_gradient_is_finite_where_a_history_is_empty():
    in_vectors = tf.Variable(np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32))
    weights = tf.constant([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    pooling = HistoryPooling()
    with tf.GradientTape() as tape:
        users = pooling(in_vectors, weights)
        losses = in_batch_softmax(
            users, tf.eye(4)[:2], tf.constant([0, 1]), tf.zeros((2, 2), tf.bool), tf.zeros(2), temperature=0.1
        )
        loss = tf.reduce_sum(losses)
    gradient = np.asarray(tape.gradient(loss, in_vectors))
    assert np.isfinite(gradient).all()
    assert not gradient[0].any()
    assert gradient[1].any()
    assert np.asarray(users)[0].tolist() == [0.0] * 4
