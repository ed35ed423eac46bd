"""The features block's loss against the softmax of its formula, and its tower against what was trained."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

tf = pytest.importorskip("tensorflow")

from topkin.encoding.blocks import FEATURES, Block, user_vectors  # noqa: E402
from topkin.interactions import FEATURES as PURCHASE_FEATURES  # noqa: E402
from topkin.models.data.feature_rows import FeatureRows  # noqa: E402
from topkin.models.data.histories import before_cut  # noqa: E402
from topkin.models.data.in_memory import InMemoryInteractions  # noqa: E402
from topkin.models.training.batches import example_weights  # noqa: E402
from topkin.models.training.feature_trainer import FeatureTrainer  # noqa: E402
from topkin.models.two_tower.encoder import encode_features  # noqa: E402


@pytest.fixture(scope="module")
def featured(catalogue):
    """The shop's catalogue with a feature that tells odd items from even ones."""
    features = [{"side": ("odd", "even")[i % 2], "size": float(i)} for i in range(len(catalogue))]
    kind = pa.struct({"side": pa.string(), "size": pa.float32()})
    return catalogue.append_column("features", pa.array(features, kind))


@pytest.fixture(scope="module")
def trainer(context, purchases, featured):
    chosen = context.changed(feature_dim=5, id_dropout=0.3, batch_size=32)
    return FeatureTrainer.of(chosen, purchases, "refit", chosen.index(purchases, featured))


def formula(trainer, batch):
    """The loss of a batch by the formula, one target at a time."""
    model, features, step = trainer.model, trainer.features, trainer.step
    whole = {k: tf.constant(v) for k, v in features.content.items()}
    out, pooled = (np.asarray(model.content(whole, side), np.float64) for side in ("out", "in"))
    rates = np.asarray(step.free.table)[:, 0].astype(np.float64)
    candidates, questions = batch["candidates"], batch["question"]
    log_e = np.asarray(step.log_exposure).astype(np.float64)[candidates]
    log_q = np.asarray(step.log_q).astype(np.float64)[candidates]
    own = rates[batch["candidates_rows"]] * (batch["candidates_rows"] > 0)
    losses = []
    for target, question in zip(batch["target"], questions, strict=True):
        mine = batch["history"][:, 0] == question
        weights = batch["history_weights"][mine].astype(np.float64)
        taste = weights @ pooled[batch["pooled"][batch["history"][mine, 1]]] / weights.sum()
        logits = out[candidates][:, :-1] @ taste[:-1] + out[candidates][:, -1] + own + log_e
        bought = batch["bought"][batch["bought"][:, 0] == question, 1]
        others = np.setdiff1d(np.arange(len(candidates)), bought)
        against = np.r_[logits[target], (logits - log_q)[others]]
        losses.append(np.log(np.exp(against).sum()) - logits[target])
    return np.mean(np.array(losses) * batch["weights"])


def test_the_loss_is_that_of_the_formula(trainer):
    for _, batch in zip(range(2), trainer.batches(1), strict=False):
        wanted = formula(trainer, batch)
        assert float(trainer.step(batch)) == pytest.approx(wanted, rel=1e-4)


def test_exposure_is_the_share_of_examples_after_the_first_sale(trainer, purchases):
    first, ages, weights = {}, [], []
    sold = np.zeros(len(purchases.item_ids))
    for name in purchases.names():
        history = before_cut(purchases.part(name), 0.0).distinct()
        own = example_weights(history, trainer.train)
        for item, age, weight in zip(history.items, history.ages, own, strict=True):
            first[item] = max(first.get(item, 0), age)
            sold[item] += weight
            ages.append(int(age))
            weights.append(weight)
    sold_share, exposure = trainer._sold_and_exposure()
    wanted = [sum(w for a, w in zip(ages, weights, strict=True) if a <= int(first[i])) if i in first else 0
              for i in range(len(sold))]  # fmt: skip
    np.testing.assert_allclose(exposure, np.array(wanted) / sum(weights), rtol=1e-5)
    np.testing.assert_allclose(sold_share / sold_share.sum(), sold / sold.sum(), rtol=1e-5)


