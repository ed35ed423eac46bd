"""Rules over purchases that ask the item and the user, against plain Python."""

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts.partition import hash_ids
from topkin.errors import ConfigError, InputError
from topkin.ingest.cleaning import clean_purchases
from topkin.ingest.contract import InputSource, Inspection, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.judging.lookups import Lookup, joinable, joined, lookup_rows, lookups_of
from topkin.ingest.rules import Rules

DAY, CLOCK = datetime(2024, 1, 1), datetime(2025, 1, 1)
PURCHASES = pa.table({"user": ["u", "v"], "item": ["a", "b"], "time": [DAY, DAY], "paid": [1.0, 2.0]})
ITEMS = pa.table(
    {"sku": ["A ", "b", "b", None], "dept": ["fuel", "food", "toys", "x"], "tags": [["x"], ["y"], None, []]}
)


def purchases(rules: dict[str, str], **columns: str) -> InputSource:
    roles = {"user_id": "user", "item_id": "sold", "timestamp": "time"} | columns
    return InputSource(name="purchases", path="p", columns=roles, rules=Rules.of("purchases", {}, rules))


def items(rules: dict[str, str] | None = None, normalise: dict[str, str] | None = None) -> InputSource:
    of = Rules.of("items", {"sku": "lower(trim(sku))"} if normalise is None else normalise, rules or {})
    return InputSource(name="items", path="i", columns={"item_id": "sku", "category": "dept"}, rules=of)


def placed(rows: pa.Table, name: str = "f") -> pa.Table:
    place = pa.array([name] * len(rows), pa.string()).dictionary_encode()
    return rows.append_column(FILE, place).append_column(ROW, pa.array(np.arange(len(rows))))


def lookups(
    rules: dict[str, str], rows: pa.Table | None = None, source: InputSource | None = None
) -> dict[str, Lookup]:
    sold = PURCHASES.rename_columns(["user", "sold", "time", "paid"]) if rows is None else rows
    inspected: dict[str, Inspection] = {"purchases": inspect_table(purchases(rules), sold)}
    assert inspected["purchases"].findings == ()
    inspected["items"] = inspect_table(source or items(), ITEMS)
    return lookups_of([inspected["purchases"]], inspected)


def table(lookup: Lookup, rows: pa.Table = ITEMS) -> pa.Table:
    return lookup_rows(placed(rows.select(list(lookup.read))), lookup)


@pytest.mark.parametrize("name", ["dept", "category", "DEPT", "Category"])
def test_a_column_is_named_as_the_file_or_as_topkin_has_it(name: str) -> None:
    (lookup,) = lookups({"no fuel": f"item.{name} <> 'fuel'"}).values()
    assert lookup.columns == {name: "dept"}
    assert lookup.read == ("sku", "dept")
    assert table(lookup).sort_by("id").select(["id", "fields"]).to_pydict() == {
        "id": ["a", "b"],
        "fields": [{name: "fuel"}, {name: "food"}],
    }


def test_the_rows_rules_of_the_catalogue_hold_and_its_first_row_of_an_item_counts() -> None:
    (lookup,) = lookups({"r": "item.dept <> 'x'"}, source=items({"not food": "dept <> 'food'"})).values()
    assert table(lookup).sort_by("id")["fields"].to_pylist() == [{"dept": "fuel"}, {"dept": "toys"}]


def test_a_rule_rejects_by_the_item_and_one_that_is_not_in_the_catalogue_is_null() -> None:
    sold = pa.table({"user": ["u"] * 4, "sold": ["a", "b", "new", None], "time": [DAY] * 4})
    some = {"no fuel": "item.dept <> 'fuel'"}
    side = lookups(some, sold)
    cleaned = clean_purchases(placed(sold), purchases(some), CLOCK, lookups={"item": table(side["item"])})
    assert cleaned.accepted["item_id"].to_pylist() == ["b"]
    assert cleaned.rejects["reason"].to_pylist() == ["no fuel", "no fuel", "sold is null"]
    kept = {"no fuel": "item.dept IS DISTINCT FROM 'fuel'"}
    cleaned = clean_purchases(placed(sold), purchases(kept), CLOCK, lookups={"item": table(side["item"])})
    assert cleaned.accepted["item_id"].to_pylist() == ["b", "new"]


def test_a_struct_column_of_the_purchases_wins_over_the_catalogue() -> None:
    sold = pa.table(
        {"user": ["u", "v"], "sold": ["a", "b"], "time": [DAY, DAY], "Item": [{"dept": "x"}, {"dept": "y"}]}
    )
    some = {"only x": "item.dept = 'x'"}
    assert lookups(some, sold) == {}
    cleaned = clean_purchases(placed(sold), purchases(some), CLOCK)
    assert cleaned.accepted["item_id"].to_pylist() == ["a"]


