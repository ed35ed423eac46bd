from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.baselines.popularity import recent_popularity
from topkin.interactions import Interactions, concatenate, encode_ids, history_weights

AS_OF = datetime(2024, 1, 31)


def table(purchases: list[list[tuple[str, float]]]) -> pa.Table:
    """Users u0, u1, … with (item, age in days), oldest first."""
    rows = [
        {
            "user_id": f"u{n}",
            "items": [i for i, _ in row],
            "times": [AS_OF - timedelta(days=a) for _, a in row],
            "weights": [1.0 + j for j in range(len(row))],
            "segment": None,
        }
        for n, row in enumerate(purchases)
    ]
    return pa.Table.from_pylist(rows, schema=schemas.histories(pa.string(), pa.string()))


ITEMS = pa.array(["a", "b", "c", "d"])
histories = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30)), max_size=7).map(
        lambda row: sorted(row, key=lambda x: (-x[1], x[0]))
    ),
    max_size=5,
)


@given(histories)
def test_distinct_keeps_the_latest_purchase_and_sums_the_weights(purchases):
    got = Interactions.from_histories(table(purchases), ITEMS, AS_OF).distinct()
    for user, row in enumerate(purchases):
        latest = {item: (age, place) for place, (item, age) in enumerate(row)}
        sums = {item: sum(1.0 + j for j, (i, _) in enumerate(row) if i == item) for item in latest}
        want = sorted(latest, key=lambda item: latest[item][1])
        span = slice(got.indptr[user], got.indptr[user + 1])
        assert ["abcd"[i] for i in got.items[span]] == want
        assert got.ages[span].tolist() == pytest.approx([latest[i][0] for i in want])
        assert got.weights[span].tolist() == [sums[i] for i in want]


@given(histories, st.integers(1, 9))
def test_blocks_of_users_change_nothing(purchases, most):
    every = Interactions.from_histories(table(purchases), ITEMS, AS_OF)
    whole, recent = every.distinct(), recent_popularity(every)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("topkin.interactions.BLOCK", most)
        blocks, parts, sums = every.row_blocks(), every.distinct(), recent_popularity(every)
    assert [first for first, _ in blocks] == [0, *(end for _, end in blocks[:-1])]
    assert blocks[-1][1] == every.n_users
    largest = max(np.diff(every.indptr), default=0)
    assert all(every.indptr[end] - every.indptr[first] < most + largest for first, end in blocks)
    for name in ("indptr", "items", "ages", "weights"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    np.testing.assert_array_equal(sums, recent)


@given(histories, st.integers(1, 4), st.randoms())
def test_latest_and_take_agree_with_lists(purchases, length, random):
    every = Interactions.from_histories(table(purchases), ITEMS, AS_OF)
    rows = [random.randrange(len(purchases)) for _ in purchases]
    got = every.latest(length).take(np.array(rows, np.int64))
    want = [["abcd".index(i) for i, _ in purchases[r]][-length:] for r in rows]
    assert [got.items[a:b].tolist() for a, b in zip(got.indptr[:-1], got.indptr[1:], strict=True)] == want


def test_counts_are_a_matrix_of_how_often():
    counts = Interactions.from_histories(table([[("a", 3), ("c", 2), ("a", 1)], []]), ITEMS, AS_OF).counts()
    assert counts.toarray().tolist() == [[2, 0, 1, 0], [0, 0, 0, 0]]


def test_a_bought_item_outside_the_catalogue_is_refused_by_name():
    with pytest.raises(ValueError, match=r"lacks \['d'\]"):
        Interactions.from_histories(table([[("d", 1)]]), ITEMS[:3], AS_OF)


def test_ids_of_another_type_are_refused_not_converted():
    assert encode_ids(pa.array(["c", "x", "a"]), ITEMS).tolist() == [2, -1, 0]
    assert encode_ids(pa.array([2**53 + 1, 2**53]), pa.array([2**53, 2**53 + 1])).tolist() == [1, 0]
    with pytest.raises(TypeError, match="type string, got int64"):
        encode_ids(pa.array([1]), ITEMS)


def test_weights_halve_per_half_life_and_fall_with_the_number_of_buyers():
    history = Interactions.from_histories(table([[("a", 20), ("b", 10), ("b", 0)]]), ITEMS, AS_OF)
    buyers = np.array([1, 4, 0, 0])
    plain = history_weights(history, buyers, inverse_popularity=0.5, half_life_days=None)
    assert plain.tolist() == pytest.approx([1.0, 0.5, 0.5])
    aged = history_weights(history, buyers, inverse_popularity=0.5, half_life_days=10)
    assert aged.tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_a_user_who_last_came_many_half_lives_ago_keeps_a_weight():
    history = Interactions.from_histories(table([[("a", 401), ("b", 400)], [], [("b", 3)]]), ITEMS, AS_OF)
    weights = history_weights(history, np.ones(4), inverse_popularity=0, half_life_days=1.0)
    assert weights.tolist() == pytest.approx([0.5, 1.0, 1.0])
    nobody = history_weights(history.take(np.array([1])), np.ones(4), inverse_popularity=0, half_life_days=1.0)
    assert nobody.tolist() == []


def test_parts_joined_are_the_whole():
    rows = [[("a", 5), ("b", 1)], [], [("c", 2)], [("a", 9)]]
    whole = Interactions.from_histories(table(rows), ITEMS, AS_OF)
    parts = [Interactions.from_histories(table(r), ITEMS, AS_OF) for r in (rows[:2], [], rows[2:])]
    whole_again = concatenate(parts)
    for name in ("indptr", "items", "ages", "weights"):
        assert np.array_equal(getattr(whole_again, name), getattr(whole, name)), name
        assert getattr(whole_again, name).dtype == getattr(whole, name).dtype
    with pytest.raises(ValueError, match="at least one part"):
        concatenate([])


def with_inputs(purchases: list[list[tuple[str, float]]], inputs: list[list[tuple[str, float, float]]]) -> pa.Table:
    """Histories with inputs: (item, age in days, weight), oldest first."""
    rows = [
        {
            "input_items": [i for i, _, _ in row],
            "input_times": [AS_OF - timedelta(days=a) for _, a, _ in row],
            "input_weights": [w for _, _, w in row],
            "input_events": ["view"] * len(row),
        }
        for row in inputs
    ]
    more = pa.Table.from_pylist(rows, schema=schemas.inputs(pa.string()))
    both = table(purchases)
    for name in more.column_names:
        both = both.append_column(more.schema.field(name), more[name])
    return both


events = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30), st.sampled_from([0.25, 0.5, 2.0])), max_size=7)
typed = st.lists(st.tuples(histories.map(lambda h: h[0] if h else []), events), max_size=5)


