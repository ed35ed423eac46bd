"""The rules against a row-by-row oracle."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.config.sections import RecommendSettings
from topkin.errors import InputError
from topkin.interactions import Interactions
from topkin.recommend.bought import excluded_items
from topkin.recommend.rules.eligibility import (
    allowed_items,
    as_ids,
    cooldown_days,
    item_lists_fingerprint,
    read_item_list,
)


def _history(purchases: list[list[tuple[int, float]]], n_items: int) -> Interactions:
    flat = [p for user in purchases for p in user]
    indptr = np.cumsum([0, *(len(user) for user in purchases)]).astype(np.int64)
    items = np.array([i for i, _ in flat], np.int32)
    ages = np.array([a for _, a in flat], np.float32)
    return Interactions(indptr, items, ages, np.ones(len(flat), np.float32), n_items)


def _catalogue(available: list[bool]) -> pa.Table:
    return pa.table({"item_id": [f"i{n}" for n in range(len(available))], "available": available})


N = 6
purchases = st.lists(
    st.lists(st.tuples(st.integers(0, N - 1), st.sampled_from([0.0, 1.0, 5.0, 10.0, 29.5, 30.0, 400.0])), max_size=8),
    max_size=5,
)


@given(purchases, st.sampled_from(["exclude", "keep", "cooldown", "boost"]), st.sampled_from([1.0, 10.0, 30.0]))
def test_exclusions_equal_a_look_at_every_purchase(bought, rule, days):
    history = _history(bought, N)
    cooldown = np.full(N, days, np.float32)
    cooldown[0] = 5.0
    excluded = excluded_items(history, rule, cooldown)
    indptr, items = excluded
    assert indptr.dtype == np.int64
    assert items.dtype == np.int32
    for u, user in enumerate(bought):
        expected = {
            "exclude": {i for i, _ in user},
            "keep": set(),
            "boost": set(),
            "cooldown": {i for i in {i for i, _ in user} if min(a for j, a in user if j == i) < cooldown[i]},
        }[rule]
        assert list(items[indptr[u] : indptr[u + 1]]) == sorted(expected)
    mask = np.arange(N) % 2 == 0
    counted = excluded.count_in(mask)
    assert list(counted) == [int(mask[items[indptr[u] : indptr[u + 1]]].sum()) for u in range(len(bought))]


@given(
    st.lists(st.booleans(), min_size=1, max_size=N),
    st.none() | st.lists(st.integers(0, N + 1), max_size=5),
    st.none() | st.lists(st.integers(0, N + 1), max_size=5),
)
def test_allowed_items_are_available_listed_and_not_denied(available, allow, deny):
    def ids(rows):
        return None if rows is None else pa.array([f"i{r}" for r in rows], pa.string())

    got = allowed_items(_catalogue(available), allow=ids(allow), deny=ids(deny))
    expected = [a and (allow is None or n in allow) and n not in (deny or []) for n, a in enumerate(available)]
    assert list(got.mask) == expected
    assert sum(got.filtered_counts.values()) == len(available) - sum(expected)
    assert got.unknown["deny"] == sum(r >= len(available) for r in deny or [])


def test_a_category_has_its_own_cooldown():
    days = cooldown_days(pa.array(["food", None, "toys"]), 30, {"food": 3})
    assert list(days) == [3, 30, 30]


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="exclude, keep, cooldown, boost, got 'sometimes'"):
        excluded_items(_history([[]], 2), "sometimes", np.ones(2, np.float32))


def test_a_list_of_ids_keeps_its_kind():
    assert as_ids(pa.chunked_array([[7]], pa.int32()), pa.int64(), "deny").type == pa.int64()
    assert as_ids(pa.chunked_array([["a"]], pa.large_string()), pa.string(), "deny").type == pa.string()
    words = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode()])
    assert as_ids(words, pa.string(), "deny").to_pylist() == ["a", "b"]
    views = pa.chunked_array([pa.array(["a"], pa.string_view())])
    assert as_ids(views, pa.string(), "deny").type == pa.string()
    fixed = pa.chunked_array([pa.array([b"ab"], pa.binary(2))])
    assert as_ids(fixed, pa.binary(), "deny").to_pylist() == [b"ab"]
    for column, wanted in [
        (pa.chunked_array([[7.0]]), pa.int64()),
        (pa.chunked_array([["7"]]), pa.int64()),
        (pa.chunked_array([[7]]), pa.string()),
        (pa.chunked_array([[b"7"]]), pa.string()),
    ]:
        with pytest.raises(InputError, match="must be of the catalogue's type"):
            as_ids(column, wanted, "recommend.deny")
    with pytest.raises(InputError, match="1 nulls"):
        as_ids(pa.chunked_array([["a", None]]), pa.string(), "recommend.deny")
    with pytest.raises(InputError, match="does not fit int64"):
        as_ids(pa.chunked_array([pa.array([2**63], pa.uint64())]), pa.int64(), "recommend.deny")


def test_a_list_is_read_from_a_file_or_a_folder(tmp_path):
    pq.write_table(pa.table({"item_id": ["a"], "note": [1]}), tmp_path / "one.parquet")
    pq.write_table(pa.table({"item_id": ["b"]}), tmp_path / "two.parquet")
    assert read_item_list(str(tmp_path / "one.parquet"), pa.string(), "recommend.deny").to_pylist() == ["a"]
    assert read_item_list(str(tmp_path), pa.string(), "recommend.deny").to_pylist() == ["a", "b"]


def test_a_bad_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"recommend.allow = .*nowhere: no Parquet file there"):
        read_item_list(str(tmp_path / "nowhere"), pa.string(), "recommend.allow")
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    with pytest.raises(InputError, match=r"text.parquet cannot be read as Parquet"):
        read_item_list(str(tmp_path / "text.parquet"), pa.string(), "recommend.allow")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"must have the column item_id, it has id"):
        read_item_list(str(tmp_path / "other.parquet"), pa.string(), "recommend.allow")


def test_lists_are_told_apart_by_content(tmp_path):
    path = tmp_path / "deny.parquet"
    rules = RecommendSettings(deny=str(path))
    with pytest.raises(InputError, match=r"recommend.deny = .*no Parquet file there"):
        item_lists_fingerprint(rules)
    collected = []
    for ids in (["a"], ["b"], ["a"]):
        pq.write_table(pa.table({"item_id": ids}), path)
        collected.append(item_lists_fingerprint(rules))
    assert collected[0] == collected[2] != collected[1]
    assert item_lists_fingerprint(RecommendSettings()) == []


def test_times_become_ages_for_the_cooldown():
    table = pa.table(
        {
            "items": pa.array([["a", "b"]], pa.list_(pa.string())),
            "times": pa.array([[datetime(2020, 1, 1), datetime(2020, 1, 30)]], pa.list_(pa.timestamp("us"))),
            "weights": pa.array([[1.0, 1.0]], pa.list_(pa.float32())),
        }
    )
    history = Interactions.from_histories(table, pa.array(["a", "b", "c"]), datetime(2020, 1, 31))
    _, items = excluded_items(history, "cooldown", np.full(3, 30, np.float32))
    assert list(items) == [1]  # bought 30 days ago may come again, one day ago not yet
