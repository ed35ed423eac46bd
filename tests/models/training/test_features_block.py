"""A training with features: what the finished encoder knows of items by them, on disk too."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("tensorflow")

from topkin.config.sections import Settings
from topkin.encoding.blocks import FEATURES, preference_embeddings
from topkin.errors import ArtifactError
from topkin.models.training import fit
from topkin.models.training.context import TrainingContext
from topkin.models.two_tower import serialization

PER_KIND, NEVER_SOLD = 12, np.array([11, 23, 35])


@pytest.fixture(scope="module")
def labelled(catalogue):
    """The shop's items known by a feature alone: titles, categories and prices are gone."""
    bare = catalogue
    for name in ("title", "category", "price"):
        column = catalogue.schema.field(name)
        bare = bare.set_column(catalogue.schema.get_field_index(name), column, pa.nulls(len(catalogue), column.type))
    kinds = [{"kind": f"k{item // PER_KIND}", "tags": ["all", f"t{item % 2}"]} for item in range(len(catalogue))]
    type_ = pa.struct({"kind": pa.string(), "tags": pa.list_(pa.string())})
    return bare.append_column("features", pa.array(kinds, type_))


@pytest.fixture(scope="module")
def plans(context):
    # No validation: every block stays, with the settings it starts from.
    context = context.changed(validation_days=0.001, epochs=4, recency_weight=0.0)
    return {
        "svd": context.changed(epochs=0, next_item_dim=0),
        "trained": context.changed(svd_dim=0, next_item_dim=0),
        "features": context.changed(feature_dim=6, next_item_dim=0),
    }


@pytest.fixture(scope="module", params=["svd", "trained", "features"])
def encoder(request, plans, purchases, labelled):
    from topkin.models.ops import device

    with device.repeatable():
        return fit.fit(plans[request.param], purchases, labelled).encoder


def test_a_new_item_is_listed_for_those_who_buy_what_shares_its_label(encoder, labelled, purchases):
    out, pooled = encoder.encode_items(labelled)
    history = purchases.part(purchases.names()[0])
    users = encoder.encode_users(history, pooled, labelled["users"].to_numpy())
    kind = history.items[history.indptr[:-1]] // PER_KIND
    assert ((users @ out[NEVER_SOLD].T).argmax(axis=1) == kind).mean() > 0.9
    alike = preference_embeddings(out, encoder.blocks)
    nearest = (alike[NEVER_SOLD] @ alike.T - np.eye(len(out))[NEVER_SOLD]).argmax(axis=1)
    assert (nearest // PER_KIND == np.arange(3)).all()


def test_the_encoder_is_saved_with_what_it_knows_of_features(encoder, labelled, tmp_path):
    serialization.save(encoder, str(tmp_path), {})
    again = serialization.load(str(tmp_path))
    for one, other in zip(encoder.encode_items(labelled), again.encode_items(labelled), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ArtifactError, match="must have the feature 'kind' that the encoder was trained on"):
        again.encode_items(labelled.drop_columns(["features"]))


def test_the_features_block_tells_apart_tastes_and_rates(plans, purchases, labelled):
    encoder = fit.fit(plans["features"], purchases, labelled).encoder
    block = next(b for b in encoder.blocks if b.name == FEATURES)
    assert np.linalg.norm(block.level) == pytest.approx(1)
    assert block.dim == 7
    assert [b.level for b in encoder.blocks if b.name != FEATURES] == [()] * (len(encoder.blocks) - 1)


def test_validation_weighs_the_features_block(context, purchases, labelled):
    """Where an item's label is all that decides, the block is kept, and its loss stands in the curve."""
    chosen = context.changed(feature_dim=6, epochs=2, svd_dim=2, next_item_dim=0, validation_days=20)
    training = fit.fit(chosen, purchases, labelled)
    assert all("features_loss" in epoch and FEATURES in epoch["blocks"] for epoch in training.selection.curve)
    kept = {block.name for block in training.encoder.blocks}
    weight = training.selection.curve[-1]["blocks"][FEATURES]["weight"]
    assert (FEATURES in kept) or weight == 0 or "the features block did not raise" in training.selection.left_out


@pytest.mark.slow
def test_a_resumed_training_ends_as_one_that_was_not_stopped(context, purchases, labelled, tmp_path):
    chosen = context.changed(feature_dim=3, epochs=2, svd_dim=2, next_item_dim=0, validation_days=20)

    class StopError(Exception):
        pass

    def stop(phase, epoch):
        if phase == "validation" and epoch["epoch"] == 2:
            raise StopError

    whole = fit.fit(chosen, purchases, labelled).encoder
    with pytest.raises(StopError):
        fit.fit(chosen, purchases, labelled, scratch=str(tmp_path), on_epoch=stop)
    again = fit.fit(chosen, purchases, labelled, scratch=str(tmp_path)).encoder
    for one, other in zip(whole.encode_items(labelled), again.encode_items(labelled), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("items", "train", "dim"),
    [
        (None, {}, 0),
        ({"path": "i"}, {}, 0),
        ({"path": "i", "features": {"brand": "brand"}}, {}, 32),
        ({"path": "i", "features": {"brand": "brand"}}, {"feature_dim": 0}, 0),
        ({"path": "i"}, {"feature_dim": 8}, 8),
    ],
)
def test_the_block_is_there_where_items_have_features_or_it_is_asked_for(items, train, dim):
    settings = Settings.model_validate({"purchases": {"path": "p"}, "items": items, "train": train})
    context = TrainingContext.of(settings)
    assert context.train.feature_dim == dim
    assert replace(context, seed=1).train.feature_dim == settings.feature_dim
