"""Which purchases were taken back: each return takes the latest earlier one of its user and item not yet returned."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def taken_back(events: pa.Table, bought: np.ndarray, returned: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray]:
    """The purchases that were taken back, and the returns that took one, (n,) bool each.

    A return that names an order takes back a purchase of that order alone; one that names none, any. At one time a
    return comes after the purchases. One without such a purchase takes nothing.

    Args:
        events: Rows with user_id, item_id, timestamp and the column ``order``, of whole users, in order of time.
        bought: (n,) bool, the purchases.
        returned: (n,) bool, the returns.
        order: Name of the column with the order, null where none is given.
    """
    user, item, of = (_codes(events[name]) for name in ("user_id", "item_id", order))
    key = user * (item.max(initial=0) + 1) + item
    rows = np.flatnonzero((bought | returned) & np.isin(key, key[returned]))
    times = np.asarray(events["timestamp"].cast(pa.int64()))
    rows = rows[np.lexsort((rows, returned[rows], times[rows], key[rows]))]
    named, free = (np.isin(key[rows], key[returned & ((of >= 0) == names)]) for names in (True, False))
    by_order = key * (of.max(initial=0) + 2) + of + 1
    taken = [
        _matched(rows[some], group[rows[some]], returned[rows[some]])
        for some, group in ((~named, key), (~free, by_order))
    ]
    gone, took = np.zeros(len(events), bool), np.zeros(len(events), bool)
    for purchases, returns in [*taken, _in_turn(rows[named & free], key, of, returned)]:
        gone[purchases] = took[returns] = True
    return gone, took


def _matched(rows: np.ndarray, group: np.ndarray, returned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Purchases, and the returns that take each back, as the brackets of a group open and close; all (n,), in order."""
    order = np.argsort(group, kind="stable")
    rows, group, back = rows[order], group[order], returned[order]
    number, level = _levels(group, back)
    apart = number * (2 * len(rows) + 1)  # so that a running minimum begins anew with each group
    lowest = np.minimum.accumulate(np.minimum(level, 0) - apart) + apart
    before = np.where(np.diff(number, prepend=-1), 0, np.roll(lowest, 1))
    some = ~back | (level >= before)  # nothing is open where a return goes below
    rows, group, back = rows[some], group[some], back[some]
    at = np.lexsort((_levels(group, back)[1] + back, group))
    closed = np.flatnonzero(back[at])
    return rows[at[closed - 1]], rows[at[closed]]


def _levels(group: np.ndarray, back: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the groups, and how many of its purchases are open after each row. group: equal ones together."""
    step = np.where(back, -1, 1)
    begins = np.diff(group, prepend=-1) != 0
    number, level = np.cumsum(begins) - 1, np.cumsum(step)
    return number, level - (level - step)[begins][number]


def _in_turn(rows: np.ndarray, key: np.ndarray, of: np.ndarray, returned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_matched`, row by row: for items of which a user's returns name an order here and none there."""
    taken, there, last = list[tuple[int, int]](), list[int](), -1
    for row in rows:
        if key[row] != last:
            there, last = [], key[row]
        if not returned[row]:
            there.append(row)
        elif (at := next((r for r in reversed(there) if of[row] < 0 or of[r] == of[row]), None)) is not None:
            there.remove(at)
            taken.append((at, row))
    purchases, returns = np.array(taken, np.int64).reshape(-1, 2).T
    return purchases, returns


def _codes(values: pa.ChunkedArray) -> np.ndarray:
    """A number of each value, -1 for null."""
    known = values.unique().drop_null()
    return np.asarray(pc.fill_null(pc.index_in(values, value_set=known), -1)).astype(np.int64)
