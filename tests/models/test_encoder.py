from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from topkin.interactions import Interactions
from topkin.models.encoder import unit_rows
from topkin.models.prior import Prior, fitted

PER_KIND, NEVER_SOLD = 12, (11, 23, 35)


@pytest.fixture(scope="module")
def encoder(trained):
    return trained[0]


def histories_of(*items, n_items=36, ages=None) -> Interactions:
    indptr = np.cumsum([0, *map(len, items)]).astype(np.int64)
    flat = np.array([i for h in items for i in h], np.int32)
    flat_ages = np.zeros(len(flat)) if ages is None else np.concatenate(ages)
    return Interactions(indptr, flat, flat_ages.astype(np.float32), np.ones(len(flat), np.float32), n_items)


def test_vectors_are_unit_rows_and_user_vectors_too(encoder, catalogue):
    out, pooled = encoder.encode_items(catalogue)
    users = encoder.encode_users(histories_of([0, 1], [], [13]), pooled, catalogue["users"].to_numpy())
    assert out.shape == pooled.shape == (36, encoder.dim)
    assert out.dtype == users.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("length", [None, 2])
@pytest.mark.parametrize("half_life", [None, 20.0])
def test_user_vectors_equal_the_pooling_formula(encoder, catalogue, length, half_life):
    rng = np.random.default_rng(0)
    items = [[3, 7, 3, 9], [20], [1, 2, 3, 4, 5]]
    ages = [np.array([30.0, 20.0, 10.0, 1.0]), np.array([5.0]), np.arange(5.0)[::-1]]
    history, buyers = histories_of(*items, ages=ages), rng.integers(1, 50, 36)
    pooled = rng.normal(size=(36, encoder.dim)).astype(np.float32)
    encoder.model.meaning["half_life_days"] = half_life
    try:
        got = encoder.encode_users(history, pooled, buyers, length=length)
    finally:
        encoder.model.meaning["half_life_days"] = None
    for row in range(3):
        latest = dict(zip(items[row], ages[row], strict=True))  # a repeat counts at its last
        kept = sorted(latest.items(), key=lambda pair: pair[1])[:length]
        total = np.zeros(encoder.dim)
        for item, age in kept:
            decay = 1.0 if half_life is None else 2 ** (-age / half_life)
            total += buyers[item] ** -0.5 * decay * pooled[item].astype(float)
        np.testing.assert_allclose(got[row], total / np.linalg.norm(total), atol=1e-5)


def test_a_vector_does_not_depend_on_its_batch(encoder, catalogue):
    whole = encoder.encode_items(catalogue, batch_size=64)
    for size in (5, 36):
        parts = encoder.encode_items(catalogue, batch_size=size)
        assert all((a == b).all() for a, b in zip(whole, parts, strict=True))
    last = encoder.encode_items(catalogue.slice(35, 1))
    assert (last[0][0] == whole[0][35]).all()


def test_users_that_training_never_saw_get_items_of_their_category(encoder, catalogue):
    out, pooled = encoder.encode_items(catalogue)
    users = encoder.encode_users(histories_of([0, 5], [14, 17], [30, 33]), pooled, catalogue["users"].to_numpy())
    best = np.argsort(-(users @ out.T), axis=1)[:, :10]
    assert (best // PER_KIND == np.array([[0], [1], [2]])).mean() > 0.9


def test_items_never_sold_lie_near_their_category(encoder, catalogue):
    out, _ = encoder.encode_items(catalogue)
    towers = unit_rows(out[:, : encoder.dim - 2])
    for item in NEVER_SOLD:
        near = [n for n in np.argsort(-(towers @ towers[item])) if n != item][:5]
        assert [n // PER_KIND for n in near] == [item // PER_KIND] * 5


def test_an_item_that_training_never_saw_is_encoded_by_its_content(encoder, catalogue):
    new = catalogue.slice(0, 1)
    for at, (name, value) in enumerate(
        {"item_id": "brand new", "title": "kitchen thing", "category": "kitchen"}.items()
    ):
        new = new.set_column(at, catalogue.schema.field(name), pa.array([value], pa.string()))
    out, _ = encoder.encode_items(catalogue)
    vector, _ = encoder.encode_items(new)
    cosines = unit_rows(out[:, :-2]) @ unit_rows(vector[:, :-2])[0]
    assert set(np.argsort(-cosines)[:5] // PER_KIND) == {1}


def test_an_item_of_which_nothing_is_known_gets_zero_vectors(encoder, catalogue):
    names = {"item_id": "x", "title": None, "category": None}
    new = catalogue.slice(0, 1)
    for at, (name, value) in enumerate(names.items()):
        new = new.set_column(at, catalogue.schema.field(name), pa.array([value], pa.string()))
    new = new.set_column(3, catalogue.schema.field("price"), pa.array([None], pa.float32()))
    out, pooled = encoder.encode_items(new)
    assert not out.any()
    assert not pooled.any()


def test_the_prior_ranks_as_the_weighted_sum_does():
    rng = np.random.default_rng(4)
    out, pooled = unit_rows(rng.normal(size=(50, 6))), rng.normal(size=(50, 6)).astype(np.float32)
    recent, events = rng.integers(0, 20, 50), rng.integers(0, 400, 50)
    prior = fitted(recent, events, 0.8, strength=0.3)
    b = prior.scaled(recent, events)
    vectors, in_vectors = prior.published(out, pooled, b)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for _ in range(20):
        weights = np.where(rng.random(50) < 0.1, rng.random(50), 0)
        user, whole = weights @ pooled, weights @ in_vectors
        wanted = out @ user + prior.strength * prior.push * weights.sum() * b  # inner product, lengths and all
        got = vectors @ (whole / np.linalg.norm(whole))
        assert (np.argsort(-wanted, kind="stable") == np.argsort(-got, kind="stable")).all()


def test_recent_sales_lift_an_item_and_a_prior_of_zero_changes_nothing():
    prior = replace(Prior(), strength=0.5)
    b = prior.scaled(np.array([50, 5, 0]), np.array([100, 100, 100]))
    assert b[0] > b[1] > b[2]
    assert np.isfinite(prior.scaled(np.zeros(1), np.zeros(1))).all()
    out, pooled = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    vectors, in_vectors = Prior().published(out, pooled, b)
    assert (vectors[:, :3] == out).all()
    assert (in_vectors[:, :3] == pooled).all()
    assert not vectors[:, 3:].any()
    assert not in_vectors[:, 3:].any()


def test_what_sells_now_comes_from_the_catalogue_given(encoder, catalogue):
    prior = fitted(catalogue["recent"].to_numpy(), catalogue["events"].to_numpy(), 1.0, strength=0.3)
    column = catalogue.schema.field("recent")
    risen = catalogue.set_column(catalogue.schema.names.index("recent"), column, pa.array([500] * 36, pa.int64()))
    assert (prior.of(risen) > prior.of(catalogue)).all()
