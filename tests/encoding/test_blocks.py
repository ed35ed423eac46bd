"""Pooling and weighing by blocks against a loop; the reduction to cosine changes no order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.encoding.blocks import (
    PROFILE,
    RECENCY,
    Block,
    by_purchases,
    dim_of,
    equally_long,
    factors,
    preference_embeddings,
    rotation,
    spans,
    user_vectors,
)
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows

BLOCKS = [
    Block(
        name="svd",
        dim=3,
        weight=1.0,
        inverse_popularity=0.5,
        half_life_days=20.0,
        recency_lift=0.5,
        spread=(0.7, 0.2, 0.1),
    ),
    Block(name="trained", dim=2, weight=0.4, inverse_popularity=0.0, half_life_days=None, spread=(1.5, 0.3)),
    Block(name=RECENCY, dim=1, weight=0.2, inverse_popularity=0.0, half_life_days=None, spread=(2.0,)),
]
DIM = dim_of(BLOCKS)


def shop(histories, n_items=12, seed=0):
    """Histories of (item, age in days) in time order, in-vectors and buyers."""
    rng = np.random.default_rng(seed)
    flat = [purchase for history in histories for purchase in history]
    indptr = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    items = np.array([i for i, _ in flat], np.int32)
    ages = np.array([a for _, a in flat], np.float32)
    in_vectors = rng.normal(size=(n_items, DIM)).astype(np.float32)
    in_vectors[:, -1] = 0
    return (
        Interactions(indptr, items, ages, np.ones(len(flat), np.float32), n_items),
        in_vectors,
        rng.integers(1, 50, n_items),
    )


def naive_user(history, in_vectors, buyers, length=None):
    """The module's formula, one purchase at a time."""
    latest = dict(history)  # a repeat counts at its last
    kept = sorted(latest.items(), key=lambda pair: pair[1])[:length]
    youngest = min((age for _, age in kept), default=0)
    vector = np.zeros(DIM)
    for block, span in zip(BLOCKS, spans(BLOCKS), strict=True):
        pooled = np.zeros(block.dim)
        for item, age in kept:
            decay = 2 ** (-(age - youngest) / block.half_life_days) if block.half_life_days else 1.0
            pooled += buyers[item] ** -block.inverse_popularity * decay * in_vectors[item, span].astype(float)
        deviation = np.sqrt(sum(s * p * p for s, p in zip(block.spread, pooled, strict=True)))
        vector[span] = block.weight * pooled / deviation if deviation else 0
    norm = np.linalg.norm(vector)
    return vector / norm if norm else vector


HISTORIES = [[(3, 30.0), (7, 20.0), (3, 10.0), (9, 1.0)], [], [(11, 5.0)], [(i, 9.0 - i) for i in range(8)]]


@pytest.mark.parametrize("length", [None, 2])
def test_user_vectors_are_those_of_the_formula(length):
    history, in_vectors, buyers = shop(HISTORIES)
    got = user_vectors(history, in_vectors, buyers, BLOCKS, length=length)
    assert got.dtype == np.float32
    for row, purchases in enumerate(HISTORIES):
        np.testing.assert_allclose(got[row], naive_user(purchases, in_vectors, buyers, length), atol=1e-5)


def test_a_user_vector_is_the_sum_of_its_purchases():
    history, in_vectors, buyers = shop(HISTORIES)
    kept = history.distinct()
    vectors = factors(kept, in_vectors, buyers, BLOCKS)
    sums = np.zeros((kept.n_users, DIM))
    for number, span in enumerate(spans(BLOCKS)):
        np.add.at(sums[:, span], kept.users, vectors[:, number, None] * in_vectors[kept.items, span].astype(float))
    np.testing.assert_allclose(unit_rows(sums), user_vectors(history, in_vectors, buyers, BLOCKS), atol=1e-6)


def test_a_user_vector_does_not_depend_on_its_batch():
    history, in_vectors, buyers = shop(HISTORIES * 5)
    whole = user_vectors(history, in_vectors, buyers, BLOCKS)
    for row in range(20):
        alone = user_vectors(history.take(np.array([row])), in_vectors, buyers, BLOCKS)
        assert (alone[0] == whole[row]).all()


