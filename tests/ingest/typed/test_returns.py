"""Returns against a loop over one user's and item's events."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from topkin.ingest.typed.returns import taken_back

START = datetime(2024, 1, 1)
events = st.lists(
    st.tuples(
        st.sampled_from("uv"),
        st.sampled_from("ab"),
        st.integers(0, 5),
        st.sampled_from(["bought", "returned", "viewed"]),
        st.sampled_from([None, "1", "2"]),
    ),
    max_size=14,
).map(lambda rows: sorted(rows, key=lambda r: (r[0], r[2])))


def table(rows):
    users, items, days, _, orders = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    times = [START + timedelta(days=d) for d in days]
    columns = {"user_id": pa.array(users, pa.string()), "item_id": pa.array(items, pa.string())}
    columns |= {"timestamp": pa.array(times, pa.timestamp("us")), "order": pa.array(orders, pa.string())}
    return pa.table(columns)


def naive(rows):
    """The rows taken back and those that took one: each return looks at all purchases before it."""
    gone, took = set(), set()
    returns = sorted((r[2], n) for n, r in enumerate(rows) if r[3] == "returned")
    for day, n in returns:
        user, item, _, _, order = rows[n]
        before = [
            (r[2], m)
            for m, r in enumerate(rows)
            if r[3] == "bought" and r[:2] == (user, item) and r[2] <= day and m not in gone and order in (None, r[4])
        ]
        if before:
            gone.add(max(before)[1])
            took.add(n)
    return gone, took


@given(events)
def test_a_return_takes_back_the_latest_earlier_purchase_not_yet_returned(rows):
    bought, returned = (np.array([r[3] == kind for r in rows], bool) for kind in ("bought", "returned"))
    gone, took = taken_back(table(rows), bought, returned, "order")
    assert (set(np.flatnonzero(gone).tolist()), set(np.flatnonzero(took).tolist())) == naive(rows)
