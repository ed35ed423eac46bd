"""Tables in memory under the rules and limits of the nightly job."""

from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from topkin.api.inputs import as_ids, as_table, prepare_tables
from topkin.config.sections import Settings
from topkin.errors import ConfigError, InputError

DAY, AS_OF = datetime(2024, 1, 1), datetime(2024, 6, 1)
TABLES = {
    "purchases": pa.table({"user_id": ["u", "v", "w"], "item_id": ["a", "b", "c"], "timestamp": [DAY] * 3}),
    "items": pa.table({"item_id": ["a", "b"], "aisle": ["fuel", "food"]}),
}


def settings(rule: str, **prepare: object) -> Settings:
    purchases = {"path": "purchases", "rules": {"only": rule}}
    return Settings.model_validate({"purchases": purchases, "items": {"path": "items"}, "prepare": prepare})


def test_rules_ask_the_items_of_a_table() -> None:
    prepared, _ = prepare_tables(settings("item.aisle = 'food'", max_reject_share=1), TABLES, AS_OF)
    assert prepared.events["item_id"].to_pylist() == ["b"]
    assert prepared.statistics["sources"]["purchases"]["rejected"] == {"only": 2}


def test_a_column_that_the_items_do_not_have_is_told() -> None:
    with pytest.raises(ConfigError, match=r"item.isle, and \[items\] has no column 'isle', did you mean 'aisle'"):
        prepare_tables(settings("item.isle = 'food'"), TABLES, AS_OF)


def test_more_rejects_than_the_limit_are_told_with_a_value() -> None:
    with pytest.raises(InputError, match=r"at most 50.0 % .* got 66.7 % of 3: only 2 \(such as .* in row 0"):
        prepare_tables(settings("item.aisle = 'food'"), TABLES, AS_OF)


BASKETS = pa.table(
    {
        "user_id": ["u", "v", "w"],
        "lines": [[{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], [{"sku": "b", "n": 1}], []],
        "timestamp": [DAY] * 3,
    }
)


def baskets(**rules: str) -> Settings:
    purchases = {"path": "purchases", "item_id": "lines[].sku", "quantity": "lines[].n", "rules": rules}
    return Settings.model_validate(
        {"purchases": purchases, "items": {"path": "items", "category": "aisle"}, "prepare": {"max_reject_share": 0.3}}
    )


@pytest.mark.parametrize("as_of", [AS_OF, None])
def test_baskets_meet_a_catalogue(as_of: datetime | None) -> None:
    prepared, _ = prepare_tables(baskets(), {**TABLES, "purchases": BASKETS}, as_of)
    assert sorted(zip(*(prepared.events[c].to_pylist() for c in ("user_id", "item_id", "quantity")), strict=True)) == [
        ("u", "a", 1),
        ("u", "b", 2),
        ("v", "b", 1),
    ]
    assert prepared.statistics["sources"]["purchases"]["rejected"] == {"lines is null or an empty list": 1}
    assert dict(zip(*prepared.catalogue.select(["item_id", "category"]).to_pydict().values(), strict=True)) == {
        "a": "fuel",
        "b": "food",
    }


def test_rules_over_baskets_ask_a_catalogue() -> None:
    prepared, _ = prepare_tables(baskets(no_fuel="item.aisle <> 'fuel'"), {**TABLES, "purchases": BASKETS}, AS_OF)
    assert prepared.events["item_id"].to_pylist() == ["b", "b"]


def test_lists_of_the_catalogue_are_its_rows_for_rules_too() -> None:
    shelves = pa.table({"aisle": ["fuel", "food"], "goods": [[{"sku": "a", "kind": "x"}], [{"sku": "b", "kind": "y"}]]})
    items = {"path": "items", "item_id": "goods[].sku", "category": "goods[].kind"}
    purchases = {"path": "purchases", "rules": {"only": "item.category <> 'x' AND item.aisle = 'food'"}}
    every = {"purchases": purchases, "items": items, "prepare": {"max_reject_share": 1}}
    prepared, _ = prepare_tables(Settings.model_validate(every), {**TABLES, "items": shelves}, AS_OF)
    assert prepared.events["item_id"].to_pylist() == ["b"]


def test_a_catalogue_without_any_vector_is_told_as_the_job_tells_it() -> None:
    items = TABLES["items"].append_column("emb", pa.array([None, None], pa.list_(pa.float32())))
    every = {"purchases": {"path": "purchases"}, "items": {"path": "items", "vector": "emb"}}
    with pytest.raises(InputError, match=r"items: column 'emb' \(items.vector\) must hold a vector in some row"):
        prepare_tables(Settings.model_validate(every), {**TABLES, "items": items}, AS_OF)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"item_id": [1, "x"]}), "one type that Arrow has, got Could not convert 'x'.*for column item_id"),
        (pd.DataFrame({"item_id": ["x", 1]}), r"got Expected bytes, got a 'int' object.*item_id.*astype\(str\)"),
        (pd.DataFrame({"item_id": [2**70]}), "too large.*or drop the column"),
        (pd.DataFrame([[1, 2]], columns=["item_id", "item_id"]), "purchases has several columns called 'item_id': ren"),
    ],
)
def test_a_frame_that_arrow_does_not_take_is_told_with_its_column(frame: pd.DataFrame, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_table(frame, "purchases")


def test_a_column_alone_is_no_table() -> None:
    with pytest.raises(TypeError, match=r"Arrow C stream .* got Series"):
        as_table(pd.Series([1]), "purchases")  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [[1, "x"], [2**70], [{"a": 1}, 2], np.array([1, "x"], object)])
def test_ids_that_are_no_column_are_told(ids: list[int]) -> None:
    with pytest.raises(
        TypeError, match=r"users must be int64, as in the purchases, got values that are not .*: cast them"
    ):
        as_ids(ids, pa.int64(), "users")
