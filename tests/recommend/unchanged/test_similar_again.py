"""Neighbours of a night of which most is known are those of a night of which nothing is."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.config.shop.similar import SimilarSettings
from topkin.linalg.cosine import unit_rows
from topkin.recommend.similar import items_table, similar_items, similar_part
from topkin.recommend.unchanged.similar import NeighbourCandidates, similar_items_again, similar_part_again

AS_OF, ITEMS = datetime(2024, 1, 9), pa.array([f"i{n}" for n in range(6)])
baskets = st.dictionaries(
    st.integers(0, 8), st.tuples(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 4)), min_size=1
)


def _night(users: Mapping[int, tuple[list[int], int]]) -> tuple[pa.Table, np.ndarray]:
    """Histories and vectors of users by number: what each bought, and which of five vectors it has."""
    of = unit_rows(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0]], np.float32))
    known = dict(sorted(users.items()))
    bought = [[ITEMS[i].as_py() for i in items] for items, _ in known.values()]
    table = pa.table(
        {
            "user_id": pa.array([f"u{n}" for n in known]),
            "items": pa.array(bought, pa.list_(pa.string())),
            "times": pa.array([[AS_OF - timedelta(days=2)] * len(b) for b in bought], pa.list_(schemas.TIME)),
            "weights": pa.array([[1.0] * len(b) for b in bought], pa.list_(pa.float32())),
            "segment": pa.array([None] * len(bought), pa.string()),
        }
    )
    return table.cast(schemas.histories(pa.string(), pa.string())), of[[number for _, number in known.values()]]


@given(baskets, baskets, st.sets(st.integers(0, 8)), st.integers(1, 4), st.booleans())
@example({0: ([0], 1), 1: ([], 1)}, {0: ([], 0)}, {0}, 1, True)  # the only neighbour has no vector any more
def test_neighbours_of_users_are_those_of_everybody_searched_again(before, now, changed, k, rules):
    now = {n: now[n] if n in changed and n in now else value for n, value in before.items()} | {
        n: value for n, value in now.items() if n not in before
    }
    for n in changed - now.keys() - {min(now)}:
        now.pop(n, None)
    settings = SimilarSettings(users=k, bought=3, min_support=1)
    allowed, then = np.ones(6, bool), np.ones(6, bool)
    then[2] = rules

    def make(night: Mapping[int, tuple[list[int], int]], may: np.ndarray) -> tuple[pa.Table, pa.Table]:
        histories, vectors = _night(night)
        return similar_part(
            histories,
            vectors,
            0,
            blocks=[(0, vectors)],
            tables=[(0, histories)],
            item_ids=ITEMS,
            allowed=may,
            as_of=AS_OF,
            settings=settings,
            encoder="e",
        )

    histories, vectors = _night(now)
    same = np.array([before.get(n) == now[n] for n in sorted(now)])
    users = NeighbourCandidates.of(histories["user_id"].combine_chunks(), same, vectors)
    again = similar_part_again(
        histories,
        vectors,
        0,
        users,
        make(before, then),
        same_rules=rules,
        blocks=lambda: [(0, vectors)],
        tables=lambda: [(0, histories)],
        item_ids=ITEMS,
        allowed=allowed,
        as_of=AS_OF,
        settings=settings,
        encoder="e",
    )
    for result, expected in zip(again, make(now, allowed), strict=True):
        assert result.equals(expected, check_metadata=True)


@given(st.integers(0, 9_999), st.floats(0, 1), st.integers(1, 5))
def test_neighbours_of_items_are_those_of_a_search_over_all(seed, share, k):
    rng = np.random.default_rng(seed)
    ids = pa.array([f"i{n:02d}" for n in range(12)])
    vectors, might = unit_rows(rng.integers(-1, 2, (12, 3)).astype(np.float32)), rng.random(12) < 0.8
    there = np.sort(rng.choice(12, 9, replace=False))  # three came since
    old = similar_items(vectors[there], np.arange(9), might[there], k)
    before = items_table(ids.take(pa.array(there)), np.arange(9), old, "e")
    moved, may = rng.random(12) < share, might ^ (rng.random(12) < share)
    now = np.where(moved[:, None], unit_rows(rng.integers(-1, 2, (12, 3)).astype(np.float32)), vectors)
    here = np.sort(rng.choice(12, 10, replace=False))  # two went
    same = np.isin(here, there) & ~moved[here] & (may == might)[here]
    items = NeighbourCandidates.of(ids.take(pa.array(here)), same, now[here], may[here])
    rows = np.arange(2, 10)
    again = similar_items_again(now[here], rows, items, may[here], before, k)
    expected = similar_items(now[here], rows, may[here], k)
    np.testing.assert_array_equal(again[0], expected[0])
    np.testing.assert_array_equal(again[1], expected[1])
