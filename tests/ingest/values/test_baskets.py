"""A list of items in a row is as many purchases; no row is lost, and none is counted twice."""

import io
import re
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import ids
from topkin.ingest.contract import InputSource, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.prepare import PreparePlan, prepare
from topkin.ingest.rules import Rules
from topkin.ingest.sql import query
from topkin.ingest.values.baskets import PLACE, rows_to_add, rows_to_add_by_footer, slices, unnest

DAY, CLOCK = datetime(2024, 4, 2), datetime(2026, 1, 1)


def baskets(lists: Any) -> pa.Table:
    n = len(lists)
    users = [f"u{i}" for i in range(n)]
    return pa.table({"user": users, "at": pa.array([DAY] * n, pa.timestamp("us")), "items": lists})


def source(item: str, rules: dict[str, str] | None = None, **columns: str) -> InputSource:
    roles = {"user_id": "user", "item_id": item, "timestamp": "at", **columns}
    return InputSource(name="purchases", path="t", columns=roles, rules=Rules.of("purchases", {}, rules or {}))


def prepared(rows: pa.Table, of: InputSource) -> Any:
    inspection = inspect_table(of, rows)
    assert inspection.findings == ()
    place = {FILE: pa.array(["f"] * len(rows)), ROW: pa.array(range(len(rows)), pa.int64())}
    read = unnest(pa.table({**{c: rows[c] for c in rows.column_names}, **place}), inspection.columns, keep=(FILE, ROW))
    types = {"user_type": pa.string(), "item_type": inspection.types["item_id"]}
    return prepare({"purchases": read}, PreparePlan(purchases=of, **types, as_of=CLOCK, clock=CLOCK))


LISTS = st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=4)), min_size=1)
LAYOUTS = [pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_view(pa.int64())]


@given(LISTS, st.sampled_from(LAYOUTS))
def test_each_element_is_a_purchase_and_rows_without_one_are_set_aside(lists: list[Any], layout: pa.DataType) -> None:
    tables = prepared(baskets(pa.array(lists, layout)), source("items[]"))
    every = [(f"u{i}", e) for i, items in enumerate(lists) for e in items or ()]
    events = sorted(zip(tables.events["user_id"].to_pylist(), tables.events["item_id"].to_pylist(), strict=True))
    assert events == sorted((u, e) for u, e in every if e is not None)
    counts = tables.statistics["sources"]["purchases"]
    reasons = {
        "items[] is null": sum(e is None for _, e in every),
        "items is null or an empty list": sum(not i for i in lists),
    }
    assert counts["rejected"] == {reason: n for reason, n in reasons.items() if n}
    assert counts["rows"] == len(lists)
    total = counts["accepted"] + counts["duplicates"] + sum(counts["rejected"].values())
    assert counts["rows"] + counts.get("unnested", 0) == total


LINES = pa.list_(pa.struct([("sku", pa.string()), ("qty", pa.int64()), ("of", pa.struct([("cents", pa.int64())]))]))


def test_fields_of_elements_are_columns_to_roles_and_rules() -> None:
    lines = [{"sku": "a", "qty": 2, "of": {"cents": 150}}, None, {"sku": "b", "qty": 9, "of": None}]
    rows = baskets(pa.array([lines, [{"sku": None, "qty": 1, "of": None}]], LINES))
    of = source("items[].sku", {"few": '"items[].qty" < 5'}, quantity="items[].qty", price="items[].of.cents")
    tables = prepared(rows, of)
    assert tables.events.select(["user_id", "item_id", "quantity", "price"]).to_pylist() == [
        {"user_id": "u0", "item_id": "a", "quantity": 2.0, "price": 150.0}
    ]
    assert tables.statistics["sources"]["purchases"]["rejected"] == {"few": 1, "items[].sku is null": 2}


def test_the_same_item_twice_in_a_basket_is_two_purchases_and_a_row_delivered_twice_is_one() -> None:
    rows = baskets(pa.array([["a", "a"], ["b"]]))
    twice = pa.concat_tables([rows, rows.slice(0, 1)])
    tables = prepared(twice, source("items[]"))
    assert tables.events["item_id"].to_pylist() == ["a", "a", "b"]
    assert tables.statistics["sources"]["purchases"]["duplicates"] == 2


