from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.artifacts.partition import in_first_half
from topkin.errors import InputError
from topkin.ingest.events import sort_and_deduplicate
from topkin.ingest.splits import count_leaks, hold_out_last, part_at_cut, refuse_leaks, refuse_overlap

AS_OF = datetime(2024, 6, 1)
DAY = timedelta(days=1)


def events(rows: list[tuple[str, int, int]]) -> pa.Table:
    """Of (user, days after the first of January, item), in their canonical order."""
    n = len(rows)
    columns = [
        pa.array([r[0] for r in rows], pa.string()),
        pa.array([r[2] for r in rows], pa.int64()),
        pa.array([datetime(2024, 1, 1) + r[1] * DAY for r in rows], schemas.TIME),
        pa.array([1.0] * n, pa.float32()),
        pa.nulls(n, pa.float32()),
        pa.nulls(n, pa.string()),
    ]
    return sort_and_deduplicate(pa.table(columns, schema=schemas.events(pa.string(), pa.int64())))[0]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 3)), max_size=20))
def test_the_last_moment_of_each_user_is_held_out(rows: list[tuple[str, int, int]]) -> None:
    table = events(rows)
    known, out = hold_out_last(table)
    everything = table.to_pylist()
    times: dict[str, set[Any]] = {}
    for row in everything:
        times.setdefault(row["user_id"], set()).add(row["timestamp"])
    is_last = [len(times[r["user_id"]]) > 1 and r["timestamp"] == max(times[r["user_id"]]) for r in everything]
    assert out.to_pylist() == [r for r, yes in zip(everything, is_last, strict=True) if yes]
    assert known.to_pylist() == [r for r, yes in zip(everything, is_last, strict=True) if not yes]
    assert known.schema == out.schema == table.schema


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.integers(0, 3)), max_size=30),
    st.integers(0, 10),
    st.booleans(),
)
def test_a_part_at_an_earlier_date_is_what_loops_over_its_purchases_give(
    rows: list[tuple[str, int, int]], day: int, second_half: bool
) -> None:
    table, cut = events(rows), datetime(2024, 1, 1) + day * DAY
    part = part_at_cut(table, cut, 2.0, second_half=second_half)
    everything = table.to_pylist()
    known = [r for r in everything if r["timestamp"] < cut]
    later = [r for r in everything if r["timestamp"] >= cut]
    if second_half:
        later = [r for r in later if not in_first_half(pa.array([r["user_id"]]))[0]]
    assert part.heldout.to_pylist() == later
    assert part.histories.select(["user_id", "items", "times"]).to_pylist() == [
        {
            "user_id": user,
            "items": [r["item_id"] for r in known if r["user_id"] == user],
            "times": [r["timestamp"] for r in known if r["user_id"] == user],
        }
        for user in sorted({r["user_id"] for r in known})
    ]
    assert part.sales.drop_columns(["last_price"]).to_pylist() == [
        {
            "item_id": item,
            "events": len(sold),
            "users": len({r["user_id"] for r in sold}),
            "recent": sum(r["timestamp"] >= cut - 2 * DAY for r in sold),
            "first_sale": min(r["timestamp"] for r in sold),
            "last_sale": max(r["timestamp"] for r in sold),
        }
        for item in sorted({r["item_id"] for r in known})
        for sold in [[r for r in known if r["item_id"] == item]]
    ]


def test_rows_on_the_wrong_side_of_the_date_are_counted() -> None:
    def at(*days: int) -> pa.Table:
        return pa.table({"timestamp": pa.array([AS_OF + d * DAY for d in days], schemas.TIME)})

    assert count_leaks(at(-2, -1), at(0, 3), AS_OF) == (0, 0)
    assert count_leaks(at(-2, 0, 1), at(-1, 3), AS_OF) == (2, 1)
    assert count_leaks(at(), at(), AS_OF) == (0, 0)
    refuse_overlap(0, 0, AS_OF)
    with pytest.raises(InputError, match=r"2 rows of purchases\.path do not.*later --as-of"):
        refuse_overlap(2, 1, AS_OF)
    with pytest.raises(InputError, match=r"1 rows of heldout\.path do.*earlier --as-of"):
        refuse_overlap(0, 1, AS_OF)


FINE: dict[str, Any] = {
    "prepared_as_of": AS_OF.isoformat(),
    "youngest": 0.01,
    "last_sale": AS_OF - DAY,
    "heldout": [None, AS_OF, AS_OF + DAY],
    "by_time": True,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prepared_as_of": "2024-06-02T00:00:00"}, "tables made as of 2024-06-02"),
        ({"youngest": 0.0}, "no purchase in the histories"),
        ({"youngest": -2.0}, "2.000 days after it"),
        ({"last_sale": AS_OF}, "a feature computed after the cut"),
        ({"heldout": [AS_OF, AS_OF - DAY]}, "no held-out purchase may be dated before"),
    ],
)
def test_what_tells_the_future_is_refused(change: dict[str, Any], message: str) -> None:
    refuse_leaks(AS_OF, **FINE)
    refuse_leaks(AS_OF, **{**FINE, "heldout": [AS_OF - DAY], "by_time": False})
    refuse_leaks(AS_OF, **{**FINE, "youngest": float(np.inf), "last_sale": None, "heldout": []})
    with pytest.raises(InputError, match=message):
        refuse_leaks(AS_OF, **{**FINE, **change})
