"""A training with users' features: what the finished encoder knows of users by them, on disk too."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("tensorflow")

from topkin.encoding.blocks import PROFILE
from topkin.errors import ArtifactError
from topkin.models.data.in_memory import InMemoryInteractions
from topkin.models.data.profiles import Profiles
from topkin.models.training import fit
from topkin.models.training.holdout import hold_out
from topkin.models.training.lists.second import Sources
from topkin.models.training.selection import select, validation_periods, validation_trainers
from topkin.models.two_tower import serialization

PER_KIND = 12
KIND = pa.struct({"club": pa.string(), "age": pa.float32()})


@pytest.fixture(scope="module")
def known(purchases):
    """The shop's histories, whose users say which category they keep to, but for every seventh."""
    parts = [purchases.part(name) for name in purchases.names()]
    users = []
    for part in parts:
        clubs = part.items[part.indptr[:-1]] // PER_KIND
        rows = [None if n % 7 == 0 else {"club": f"c{c}", "age": 30.0 + n} for n, c in enumerate(clubs)]
        users.append(pa.table({"features": pa.array(rows, KIND)}))
    return InMemoryInteractions("", purchases.item_ids, purchases.as_of, parts=parts, users=users)


@pytest.fixture(scope="module")
def encoder(context, known, catalogue):
    from topkin.models.ops import device

    # No validation: every block stays, with the settings it starts from.
    context = context.changed(validation_days=0.001, epochs=4, recency_weight=0.1, next_item_dim=0)
    with device.repeatable():
        return fit.fit(context.changed(user_feature_dim=6), known, catalogue).encoder


def cold(encoder, catalogue, features):
    """The vectors of users without purchases, and those of the items."""
    out, pooled = encoder.encode_items(catalogue)
    profiles = encoder.profiles.of(pa.table({"features": pa.array(features, KIND)}))
    nobody = replace_history(len(features), len(out))
    return encoder.encode_users(nobody, pooled, catalogue["users"].to_numpy(), profiles=profiles), out


def replace_history(users, items):
    from topkin.interactions import Interactions

    none = np.zeros(0, np.float32)
    return Interactions(np.zeros(users + 1, np.int64), none.astype(np.int32), none, none, items)


def test_a_user_without_purchases_is_known_by_features(encoder, catalogue):
    features = [{"club": "c0", "age": 40.0}, {"club": "c1", "age": None}, {"club": "c2", "age": 50.0}, None]
    users, out = cold(encoder, catalogue, features)
    best = np.argsort(-(users[:3] @ out.T), axis=1)[:, :5] // PER_KIND
    assert (best == np.arange(3)[:, None]).mean() > 0.9
    assert not users[3].any()


def test_the_encoder_is_saved_with_its_profiles(encoder, catalogue, tmp_path):
    serialization.save(encoder, str(tmp_path), {})
    again = serialization.load(str(tmp_path))
    features = [{"club": "c1", "age": 33.0}, {"club": None, "age": None}]
    for one, other in zip(cold(encoder, catalogue, features), cold(again, catalogue, features), strict=True):
        np.testing.assert_array_equal(one, other)
    from topkin.artifacts import storage

    stored = Profiles.read(str(tmp_path), storage.read_json(str(tmp_path / "signature.json")))
    table = pa.table({"features": pa.array(features, KIND)})
    np.testing.assert_array_equal(stored.of(table), again.profiles.of(table))
    with pytest.raises(ArtifactError, match="must have the feature 'club' that the encoder was trained on"):
        stored.of(pa.table({"user_id": ["u"]}))


def test_only_the_block_of_profiles_reads_features_and_only_where_it_is_asked_for(context, known, catalogue, encoder):
    assert [b.name for b in encoder.blocks] == ["svd", "trained", PROFILE, "recency"]
    without = context.changed(validation_days=0.001, epochs=4, recency_weight=0.1, next_item_dim=0)
    bare = fit.fit(without, known, catalogue).encoder
    assert bare.profiles is None
    for mine, theirs in zip(encoder.model.towers, bare.model.towers, strict=False):
        if mine.name != PROFILE:
            for one, other in zip(mine.tables, theirs.tables, strict=True):
                np.testing.assert_array_equal(one.table, other.table)


def test_a_profile_that_does_not_raise_validation_is_left_out(context, known, catalogue):
    shuffled = [t.take(pa.array(np.random.default_rng(1).permutation(len(t)))) for t in known.users]
    chosen = context.changed(user_feature_dim=6, epochs=2, next_item_dim=0, validation_days=20)
    selection = select(chosen, replace(known, users=shuffled), catalogue)
    assert PROFILE not in selection.blocks
    assert "the profile block did not raise" in selection.left_out


def test_half_of_the_users_weigh_the_encoder_that_is_held_out(context, known, catalogue):
    ids = pa.chunked_array([pa.array([f"u{n}" for n in range(part.n_users)]) for part in known.parts])

    class Named(InMemoryInteractions):
        def user_ids(self, name):
            return ids.chunk(int(name))

    named = Named("", known.item_ids, known.as_of, parts=known.parts, users=known.users)
    chosen = context.changed(user_feature_dim=6, epochs=1, next_item_dim=0, svd_dim=2, validation_days=20)
    periods = validation_periods(chosen, named, catalogue)
    trainers = validation_trainers(chosen, named, periods)
    for trainer in trainers:
        trainer.run_epoch(1)
    held = hold_out(Sources(chosen, named), catalogue, periods, trainers, epoch=1)
    assert held.users
    assert (held.encoder.profiles is not None) == any(b.name == PROFILE for b in held.encoder.blocks)