@given(typed, st.randoms())
def test_inputs_go_with_their_users_and_count_by_their_greatest_weight(users, random):
    inputs = [sorted(row, key=lambda x: -x[1]) for _, row in users]
    every = Interactions.from_histories(with_inputs([row for row, _ in users], inputs), ITEMS, AS_OF)
    rows = [random.randrange(len(users)) for _ in users]
    some = every.take(np.array(rows, np.int64))
    both = concatenate([some, every]).distinct()
    assert both.inputs is not None
    assert len(both.inputs.items) == sum(len(inputs[r]) for r in [*rows, *range(len(rows))])
    got = some.pooled.distinct()
    for n, row in enumerate(rows):
        want: dict[str, tuple[float, float]] = {}
        for item, age, weight in inputs[row]:
            want[item] = (age, max(weight, want.get(item, (0, 0))[1]))
        span = slice(got.indptr[n], got.indptr[n + 1])
        result = zip(got.items[span], got.ages[span].tolist(), got.weights[span].tolist(), strict=True)
        assert {"abcd"[i]: (age, weight) for i, age, weight in result} == want


def test_inputs_weigh_beside_popularity_and_age_and_purchases_do_not():
    history = Interactions.from_histories(with_inputs([[("a", 5)]], [[("a", 10, 0.5), ("b", 0, 2.0)]]), ITEMS, AS_OF)
    how = {"inverse_popularity": 0.5, "half_life_days": 10.0}
    assert history_weights(history.pooled, np.array([1, 4, 0, 0]), **how).tolist() == [0.25, 1.0]
    assert history_weights(history, np.array([4, 4, 0, 0]), **how).tolist() == [0.5]
    assert history.keep(np.array([True])).inputs is None


def test_renumbered_items_are_the_same_items():
    ones = np.ones(3, np.float32)
    inputs = Interactions(np.array([0, 1, 3]), np.array([9, 4, 2], np.int32), ones, ones, 12, weighted=True)
    history = Interactions(np.array([0, 2, 3]), np.array([7, 4, 7], np.int32), ones, ones, 12, inputs=inputs)
    for one in (history, replace(history, inputs=None)):
        items, same = one.renumbered()
        assert items.tolist() == sorted(set(items.tolist()))
        assert same.n_items == len(items)
        assert items[same.items].tolist() == [7, 4, 7]
    items, same = history.renumbered()
    assert items.tolist() == [2, 4, 7, 9]
    assert same.inputs.n_items == 4
    assert items[same.inputs.items].tolist() == [9, 4, 2]
