"""Pairs of baskets against a count of every basket, one by one."""

from collections import Counter
from datetime import datetime, timedelta
from itertools import permutations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.recommend import bundles
from topkin.recommend.bundles import baskets_of, bundles_table, count_pairs

N = 6
IDS = pa.array([f"i{n}" for n in range(N)])
T = pa.string()
purchase = st.tuples(st.integers(0, 3), st.integers(0, N - 1))  # the day, the item
users = st.lists(st.lists(purchase, max_size=8), min_size=1, max_size=6)


def histories(some) -> pa.Table:
    rows = [sorted(own) for own in some]
    return pa.table(
        {
            "user_id": [f"u{n}" for n in range(len(rows))],
            "items": [[f"i{i}" for _, i in own] for own in rows],
            "times": [[datetime(2024, 1, 1) + timedelta(days=d) for d, _ in own] for own in rows],
            "weights": [[1.0] * len(own) for own in rows],
            "segment": pa.nulls(len(rows), T),
        },
        schema=schemas.histories(T, T),
    )


@given(users, st.integers(1, 4), st.integers(1, 3), st.sets(st.integers(0, N - 1)), st.integers(1, 3))
def test_bundles_are_the_pairs_of_highest_lift(some, k, support, out, cut):
    baskets = [{i for d, i in own if d == day} for own in some for day in {d for d, _ in own}]
    pairs, items = Counter(p for b in baskets for p in permutations(b, 2)), Counter(i for b in baskets for i in b)
    expected = []
    for item in range(N):
        ranked = [
            (-n * len(baskets) / (items[item] * items[j]), -n, j)
            for (i, j), n in pairs.items()
            if i == item and n >= support and j not in out
        ]
        expected += [(f"i{item}", r, f"i{j}", -n, -lift) for r, (lift, n, j) in enumerate(sorted(ranked)[:k], 1)]
    table = histories(some)
    parts = [baskets_of(part, IDS) for part in (table[:cut], table[cut:])]
    allowed = ~np.isin(np.arange(N), list(out))
    result = bundles_table(count_pairs(parts, N), IDS, allowed, k, support)
    assert [tuple(r.values())[:4] for r in result.to_pylist()] == [e[:4] for e in expected]
    np.testing.assert_allclose(result["lift"], np.array([e[4] for e in expected]), rtol=1e-6)


def test_a_basket_of_a_whole_shelf_is_left_out(monkeypatch):
    monkeypatch.setattr(bundles, "MOST", 3)
    table = histories([[(0, i) for i in range(5)], [(0, 0), (0, 1)]])
    counts = count_pairs([baskets_of(table, IDS)], N)
    assert counts.baskets == 1
    assert counts.items.tolist() == [1, 1, 0, 0, 0, 0]