def test_ids_in_a_column_called_item_do_not_hide_the_catalogue() -> None:
    sold = pa.table({"user": ["u", "v"], "item": ["a", "b"], "time": [DAY, DAY]})
    some = {"no fuel": "item.dept <> 'fuel' AND item <> 'c'"}
    source = purchases(some, item_id="item")
    inspected = {"purchases": inspect_table(source, sold), "items": inspect_table(items(), ITEMS)}
    lookup = lookups_of([inspected["purchases"]], inspected)["item"]
    cleaned = clean_purchases(placed(sold), source, CLOCK, lookups={"item": table(lookup)})
    assert cleaned.accepted["item_id"].to_pylist() == ["b"]


def test_lists_and_other_types_may_be_asked() -> None:
    some = {"tagged": "list_contains(item.tags, 'x')"}
    sold = PURCHASES.rename_columns(["user", "sold", "time", "paid"])
    cleaned = clean_purchases(placed(sold), purchases(some), CLOCK, lookups={"item": table(lookups(some)["item"])})
    assert cleaned.accepted["item_id"].to_pylist() == ["a"]


def test_a_section_or_a_column_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"rules.'r' asks for item.dpt, and \[items\] has no column 'dpt', did you"):
        lookups({"r": "item.dpt = 'x'"})
    with pytest.raises(ConfigError, match=r"asks for user.land, a column of \[users\], and the configuration has no"):
        lookups({"r": "user.land = 'x'"})


def test_a_file_with_another_type_is_told() -> None:
    (lookup,) = lookups({"r": "item.dept <> 'x'"}).values()
    other = ITEMS.set_column(1, "dept", pa.array([["a"], ["b"], ["c"], ["d"]]))
    with pytest.raises(InputError, match="must have one type in all files"):
        table(lookup, other)


@given(
    listed=st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz")), max_size=12),
    sold=st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12),
    cut=st.integers(0, 12),
    data=st.data(),
)
def test_the_join_is_that_of_a_dict_however_the_catalogue_lies_in_batches(
    listed: list[tuple[str, str]], sold: list[str], cut: int, data: Any
) -> None:
    (lookup,) = lookups({"r": "item.dept <> 'fuel'"}, source=items(normalise={})).values()
    schema = pa.schema({"sku": pa.string(), "dept": pa.string()})
    rows = placed(pa.Table.from_pylist([{"sku": i, "dept": d} for i, d in listed], schema))
    parts = [lookup_rows(part, lookup) for part in (rows.slice(0, cut), rows.slice(cut))]
    merged = lookup.merged(data.draw(st.permutations(parts)))
    by_id: dict[str, str] = {}
    for item, dept in listed:
        by_id.setdefault(item, dept)
    wanted = [{"dept": by_id[i]} if i in by_id else None for i in sold]
    table_joined = joined(pa.table({"n": range(len(sold))}), {"item_id": pa.array(sold)}, {"item": merged})
    assert table_joined["__item"].to_pylist() == wanted


def test_ids_of_one_hash_are_told_apart() -> None:
    turned = [bin(n).count("1") % 2 for n in range(2048)]  # Thue and Morse's word: it and its inverse hash alike
    one, other = ("".join("ab"[bit ^ flip] for bit in turned) for flip in (0, 1))
    assert len(set(hash_ids(pa.array([one, other])).tolist())) == 1
    (lookup,) = lookups({"r": "item.dept <> 'x'"}, source=items(normalise={})).values()
    rows = pa.table({"sku": [one, "c", other], "dept": ["1", "2", "3"]})
    for listed in (rows, rows.take([2, 1, 0]), rows.slice(0, 2)):
        wanted = dict(zip(listed["sku"].to_pylist(), listed["dept"].to_pylist(), strict=True))
        keys = [other, one, "new", "c", one]
        table_joined = joined(
            pa.table({"n": range(5)}), {"item_id": pa.array(keys)}, {"item": joinable(table(lookup, listed))}
        )
        assert table_joined["__item"].to_pylist() == [{"dept": wanted[k]} if k in wanted else None for k in keys]


def test_a_batch_costs_no_index_of_the_catalogue() -> None:
    (lookup,) = lookups({"r": "item.dept <> 'x'"}, source=items(normalise={})).values()
    n = 200_000
    known = table(lookup, pa.table({"sku": [f"sku {i}" for i in range(n)], "dept": ["a"] * n}))
    usual, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        batch, keys = pa.table({"n": [1, 2]}), {"item_id": pa.array(["sku 7", "none"])}
        rows = joined(batch, keys, {"item": known})["__item"].to_pylist()
        del batch, keys  # before their pool
    finally:
        pa.set_memory_pool(usual)
    assert rows == [{"dept": "a"}, None]
    assert pool.max_memory() < n
