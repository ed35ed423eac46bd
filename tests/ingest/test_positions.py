"""Purchases without times against plain Python over the same rows."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.ingest.contract import InputSource, inspect_table
from topkin.ingest.files import FILE, ROW
from topkin.ingest.positions import MOST, order_keys, positions
from topkin.ingest.prepare import Prepared, PreparePlan, prepare

AS_OF = datetime(2024, 6, 1)
HALF, DAY = timedelta(hours=12), timedelta(days=1)
Rows = list[tuple[str, int, str]]  # user, order, item
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-3, 4), st.sampled_from("xyz")), min_size=1, max_size=25)


def source(name: str = "purchases", *, by_row: bool = False) -> InputSource:
    columns = {"user_id": "who", "item_id": "what", "order": "nr"}
    if by_row:
        del columns["order"]
    return InputSource(name=name, path=name, columns=columns)


def table(rows: Rows, files: list[str] | None = None) -> pa.Table:
    users, order, items = zip(*rows, strict=True)
    columns = {
        "who": pa.array(users, pa.string()),
        "nr": pa.array(order, pa.int64()),
        "what": pa.array(items, pa.string()),
    }
    columns |= {FILE: pa.array(files or ["f"] * len(rows)), ROW: pa.array(range(len(rows)), pa.int64())}
    return pa.table(columns)


def plan(**changes: Any) -> PreparePlan:
    values = {"purchases": source(), "split": "last", "recent_days": 36_500.0, **changes}
    return PreparePlan(user_type=pa.string(), item_type=pa.string(), as_of=AS_OF, clock=datetime(2030, 1, 1), **values)


def baskets(rows: Rows, user: str) -> list[list[str]]:
    """The user's items by position, each position sorted."""
    numbers = sorted({o for u, o, _ in rows if u == user})
    return [sorted(i for u, o, i in rows if (u, o) == (user, n)) for n in numbers]


def histories(prepared: Prepared) -> dict[str, list[tuple[str, datetime]]]:
    return {
        row["user_id"]: list(zip(row["items"], row["times"], strict=True)) for row in prepared.histories.to_pylist()
    }


@given(ROWS)
def test_the_last_position_is_held_out_and_ties_share_one(rows: Rows) -> None:
    tables = prepare({"purchases": table(rows)}, plan())
    held = {u: [] for u, _, _ in rows}
    for row in tables.heldout.to_pylist():
        held[row["user_id"]].append(row["item_id"])
        assert row["timestamp"] == AS_OF + HALF
    for user, known in histories(tables).items():
        own = baskets(rows, user)
        learned, out = (own[:-1], own[-1]) if len(own) > 1 else (own, [])
        assert sorted(held[user]) == out
        n = len(learned)
        expected = [(item, AS_OF - HALF - (n - 1 - p) * DAY) for p, basket in enumerate(learned) for item in basket]
        assert known == expected
    counts = tables.statistics["sources"]["purchases"]
    assert counts["rows"] == counts["accepted"] == len(rows)
    assert counts["duplicates"] == 0


@given(ROWS, st.randoms(use_true_random=False), st.integers(-10, 10), st.integers(1, 5))
def test_only_the_order_counts(rows: Rows, random: Any, shift: int, factor: int) -> None:
    shuffled = [(u, o * factor + shift, i) for u, o, i in random.sample(rows, len(rows))]
    one, other = (prepare({"purchases": table(r)}, plan()) for r in (rows, shuffled))
    for name in ("events", "heldout", "histories", "catalogue"):
        assert getattr(one, name).equals(getattr(other, name))
    assert one.statistics == other.statistics


@given(ROWS)
def test_rows_go_by_file_and_then_by_row(rows: Rows) -> None:
    names = [f"part-{n % 3}" for n in range(len(rows))]
    raw = table(rows, names)
    tables = prepare({"purchases": raw}, plan(purchases=source(by_row=True), split="time"))
    order = sorted(range(len(rows)), key=lambda n: (names[n], n))
    for user, known in histories(tables).items():
        assert [i for i, _ in known] == [rows[n][2] for n in order if rows[n][0] == user]
        assert [t for _, t in known] == [AS_OF - HALF - p * DAY for p in range(len(known))][::-1]


