from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.ingest.cleaning import ROW_HASH, purchase_rows
from topkin.ingest.events import dense_ranks, histories, pack_keys, sort_and_deduplicate, split_by_time

T1, T2 = datetime(2011, 1, 1), datetime(2011, 1, 2)


def rows(*values: tuple[object, ...]) -> pa.Table:
    names = ["user_id", "item_id", "timestamp", "quantity", "price", "segment", ROW_HASH]
    schema = purchase_rows(pa.string(), pa.int64(), row_hashes=True)
    return pa.Table.from_pylist([dict(zip(names, v, strict=True)) for v in values], schema)


PURCHASES = rows(
    ("v", 2, T1, 1.0, None, "UK", 1),
    ("u", 2, T2, 1.0, 2.0, None, 2),
    ("u", 1, T2, 2.0, 2.0, "FR", 3),
    ("u", 1, T2, 1.0, 2.0, "UK", 4),
    ("u", 1, T2, 1.0, 2.0, "UK", 5),
    ("u", 1, T2, 1.0, 2.0, "UK", 4),
    ("u", 9, T1, 1.0, 2.0, "DE", 6),
)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_rows_come_does_not_matter(seed: int) -> None:
    shuffled = PURCHASES.take(pa.array(np.random.default_rng(seed).permutation(len(PURCHASES))))
    events, dropped = sort_and_deduplicate(shuffled)
    assert dropped == 1
    kept = [(r["user_id"], r["item_id"], r["quantity"]) for r in events.to_pylist()]
    assert kept == [("u", 9, 1), ("u", 1, 1), ("u", 1, 1), ("u", 1, 2), ("u", 2, 1), ("v", 2, 1)]
    assert events.schema == schemas.events(pa.string(), pa.int64())


def test_without_prints_nothing_is_a_duplicate() -> None:
    events, dropped = sort_and_deduplicate(PURCHASES.drop_columns([ROW_HASH]))
    assert (len(events), dropped) == (7, 0)


def test_the_as_of_moment_belongs_to_what_is_held_out() -> None:
    before, after = split_by_time(sort_and_deduplicate(PURCHASES)[0], T2)
    assert set(before["timestamp"].to_pylist()) == {T1}
    assert set(after["timestamp"].to_pylist()) == {T2}


def test_a_segment_is_the_users_tables_or_else_the_latest_named() -> None:
    events, _ = sort_and_deduplicate(PURCHASES)
    lists = histories(events)
    assert lists["segment"].to_pylist() == ["FR", "UK"]
    users = pa.table({"user_id": ["a", "u", "v"], "segment": pa.array(["XX", "YY", None])})
    lists = histories(events, users)
    assert lists["user_id"].to_pylist() == ["a", "u", "v"]
    assert lists["segment"].to_pylist() == ["XX", "YY", "UK"]
    assert lists["items"].to_pylist() == [[], [9, 1, 1, 1, 2], [2]]
    assert lists["weights"].to_pylist() == [[], [1, 1, 1, 2, 1], [1]]
    assert lists["times"].to_pylist() == [[], [T1, T2, T2, T2, T2], [T1]]


def test_no_purchases_make_no_histories_but_those_of_listed_users() -> None:
    events, dropped = sort_and_deduplicate(PURCHASES.slice(0, 0))
    assert dropped == 0
    assert histories(events).equals(schemas.histories(pa.string(), pa.int64()).empty_table())
    users = pa.table({"user_id": ["a"], "segment": pa.array([None], pa.string())})
    assert histories(events, users).to_pylist()[0]["items"] == []


def test_ranks_follow_the_order_of_values_with_nulls_last() -> None:
    codes, distinct = dense_ranks(pa.chunked_array([["b", None], ["a", "b"]]))
    assert codes.tolist() == [1, 2, 0, 1]
    assert distinct.to_pylist() == ["a", "b", None]


WIDE = st.integers(-(2**63), 2**63 - 1)


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.tuples(*[st.one_of(st.integers(-2, 2), WIDE)] * width), min_size=1, max_size=30)
    )
)
def test_packed_keys_sort_and_tie_as_the_keys_do(rows_of_keys: list[tuple[int, ...]]) -> None:
    keys = [np.array(column, np.int64) for column in zip(*rows_of_keys, strict=True)]
    packed = pack_keys(keys)
    order = sorted(range(len(rows_of_keys)), key=lambda row: rows_of_keys[row])
    assert [rows_of_keys[row] for row in np.argsort(packed)] == [rows_of_keys[row] for row in order]
    assert len(set(packed.tolist())) == len(set(rows_of_keys))


def test_no_rows_have_no_keys() -> None:
    assert pack_keys([np.zeros(0, np.int64)] * 3).tolist() == []


def test_users_bring_their_vectors_and_who_is_not_listed_has_zeros() -> None:
    events, _ = sort_and_deduplicate(PURCHASES)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.float32()), 2)
    users = pa.table({"user_id": ["a", "v"], "segment": pa.array([None, "ZZ"]), "vector": vectors})
    lists = histories(events, users)
    assert lists["user_id"].to_pylist() == ["a", "u", "v"]
    assert lists["vector"].to_pylist() == [[1, 2], [0, 0], [3, 4]]
    assert lists.schema == schemas.histories(pa.string(), pa.int64(), vector_dim=2)
    none = histories(events, users.slice(0, 0))
    assert none["vector"].to_pylist() == [[0, 0], [0, 0]]