def test_weights_are_those_of_z_scores():
    rng = np.random.default_rng(3)
    history, in_vectors, buyers = shop(HISTORIES)
    out = rng.normal(size=(500, DIM - 1)).astype(np.float32) * rng.uniform(0.1, 9, DIM - 1).astype(np.float32)
    blocks, at = [], 0
    for block in BLOCKS:
        span = slice(at, at + block.dim)
        at += block.dim
        turned, spread = rotation(out[:, span])
        out[:, span] = out[:, span] @ turned
        blocks.append(Block(**{**block.to_json(), "spread": tuple(spread)}))
    users = user_vectors(history, in_vectors, buyers, blocks)
    for row in (0, 2, 3):
        parts = [(users[row, span] @ out[:, span].T) for span in spans(blocks)]
        got = np.array([part.std() for part in parts])
        np.testing.assert_allclose(got / got[0], [b.weight / blocks[0].weight for b in blocks], rtol=1e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100))
def test_making_items_equally_long_changes_no_order(seed, scale):
    rng = np.random.default_rng(seed)
    out = (rng.normal(size=(30, 4)) * rng.exponential(size=(30, 1)) * scale).astype(np.float32)
    users = unit_rows(np.column_stack([rng.normal(size=(5, 4)), np.zeros(5)]))
    reach = float(np.linalg.norm(out, axis=1).max())
    vectors = equally_long(out, reach)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(users @ vectors.T, users[:, :4] @ out.T / reach, atol=1e-6)


def test_items_of_which_nothing_is_known_stay_zero_and_longer_ones_are_shortened():
    vectors = equally_long(np.array([[0, 0], [3, 4], [0.3, 0.4]]), 1.0)
    np.testing.assert_allclose(vectors, [[0, 0, 0], [0.6, 0.8, 0], [0.3, 0.4, np.sqrt(0.75)]], atol=1e-7)


def test_a_rotation_changes_no_product_and_takes_covariances_away():
    rng = np.random.default_rng(1)
    out, pooled = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5)), rng.normal(size=(7, 5))
    turned, spread = rotation(out)
    np.testing.assert_allclose((pooled @ turned) @ (out @ turned).T, pooled @ out.T, atol=1e-9)
    np.testing.assert_allclose(np.cov((out @ turned).T, bias=True), np.diag(spread), atol=1e-9)
    assert (np.diff(spread) <= 0).all()


def test_tastes_do_not_know_what_sells_nor_how_long_a_vector_is():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(6, DIM))
    louder = vectors.copy()
    louder[:, 5:] += 3  # the prior's coordinate and the last one
    louder[:, :3] *= 7
    np.testing.assert_allclose(preference_embeddings(louder, BLOCKS), preference_embeddings(vectors, BLOCKS), atol=1e-6)
    a, b = preference_embeddings(vectors, BLOCKS)[:2]
    one, other = (unit_rows(vectors[:2, span]) for span in spans(BLOCKS)[:2])
    assert a @ b == pytest.approx((one[0] @ one[1] + 0.4 * other[0] @ other[1]) / 1.4)


def test_a_level_that_all_users_share_makes_no_two_items_alike():
    rng = np.random.default_rng(3)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    block = replace(Block.unscaled("features", 3, 0.0, None), level=tuple(turned[-1]))
    vectors = rng.normal(size=(5, 3))
    popular = (vectors + np.array([0, 0, 4])) @ turned
    wanted = unit_rows(vectors[:, :2]) @ unit_rows(vectors[:, :2]).T
    actual = preference_embeddings(popular.astype(np.float32), [block])
    np.testing.assert_allclose(actual @ actual.T, wanted, atol=1e-5)


PROFILED = [
    *BLOCKS[:2],
    replace(Block.unscaled(PROFILE, 2, 0.0, None), weight=1.5, spread=(0.4, 2.0), prior_purchases=3.0),
    *BLOCKS[2:],
]


