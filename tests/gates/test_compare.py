"""What versions have in common, beside sets of Python."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from tests.gates.conftest import AS_OF, Version, some_rows
from topkin.artifacts import schemas
from topkin.gates.compare import common_of, lost_purchases
from topkin.gates.figures import of_purchases

Write = Callable[[Version], dict[str, str]]


def common(write: Write, now: Version, live: Version) -> dict[str, float]:
    ours, before = write(now), write(live)
    return common_of(ours, before, of_purchases(ours), of_purchases(before))


def test_nothing_is_lost_or_unknown_between_equal_versions(folders: Write) -> None:
    shares = common(folders, Version(some_rows()), Version(some_rows()))
    assert shares | {"lost": 0, "unknown users": 0, "unknown items": 0, "overlap": 1} == shares
    assert shares["rank-biased overlap"] == pytest.approx(1)


def test_shares_unknown_and_lost_are_those_of_sets(folders: Write) -> None:
    rng, live = np.random.default_rng(2), some_rows()
    kept = [row for row in live if rng.random() < 0.6]
    now = [*kept, *((u + 1000, f"n{u}", 1.0) for u in range(25))]
    shares = common(folders, Version(now), Version(live))
    users, items = {u for u, _, _ in now}, {i for _, i, _ in now}
    assert shares["unknown users"] == pytest.approx(len(users - {u for u, _, _ in live}) / len(users))
    assert shares["unknown items"] == pytest.approx(len(items - {i for _, i, _ in live}) / len(items))
    oldest = max(d for _, _, d in now)
    known = {row for row in live if row[2] <= oldest}
    assert shares["lost"] == pytest.approx(len(known - {*now}) / len(known))


@pytest.mark.parametrize("moved", [1.0, -1.0])
def test_purchases_at_another_time_are_lost(folders: Write, moved: float) -> None:
    live = [row for row in some_rows() if 3 < row[2] < 90]
    now = [*[(u, i, d + moved) for u, i, d in live], (0, "i00", 99.0)]
    assert common(folders, Version(now), Version(live))["lost"] == 1


def test_what_was_sold_after_the_as_of_date_is_not_missed(folders: Write) -> None:
    """Yesterday's tables made again while today's are live."""
    rows = some_rows()
    before = Version([(u, i, d - 10) for u, i, d in rows if d > 10], as_of=AS_OF - timedelta(days=10))
    assert common(folders, before, Version(rows))["lost"] == 0


def test_where_neither_version_has_purchases_none_is_looked_for() -> None:
    """As on the second night of lists without purchases."""
    times, items = pa.list_(schemas.TIME), pa.list_(pa.string())
    nobody = pa.table({"user_id": ["u", "v"], "items": pa.array([[], []], items), "times": pa.array([[], []], times)})
    assert lost_purchases(nobody, nobody, timed=True) is None
    when = pa.array([[AS_OF], []], times)
    some = nobody.set_column(1, "items", pa.array([["i"], []], items)).set_column(2, "times", when)
    assert lost_purchases(nobody, some, timed=True) == 1


def test_without_times_a_purchase_is_a_user_and_an_item(folders: Write) -> None:
    undated = {"statistics": {"times": "order"}}
    moved = [(u, i, d + 1) for u, i, d in some_rows()]
    assert common(folders, Version(moved, **undated), Version(some_rows(), **undated))["lost"] == 0


def test_ids_of_another_type_are_unknown(folders: Write) -> None:
    live = Version(some_rows())
    now = replace(live, rows=[(str(u), i, d) for u, i, d in live.rows])  # type: ignore[misc]
    shares = common(folders, now, live)
    assert (shares["unknown users"], shares["lost"], shares["overlap"]) == (1, 1, 0)


def test_lists_are_those_of_users_in_both(folders: Write) -> None:
    rows = some_rows(users=30)
    live = Version(rows, lists={u: ["i00", "i01", "i02"] for u in range(20)})
    now = Version(rows, lists={u: ["i00", "i05", "i06"] if u < 5 else ["i02", "i01", "i00"] for u in range(30)})
    shares = common(folders, now, live)
    assert shares["users"] == 20
    assert shares["overlap"] == pytest.approx((5 / 3 + 15) / 20)
    assert shares["alike before"] == 1
    assert shares["alike"] < 1
    apart = Version(rows, lists={u: ["i00"] for u in range(20, 30)})
    assert "overlap" not in common(folders, apart, live)


def test_a_version_without_lists_has_none_in_common(folders: Write) -> None:
    now, before = folders(Version(some_rows())), folders(Version(some_rows()))
    del before["recommend"]
    shares = common_of(now, before, of_purchases(now), of_purchases(before))
    assert "overlap" not in shares
    assert common_of(now, {}, of_purchases(now), {}) == {}
