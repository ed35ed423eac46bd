import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from topkin.models.objective.losses import log_inclusion, sampled_softmax, sampled_softmax_of_pairs  # noqa: E402
from topkin.models.two_tower.towers import unit  # noqa: E402


def asked(dtype="float64", seed=0):
    """Five questions, nine targets, six candidates of which some are no negatives."""
    rng = np.random.default_rng(seed)
    users, items = rng.normal(size=(5, 4)).astype(dtype), rng.normal(size=(6, 4)).astype(dtype)
    question = np.array([0, 0, 1, 2, 2, 2, 3, 4, 4], np.int32)
    target = rng.integers(0, 6, 9).astype(np.int32)
    negative = rng.random((5, 6)) < 0.6
    negative[question, target] = False
    return users, items, question, target, negative, np.log(rng.uniform(0.05, 1, 6)).astype(dtype)


def naive_softmax(users, items, question, target, negative, log_q, temperature, logq, base):
    losses = []
    for row, column in zip(question, target, strict=True):
        scores = [sum(users[row] * item) / temperature + b for item, b in zip(items, base[row], strict=True)]
        others = sum(np.exp(s - logq * q) for s, q, n in zip(scores, log_q, negative[row], strict=True) if n)
        losses.append(np.log(np.exp(scores[column]) + others) - scores[column])
    return np.array(losses)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-11)])
@pytest.mark.parametrize("logq", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("with_base", [False, True])
def test_the_softmax_equals_naive_loops(dtype, tolerance, logq, with_base):
    args = asked(dtype)
    base = np.random.default_rng(1).normal(size=(5, 6)).astype(dtype) if with_base else None
    got = sampled_softmax(*args, temperature=0.3, logq=logq, base=base)
    exact = [a.astype(float) if a.dtype.kind == "f" else a for a in args]
    want = naive_softmax(*exact, 0.3, logq, np.zeros((5, 6)) if base is None else base.astype(float))
    np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance)


def test_what_the_user_bought_is_no_negative():
    users, items = np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)
    one = (users, items, np.array([0]), np.array([0]), np.zeros((1, 3), bool), np.zeros(3, np.float32))
    assert np.asarray(sampled_softmax(*one, temperature=1.0)).tolist() == [0.0]


def test_the_sampled_sum_stands_for_all_items_whatever_they_are_drawn_by():
    """Over many batches exp(loss) - 1, the sum over negatives beside the target, is that over all items."""
    rng = np.random.default_rng(0)
    n, size, draws = 50, 6, 10
    users, items = rng.normal(size=(1, 3)), rng.normal(size=(n, 3))
    counts, drawn = rng.integers(1, 100, n), rng.random(n)
    drawn /= drawn.sum()
    log_q = log_inclusion(counts, size, drawn, draws)
    logits = items @ users[0]
    sums = []
    for _ in range(20_000):
        values = np.union1d(rng.choice(n, size, p=counts / counts.sum()), rng.choice(n, draws, p=drawn))
        sums.append(np.exp(logits[values] - log_q[values]).sum())
    assert np.mean(sums) == pytest.approx(np.exp(logits).sum(), rel=0.01)
    whole = np.arange(n)
    mask = (whole != 0)[None]
    got = sampled_softmax(users, items, np.array([0]), np.array([0]), mask, np.zeros(n), temperature=1.0)
    assert np.asarray(got)[0] == pytest.approx(np.log(np.exp(logits).sum()) - logits[0], rel=1e-9)


def mean_push(logq: float) -> np.ndarray:
    """The mean gradient on each item's score, where scores are already the log of the popularity."""
    rng = np.random.default_rng(0)
    n, size = 300, 32
    share = 1 / np.arange(1.0, n + 1)
    share /= share.sum()
    scores = np.log(share).astype(np.float32)
    log_q = log_inclusion((share * 1e6).astype(int), size)
    total = np.zeros(n)
    for _ in range(200):
        values, target = np.unique(rng.choice(n, size, p=share), return_inverse=True)
        users = tf.constant(np.tile(scores, (size, 1)))
        question = np.arange(size, dtype=np.int32)
        negative = np.ones((size, len(values)), bool)
        negative[question, target] = False
        with tf.GradientTape() as tape:
            tape.watch(users)
            items = tf.constant(np.eye(n, dtype=np.float32)[values])
            losses = sampled_softmax(
                users, items, question, target.astype(np.int32), negative, log_q[values], temperature=1.0, logq=logq
            )
            loss = tf.reduce_mean(losses)
        total += np.asarray(tape.gradient(loss, users)).sum(axis=0)
    return total / 200


def test_without_the_correction_popular_items_are_learned_away():
    assert mean_push(0.0)[0] > 0.05  # a positive gradient lowers the score of the most popular item
    assert abs(mean_push(1.0)[0]) < 0.02


def test_the_chance_of_inclusion_is_a_probability_that_grows_with_batch_and_draws():
    counts = np.array([1000, 10, 1, 0])
    small, large = np.exp(log_inclusion(counts, 10)), np.exp(log_inclusion(counts, 1000))
    more = np.exp(log_inclusion(counts, 10, np.array([0.1, 0.2, 0.3, 0.4]), 3))
    assert (small <= large).all()
    assert (large <= 1).all()
    assert (small > 0).all()
    np.testing.assert_allclose(small[1], 1 - (1 - 10 / 1011.5) ** 10, rtol=1e-3)
    np.testing.assert_allclose(1 - more, (1 - small) * (1 - np.array([0.1, 0.2, 0.3, 0.4])) ** 3, rtol=1e-3, atol=1e-6)


def test_the_gradient_is_finite_where_a_history_is_empty():
    pooled = tf.Variable([[0.0, 0.0, 0.0, 0.0], [0.3, -0.5, 1.0, 2.0]])
    with tf.GradientTape() as tape:
        args = (
            unit(pooled),
            tf.eye(4)[:2],
            tf.constant([0, 1]),
            tf.constant([0, 1]),
            ~np.eye(2, dtype=bool),
            tf.zeros(2),
        )
        total = tf.reduce_sum(sampled_softmax(*args, temperature=0.1))
    gradient = np.asarray(tape.gradient(total, pooled))
    assert np.isfinite(gradient).all()
    assert gradient[1].any()


@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("none_left", [False, True])
def test_the_steps_softmax_and_its_gradients_are_those_of_the_plain_one(with_base, none_left):
    users, items, question, target, negative, log_q = asked()
    target = np.array([0, 3, 1, 5, 0, 2, 4, 1, 0], np.int32)  # a user's targets are distinct
    negative[question, target] = False
    if none_left:
        negative[2] = False
    rng = np.random.default_rng(1)
    base = (rng.normal(size=(5, 3)), rng.normal(size=(6, 3)))
    weights, bought = rng.random(9), np.argwhere(~negative).astype(np.int32)
    collected = []
    for pairs in (False, True):
        sides = tf.Variable(users), tf.Variable(items)
        with tf.GradientTape() as tape:
            common = (*sides, question, target)
            options = {"temperature": 0.3, "logq": 0.7}
            if pairs:
                extra = base if with_base else None
                losses = sampled_softmax_of_pairs(*common, bought, log_q, base=extra, **options)
            else:
                extra = base[0] @ base[1].T if with_base else None
                losses = sampled_softmax(*common, negative, log_q, base=extra, **options)
            total = tf.reduce_sum(losses * weights)
        collected.append([losses, *tape.gradient(total, sides)])
    for plain, quick in zip(*collected, strict=True):
        assert np.abs(plain).max() > 0.01
        np.testing.assert_allclose(quick, plain, rtol=1e-9, atol=1e-12)