def test_a_profile_counts_less_beside_more_purchases_and_alone_where_there_are_none():
    history, narrow, buyers = shop(HISTORIES)
    span = spans(PROFILED)[2]
    in_vectors = np.insert(narrow, [span.start] * 2, 0, axis=1)
    profiles = np.array([[1, -2], [0.5, 0], [0, 0], [3, 1]], np.float32)
    vectors = user_vectors(history, in_vectors, buyers, PROFILED, profiles=profiles)
    for row, (purchases, profile) in enumerate(zip(HISTORIES, profiles, strict=True)):
        kept = history.take(np.array([row])).distinct()
        parts = factors(kept, narrow, buyers, BLOCKS)
        wanted = np.zeros(in_vectors.shape[1])
        for number, (own, wide) in enumerate(zip(spans(BLOCKS), [0, 1, 3], strict=True)):
            wanted[spans(PROFILED)[wide]] = parts[:, number] @ narrow[kept.items, own]
        if profile.any():
            z = 1.5 * profile / np.sqrt(0.4 * profile[0] ** 2 + 2.0 * profile[1] ** 2)
            wanted[span] = z * 3 / (3 + len(dict(purchases)))
            if not purchases:
                wanted[spans(PROFILED)[3]] = 0.2 / np.sqrt(2.0)  # what sells counts for all alike
        np.testing.assert_allclose(vectors[row], unit_rows(wanted), atol=1e-5)
        rest = np.delete(vectors[row], [span.start, span.start + 1])
        assert by_purchases(vectors[row : row + 1], PROFILED)[0] == pytest.approx(np.linalg.norm(rest), abs=1e-5)


def test_a_profile_counts_beside_what_was_bought_whatever_else_was_done():
    history, narrow, buyers = shop(HISTORIES)
    span = spans(PROFILED)[2]
    in_vectors = np.insert(narrow, [span.start] * 2, 0, axis=1)
    profiles = np.ones((4, 2), np.float32)
    viewed, _, _ = shop([[(item, 1.0) for item in range(history.n_items)]] * 4)
    vectors = user_vectors(replace(history, inputs=viewed), in_vectors, buyers, PROFILED, profiles=profiles)
    pooled = user_vectors(viewed, in_vectors, buyers, PROFILED, profiles=np.zeros((4, 2), np.float32))
    z = 1.5 / np.sqrt(2.4)
    for row, purchases in enumerate(HISTORIES):
        weight = 3 / (3 + len(dict(purchases)))
        rest = np.delete(vectors[row], [span.start, span.start + 1])
        level = np.delete(pooled[row], [span.start, span.start + 1])
        np.testing.assert_allclose(unit_rows(rest[None]), unit_rows(level[None]), atol=1e-5)
        ratio = vectors[row, span.start] / np.linalg.norm(rest)
        length = np.linalg.norm(_unscaled(viewed, in_vectors, buyers, row))
        assert ratio == pytest.approx(z * weight / length, rel=1e-4)


def _unscaled(history, in_vectors, buyers, row):
    """A user's vector before its length is taken, without a profile."""
    kept = history.take(np.array([row])).distinct()
    parts = factors(kept, in_vectors, buyers, PROFILED)
    return np.concatenate([parts[:, n] @ in_vectors[kept.items, own] for n, own in enumerate(spans(PROFILED))])


def test_without_profiles_a_user_of_no_purchases_stays_unknown():
    history, in_vectors, buyers = shop(HISTORIES)
    none = user_vectors(history, in_vectors, buyers, BLOCKS, profiles=np.zeros((4, 2), np.float32))
    np.testing.assert_array_equal(none, user_vectors(history, in_vectors, buyers, BLOCKS))
    np.testing.assert_array_equal(by_purchases(none, BLOCKS), np.ones(4))


def test_a_block_survives_json():
    for block in [*PROFILED, replace(BLOCKS[0], level=(0.6, 0.8))]:
        assert Block.from_json(block.to_json()) == block
