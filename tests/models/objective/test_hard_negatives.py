"""Hard negatives: which items are drawn, how often, and what the losses are told of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from topkin.interactions import Interactions  # noqa: E402
from topkin.models.data.histories import ItemCounts  # noqa: E402
from topkin.models.objective import hard_negatives  # noqa: E402
from topkin.models.objective.losses import log_inclusion  # noqa: E402
from topkin.models.ops import archive  # noqa: E402
from topkin.models.training import fit  # noqa: E402
from topkin.models.training.trainer import Trainer  # noqa: E402
from topkin.models.two_tower.encoder import encode_features  # noqa: E402

N = 90
HOW = {"inverse_popularity": 0.5, "half_life_days": None, "history_length": 100}


def lists(history, out, pooled, counts, users):
    """The items listed for some users, one user at a time."""
    numbers = []
    for user in users:
        bought = sorted(set(history.items[history.indptr[user] : history.indptr[user + 1]].tolist()))
        vector = sum(pooled[i].astype(float) * max(counts.buyers[i], 1) ** -0.5 for i in bought)
        allowed = [i for i in range(N) if i not in bought and counts.targets[i]]
        numbers += sorted(allowed, key=lambda i: -float(out[i] @ vector))[: hard_negatives.DEPTH]
    return numbers


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_they_are_the_highest_scored_items_that_a_user_did_not_buy(seed):
    rng = np.random.default_rng(seed)
    indptr = np.r_[0, np.cumsum(rng.integers(0, 9, 12))]
    size = indptr[-1]
    history = Interactions(indptr, rng.integers(0, N, size).astype(np.int32), *np.ones((2, size), np.float32), N)
    out, pooled = rng.standard_normal((2, N, 4)).astype(np.float32)
    buyers, targets = rng.integers(0, 5, (2, N))
    counts = ItemCounts(buyers, buyers, buyers, targets)
    got = hard_negatives.hard_negative_probabilities(history, out, pooled, counts, rng, **HOW)
    wanted = np.bincount(lists(history, out, pooled, counts, np.flatnonzero(np.diff(indptr))), minlength=N)
    np.testing.assert_allclose(got, wanted / max(wanted.sum(), 1), atol=1e-12)


def test_who_bought_everything_has_none():
    history = Interactions(np.array([0, 2]), np.array([0, 1], np.int32), *np.ones((2, 2), np.float32), 2)
    counts = ItemCounts(*np.ones((4, 2), np.int64))
    vectors = np.ones((2, 3), np.float32)
    probabilities = hard_negatives.hard_negative_probabilities(
        history, vectors, vectors, counts, np.random.default_rng(0), **HOW
    )
    assert probabilities.tolist() == [0, 0]
    assert hard_negatives.mixed(np.array([0.5, 0.5]), 4, probabilities, 8)[1] == 4


def test_the_mixture_draws_as_many_of_each_as_asked():
    chances, draws = hard_negatives.mixed(np.array([0.5, 0.5, 0.0]), 4, np.array([0.0, 0.25, 0.75]), 8)
    np.testing.assert_allclose(chances * draws, [2, 4, 6])
    assert draws == 12


@pytest.fixture(scope="module")
def hardly(context):
    return context.changed(batch_size=4, negatives=2, hard_negatives=6, epochs=2, learning_rate=0.05)


@pytest.fixture(scope="module")
def trainer(hardly, purchases, catalogue):
    from topkin.models.ops import device

    with pytest.MonkeyPatch.context() as patch, device.repeatable():
        patch.setattr(hard_negatives, "DEPTH", 3)  # the shop is small
        yield Trainer(hardly, purchases, "refit", hardly.index(purchases, catalogue))


@pytest.fixture(scope="module")
def second(trainer):
    """The chances of the first epoch, those of the second and its log q, and what the vectors between them say."""
    trainer.run_epoch(1)
    usual, vectors = trainer._chances, encode_features(trainer.model, trainer.features, 64)
    assert trainer._draws == 2
    trainer._draw_hard(2)
    return usual, trainer._chances, np.asarray(trainer.step.log_q), vectors


def test_after_the_first_epoch_negatives_are_those_that_the_vectors_rank_high(trainer, second, purchases):
    usual, chances, _, (out, pooled) = second
    users = next(purchases.groups(np.random.default_rng(0)))
    advanced = trainer.train.advanced
    how = {**HOW, "inverse_popularity": advanced.inverse_popularity, "history_length": advanced.history_length}
    listed = hard_negatives.hard_negative_probabilities(
        users, out, pooled, trainer.counts, np.random.default_rng(1), **how
    )
    assert trainer._draws == 8
    np.testing.assert_allclose(chances, (2 * usual + 6 * listed) / 8, atol=1e-12)


def test_an_item_is_a_candidate_as_often_as_the_losses_are_told(trainer, second):
    usual, _, log_q, _ = second
    came = np.zeros(len(log_q))
    count = 0
    for epoch in range(10, 16):
        for batch in trainer.batches(epoch):
            came[batch["candidates"]] += 1
            count += 1
    sold = trainer.counts.targets > 0
    noise = 4.5 * 0.5 / np.sqrt(count)
    assert np.abs(came / count - np.exp(log_q))[sold].max() < noise
    without = np.exp(log_inclusion(trainer.counts.targets, trainer.batch_size, usual, 8))
    assert np.abs(came / count - without)[sold].max() > noise


@pytest.mark.slow
def test_a_seed_gives_the_same_file_also_where_training_was_killed(hardly, purchases, catalogue, tmp_path):
    context = hardly.changed(batch_size=64, validation_days=0.001, epochs=3, recency_weight=0.0)
    whole = archive.model_bytes(fit.fit(context, purchases, catalogue).encoder.model)

    def die(phase, epoch):
        if epoch["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit.fit(context, purchases, catalogue, scratch=str(tmp_path), on_epoch=die)
    assert archive.model_bytes(fit.fit(context, purchases, catalogue, scratch=str(tmp_path)).encoder.model) == whole
    none = fit.fit(context.changed(hard_negatives=0), purchases, catalogue).encoder
    assert archive.model_bytes(none.model) != whole


def test_without_them_every_epoch_draws_alike(hardly, purchases, catalogue):
    context = hardly.changed(hard_negatives=0, batch_size=64)
    trainer = Trainer(context, purchases, "refit", context.index(purchases, catalogue))
    before = np.asarray(trainer.step.log_q), trainer._chances, trainer._draws
    trainer.run_epoch(1)
    trainer.run_epoch(2)
    assert (np.asarray(trainer.step.log_q) == before[0]).all()
    assert trainer._chances is before[1]
    assert trainer._draws == before[2] == 2
    assert trainer.step.traces == 1
