"""Status and type columns become rules, with the counts of their values as the reason."""

from typing import Any

import pyarrow as pa
import pytest

from topkin.ingest.inference.columns import profile_columns
from topkin.ingest.inference.states import suggest_states
from topkin.ingest.rules import Rules


def kept(name: str, values: Any) -> tuple[list[str], list[int]]:
    """The rules for a column, and the rows that they keep."""
    table = pa.table({name: values})
    suggested = suggest_states(profile_columns(table), table, set())
    rules = Rules.of("purchases", {}, {r.key: r.expression for r in suggested})
    broken = rules.broken(table)
    return [r.expression for r in suggested], [n for n, b in enumerate(broken) if b < 0]


@pytest.mark.parametrize(
    ("name", "values", "rows"),
    [
        ("event_type", ["view", "cart", "purchase", "view"], [2]),
        ("event_name", ["page_view", "add_to_cart", "purchase", "begin_checkout"], [2]),
        ("event", ["view", "addtocart", "transaction"], [2]),
        ("event_type", ["play", "view", "skip", "play"], [0, 3]),
        ("behavior", ["pv", "cart", "buy", "fav"], [2]),
        ("order_status", ["delivered", "canceled", "shipped", "Returned"], [0, 2]),
        ("status", ["paid", None, "REFUNDED", "voided"], [0, 1]),
        ("state", ["complete", "cancelled", "complete"], [0, 2]),
        ("is_returned", [True, False, None], [1, 2]),
        ("cancelled", [0, 1, None], [0, 2]),
        ("Cancelled at", pa.array([None, 1, None], pa.timestamp("us")), [0, 2]),
        ("void", ["N", "Y", "N"], [0, 2]),
        ("status", ["wc-completed", "wc-cancelled", "wc-processing"], [0, 2]),
        ("order-status", ["Shipped", "Shipped - Returned to Seller", "Cancelled"], [0]),
        ("status", ["paid", "partially_refunded", "refunded", "return requested", "not cancelled"], [0, 1, 3, 4]),
    ],
)
def test_rows_that_bought_nothing_are_left_out(name: str, values: Any, rows: list[int]) -> None:
    expressions, left = kept(name, values)
    assert len(expressions) == 1
    assert left == rows


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("status", ["complete", "shipped", "new"]),
        ("status", ["cancelled", "cancelled"]),  # all of them: not for a guess to say
        ("color", ["red", "void black", "blue"]),
        ("state", ["NY", "CA", "TX"]),
        ("payment_type", ["card", "cash", "voucher"]),
        ("is_returned", [False, False]),
        ("return_policy_days", [14, 30]),
    ],
)
def test_other_columns_make_no_rule(name: str, values: Any) -> None:
    assert kept(name, values)[0] == []


def test_the_reason_has_the_count_of_each_value() -> None:
    table = pa.table({"status": ["complete"] * 3 + ["cancelled"] * 2 + [None]})
    [rule] = suggest_states(profile_columns(table), table, set())
    assert rule.why == "status: 3 complete, 2 cancelled, 1 null"
    assert rule.key == "cancelled (status)"
