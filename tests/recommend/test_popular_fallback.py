"""Lists by popularity against a user-by-user oracle."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts.schemas import SOURCES
from topkin.ingest.catalogue import sales
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.popular_fallback import (
    SEGMENT_COUNTS,
    SegmentPopularity,
    merge_segment_counts,
    popular_lists,
    segment_counts,
)

AS_OF = datetime(2020, 2, 1)
N = 7


def _histories(users: list[tuple[str | None, list[tuple[int, float]]]]) -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array(range(len(users)), pa.int64()),
            "items": pa.array([[f"i{i}" for i, _ in h] for _, h in users], pa.list_(pa.string())),
            "times": pa.array(
                [[AS_OF - timedelta(days=a) for _, a in h] for _, h in users], pa.list_(pa.timestamp("us"))
            ),
            "weights": pa.array([[1.0] * len(h) for _, h in users], pa.list_(pa.float32())),
            "segment": pa.array([s for s, _ in users], pa.string()),
        }
    )


def counts_of(histories: pa.Table) -> pa.Table:
    return segment_counts(Interactions.from_histories(histories, IDS, AS_OF), histories, AS_OF, 7.0)


IDS = pa.array([f"i{n}" for n in range(N)])
segment = st.sampled_from([None, "north", "south"])
users = st.lists(
    st.tuples(segment, st.lists(st.tuples(st.integers(0, N - 1), st.sampled_from([1.0, 6.0, 8.0, 90.0])), max_size=6)),
    max_size=8,
)


@given(users, st.integers(0, 8))
def test_segment_counts_are_those_of_a_loop_and_merge_over_parts(shop, cut):
    whole = counts_of(_histories(shop))
    expected: dict[tuple[str, int], int] = {}
    for s, history in shop:
        for i, age in history:
            if s is not None and age <= 7:
                expected[s, i] = expected.get((s, i), 0) + 1
    assert [tuple(r.values()) for r in whole.to_pylist()] == [(*key, n) for key, n in sorted(expected.items())]
    assert whole.schema == SEGMENT_COUNTS
    parts = [counts_of(_histories(p)) for p in (shop[cut:], shop[:cut])]
    assert merge_segment_counts(parts).equals(whole)


def test_the_recent_days_of_a_segment_begin_when_the_catalogues_do():
    edge = timedelta(days=7)
    times = [AS_OF - edge, AS_OF - edge - timedelta(milliseconds=2), AS_OF - edge + timedelta(milliseconds=2)]
    histories = pa.table(
        {
            "user_id": pa.array([0, 1, 2], pa.int64()),
            "items": pa.array([["i0"], ["i1"], ["i2"]]),
            "times": pa.array([[t] for t in times], pa.list_(pa.timestamp("us"))),
            "weights": pa.array([[1.0]] * 3, pa.list_(pa.float32())),
            "segment": pa.array(["north"] * 3),
        }
    )
    events = pa.table(
        {
            "user_id": histories["user_id"],
            "item_id": ["i0", "i1", "i2"],
            "timestamp": pa.array(times, pa.timestamp("us")),
            "price": pa.array([None] * 3, pa.float32()),
        }
    )
    recent = [i for i, n in enumerate(sales(events, AS_OF, 7.0)["recent"].to_pylist()) if n]
    assert counts_of(histories)["item"].to_pylist() == recent == [0, 2]


def test_nothing_merged_is_an_empty_table():
    assert merge_segment_counts([]).schema == SEGMENT_COUNTS


counts = st.lists(st.integers(0, 3), min_size=N, max_size=N)


@given(
    counts,
    counts,
    st.dictionaries(st.sampled_from(["north", "south"]), counts),
    st.lists(st.tuples(st.sampled_from([None, "north", "south", "east"]), st.sets(st.integers(0, N - 1))), max_size=6),
    st.lists(st.booleans(), min_size=N, max_size=N),
    st.integers(1, N + 1),
)
def test_each_step_lists_what_the_steps_before_did_not(ever, recent, by_segment, asked, allowed, k):
    rows = [(s, i, n) for s in sorted(by_segment) for i, n in enumerate(by_segment[s]) if n]
    table = (
        pa.table([pa.array(c) for c in zip(*rows, strict=True)], schema=SEGMENT_COUNTS)
        if rows
        else SEGMENT_COUNTS.empty_table()
    )
    popularity = SegmentPopularity(np.array(ever), np.array(recent), table)
    indptr = np.cumsum([0, *(len(e) for _, e in asked)]).astype(np.int64)
    items = np.array([i for _, e in asked for i in sorted(e)], np.int32)
    got = popular_lists(
        pa.array([s for s, _ in asked], pa.string()), Csr(indptr, items), popularity, np.array(allowed), k
    )
    for user, (s, excluded) in enumerate(asked):
        listed: list[tuple[int, float, str]] = []
        for source, of in (
            ("segment_recent_popularity", by_segment.get(s, [0] * N)),
            ("recent_popularity", recent),
            ("popularity", ever),
        ):
            for i in sorted(range(N), key=lambda i: (-of[i], i)):
                if of[i] > 0 and allowed[i] and i not in excluded and i not in {j for j, _, _ in listed}:
                    listed.append((i, float(of[i]), source))
        ids, scores, sources = (column[user] for column in got)
        kept = ids >= 0
        assert [
            (i, v, SOURCES[c]) for i, v, c in zip(ids[kept].tolist(), scores[kept].tolist(), sources[kept], strict=True)
        ] == listed[:k]
        assert (kept == (np.arange(k) < len(listed))).all()


def test_a_user_with_many_exclusions_does_not_widen_the_others():
    n = 3000
    events = np.arange(n, 0, -1)
    popularity = SegmentPopularity(events, np.zeros(n, np.int64), SEGMENT_COUNTS.empty_table())
    indptr = np.array([0, 0, 2990, 2990], np.int64)
    ids, scores, _ = popular_lists(
        pa.nulls(3, pa.string()), Csr(indptr, np.arange(2990, dtype=np.int32)), popularity, np.ones(n, bool), 20
    )
    assert ids[0].tolist() == list(range(20))
    assert ids[1].tolist() == [*range(2990, 3000), *[-1] * 10]
    assert scores[1, :2].tolist() == [10, 9]
