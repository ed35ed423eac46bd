from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas
from topkin.artifacts.partition import split_by_partition
from topkin.ingest.catalogue import (
    catalogue,
    merge_sales,
    sales,
    sales_schema,
    title_words,
    vocabulary,
    with_sales,
    words_vocabulary,
)

AS_OF = datetime(2011, 11, 9)


def events(n: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    times = [AS_OF - timedelta(hours=int(h)) for h in rng.integers(1, 400, n)]
    return pa.table(
        {
            "user_id": pa.array(rng.integers(0, 30, n)),
            "item_id": [f"i{i}" for i in rng.integers(0, 20, n)],
            "timestamp": pa.array(times, schemas.TIME),
            "quantity": pa.array(np.ones(n, np.float32)),
            "price": pa.array([None if p == 0 else float(p) for p in rng.integers(0, 4, n)], pa.float32()),
            "segment": pa.nulls(n, pa.string()),
        },
        schema=schemas.events(pa.int64(), pa.string()),
    )


def test_sales_of_parts_merge_to_the_sales_of_all_in_any_order_and_grouping() -> None:
    every = events(500)
    whole = sales(every, AS_OF, 7)
    assert whole.schema == sales_schema(pa.string())
    parts = [sales(part, AS_OF, 7) for part in split_by_partition(every, "user_id", 6).values()]
    assert len(parts) > 3
    assert merge_sales(parts).equals(whole)
    assert merge_sales(parts[::-1]).equals(whole)
    assert merge_sales([merge_sales(parts[:2]), merge_sales([merge_sales(parts[2:])])]).equals(whole)
    assert merge_sales([whole.slice(0, 0), whole]).equals(whole)


def test_a_catalogue_with_earlier_sales_is_the_one_made_of_them() -> None:
    every, n = events(300), 25  # five items are not sold at all
    listed = pa.table(
        {
            "item_id": sorted(f"i{i}" for i in range(n)),
            "title": [f"title {i}" for i in range(n)],
            "category": ["a", "b", None, "c", "a"] * 5,
            "price": pa.array([float(i) for i in range(n)], pa.float32()),
            "available": [i % 4 > 0 for i in range(n)],
        }
    )
    now = catalogue(sales(every, AS_OF, 7), listed)
    for days in (4, 10, 16, 30):
        cut = AS_OF - timedelta(days=days)
        before = every.filter(pa.array([t < cut for t in every["timestamp"].to_pylist()]))
        then = sales(before, cut, 7)
        assert with_sales(now, then).equals(catalogue(then, listed))
        assert with_sales(now, then).schema == now.schema


def test_no_sales_at_all_are_an_empty_table() -> None:
    nothing = sales(events(0), AS_OF, 7)
    assert nothing.equals(sales_schema(pa.string()).empty_table())
    assert len(catalogue(nothing)) == 0
    with pytest.raises(ValueError, match="at least one table"):
        merge_sales([])


def test_recent_sales_are_those_of_the_last_days() -> None:
    rows = events(2)
    edge = pa.array([AS_OF - timedelta(days=7), AS_OF - timedelta(days=7, microseconds=1)], schemas.TIME)
    sold = sales(rows.set_column(2, rows.schema.field("timestamp"), edge), AS_OF, 7)
    assert sum(sold["recent"].to_pylist()) == 1


def test_the_last_price_is_the_highest_of_the_last_moment() -> None:
    rows = events(4)
    times = pa.array([AS_OF - timedelta(days=d) for d in (1, 1, 1, 2)], schemas.TIME)
    rows = rows.set_column(1, rows.schema.field("item_id"), pa.array(["i"] * 4))
    rows = rows.set_column(2, rows.schema.field("timestamp"), times)
    rows = rows.set_column(4, rows.schema.field("price"), pa.array([1, 3, None, 9], pa.float32()))
    assert sales(rows, AS_OF, 7)["last_price"].to_pylist() == [3]


def test_the_catalogue_keeps_unsold_items_and_adds_unlisted_ones() -> None:
    sold = sales(events(100), AS_OF, 7).slice(0, 2)
    listed = pa.table(
        {
            "item_id": ["a", sold["item_id"][1].as_py()],
            "title": ["A", None],
            "category": [None, "c"],
            "price": pa.array([None, 5], pa.float32()),
            "available": [False, True],
        }
    )
    table = catalogue(sold, listed)
    assert table.schema == schemas.catalogue(pa.string())
    rows = {r["item_id"]: r for r in table.to_pylist()}
    assert list(rows) == sorted({"a", *sold["item_id"].to_pylist()})
    assert (rows["a"]["events"], rows["a"]["first_sale"], rows["a"]["available"]) == (0, None, False)
    first, second = sold.to_pylist()
    assert rows[first["item_id"]]["price"] == first["last_price"]
    assert rows[first["item_id"]]["available"] is True
    assert rows[second["item_id"]]["price"] == 5


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("RED Lamp", ["red", "lamp"]),
        ("  set of 3 - t-shirts! ", ["set", "of", "3", "t", "shirts"]),
        ("Ünïcode ΑΒΓ 日本", ["ünïcode", "αβγ", "日本"]),
        ("", []),
        ("?!", []),
        (None, []),
    ],
)
def test_words_are_runs_of_letters_and_digits_in_lower_case(title: str | None, words: list[str]) -> None:
    titles = pa.array(["before it", title, "after"], pa.string())
    assert title_words(titles).to_pylist() == [["before", "it"], words, ["after"]]
    assert title_words(titles.slice(1, 1)).to_pylist() == [words]
    assert title_words(pa.chunked_array([titles, titles])).to_pylist()[4] == words


def test_a_word_counts_once_a_title() -> None:
    words = words_vocabulary(pa.array(["red red lamp", "Red", "a lamp"]))
    assert words.to_pylist() == [{"value": v, "count": n} for v, n in (("lamp", 2), ("red", 2), ("a", 1))]


def test_vocabularies_sum_counts_and_skip_nulls() -> None:
    words = vocabulary(pa.array(["b", "a", None, "b", "c"]), pa.array([1, 2, 9, 1, 5]))
    assert [tuple(r.values()) for r in words.to_pylist()] == [("c", 5), ("a", 2), ("b", 2)]
    assert len(vocabulary(pa.array([], pa.string()))) == 0
