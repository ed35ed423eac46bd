"""Re-purchases against a loop over rows, days without purchases, and what an amount is."""

from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.ingest.inference.shop import (
    Repurchases,
    amount_kind,
    calendar,
    propose_bought,
    repurchases,
)

DAY0 = datetime(2024, 1, 1)


def events(rows: list[tuple[int, int, int]]) -> pa.Table:
    """Rows of user, item and hour."""
    users, items, hours = zip(*rows, strict=True) if rows else ((), (), ())
    times = [DAY0 + timedelta(hours=h) for h in hours]
    return pa.table(
        {
            "user_id": pa.array(users, pa.int64()),
            "item_id": pa.array(items, pa.int64()),
            "timestamp": pa.array(times, pa.timestamp("us")),
        }
    )


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 24 * 90)), max_size=40))
def test_repurchases_are_those_of_a_loop(rows: list[tuple[int, int, int]]) -> None:
    last: dict[tuple[int, int], int] = {}
    within = after = 0
    bought = sorted({(h // 24, u, i) for u, i, h in rows})
    for day, user, item in bought:
        if (user, item) in last:
            within += day - last[user, item] <= 30
            after += day - last[user, item] > 30
        last[user, item] = day
    assert repurchases(events(rows)) == Repurchases(len({u for u, _, _ in rows}), len(bought), within, after)


def test_a_line_twice_in_a_basket_is_no_repurchase() -> None:
    assert repurchases(events([(1, 1, 0), (1, 1, 0), (1, 1, 5)])).share == 0


def test_a_grocer_gets_no_default_that_hides_what_people_buy() -> None:
    grocer = propose_bought(Repurchases(100, 1000, 500, 160))
    assert grocer.value == "keep"
    assert "66% of 1,000 purchases" in grocer.why
    assert "50% within 30 days, 16% later" in grocer.why
    assert propose_bought(Repurchases(100, 1000, 10, 20)).value == "exclude"


def test_a_part_of_the_time_shows_the_least_share() -> None:
    part = propose_bought(Repurchases(100, 1000, 70, 0), whole=False)
    assert part.value == "keep"
    assert part.why.startswith("at least 7%")


def times(days: list[int], a_day: int = 1) -> pa.ChunkedArray:
    every = [DAY0 + timedelta(days=d) for d in days for _ in range(a_day)]
    return pa.chunked_array([pa.array(every, pa.timestamp("us"))])


def test_a_week_without_a_purchase_is_a_gap() -> None:
    seen = calendar(times([*range(10), *range(17, 30)], a_day=10))
    assert seen is not None
    assert (seen.first, seen.last, seen.days) == (DAY0, DAY0 + timedelta(days=29), 30)
    assert (seen.empty, seen.gap) == (7, (date(2024, 1, 11), date(2024, 1, 17)))
    assert seen.age(datetime(2024, 2, 1)) == 2


def test_days_that_a_small_sample_misses_are_no_gap() -> None:
    seen = calendar(times([0, 3, 4, 9]))
    assert seen is not None
    assert seen.gap is None
    assert calendar(times([])) is None


def test_gaps_of_the_whole_are_between_its_pieces() -> None:
    day = 86_400_000_000
    spans = np.array([[5 * day, 9 * day], [0, 2 * day], [20 * day, 21 * day]])
    seen = calendar(times([0]), spans)
    assert seen is not None
    assert (seen.days, seen.empty) == (22, 12)
    assert seen.gap == (date(1970, 1, 11), date(1970, 1, 20))


@pytest.mark.parametrize("total", [True, False])
def test_a_total_of_the_line_is_told_from_the_price_of_a_piece(total: bool) -> None:
    rng = np.random.default_rng(0)
    items, n = rng.integers(0, 20, 600), rng.choice([1, 2, 5], 600)
    price = (items + 1) * rng.uniform(0.95, 1.05, 600)
    kind = amount_kind(*(pa.chunked_array([c]) for c in (items, n, price * n if total else price)))
    assert kind is not None
    assert kind.total is total


@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_amounts_and_quantities_that_are_no_numbers_do_not_count(odd: float) -> None:
    rng = np.random.default_rng(0)
    items, n = rng.integers(0, 20, 600), rng.choice([1.0, 2.0, 5.0], 600)
    total = (items + 1) * rng.uniform(0.95, 1.05, 600) * n
    n[:300], total[150:450] = odd, odd  # of either, and of both in one row
    kind = amount_kind(*(pa.chunked_array([c]) for c in (items, n, total)))
    assert kind is not None
    assert (kind.total, kind.rows) == (True, 150)


def test_amounts_that_quantities_do_not_tell_stay_what_they_are() -> None:
    rng = np.random.default_rng(0)
    items, one = rng.integers(0, 20, 600), np.ones(600, np.int64)
    assert amount_kind(*(pa.chunked_array([c]) for c in (items, one, items + 1.0))) is None
    noise = rng.lognormal(0, 2, 600)
    assert amount_kind(*(pa.chunked_array([c]) for c in (items, rng.choice([1, 2], 600), noise))) is None
