"""The comparisons that gates are made of, at their limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.gates.gate import NOT_ASKED, PASSED, REFUSED, as_many, at_least, at_most, count, not_asked, percent, risen

COUNTS = st.integers(1, 10**9)
SHARES = st.floats(0, 1)


@given(COUNTS, COUNTS, SHARES, st.floats(0, 3))
def test_a_count_is_refused_below_the_drop_and_above_the_growth(
    now: int, live: int, drop: float, growth: float
) -> None:
    change = now / live - 1
    [gate] = as_many("users", now, live, drop, growth)
    fine = -drop <= change <= growth
    assert gate.verdict == (PASSED if fine else REFUSED)
    if not fine:
        assert gate.key == ("publish.max_growth" if change > 0 else "publish.max_drop")
    assert (gate.figure, gate.live) == (now, live)


@given(COUNTS, COUNTS, SHARES)
def test_a_limit_that_is_false_is_not_asked(now: int, live: int, limit: float) -> None:
    assert as_many("users", now, live, False, False) == []
    [only_drop] = as_many("users", now, live, limit, False)
    [only_growth] = as_many("users", now, live, False, limit)
    assert (only_drop.verdict == REFUSED) == (1 - now / live > limit)
    assert (only_growth.verdict == REFUSED) == (now / live - 1 > limit)
    assert only_growth.key == "publish.max_growth"


def test_sentences_say_figure_limit_and_key() -> None:
    [gate] = as_many("rows of purchases", 52_000, 100_000, 0.2, 1.0)
    assert gate.sentence == (
        "52,000 rows of purchases, 48 % fewer than the live version's 100,000; publish.max_drop allows 20 % fewer"
    )
    [gate] = as_many("users", 900, 300, 0.2, 1.0)
    assert gate.sentence == "900 users, 200 % more than the live version's 300; publish.max_growth allows 100 % more"
    [gate] = as_many("items", 5, 5, 0.2, 1.0)
    assert gate.sentence == "5 items, as many as in the live version; publish.max_drop allows 20 % fewer"
    gate = at_most("age", "max_age", 12.0, 7.0, "{} old", lambda days: f"{days:g} days")
    assert (gate.sentence, gate.verdict) == ("12 days old; publish.max_age allows 7 days", REFUSED)
    gate = at_least("users", "min_users", 3, 5, "{} users have a list", count)
    assert (gate.sentence, gate.verdict) == ("3 users have a list; publish.min_users asks for 5", REFUSED)
    gate = risen("rejects", "max_rejected", 0.3, 0.1, 0.05, "{} of the rows")
    assert gate.sentence == "30 % of the rows, 10 % in the live version; publish.max_rejected allows 5 % of all more"


@pytest.mark.parametrize("figure", [7.0, 6.9])
def test_a_figure_at_its_limit_has_passed(figure: float) -> None:
    assert at_most("age", "max_age", figure, 7.0, "{}", percent).verdict == PASSED
    assert at_least("age", "max_age", 7.0, figure, "{}", percent).verdict == PASSED


def test_without_a_live_figure_nothing_is_compared() -> None:
    for gate in (
        *as_many("users", 5, None, 0.2, 1.0),
        risen("r", "k", 0.3, None, 0.1, "{}"),
        not_asked("r", "k", "why"),
    ):
        assert gate.verdict == NOT_ASKED
    assert not_asked("r", "k", "why").sentence == "why"
    assert (count(12345.6), count(2.345), count(3.0)) == ("12,346", "2.35", "3")
