"""Profiles against the sum of their rows, in a folder and in memory."""

import numpy as np
import pyarrow as pa
import pytest

from topkin.encoding.blocks import PROFILE, Block
from topkin.models.data.feature_rows import FeatureRows
from topkin.models.data.histories import PreparedHistories
from topkin.models.data.in_memory import without_times
from topkin.models.data.positions import PositionHistories
from topkin.models.data.profiles import Profiles

KIND = pa.struct({"plan": pa.string(), "age": pa.float32(), "likes": pa.list_(pa.string())})
USERS = [
    {"plan": "free", "age": 20.0, "likes": ["tea", "cups"]},
    {"plan": "paid", "age": 40.0, "likes": ["tea", "tea", "cups"]},
    {"plan": "free", "age": 30.0, "likes": []},
    {"plan": "paid", "age": None, "likes": None},
    {"plan": "rare", "age": None, "likes": ["rare"]},
    None,
]


@pytest.fixture(scope="module")
def users():
    return pa.table({"user_id": list("abcdef"), "features": pa.array(USERS, KIND)})


@pytest.fixture(scope="module")
def profiles(users):
    rows, rng = FeatureRows.of(users), np.random.default_rng(1)
    table = rng.normal(size=(rows.size + 2, 3)).astype(np.float32)
    table[0], table[-1] = 0, [0.6, 0, 0.8]
    return Profiles(rows, table)


def test_a_profile_is_the_sum_of_its_rows_and_of_what_all_share(profiles, users):
    first, at = 1, {}
    for feature in profiles.rows.features:
        for label in feature.get("labels", feature.get("knots")):
            at[feature["name"], label] = profiles.table[first].astype(float)
            first += 1
    rows = profiles.of(users)
    assert rows.dtype == np.float32
    wanted = at["plan", "free"] + at["age", 20.0] + (at["likes", "tea"] + at["likes", "cups"]) / 2
    np.testing.assert_allclose(rows[0], wanted + np.array([0.6, 0, 0.8]), atol=1e-6)
    np.testing.assert_allclose(rows[3], at["plan", "paid"] + np.array([0.6, 0, 0.8]), atol=1e-6)
    assert not rows[4:].any()  # nothing known of them that tells of others


def test_a_row_does_not_depend_on_the_rows_beside_it(profiles, users):
    whole = profiles.of(users)
    for row in range(len(users)):
        np.testing.assert_array_equal(profiles.of(users.slice(row, 1))[0], whole[row])


def test_profiles_are_kept_beside_their_encoder(profiles, users, tmp_path):
    profiles.write(str(tmp_path))
    block = Block.unscaled(PROFILE, 3, 0.0, None)
    signature = {"blocks": [block.to_json()], "profiles": profiles.rows.to_json()}
    again = Profiles.read(str(tmp_path), signature)
    assert again is not None
    np.testing.assert_array_equal(again.of(users), profiles.of(users))
    assert Profiles.read(str(tmp_path), {"blocks": []}) is None


def test_parts_without_features_have_users_alone(purchases):
    assert isinstance(purchases, PreparedHistories)
    first = purchases.names()[0]
    assert purchases.user_features(first).column_names == ["user_id"]
    untimed = without_times(np.array([0, 1]), np.array([0, 0]), pa.array(["i"]), seed=1)
    assert len(untimed.user_features("00000")) == 2
    assert PositionHistories.of(purchases, 1).user_features(first).equals(purchases.user_features(first))


def test_groups_name_their_parts_in_the_order_of_their_users(purchases):
    for names, group in purchases.named_groups(np.random.default_rng(3)):
        assert group.n_users == sum(len(purchases.user_ids(name)) for name in names)
        assert (np.concatenate([purchases.part(name).items for name in names]) == group.items).all()
