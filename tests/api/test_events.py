"""Views beside purchases: the job and the recommender in memory agree, and all that shows them names them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import topkin
from topkin.artifacts import storage
from topkin.config.load import load_settings
from topkin.errors import ConfigError, InputError
from topkin.pipelines.cli.app import main
from topkin.synthetic.shop import Shop

SETS = ("train.epochs=1", "train.dim=8", "train.svd_dim=16", "train.next_item_dim=8", "recommend.k=10")
LITTLE = ("similar.items=0", "similar.users=0", "similar.bought=0", "evaluate.bootstrap=20", "evaluate.nightly=off")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, topkin.Recommender, pa.Table]:
    folder = tmp_path_factory.mktemp("views")
    shop = Shop(users=120, items=60, purchases=1_500, seed=7, views=4.0)
    shop.write(str(folder / "shop"), truth=False)
    views = f'\n[events.view]\npath = "{folder}/shop/views"\nweight = 0.3\n'
    (folder / "topkin.toml").write_text(shop.config_toml("shop", more=views))
    settings = load_settings(folder / "topkin.toml", [*SETS, *LITTLE], env={})
    names = {"purchases": "purchases", "items": "items.parquet", "users": "users.parquet", "views": "views"}
    tables = {name: pq.read_table(folder / "shop" / path) for name, path in names.items()}
    seen = {"view": tables.pop("views")}
    recommender = topkin.Recommender(settings).fit(**tables, events=seen, as_of=shop.as_of)
    return folder, topkin.run(settings, shop.as_of), recommender, seen["view"]


def test_the_job_and_the_recommender_in_memory_make_the_same_lists_and_name_the_same_events(night):
    _, run, recommender, _ = night
    ours, theirs = (t.sort_by([("user_id", "ascending"), ("rank", "ascending")]).combine_chunks()
                    for t in (recommender.recommend(), run.table("recommendations")))  # fmt: skip
    names = ["user_id", "rank", "item_id", "because", "because_events"]
    assert ours.select(names).equals(theirs.select(names))
    done = set(pc.list_flatten(ours["because_events"]).to_pylist())
    assert done == {"purchase", "view"}


def test_who_only_viewed_gets_the_models_list_and_nobody_is_said_to_have_bought_a_view(night):
    _, run, recommender, views = night
    histories = run.table("histories")
    none = pc.equal(pc.list_value_length(histories["items"]), 0)
    seen = pc.greater(pc.list_value_length(histories["input_items"]), 0)
    lookers = histories.filter(pc.and_(none, seen))["user_id"]
    assert len(lookers)
    assert set(recommender.recommend(lookers)["source"].to_pylist()) == {"model"}
    prepared = storage.read_json(storage.join(run.folder("prepare"), "statistics.json"))
    before = pc.less(views["timestamp"], pa.scalar(run.as_of, pa.timestamp("us")))
    assert prepared["event_types"]["view"]["before"] == pc.sum(before).as_py()
    sold = run.table("catalogue")["events"]
    assert pc.sum(sold).as_py() == prepared["events"] == len(run.table("events"))


def test_explain_the_report_and_show_say_what_was_viewed(night, capsys):
    folder, run, recommender, _ = night
    rows = [r for r in recommender.recommend().to_pylist() if "view" in r["because_events"]]
    named = recommender.explain(rows[0]["user_id"], rows[0]["item_id"]).to_pylist()
    assert {r["event"] for r in named} <= {"purchase", "view"}
    assert "view" in {r["event"] for r in named}
    page = storage.read_bytes(storage.join(run.folder("report"), "report.html")).decode()
    assert "(viewed)" in page
    assert "Events: view" in page
    assert main(["show", str(rows[0]["user_id"]), f"--config={folder / 'topkin.toml'}"]) == 0
    assert "(viewed)" in capsys.readouterr().out


def test_events_without_a_section_or_a_table_and_ids_of_another_type_are_told():
    shop = {"user_id": [1, 2], "item_id": ["a", "b"], "timestamp": ["2024-05-01", "2024-05-02"]}
    bought, seen = pa.table(shop), pa.table({**shop, "user_id": ["1", "2"]})
    with pytest.raises(ConfigError, match=r"section \[events\.view\]: give fit its table"):
        topkin.Recommender(events={"view": {"weight": 0.1}}).fit(bought)
    with pytest.raises(InputError, match=r"events\.view must have ids of the purchases' type int64, got string"):
        topkin.Recommender().fit(bought, events={"view": seen})


def test_weights_that_leave_nothing_to_know_users_by_are_told():
    shop = {"user_id": [1, 2], "item_id": ["a", "b"], "timestamp": ["2024-05-01", "2024-05-02"], "quantity": [1, 2]}
    with pytest.raises(InputError, match=r"input of a weight above 0.*got none among purchase \(both\): 2"):
        topkin.Recommender(purchases={"weight": "0 * quantity"}).fit(pa.table(shop))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_an_empty_table_of_events_is_no_events_and_a_warning():
    shop = pa.table({"user_id": [1, 2, 2], "item_id": ["a", "b", "a"], "timestamp": ["2024-05-01"] * 3})
    with pytest.warns(UserWarning, match=r"events\.view has no rows"):
        model = topkin.Recommender(train={"epochs": 0}).fit(shop, events={"view": shop.slice(0, 0)})
    assert model.recommend(1)["because_events"].to_pylist() == [["purchase"]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"view": 0.5}, r"must be a section \[events\.view\] of keys, got 0\.5"),
        ([], r"must be a section \[events\] of keys, got \[\]"),
    ],
)
def test_events_in_the_settings_that_are_no_sections_are_told(given: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        topkin.Recommender(events=given)


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: [t], lambda t: []])
def test_tables_of_events_are_given_by_their_type(wrap: Any):
    shop = pa.table({"user_id": [1, 2], "item_id": ["a", "b"], "timestamp": ["2024-05-01", "2024-05-02"]})
    with pytest.raises(TypeError, match=r'events must be a mapping of types to tables, got .* \{"view": table\}'):
        topkin.Recommender(events=None).fit(shop, events=wrap(shop))
