"""Which column orders purchases that have no times."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from topkin.errors import ConfigError
from topkin.ingest.inference.columns import InferredColumn, profile_columns
from topkin.ingest.inference.passed import passed_over
from topkin.ingest.inference.undated import chosen_order, has_time, infer_order

N = 600
RNG = np.random.default_rng(3)
USERS = RNG.integers(0, 60, N)
WHO = [InferredColumn("user_id", "who", ""), InferredColumn("item_id", "what", "")]
VISITS = np.array([np.sum(USERS[:n] == USERS[n]) // 2 + 1 for n in range(N)])  # two rows each, from 1


def order_of(columns: Mapping[str, Any]) -> Any:
    rows = pa.table({"who": USERS, "what": RNG.integers(0, 40, N), **columns})
    return infer_order(rows, WHO)


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        ({"position": VISITS}, "position"),
        ({"order_number": VISITS, "add_to_cart_order": RNG.integers(1, 9, N)}, "order_number"),
        ({"invoice_no": 536_000 + np.arange(N) // 2}, "invoice_no"),
        ({"event_id": np.arange(N) * 7}, "event_id"),
        ({"n": VISITS}, "n"),
        ({"order_id": RNG.permutation(N)}, "order_id"),
        ({"InvoiceNo": [f"{'C' if n % 9 == 0 else ''}{536_000 + n // 3}" for n in range(N)]}, "InvoiceNo"),
        ({"invoice_no": np.where(np.arange(N) % 150 == 7, 0, 536_000) + np.arange(N) // 2}, "invoice_no"),
        ({}, "row"),
        ({"rating": RNG.integers(1, 6, N), "age": USERS + 20}, "row"),
        ({"order_line": RNG.integers(1, 9, N)}, "row"),
        ({"invoice_no": pa.array([None, *range(1, N)], pa.int64())}, "row"),
        ({"invoice": [f"{chr(97 + n % 26)}x" for n in range(N)]}, "row"),
    ],
)
def test_the_column_that_orders_them_is_found(columns: Mapping[str, Any], column: str) -> None:
    order = order_of(columns)
    assert order.column.column == column
    assert "no column reads as a time" in order.column.why
    assert (order.rule is not None) == (column == "InvoiceNo")


def test_an_order_that_the_user_named_is_taken() -> None:
    rows = pa.table({"who": ["a"], "nr": [1]})
    assert chosen_order("nr", rows).column.sure == chosen_order("row", rows).column.sure == "said"
    with pytest.raises(ConfigError, match=r'there is no column .n., the columns are who, nr; "row" is the order'):
        chosen_order("n", rows)


@pytest.mark.parametrize(("name", "timed"), [("ts", True), ("number", False)])
@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, -1e300])
def test_epoch_numbers_are_times_by_their_name_though_some_are_none(name: str, timed: bool, odd: float) -> None:
    numbers = np.where(np.arange(N) % 20, 1_704_067_200.0 + np.arange(N), odd)
    assert has_time(profile_columns(pa.table({name: numbers}))) is (timed or bool(np.isnan(odd)))
    assert not has_time(profile_columns(pa.table({name: np.where(np.arange(N) % 2, numbers, -1e300)})))


def test_a_time_is_told_from_a_position() -> None:
    rows = {"user": ["a", "b", "a"], "item": ["x", "y", "z"], "position": [1, 1, 2], "stars": [5, 3, 4]}
    assert not has_time(profile_columns(pa.table(rows)))
    assert has_time(profile_columns(pa.table({**rows, "day": ["2024-01-01", "2024-01-02", "2024-01-03"]})))


def test_what_is_passed_over_beside_an_order_is_told() -> None:
    rows = pa.table({"who": USERS, "what": USERS, "order_total": RNG.random(N)})
    passed = passed_over(
        rows.schema, profile_columns(rows), [*WHO, InferredColumn("order", "row", "")], {"who", "what"}
    )
    assert [column for column, _ in passed] == ["order_total"]