def test_equal_rows_are_bought_again() -> None:
    rows = [("a", 1, "x")] * 3 + [("a", 2, "x"), ("a", 3, "y")]
    tables = prepare({"purchases": table(rows)}, plan())
    assert [i for i, _ in histories(tables)["a"]] == ["x"] * 4
    assert tables.statistics["sources"]["purchases"]["duplicates"] == 0
    assert tables.catalogue.filter(pc.equal(tables.catalogue["item_id"], "x"))["events"].to_pylist() == [4]


def test_a_file_to_judge_by_comes_after_in_its_own_order() -> None:
    inputs = {"purchases": table([("a", 5, "x"), ("a", 9, "y")]), "heldout": table([("a", 2, "z"), ("a", 1, "x")])}
    tables = prepare(inputs, plan(heldout=source("heldout"), split="time"))
    assert histories(tables)["a"] == [("x", AS_OF - HALF - DAY), ("y", AS_OF - HALF)]
    held = [(r["item_id"], r["timestamp"]) for r in tables.heldout.to_pylist()]
    assert held == [("x", AS_OF + HALF), ("z", AS_OF + HALF + DAY)]
    assert tables.statistics["leaks"] == {"late_rows": 0, "early_rows": 0}


def test_nothing_but_an_order_is_told_of_such_purchases() -> None:
    statistics = prepare({"purchases": table([("a", 5, "x"), ("a", 9, "y")])}, plan()).statistics
    assert statistics["times"] == "order"
    assert statistics["first_sale"] is None
    assert statistics["last_sale"] is None
    assert "in the order of column 'nr'" in statistics["without_times"][0]


def test_rows_without_a_number_are_rejected_and_counted() -> None:
    raw = table([("a", n, "x") for n in range(4)])
    raw = raw.set_column(1, "nr", pa.array([1.0, None, np.nan, np.inf]))
    tables = prepare({"purchases": raw}, plan())
    assert tables.statistics["sources"]["purchases"]["rejected"] == {"nr is null or not finite": 3}
    assert tables.statistics["sources"]["purchases"]["accepted"] == 1


NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(NUMBERS, min_size=2, max_size=12))
def test_keys_sort_as_the_numbers_do_whatever_their_type(values: list[int | float]) -> None:
    keys = []
    for value in values:
        kind = pa.float64() if isinstance(value, float) else pa.int64() if value < 2**63 else pa.uint64()
        key = order_keys(pa.chunked_array([pa.array([value], kind)]))
        keys.append((key.number[0], key.rest[0]))
    for a, x in zip(keys, values, strict=True):
        for b, y in zip(keys, values, strict=True):
            assert (a < b) == (x < y)
            assert (a == b) == (x == y)


def test_a_decimal_loses_no_digit() -> None:
    big = 2**53 + 1
    key = order_keys(pa.chunked_array([pa.array([big, big - 1], pa.decimal128(20, 0))]))
    assert (key.number[0], key.rest[0]) > (key.number[1], key.rest[1])


def test_far_positions_are_one() -> None:
    n = MOST + 5
    rows = pa.table(
        {"user_id": ["a"] * n, "__order": np.arange(n, dtype=np.float64), "__order_rest": np.zeros(n, np.int64)}
    )
    places = positions(rows)
    assert places[-1] == 0
    assert places[4] == places[0] == MOST
    assert places[5] == MOST - 1


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        (pa.array(["1", "2"]), 'purchases.normalise.nr = "TRY_CAST(nr AS BIGINT)"'),
        (pa.array([AS_OF, AS_OF]), "name it as timestamp, and leave order out"),
        (pa.array([True, False]), '"row" for the order of files and rows'),
    ],
)
def test_what_is_no_number_is_refused_with_its_cure(values: pa.Array, cure: str) -> None:
    rows = pa.table({"who": ["a", "b"], "what": ["x", "y"], "nr": values})
    (finding,) = inspect_table(source(), rows).findings
    assert "(purchases.order) must be a number, got" in str(finding)
    assert cure in str(finding)


def test_a_missing_time_and_a_missing_order_say_what_may_stand_in() -> None:
    rows = pa.table({"who": ["a"], "what": ["x"]})
    columns = {"user_id": "who", "item_id": "what"}
    (finding,) = inspect_table(source(), rows).findings
    assert "has no column 'nr' (purchases.order)" in str(finding)
    timed = InputSource(name="purchases", path="p", columns={**columns, "timestamp": "timestamp"})
    (finding,) = inspect_table(timed, rows).findings
    assert 'or, where there are no times, purchases.order = "row" or to a column of positions' in str(finding)
