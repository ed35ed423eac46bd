"""Tables in memory under the rules and limits of the nightly job."""

from datetime import datetime

import pyarrow as pa
import pytest

from topkin.api.inputs import prepare_tables
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
