"""The columns of a stranger's table are told apart by name and by content."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.errors import ConfigError, InputError
from topkin.ingest.inference.columns import (
    ITEM_KEYS,
    PURCHASE_KEYS,
    InferredColumn,
    SuggestedRule,
    chained,
    infer_columns,
    name_score,
    name_words,
    profile_columns,
    suggest_normalising,
    suggest_rules,
)
from topkin.ingest.rules import Rules

N = 400
RNG = np.random.default_rng(0)
USERS = [f"c{n}" for n in RNG.integers(0, 60, N)]
GOODS = [f"p{n}" for n in RNG.integers(0, 40, N)]
TIMES = [datetime(2023, 1, 1) + timedelta(hours=int(h)) for h in RNG.integers(0, 5000, N)]
INVOICES = [f"i{n // 3}" for n in range(N)]


def guessed(columns: dict[str, Any], wanted: tuple[str, ...] = PURCHASE_KEYS, **options: Any) -> dict[str, str]:
    return {g.key: g.column for g in infer_columns(profile_columns(pa.table(columns)), wanted, **options)}


@pytest.mark.parametrize(
    ("user", "item", "time"),
    [
        ("user_id", "item_id", "timestamp"),
        ("CustomerID", "StockCode", "InvoiceDate"),
        ("customer_id", "product_id", "order_date"),
        ("customer id", "article id", "t_dat"),
        ("household_key", "SKU", "created_at"),
        ("reviewerID", "asin", "unixReviewTime"),
        ("visitorid", "itemid", "ts"),
        ("userId", "movieId", "datetime"),
        ("msno", "song_id", "date"),
    ],
)
def test_usual_names_are_known(user: str, item: str, time: str) -> None:
    table = {"InvoiceNo": INVOICES, time: TIMES, item: GOODS, user: USERS}
    assert guessed(table) == {"user_id": user, "item_id": item, "timestamp": time}


def test_the_other_columns_are_found_and_foreign_ones_left_alone() -> None:
    table = {
        "order_id": INVOICES, "customer_id": USERS, "customer_name": USERS, "product_name": GOODS, "sku": GOODS,
        "ordered_at": TIMES, "qty": RNG.integers(1, 5, N), "unit_price": RNG.random(N), "total": RNG.random(N),
        "ship_country": ["FR", "DE"] * (N // 2), "discount": RNG.random(N),
    }  # fmt: skip
    assert guessed(table) == {
        "user_id": "customer_id", "item_id": "sku", "timestamp": "ordered_at", "quantity": "qty",
        "price": "unit_price", "segment": "ship_country",
    }  # fmt: skip


@pytest.mark.parametrize(
    "times",
    [
        pa.array(TIMES, pa.timestamp("ns")),
        pa.array([t.date() for t in TIMES], pa.date32()),
        pa.array([t.isoformat() for t in TIMES]),
        pa.array([int(t.timestamp()) for t in TIMES]),
        pa.array([int(t.timestamp() * 1000) for t in TIMES]),
    ],
)
def test_times_are_known_by_their_content_whatever_they_are_called(times: pa.Array) -> None:
    table = {"a_number": RNG.integers(0, 9, N), "x7": times, "user": USERS, "item": GOODS}
    assert guessed(table)["timestamp"] == "x7"


def test_small_numbers_are_not_taken_for_times() -> None:
    with pytest.raises(
        InputError, match=r"no column looks like timestamp; say which with --column timestamp=NAME; .*x7"
    ):
        guessed({"x7": RNG.integers(0, 9, N), "user": USERS, "item": GOODS})


def test_a_nameless_item_column_is_known_by_the_catalogue() -> None:
    table = {"buyer": USERS, "code": GOODS, "when": TIMES, "other": [f"z{n}" for n in RNG.integers(0, 50, N)]}
    assert guessed(table, partner=pa.chunked_array([GOODS]))["item_id"] == "code"


def test_a_column_is_never_guessed_twice() -> None:
    table = {"client_product": GOODS, "household_key": USERS, "date": TIMES}
    assert guessed(table) == {"user_id": "household_key", "item_id": "client_product", "timestamp": "date"}


def test_two_unknown_columns_are_not_guessed_between() -> None:
    with pytest.raises(InputError, match=r"no column looks like user_id or item_id; .*--column user_id=NAME"):
        guessed({"aa": USERS, "bb": GOODS, "cc": INVOICES, "time": TIMES})


def test_what_the_user_says_is_taken() -> None:
    table = {"aa": USERS, "bb": GOODS, "cc": INVOICES, "time": TIMES}
    assert guessed(table, chosen={"user_id": "cc", "item_id": "bb"})["user_id"] == "cc"
    with pytest.raises(ConfigError, match="--column user_id=zz: there is no column 'zz', the columns are aa"):
        guessed(table, chosen={"user_id": "zz"})


def test_a_catalogue_is_read_by_name_and_kind() -> None:
    ids = [f"p{n}" for n in range(100)]
    table = {
        "product_id": ids, "product_name": [f"Thing {n}" for n in range(100)], "department": ["a", "b"] * 50,
        "list_price": RNG.random(100), "in_stock": [True, False] * 50, "weight": RNG.random(100),
    }  # fmt: skip
    assert guessed(table, ITEM_KEYS) == {
        "item_id": "product_id", "title": "product_name", "category": "department", "price": "list_price",
        "available": "in_stock",
    }  # fmt: skip


def test_a_group_that_has_no_members_is_no_category() -> None:
    table = {"item_id": [f"p{n}" for n in range(100)], "category": [f"c{n}" for n in range(100)]}
    assert guessed(table, ITEM_KEYS) == {"item_id": "item_id"}


def test_rules_are_proposed_only_for_dirt_that_is_there() -> None:
    clean = pa.table({"user": ["a", "b"], "n": [1, 2], "p": [1.0, 2.0]})
    guesses = [
        InferredColumn("user_id", "user", ""),
        InferredColumn("quantity", "n", ""),
        InferredColumn("price", "p", ""),
    ]
    assert suggest_rules(clean, guesses) == []
    dirty = pa.table({"user": ["a", None, " ", "b"], "n": [1, -2, 1, 1], "p": [1.0, 2.0, 0.0, 1.0]})
    result = {c.key: (c.expression, c.why.split("%")[0]) for c in suggest_rules(dirty, guesses)}
    assert result == {
        "blank user": ("trim(\"user\") <> ''", "25.0"),
        "returned or nothing sold": ("n > 0", "25.0"),
        "no price": ("p > 0", "25.0"),
    }


@pytest.mark.parametrize("nulls", [0, 1])
def test_amounts_of_more_digits_than_sql_has_are_read_as_numbers(nulls: int) -> None:
    amounts = pa.array([Decimal(2), Decimal(-1), Decimal(3), *[None] * nulls], pa.decimal256(76, 38))
    rows = pa.table({"n": amounts, "p": amounts})
    guesses = [InferredColumn("quantity", "n", ""), InferredColumn("price", "p", "")]
    normalise = {r.key: r.expression for r in chained(suggest_normalising(rows, guesses))}
    read = Rules.of("purchases", normalise, {}).normalised(rows)
    assert read["p"].to_pylist() == [2.0, -1.0, 3.0, *[None] * nulls]
    assert read["n"].to_pylist() == [2.0, -1.0, 3.0, *[1.0] * nulls]
    assert [r.expression for r in suggest_rules(read, guesses)] == ["n > 0"]


def test_a_return_is_not_said_to_have_no_price_too_and_a_price_may_be_missing() -> None:
    guesses = [InferredColumn("quantity", "n", ""), InferredColumn("price", "p", "")]
    returned = pa.table({"n": [1, -2, 1], "p": [1.0, -2.0, 1.0]})
    assert [r.key for r in suggest_rules(returned, guesses)] == ["returned or nothing sold"]
    some = pa.table({"n": [1, 1, 1], "p": [1.0, None, 0.0]})
    assert [r.expression for r in suggest_rules(some, guesses)] == ["coalesce(p > 0, true)"]


@pytest.mark.parametrize(("nobody", "expression"), [(0, "u <> 0"), ("Guest", "u <> 'Guest'")])
def test_ids_that_stand_for_no_user_are_no_users(nobody: Any, expression: str) -> None:
    kind = type(nobody)
    users = [nobody if n % 5 == 0 else kind(n % 60 + 1) for n in range(600)]
    rules = suggest_rules(pa.table({"u": users}), [InferredColumn("user_id", "u", "")])
    assert [(r.key, r.expression) for r in rules] == [("no user", expression)]


def test_a_user_called_0_is_one() -> None:
    assert suggest_rules(pa.table({"u": [n % 60 for n in range(600)]}), [InferredColumn("user_id", "u", "")]) == []


def test_expressions_for_one_column_are_made_one() -> None:
    field = SuggestedRule("sku", "line.sku", "a field")
    upper, rest = SuggestedRule.of("sku", "upper({})", "case"), SuggestedRule.of("n", "coalesce({}, 1)", "null")
    rules = chained([field, rest, upper])
    assert [(r.key, r.expression) for r in rules] == [("n", "coalesce(n, 1)"), ("sku", "upper(line.sku)")]


@pytest.mark.parametrize(
    ("user", "item", "time"),
    [
        ("Kunde", "Artikelnr", "Datum"),
        ("Kundennummer", "Artikelnummer", "Bestelldatum"),
        ("id_cliente", "código_artículo", "fecha"),
        ("subscriber", "items[]", "shipped_on"),
        ("buyer", "lines[].id", "order_date"),
        ("buyer", "order_lines[].sku", "delivery_date"),
    ],
)
def test_names_of_other_languages_and_of_lists_are_known(user: str, item: str, time: str) -> None:
    assert guessed({"Belegnr": INVOICES, time: TIMES, item: GOODS, user: USERS}) == {
        "user_id": user, "item_id": item, "timestamp": time,
    }  # fmt: skip


def test_one_value_for_all_is_no_category_and_no_segment() -> None:
    table = {"item_id": [f"p{n}" for n in range(100)], "type": ["simple"] * 100, "Categories": ["a", "b"] * 50}
    assert guessed(table, ITEM_KEYS) == {"item_id": "item_id", "category": "Categories"}


def test_users_that_are_missing_are_said_beside_the_guess() -> None:
    [user, *_] = infer_columns(
        profile_columns(pa.table({"user": [None, *USERS[1:]], "item": GOODS, "time": TIMES})), PURCHASE_KEYS
    )
    assert user.why.endswith("; 0.2% null, rejected as such")


def test_ids_written_in_several_ways_are_made_one() -> None:
    ids = [f"a{n}" for n in range(50)]
    table = pa.table({"Item Id": [*ids, "A7", "A8"], "u": [*ids, " a7", "a8"], "t": ["x"] * 52})
    rules = suggest_normalising(table, [InferredColumn("item_id", "Item Id", ""), InferredColumn("user_id", "u", "")])
    assert [(c.key, c.expression) for c in rules] == [("Item Id", 'upper(trim("Item Id"))'), ("u", "trim(u)")]


def test_case_that_tells_ids_apart_is_kept() -> None:
    ids = [f"{c}{n}" for c in "aA" for n in range(50)]
    assert suggest_normalising(pa.table({"i": ids}), [InferredColumn("item_id", "i", "")]) == []


def test_whole_floats_become_integers() -> None:
    table = pa.table({"user": [17850.0, None, 12.0]})
    [cure] = suggest_normalising(table, [InferredColumn("user_id", "user", "")])
    assert cure.expression == 'TRY_CAST("user" AS BIGINT)'


def test_names_are_split_into_words() -> None:
    assert name_words("CustomerID") == name_words("customer_id") == name_words("customer ID") == ["customer", "id"]
    assert name_words("InvoiceDate") == ["invoice", "date"]


def test_names_against_a_key_lower_its_score() -> None:
    assert name_score("user_id", "user_id") == 1
    assert name_score("user_id", "user_name") < 0.2 < name_score("user_id", "user_code")
    assert name_score("user_id", "colour") == 0


def test_a_column_called_id_is_that_of_its_table_where_nothing_is_better() -> None:
    table = {"ID": list(range(100)), "name": [f"Thing {n}" for n in range(100)]}
    assert guessed(table, ITEM_KEYS, section="items") == {"item_id": "ID", "title": "name"}
    with_sku = {**table, "sku": [f"p{n}" for n in range(100)]}
    assert guessed(with_sku, ITEM_KEYS, section="items")["item_id"] == "sku"
    sold = pa.chunked_array([list(range(100))])
    assert guessed(with_sku, ITEM_KEYS, section="items", partner=sold)["item_id"] == "ID"
    with pytest.raises(InputError, match=r"no column looks like item_id; say which with --column items.item_id=NAME"):
        guessed({"name": table["name"], "weight": RNG.random(100)}, ITEM_KEYS, section="items")
