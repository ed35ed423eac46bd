"""What features of purchases say of their weights: pooled by a loop, and as reasons that add up."""

from dataclasses import replace

import numpy as np
import pytest

from topkin.encoding.blocks import Block, factors, spans, user_vectors
from topkin.interactions import FEATURES, Interactions, concatenate
from topkin.linalg.cosine import unit_rows

RNG = np.random.default_rng(4)
N_ITEMS, BUYERS = 9, np.arange(1, 10)
GATED = replace(Block.unscaled("svd", 3, 0.5, 20.0), gate=2.0)
PLAIN = Block.unscaled("features", 2, 0.0, None)
IN = RNG.normal(size=(N_ITEMS, 5)).astype(np.float32)


def history() -> Interactions:
    indptr, items = np.array([0, 3, 3, 7]), np.array([1, 2, 5, 0, 3, 8, 4], np.int32)
    ages = np.array([9, 4, 1, 30, 20, 20, 2], np.float32)
    logs = np.array([0.5, -1, 0, 2, -2, 0.1, 0], np.float32)
    return Interactions(indptr, items, ages, np.ones(7, np.float32), N_ITEMS, log_weights=logs)


def test_a_gate_multiplies_weights_in_its_own_block_alone() -> None:
    bought, blocks = history(), [GATED, PLAIN]
    wanted = np.zeros((3, 5))
    for user in range(3):
        for at in range(bought.indptr[user], bought.indptr[user + 1]):
            days = bought.ages[at] - bought.ages[bought.indptr[user + 1] - 1]
            weight = BUYERS[bought.items[at]] ** -0.5 * 2 ** (-days / 20) * np.exp(2 * bought.log_weights[at])
            wanted[user, :3] += weight * IN[bought.items[at], :3]
            wanted[user, 3:] += IN[bought.items[at], 3:]
    for span in spans(blocks):
        wanted[:, span] = unit_rows(wanted[:, span].astype(np.float32))
    vectors = user_vectors(bought, IN, BUYERS, blocks)
    assert vectors == pytest.approx(unit_rows(wanted.astype(np.float32)), abs=1e-6)
    shares = factors(bought, IN, BUYERS, blocks)
    sums = np.zeros((3, 5), np.float32)
    for number, span in enumerate(spans(blocks)):
        np.add.at(sums[:, span], bought.users, shares[:, number, None] * IN[bought.items][:, span])
    assert unit_rows(sums) == pytest.approx(vectors, abs=1e-6)


def test_without_what_features_say_a_gate_is_nothing() -> None:
    bought = replace(history(), log_weights=None)
    plain = [replace(GATED, gate=0.0), PLAIN]
    assert np.array_equal(user_vectors(bought, IN, BUYERS, [GATED, PLAIN]), user_vectors(bought, IN, BUYERS, plain))
    assert not np.allclose(user_vectors(history(), IN, BUYERS, [GATED]), user_vectors(bought, IN, BUYERS, [GATED]))


def test_what_features_say_goes_with_the_purchases() -> None:
    indptr, items = np.array([0, 2, 4]), np.array([1, 1, 2, 3], np.int32)
    ages, logs = np.array([5, 4, 3, 2], np.float32), np.arange(4, dtype=np.float32)
    features = np.zeros((4, 2), FEATURES)
    features["row"][:, 0] = np.arange(4)
    two = Interactions(indptr, items, ages, np.ones(4, np.float32), 5, log_weights=logs, features=features)
    once = two.distinct()  # of an item bought twice the latest purchase counts
    assert once.log_weights is not None
    assert once.features is not None
    assert (once.log_weights.tolist(), once.features["row"][:, 0].tolist()) == ([1, 2, 3], [1, 2, 3])
    both = concatenate([two.take(np.array([1])), two.latest(1)])
    assert both.log_weights is not None
    assert both.log_weights.tolist() == [2, 3, 1, 3]
    assert two.keep(ages < 4).log_weights.tolist() == [2, 3]  # type: ignore[union-attr]
