"""What validation by position holds out of histories."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")

from topkin.interactions import Interactions
from topkin.models.data.histories import before_cut
from topkin.models.data.in_memory import InMemoryInteractions
from topkin.models.data.positions import MOST_HELD_OUT, PositionHistories

ITEMS = pa.chunked_array([pa.array(range(50))])


def histories(lengths: list[int], *, basket: int = 1) -> InMemoryInteractions:
    """Users of so many positions of ``basket`` items, in two parts."""
    parts = []
    for some in (lengths[::2], lengths[1::2]):
        ages = [np.repeat(np.arange(n)[::-1] + 0.5, basket) for n in some]
        indptr = np.concatenate([[0], np.cumsum([len(a) for a in ages])]).astype(np.int64)
        flat = np.concatenate([np.zeros(0), *ages]).astype(np.float32)
        items = (np.arange(len(flat)) % 50).astype(np.int32)
        parts.append(Interactions(indptr, items, flat, np.ones(len(flat), np.float32), 50))
    return InMemoryInteractions("", ITEMS, datetime(2024, 1, 1), parts=tuple(parts))


def known_of(source: Any, days: float) -> list[Interactions]:
    cut = replace(source, days=days)
    return [before_cut(cut.part(name), days) for name in cut.names()]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=60), st.integers(1, 3), st.integers(1, 3))
def test_a_user_keeps_all_or_all_but_the_last_positions(lengths: list[int], days: int, basket: int) -> None:
    source = histories(lengths, basket=basket)
    held = PositionHistories.of(source, seed=1)
    for known, whole, name in zip(known_of(held, days), source.parts, source.names(), strict=True):
        before, after = np.diff(whole.indptr) // basket, np.diff(known.indptr) // basket
        assert np.all((after == before) | ((after == before - days) & (after > 0)))
        again = before_cut(replace(held, days=float(days)).part(name), days)
        assert np.array_equal(again.items, known.items)
        assert np.all(known.ages < 7)
    everything = replace(held, days=0.0)
    assert all(everything.part(n) is source.part(n) for n in source.names())


def test_no_more_than_a_fifth_of_short_histories_is_held_out() -> None:
    source = histories([2] * 4000)
    known = sum(len(part.items) for part in known_of(PositionHistories.of(source, 1), 1))
    assert 1 - known / 8000 == pytest.approx(MOST_HELD_OUT, abs=0.02)
    long = histories([30] * 100)
    assert PositionHistories.of(long, 1).share == 1.0
    assert sum(len(part.items) for part in known_of(PositionHistories.of(long, 1), 1)) == 29 * 100


def test_users_of_one_position_hold_nothing_out() -> None:
    source = histories([1] * 30)
    assert sum(len(part.items) for part in known_of(PositionHistories.of(source, 1), 1)) == 30
