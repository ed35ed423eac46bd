"""Users known by features: the job and the recommender in memory list the same, for users without purchases too."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import topkin
from topkin.api.answers import Answers
from topkin.api.data import StoredData
from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.config.sections import Settings
from topkin.encoding.blocks import PROFILE
from topkin.pipelines.train import encoded
from topkin.synthetic.shop import Shop
from topkin.transforms.holdout import with_features

pytest.importorskip("tensorflow")

# Nothing is validated, so that every block stays.
SETS = (
    *("train.epochs=2", "train.dim=8", "train.svd_dim=16", "train.next_item_dim=0", "train.feature_dim=0"),
    *("train.validation_days=0.001", "train.recency_weight=0.1", "train.user_feature_dim=8", "evaluate.bootstrap=50"),
    *("recommend.k=10", "recommend.sources=[]", "similar.users=5"),
)
SURVEY = '\n[users.features]\nlikes = "likes"\ncountry = "country"\n'


class Night(NamedTuple):
    """A run over a shop whose users told what they like, and the recommender in memory."""

    run: Any
    recommender: topkin.Recommender
    cold: pa.Array


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("night")
    shop = Shop(users=150, items=60, purchases=1_200, seed=7, surveyed=0.6)
    shop.write(str(folder / "shop"))
    (folder / "topkin.toml").write_text(shop.config_toml("shop", more=SURVEY))
    settings = load_settings(folder / "topkin.toml", SETS, env={})
    names = {"purchases": "purchases", "items": "items.parquet", "users": "users.parquet"}
    tables = {name: pq.read_table(folder / "shop" / path) for name, path in names.items()}
    recommender = topkin.Recommender(settings).fit(**tables, as_of=shop.as_of)
    histories = recommender._known.histories
    nothing = pc.equal(pc.list_value_length(histories["items"]), 0)
    return Night(topkin.run(settings, shop.as_of), recommender, histories.filter(nothing)["user_id"].combine_chunks())


def test_the_job_and_the_recommender_in_memory_give_the_same_lists(night: Night) -> None:
    written = night.run.table("recommendations").sort_by([("user_id", "ascending"), ("rank", "ascending")])
    computed = night.recommender.recommend()
    assert computed.equals(written.combine_chunks())
    assert computed.schema.metadata == written.schema.metadata
    again = Answers(StoredData(topkin.open_run(night.run.run.path)))
    assert again.recommendations(None, 10).equals(computed)


def test_users_without_purchases_are_ranked_for_by_what_they_told(night: Night) -> None:
    assert PROFILE in [block.name for block in night.recommender._known.blocks]
    lists = night.recommender.recommend(night.cold)
    assert set(lists["source"].to_pylist()) == {"model"}  # a country at least is known of each
    assert set(map(len, lists["because"].to_pylist())) == {0}
    assert len({tuple(vector) for vector in night.recommender._known.vectors_of(night.cold)}) > 5
    assert not len(night.recommender.explain(night.cold[0].as_py(), lists["item_id"][0].as_py()))


def test_shares_add_up_to_what_purchases_say_of_a_score(night: Night) -> None:
    data, ids = night.recommender._known, night.recommender.items
    span = next(
        slice(sum(b.dim for b in data.blocks[:place]), sum(b.dim for b in data.blocks[: place + 1]))
        for place, block in enumerate(data.blocks)
        if block.name == PROFILE
    )
    loaded, checked = topkin.Recommender.load(night.run.settings.run.output), 0
    lists = night.recommender.recommend(k=1)
    for row in lists.filter(pc.list_value_length(lists["because"]).cast(pa.int64()).to_numpy() > 0).to_pylist()[:40]:
        shares = night.recommender.explain(row["user_id"], row["item_id"])
        assert loaded.explain(row["user_id"], row["item_id"]).equals(shares)
        user = data.vectors[data.histories["user_id"].index(row["user_id"]).as_py()].copy()
        user[span] = 0
        by_purchases = float(user @ data.items.vectors[ids.index(row["item_id"]).as_py()])
        total = shares["share"].to_numpy().sum()
        assert total >= by_purchases - 1e-5  # those that speak against it are left out
        checked += bool(abs(total - by_purchases) < 1e-5)
        assert row["score"] != pytest.approx(by_purchases, abs=1e-6) or not user.any()
    assert checked


def test_a_cut_of_the_prepared_folder_keeps_the_features(night: Night) -> None:
    prepared = night.run.folder("prepare")
    name = storage.files(f"{prepared}/histories")[0]
    whole = storage.read_parquet(f"{prepared}/histories/{name}")
    some = whole.take(pa.array(np.arange(len(whole))[::-2]))
    bare = some.drop_columns(["features"])
    assert with_features(bare, whole)["features"].to_pylist() == some["features"].to_pylist()
    assert with_features(bare, whole.drop_columns(["features"])).equals(bare)


@pytest.mark.parametrize(
    ("changes", "least"),
    [
        ({}, 0),
        ({"train": {"epochs": 0}}, 1),
        ({"train": {"user_feature_dim": 0}}, 1),
        ({"recommend": {"min_history": 2}}, 2),
        ({"recommend": {"model": "popularity"}}, 1),
        ({"users": {"path": "u"}}, 1),
    ],
)
def test_who_has_features_needs_no_purchases(changes: dict[str, Any], least: int) -> None:
    users = {"path": "u", "features": {"plan": "plan"}}
    settings = Settings.model_validate({"purchases": {"path": "p"}, "users": users, **changes})
    assert settings.recommend.min_history == least
    assert Settings.model_validate(settings.model_dump()).recommend.min_history == least


def test_the_columns_of_an_encoder_are_the_catalogues_and_the_users_features(night: Night) -> None:
    items, prepared = pa.schema([("item_id", pa.string())]), night.run.folder("prepare")
    purchases, users = {"path": "p"}, {"path": "u", "features": {"likes": {"column": "likes"}}}
    columns = encoded(Settings.model_validate({"purchases": purchases, "users": users}), items, prepared)
    assert columns.names == ["item_id", "users.features"]
    part = storage.join(prepared, "histories", storage.files(f"{prepared}/histories")[0])
    assert columns.field(1).type == storage.read_parquet(part, ["features"]).schema.field(0).type
    assert encoded(Settings.model_validate({"purchases": purchases}), items, prepared) == items