def test_without_times_every_item_was_there_from_the_first(context, purchases, featured):
    bare = context.untimed().changed(feature_dim=3)
    trainer = FeatureTrainer.of(bare, purchases, "refit", bare.index(purchases, featured))
    _, exposure = trainer._sold_and_exposure()
    assert set(exposure.tolist()) == {0.0, 1.0}


@pytest.fixture(scope="module")
def learned(trainer):
    losses = [trainer.run_epoch(epoch) for epoch in range(1, 6)]
    assert losses[-1] < losses[0]
    return trainer


def test_the_tower_orders_items_as_the_step_does(learned, purchases):
    """A pooled history and the last coordinate give the softmax's logits, but for a factor of the user."""
    history = before_cut(purchases.part(purchases.names()[0]), 0.0)
    out, pooled = encode_features(learned.model, learned.features, 16)
    users = user_vectors(history, pooled, learned.counts.buyers, [Block.unscaled(FEATURES, out.shape[1], 0.0, None)])
    whole = {k: tf.constant(v) for k, v in learned.features.content.items()}
    content = np.asarray(learned.model.content(whole, "out"))
    own = np.asarray(learned.step.free.table)[learned.features.id_rows, 0] * (learned.features.id_rows > 0)
    tastes = np.asarray(learned.model.content(whole, "in"))
    for user in range(3):
        bought = history.items[history.indptr[user] : history.indptr[user + 1]]
        logits = content[:, :-1] @ tastes[bought, :-1].mean(axis=0) + content[:, -1] + own
        scores = users[user] @ out.T
        np.testing.assert_allclose(scores / users[user][-1], logits, rtol=1e-3, atol=1e-3)


def test_a_user_of_one_kind_is_listed_the_new_item_of_it(learned, purchases):
    """An item that nobody bought has a place by its content: before that of every other kind."""
    history = before_cut(purchases.part(purchases.names()[1]), 0.0)
    out, pooled = encode_features(learned.model, learned.features, 16)
    users = user_vectors(history, pooled, learned.counts.buyers, [Block.unscaled(FEATURES, out.shape[1], 0.0, None)])
    new = users @ out[[11, 23, 35]].T
    kind = history.items[history.indptr[:-1]] // 12
    assert (new.argmax(axis=1) == kind).mean() > 0.9


@pytest.fixture(scope="module")
def gifted(context, purchases, featured):
    """A trainer over the shop's histories with purchases of other categories that a feature calls gifts."""
    rng = np.random.default_rng(8)
    rows = FeatureRows(({"name": "channel", "labels": ["web", "gift"]},))
    parts = []
    for name in purchases.names():
        part = purchases.part(name)
        gift = rng.random(len(part.items)) < 0.5
        items = np.where(gift, rng.integers(0, part.n_items, len(gift)), part.items).astype(np.int32)
        features = np.zeros((len(items), 1), PURCHASE_FEATURES)
        features["row"][:, 0], features["share"] = 1 + gift, 1
        parts.append(replace(part, items=items, features=features))
    changed = InMemoryInteractions("", purchases.item_ids, purchases.as_of, featured=True, parts=parts)
    vars(changed)["rows"] = rows  # as if learned of these
    chosen = context.changed(feature_dim=5, batch_size=32)
    return FeatureTrainer.of(chosen, changed, "refit", chosen.index(changed, featured))


def test_a_purchase_weighs_in_the_loss_what_its_features_say(gifted):
    gifted.step.gates[0].table.assign([[7.0], [0.3], [-0.8]])  # row 0 is nothing, whatever it holds
    batch = next(iter(gifted.batches(1)))
    rows, shares = batch["purchase_rows"], batch["purchase_shares"]
    values = np.where(rows == 1, 0.3, -0.8) * shares
    plain = {**batch, "history_weights": batch["history_weights"] * np.exp(values[:, 0])}
    wanted = formula(gifted, plain)
    assert float(gifted.step(batch)) == pytest.approx(wanted, rel=1e-4)
    gifted.step.gates[0].table.assign(np.zeros((3, 1)))


def test_gifts_are_learned_to_weigh_less(gifted):
    for epoch in range(1, 9):
        gifted.run_epoch(epoch)
    weights = gifted.purchase_weights()
    assert weights.table[0] == 0
    assert weights.table[2] < weights.table[1] - 0.2
