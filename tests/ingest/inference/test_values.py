"""What catalogues have for "available" becomes a boolean; totals become prices; structs give their fields."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.ingest.inference.columns import (
    ITEM_KEYS,
    PURCHASE_KEYS,
    InferredColumn,
    infer_columns,
    profile_columns,
)
from topkin.ingest.inference.nested import flatten_structs, nested_advice
from topkin.ingest.inference.passed import passed_over
from topkin.ingest.inference.values import infer_price, suggest_values
from topkin.ingest.rules import Rules


@pytest.mark.parametrize(
    ("name", "values", "available"),
    [
        ("in_stock", [True, False, True], [True, False, True]),
        ("available", [1, 0, 1], [True, False, True]),
        ("available", [1.0, 0.0, 1.0], [True, False, True]),
        ("is_active", ["Y", "N", " y"], [True, False, True]),
        ("active", ["true", "FALSE", "True"], [True, False, True]),
        ("in_print", ["yes", "no", "yes"], [True, False, True]),
        ("stock", [12, 0, -3], [True, False, False]),
        ("inventory_qty", [3, 0, 1], [True, False, True]),
        ("status", ["active", "archived", "draft"], [True, False, False]),
        ("availability", ["in stock", "out of stock", "in stock"], [True, False, True]),
        ("discontinued", [False, True, False], [True, False, True]),
        ("is_deleted", [0, 1, 0], [True, False, True]),
        ("discontinued", ["N", "Y", "N"], [True, False, True]),
    ],
)
def test_what_says_that_an_item_may_be_sold_becomes_a_boolean(
    name: str, values: list[Any], available: list[bool]
) -> None:
    table = pa.table({"item_id": ["a", "b", "c"], name: values})
    profiles = profile_columns(table)
    inferred = infer_columns(profiles, ITEM_KEYS)
    assert {c.key: c.column for c in inferred}.get("available") == name
    rules = Rules.of("items", {r.key: r.expression for r in suggest_values(profiles, inferred)}, {})
    column = rules.normalised(table)[name]
    assert pa.types.is_boolean(column.type)
    assert column.to_pylist() == available


@pytest.mark.parametrize(
    ("name", "values"),
    [("product_id", [1, 0, 1]), ("status", ["new", "used", "new"]), ("stock_code", ["A1", "B2", "C3"])],
)
def test_what_does_not_say_so_is_left_alone(name: str, values: list[Any]) -> None:
    table = pa.table({"item_id": ["a", "b", "c"], name: values})
    assert "available" not in {c.key for c in infer_columns(profile_columns(table), ITEM_KEYS)}


@pytest.mark.parametrize("name", ["dept", "department", "section", "aisle", "category", "product_category"])
def test_a_department_goes_before_a_brand(name: str) -> None:
    rows = {"sku": [f"p{n}" for n in range(60)], "brand": ["x", "y", "z"] * 20, name: ["a", "b"] * 30}
    assert {c.key: c.column for c in infer_columns(profile_columns(pa.table(rows)), ITEM_KEYS)}["category"] == name


def test_a_total_of_the_line_becomes_the_price_of_a_piece() -> None:
    rng = np.random.default_rng(3)
    item, n = rng.integers(0, 20, 400), rng.choice([1, 2, 3], 400)
    table = pa.table({"item_id": item, "qty": n, "line_total": (item + 1.5) * n})
    inferred = [InferredColumn("item_id", "item_id", ""), InferredColumn("quantity", "qty", "")]
    columns, [rule] = infer_price(profile_columns(table), table, inferred)
    assert {c.key: c.column for c in columns}["price"] == "line_total"
    values = Rules.of("purchases", {rule.key: rule.expression}, {}).normalised(table)["line_total"]
    np.testing.assert_allclose(values.to_numpy(), item + 1.5)


def test_fields_of_structs_are_columns_and_lists_are_named() -> None:
    track = pa.array([{"id": "t1", "Album": {"no": 1}}, None])
    rows, expressions = flatten_structs(pa.table({"track": track, "tags": [["a"], []], "track_id": [1, 2]}))
    assert expressions == {"track_id_": "track.id", "track_Album_no": 'track."Album".no'}
    for column, expression in expressions.items():
        values = Rules.of("purchases", {column: expression}, {}).normalised(rows.select(["track"]))
        assert values[column].to_pylist() == rows[column].to_pylist()
    assert nested_advice("basket", pa.list_(pa.string())) == (
        'list<item: string>: if it is a basket of items, purchases.item_id "basket[]" reads it'
    )
    assert "as in track.id" in nested_advice("track", track.type)
    assert '"lines[].sku" reads a field' in nested_advice("lines", pa.list_(pa.struct([("sku", pa.string())])))


def test_each_column_that_is_not_used_is_told_with_the_reason() -> None:
    n = 200
    table = pa.table(
        {
            "customer_id": [f"c{i % 30}" for i in range(n)],
            "sku": [f"s{i % 20}" for i in range(n)],
            "product_id": np.arange(n) % 20,
            "sold_at": pa.array(np.arange(n) * 10**12, pa.timestamp("us")),
            "updated_at": pa.array(np.arange(n) * 10**12, pa.timestamp("us")),
            "currency": ["EUR"] * n,
            "note": pa.nulls(n, pa.string()),
            "tags": [["a"]] * n,
        }
    )
    profiles = profile_columns(table)
    inferred = infer_columns(profiles, PURCHASE_KEYS)
    used = {c.column for c in inferred}
    passed = dict(passed_over(table.schema, profiles, inferred, used))
    assert set(passed) == set(table.column_names) - used
    assert "second to product_id as item_id" in passed["sku"]
    assert "no timestamp, for its name says updated" in passed["updated_at"]
    assert passed["currency"] == "the same in every row that has it: EUR"
    assert passed["note"] == "null in every row looked at"
    assert "a basket of items" in passed["tags"]
