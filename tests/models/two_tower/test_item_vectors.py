"""Vectors that items bring as content of the blocks: closed and trained."""

import numpy as np
import pyarrow as pa
import pytest

tf = pytest.importorskip("tensorflow")

from topkin.artifacts.embeddings import vector_column  # noqa: E402
from topkin.errors import ArtifactError  # noqa: E402
from topkin.interactions import Interactions  # noqa: E402
from topkin.models.training import fit  # noqa: E402
from topkin.models.two_tower import serialization  # noqa: E402
from topkin.models.two_tower.towers import Projection  # noqa: E402

PER_KIND, NEVER_SOLD = 12, np.array([11, 23, 35])
DIM = 20


def with_vectors(catalogue, seed=0):
    """The shop's items known by vectors alone: those of a kind lie about a point."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((3, DIM))
    vectors = 5 * np.repeat(centres, PER_KIND, axis=0) + rng.standard_normal((36, DIM))
    vectors[0] = 0
    bare = catalogue
    for name in ("title", "category", "price"):
        column = catalogue.schema.field(name)
        bare = bare.set_column(catalogue.schema.get_field_index(name), column, pa.nulls(36, column.type))
    return bare.append_column(pa.field("vector", pa.list_(pa.float32(), DIM), False), vector_column(vectors))


@pytest.fixture(scope="module")
def bare(catalogue):
    return with_vectors(catalogue)


@pytest.fixture(scope="module")
def encoders(context, purchases, bare):
    from topkin.models.ops import device

    # No validation: every block stays, with the settings it starts from.
    context = context.changed(validation_days=0.001, epochs=4, recency_weight=0.0)
    plans = {
        "svd": context.changed(epochs=0, next_item_dim=0),
        "trained": context.changed(svd_dim=0, next_item_dim=0),
    }
    with device.repeatable():
        return {name: fit.fit(chosen, purchases, bare).encoder for name, chosen in plans.items()}


@pytest.fixture(params=["svd", "trained"])
def encoder(encoders, request):
    return encoders[request.param]


def scores(encoder, catalogue):
    """Of users with two purchases of one kind, (9, 36), and their kinds."""
    kind = np.repeat(np.arange(3), 3)
    first = kind * PER_KIND + np.tile([1, 2, 3], 3)
    items = np.column_stack([first, first + 3]).ravel()
    history = Interactions(np.arange(0, 19, 2), items.astype(np.int32), *np.zeros((2, 18), np.float32), 36)
    out, pooled = encoder.encode_items(catalogue)
    return encoder.encode_users(history, pooled, catalogue["users"].to_numpy()) @ out.T, kind


def test_a_new_item_is_recommended_to_those_who_buy_what_its_vector_is_near(encoder, bare):
    actual, kind = scores(encoder, bare)
    assert (actual[:, NEVER_SOLD].argmax(axis=1) == kind).all()
    for number, item in enumerate(NEVER_SOLD):
        assert actual[kind == number, item].min() > actual[kind != number, item].max()


def test_the_trained_block_lists_a_new_item_before_all_of_other_kinds(encoders, bare):
    actual, kind = scores(encoders["trained"], bare)
    others = np.arange(36) // PER_KIND != kind[:, None]
    assert (actual[np.arange(9), NEVER_SOLD[kind]][:, None] > np.where(others, actual, -1)).all()


def test_a_new_item_is_pooled_by_its_vector_too(encoder, bare):
    out, pooled = encoder.encode_items(bare)
    history = Interactions(np.arange(4), NEVER_SOLD.astype(np.int32), *np.zeros((2, 3), np.float32), 36)
    users = encoder.encode_users(history, pooled, bare["users"].to_numpy())
    best = np.argsort(-(users @ out.T), axis=1)[:, :6]
    assert (best // PER_KIND == np.arange(3)[:, None]).mean() > 0.9


def test_a_length_of_the_vectors_says_nothing(encoder, bare):
    longer = bare["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIM) * 8
    scaled = bare.set_column(bare.schema.get_field_index("vector"), "vector", vector_column(longer))
    for one, other in zip(encoder.encode_items(bare), encoder.encode_items(scaled), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_row_does_not_depend_on_its_batch(encoder, bare):
    whole = encoder.encode_items(bare, batch_size=64)
    for size in (5, 36):
        assert all((a == b).all() for a, b in zip(whole, encoder.encode_items(bare, batch_size=size), strict=True))


def test_a_saved_encoder_reads_vectors_as_before(encoder, bare, tmp_path):
    serialization.save(encoder, str(tmp_path), {})
    again = serialization.load(str(tmp_path))
    for one, other in zip(encoder.encode_items(bare), again.encode_items(bare), strict=True):
        assert (one == other).all()
    assert one.any(axis=1)[NEVER_SOLD].all()


def test_an_item_without_a_vector_has_no_content(encoder, bare):
    new = bare.slice(0, 1).set_column(0, bare.schema.field("item_id"), pa.array(["new"]))
    assert not encoder.encode_items(new)[0].any()


def test_vectors_of_another_length_than_in_training_are_refused(encoder, bare, catalogue):
    other = catalogue.append_column("vector", vector_column(np.ones((36, 3), np.float32)))
    with pytest.raises(ArtifactError, match="the 20 numbers that the encoder was trained on, got 3: train again"):
        encoder.encode_items(other)
    with pytest.raises(ArtifactError, match="got 0: train again"):
        encoder.encode_items(catalogue)


def test_what_vectors_are_multiplied_by_is_learned(context, purchases, bare):
    from topkin.models.training.trainer import Trainer

    trainer = Trainer(context, purchases, "refit", context.index(purchases, bare))
    (out, pooled) = (t for t in trainer.model.tables if isinstance(t, Projection))
    before = [np.asarray(t.table).copy() for t in (out, pooled)]
    trainer.step(next(trainer.batches(1)))
    for start, table in zip(before, (out, pooled), strict=True):
        assert (np.asarray(table.table) != start).any(axis=1).all()


def test_without_vectors_nothing_multiplies_them(trained, catalogue):
    encoder = trained.encoder
    assert encoder.features(catalogue).vectors.shape == (36, 0)
    assert not any(isinstance(t, Projection) for tower in encoder.model.towers for t in tower.tables)