@pytest.mark.parametrize(
    ("item", "columns", "message"),
    [
        ("items", {}, 'a basket in a row? set purchases.item_id = "items[].sku" or purchases.item_id = "items[].qty"'),
        ("items[].skuu", {}, "the elements of 'items' have no field 'skuu'"),
        ("user[]", {}, "column 'user' must be a list for 'user[]', got string: leave out the []"),
        ("basket[]", {}, "has no column 'basket[]'"),
        ("items[]", {}, "column 'items[]' (purchases.item_id) must be an integer, a string or binary, got struct"),
        ("items[].sku", {"quantity": "more[]"}, "one list of a row can become rows, got items and more"),
    ],
)
def test_what_is_no_list_of_ids_is_told_with_what_to_write(item: str, columns: dict[str, str], message: str) -> None:
    rows = baskets(pa.array([[{"sku": "a"}]], LINES)).append_column("more", pa.array([[1]]))
    [finding, *_] = inspect_table(source(item, **columns), rows).findings
    assert message in str(finding)


def test_two_lists_of_a_row_become_one_by_the_expression_that_the_message_names() -> None:
    rows = baskets(pa.array([[1, 2], [3]])).append_column("more", pa.array([[0.5, 1.5], [2.5]]))
    [finding] = inspect_table(source("items[]", price="more[]"), rows).findings
    named = re.search(r"DuckDB's (list_transform\(.*\)) makes it", str(finding))
    assert named
    lines = query(f"SELECT {named[1]} AS lines FROM rows", rows)["lines"].to_pylist()
    assert lines == [[{"items": 1, "more": 0.5}, {"items": 2, "more": 1.5}], [{"items": 3, "more": 2.5}]]


def test_a_column_whose_name_ends_in_brackets_is_read_as_it_is() -> None:
    rows = baskets(pa.array([1, 2])).rename_columns(["user", "at", "items[]"])
    tables = prepared(rows, source("items[]"))
    assert tables.events["item_id"].to_pylist() == [1, 2]
    assert PLACE not in unnest(rows, rows.column_names).column_names
    assert ids.canonical_type(rows["items[]"].type) == pa.int64()


@given(LISTS, st.sampled_from(LAYOUTS), st.integers(1, 6))
def test_slices_become_the_same_rows_and_no_more_at_a_time(lists: list[Any], layout: pa.DataType, most: int) -> None:
    rows = baskets(pa.array(lists, layout))
    columns = ["user", "items[]"]
    parts = list(slices(rows, columns, most))
    assert all(len(unnest(part, columns)) <= most or len(part) == 1 for part in parts)
    assert pa.concat_tables([unnest(part, columns) for part in parts]).equals(unnest(rows, columns))


@given(LISTS, st.sampled_from(["number", "struct", "deeper"]), st.integers(1, 5))
def test_a_footer_counts_the_rows_that_lists_add(lists: list[Any], kind: str, group: int) -> None:
    wrapped = {
        "number": lambda e: e,
        "struct": lambda e: None if e is None else {"tags": [str(e)] * e, "sku": e},
        "deeper": lambda e: None if e is None else {"of": {"sku": e}},
    }
    item = {"number": "items[]", "struct": "items[].sku", "deeper": "items[].of.sku"}[kind]
    inner = {
        "number": pa.int64(),
        "struct": pa.struct([("tags", pa.list_(pa.string())), ("sku", pa.int64())]),
        "deeper": pa.struct([("of", pa.struct([("sku", pa.int64())]))]),
    }[kind]
    values = [None if of is None else [wrapped[kind](e) for e in of] for of in lists]
    rows = baskets(pa.array(values, pa.list_(inner)))
    added = len(unnest(rows, ["user", item])) - len(rows)
    assert rows_to_add(rows, ["user", item]) == added
    file = io.BytesIO()
    pq.write_table(rows, file, row_group_size=group)
    meta = pq.read_metadata(file)
    assert rows_to_add_by_footer(meta, ["user", item], rows.column_names) == added
    assert rows_to_add_by_footer(meta, ["user"], rows.column_names) == 0
