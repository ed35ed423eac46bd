import numpy as np
import pyarrow as pa
import pytest

from topkin.encoding.blocks import preference_embeddings
from topkin.interactions import Interactions
from topkin.models.training import fit
from topkin.models.two_tower.recency_prior import fitted, recency_lift, sales

PER_KIND, NEVER_SOLD = 12, (11, 23, 35)


@pytest.fixture(scope="module")
def encoder(trained):
    return trained.encoder


@pytest.fixture(scope="module")
def of_content(context, purchases, catalogue):
    return fit.fit(context.changed(svd_dim=0, epochs=6, patience=6), purchases, catalogue).encoder


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
    alike = preference_embeddings(out, encoder.blocks)
    for item in NEVER_SOLD:
        near = [n for n in np.argsort(-(alike @ alike[item])) if n != item][:5]
        assert [n // PER_KIND for n in near] == [item // PER_KIND] * 5


def test_an_item_that_training_never_saw_is_encoded_by_its_content(of_content, catalogue):
    new = catalogue.slice(0, 1)
    for at, (name, value) in enumerate(
        {"item_id": "brand new", "title": "kitchen thing", "category": "kitchen"}.items()
    ):
        new = new.set_column(at, catalogue.schema.field(name), pa.array([value], pa.string()))
    out, _ = of_content.encode_items(catalogue)
    vector, _ = of_content.encode_items(new)
    cosines = preference_embeddings(out, of_content.blocks) @ preference_embeddings(vector, of_content.blocks)[0]
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


def test_what_sells_now_comes_from_the_catalogue_given(catalogue):
    prior = fitted(catalogue["recent"].to_numpy(), catalogue["events"].to_numpy())
    column = catalogue.schema.field("recent")
    risen = catalogue.set_column(catalogue.schema.names.index("recent"), column, pa.array([500] * 36, pa.int64()))
    assert (prior.of(risen) > prior.of(catalogue)).all()
    assert (recency_lift(*sales(risen)) > recency_lift(*sales(catalogue))).all()


def test_the_prior_of_what_never_sold_is_a_number():
    prior = fitted(np.array([50, 5, 0, 0]), np.array([100, 100, 100, 0]))
    b = prior.scaled(np.array([50, 5, 0, 0]), np.array([100, 100, 100, 0]))
    assert b[0] > b[1] > b[2]
    assert np.isfinite(b).all()
    assert np.isfinite(recency_lift(np.zeros(1), np.zeros(1))).all()


def test_blocks_do_not_covary_and_know_their_variances(encoder, catalogue):
    out, _ = encoder.encode_items(catalogue)
    sold = out[catalogue["events"].to_numpy() > 0] * encoder.meaning["reach"]
    first = 0
    for block in encoder.blocks:
        part = sold[:, first : first + block.dim]
        first += block.dim
        covariance = np.cov(part.T.astype(float), bias=True).reshape(block.dim, -1)
        np.testing.assert_allclose(covariance, np.diag(block.spread), atol=1e-4 * max(block.spread))
    assert first + 1 == encoder.dim
