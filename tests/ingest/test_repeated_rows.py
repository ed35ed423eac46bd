"""Items and users that are listed several times, against plain Python."""

from collections import Counter
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.ingest.contract import InputSource
from topkin.ingest.files import FILE, ROW
from topkin.ingest.prepare import PreparePlan, prepare
from topkin.ingest.rules import Rules

AS_OF = datetime(2024, 6, 1)
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 3))), max_size=12)


def raw(table: pa.Table, files: int = 1) -> pa.Table:
    """The rows in turn over some files, as a reader gives them."""
    names = [f"f{i % files}" for i in range(len(table))]
    numbers = [i // files for i in range(len(table))]
    return table.append_column(FILE, pa.array(names, pa.string()).dictionary_encode()).append_column(
        ROW, pa.array(numbers, pa.int64())
    )


def titles_of(items: pa.Table, files: int, keep: str, columns: dict[str, str]) -> tuple[dict[str, Any], dict[str, int]]:
    """The title of each item, and the items' rejects by reason."""
    columns = {"item_id": "id", "title": "name", **columns}
    plan = PreparePlan(
        purchases=InputSource(
            name="purchases", path="p", columns={"user_id": "u", "item_id": "i", "timestamp": "t"}, rules=Rules()
        ),
        items=InputSource(name="items", path="i", columns=columns, keep=keep),
        user_type=pa.int64(),
        item_type=pa.string(),
        as_of=AS_OF,
        clock=AS_OF,
    )
    purchases = pa.table({"u": [1], "i": ["a"], "t": [datetime(2024, 1, 1)]})
    tables = prepare({"purchases": raw(purchases), "items": raw(items, files)}, plan)
    titles = {row["item_id"]: row["title"] for row in tables.catalogue.to_pylist()}
    return titles, tables.statistics["sources"]["items"]["rejected"]


def order(value: Any) -> float:
    return float("-inf") if value is None else float(value)


@given(ROWS, st.integers(1, 3), st.sampled_from(["first", "last"]), st.booleans())
def test_one_row_of_each_item_counts_by_the_rule(rows: list[Any], files: int, keep: str, by: bool) -> None:
    items = pa.table(
        {
            "id": pa.array([i for i, _ in rows], pa.string()),
            "name": pa.array([f"row {n}" for n in range(len(rows))], pa.string()),
            "version": pa.array([v for _, v in rows], pa.int32()),
        }
    )
    titles, rejected = titles_of(items, files, keep, {"latest_by": "version"} if by else {})
    by_item: dict[str, list[int]] = {}
    for _, _, n in sorted((n % files, n // files, n) for n in range(len(rows))):
        by_item.setdefault(rows[n][0], []).append(n)
    for item, numbers in by_item.items():
        best = max(order(rows[n][1]) for n in numbers) if by else None
        left = [n for n in numbers if not by or order(rows[n][1]) == best]
        assert titles[item] == f"row {left[0 if keep == 'first' else -1]}"
    again = sum(len(numbers) - 1 for numbers in by_item.values())
    assert Counter(rejected) == Counter({"item listed twice": again} if again else {})


@pytest.mark.parametrize(
    "times",
    [
        pa.array([datetime(2024, 1, 2), datetime(2024, 3, 1), datetime(2024, 1, 1)]),
        pa.array(["2024-01-02", "2024-03-01T00:00:00", "n/a"]),
        pa.array([1.5, float("inf"), float("nan")]),
        pa.array([2, 2**62, None], pa.int64()),
    ],
    ids=["times", "texts", "floats", "integers"],
)
def test_the_latest_is_found_by_times_and_numbers(times: pa.Array) -> None:
    items = pa.table({"id": ["a"] * 3, "name": ["old", "new", "none"], "updated_at": times})
    titles, rejected = titles_of(items, 1, "first", {"latest_by": "updated_at"})
    assert titles == {"a": "new"}
    assert rejected == {"item listed twice": 2}
