"""Joins against plain Python over the same values."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.config.sections import ItemsSettings, UsersSettings
from topkin.ingest.joins.measure import IdCounts, Join, measure_join
from topkin.ingest.joins.words import join_line, missing_line, percent, repeats_line, short_line

ITEMS = ("purchases.item_id", "items.item_id")
TEXTS = st.lists(st.one_of(st.none(), st.sampled_from("abcdefg")), max_size=30)
NUMBERS = st.lists(st.one_of(st.none(), st.integers(0, 6)), max_size=30)


def counts(values: list[object], kind: pa.DataType | None = None) -> IdCounts:
    whole = pa.array(values, kind)
    return IdCounts.of(pa.chunked_array([whole[:3], whole[3:]]))


@given(st.one_of(st.tuples(TEXTS, TEXTS, st.just(pa.string())), st.tuples(NUMBERS, NUMBERS, st.just(pa.int64()))))
def test_a_join_equals_counting(drawn: tuple[list[object], list[object], pa.DataType]) -> None:
    left, right, kind = drawn
    join = measure_join(*ITEMS, counts(left, kind), counts(right, kind))
    of_left, of_right = (Counter(v for v in values if v is not None) for values in (left, right))
    both = of_left.keys() & of_right.keys()
    assert (join.left_ids, join.right_ids, join.shared_ids) == (len(of_left), len(of_right), len(both))
    assert (join.left_rows, join.right_rows) == (of_left.total(), of_right.total())
    assert join.shared_rows == sum(of_left[v] for v in both)
    assert join.missing_ids == len(of_left.keys() - both)
    assert join.missing_rows == sum(of_left[v] for v in of_left.keys() - both)
    shown = {v: n for v, n in of_left.items() if repr(v) in join.examples}
    assert len(shown) == len(join.examples) == min(3, join.missing_ids)
    assert not shown.keys() & both
    rest = [n for v, n in of_left.items() if v not in both and v not in shown]
    assert min(shown.values(), default=0) >= max(rest, default=0)
    if of_left:
        assert np.isclose(join.share_of_ids, len(both) / len(of_left))
    assert join.fails == bool(of_left and of_right and not both)


def test_ids_of_two_types_do_not_meet() -> None:
    join = measure_join(*ITEMS, counts([1, 2]), counts(["1", "2"]))
    assert (join.shared_ids, join.missing_ids, join.fails) == (0, 2, True)


def test_a_few_of_many_are_no_join_and_of_a_sample_some_are() -> None:
    left, right = counts(list(range(1000))), counts([*range(5), *range(5000, 9000)])
    assert measure_join(*ITEMS, left, right).fails
    assert not measure_join(*ITEMS, left, right, right_whole=False).fails


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 9, "0 %"), (9, 9, "100 %"), (1, 3, "33.3 %"), (1, 10_000, "below 0.1 %"), (9_999, 10_000, "above 99.9 %")],
)
def test_some_is_never_shown_as_none_nor_as_all(part: int, whole: int, words: str) -> None:
    assert percent(part, whole) == words


def test_lines_tell_both_sides_the_rule_and_a_sample() -> None:
    join = measure_join(*ITEMS, counts(["a", "a", "b", "c", None]), counts(["a", "b", "x", "y"]))
    assert join_line(join) == (
        "66.7 % of the items sold (2 of 3, 75.0 % of the purchases) are in the catalogue; "
        "50.0 % of the catalogue's items (2 of 4) are sold"
    )
    assert missing_line(join, "list") == (
        "1 of the items sold, 1 of 4 purchases, such as 'c', are not in the catalogue: they may be recommended all the "
        'same (items.missing = "list"; "exclude" keeps them off the lists)'
    )
    assert 'not recommended (items.missing = "exclude")' in str(missing_line(join, "exclude"))
    assert short_line(join, "exclude").endswith("are in the catalogue, 1 not (1 purchases): not recommended")
    sampled = measure_join(*ITEMS, counts(["a"]), counts(["a", "b"]), left_whole=False)
    assert join_line(sampled) == (
        "100 % of the items sold (1 of 1) are in the catalogue (a sample: 1 rows of purchases)"
    )
    whole = measure_join(*ITEMS, counts(["a"]), counts(["a"]))
    assert missing_line(whole, "list") is None
    assert short_line(whole, "list") == "100 % of the items sold (1 of 1) are in the catalogue"


def test_rows_that_list_an_item_again_are_told_with_the_rule() -> None:
    items = ItemsSettings(path="items", duplicates="last")
    assert repeats_line("items", 0, items) is None
    assert repeats_line("items", 1, items) == (
        "1 row of items lists an item again: the last row of each counts (items.duplicates)"
    )
    assert repeats_line("users", 2, UsersSettings(path="users", latest_by="seen")) == (
        "2 rows of users list a user again: the row of each with the greatest seen counts (users.latest_by)"
    )


def test_what_is_written_holds_counts_and_shares() -> None:
    value = measure_join(*ITEMS, counts(["a", "b"]), counts(["a"])).to_json()
    assert value["share_of_ids"] == 0.5
    assert value["share_of_right"] == 1.0
    assert value["examples"] == {"'b'": 1}
    assert Join.of_counts(*ITEMS, value, value["examples"]).to_json() | {"right_examples": []} == value


def test_nothing_of_a_log_of_several_types_is_said_to_be_sold():
    join = measure_join("purchases.item_id", "items.item_id", counts([1, 2, 3]), counts([1, 2]))
    text = f"{join_line(join, mixed=True)}; {missing_line(join, 'list', mixed=True)}"
    assert "of the items of the log (2 of 3) are in the catalogue" in text
    assert "1 of the items of the log, 1 of 3 rows, such as 3, are not in the catalogue" in text
    assert "sold" not in text
