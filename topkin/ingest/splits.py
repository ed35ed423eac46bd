"""What is held out to judge by, and what must never be known before it: leaks are errors."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.artifacts.partition import in_first_half
from topkin.errors import InputError
from topkin.ingest.catalogue import sales
from topkin.ingest.events import histories, split_by_time


def hold_out_last(events: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The purchases without each user's last, and those: all of the user's latest moment, as one basket is.

    events: ``schemas.events`` in its order. A user of one moment alone keeps it, and has nothing held out.
    """
    users = np.asarray(pc.rank(events["user_id"], tiebreaker="dense")) if len(events) else np.zeros(0, np.int64)
    times = np.asarray(events["timestamp"].cast(pa.int64()))
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    lengths = np.diff(np.append(starts, len(users)))
    first, last = (np.repeat(times[at], lengths) for at in (starts, starts + lengths - 1))
    out = (times == last) & (first < last)
    return events.filter(pa.array(~out)).combine_chunks(), events.filter(pa.array(out)).combine_chunks()


class PartAtCut(NamedTuple):
    """A part as it was at an earlier date: ``schemas.histories``, ``schemas.events`` since then, ``sales_schema``."""

    histories: pa.Table
    heldout: pa.Table
    sales: pa.Table


def part_at_cut(events: pa.Table, cut: datetime, recent_days: float, *, second_half: bool = False) -> PartAtCut:
    """What ``prepare`` would have made of a part's purchases as of an earlier date: ``schemas.events`` in its order.

    Users who first bought from then on have no row. second_half: only users of the second half are judged, see
    ``partition.in_first_half``; all others are known nonetheless.
    """
    before, heldout = split_by_time(events, cut)
    if second_half:
        heldout = heldout.filter(pa.array(~in_first_half(heldout["user_id"]))).combine_chunks()
    return PartAtCut(histories(before), heldout, sales(before, cut, recent_days))


def count_leaks(learned: pa.Table, heldout: pa.Table, as_of: datetime) -> tuple[int, int]:
    """Of files given to learn from and to judge by: the rows of the first from ``as_of`` on, those before in the other.

    Both have a column timestamp.
    """
    cut = pa.scalar(as_of, schemas.TIME)
    late, early = pc.greater_equal(learned["timestamp"], cut), pc.less(heldout["timestamp"], cut)
    return int(pc.sum(late).as_py() or 0), int(pc.sum(early).as_py() or 0)


def refuse_overlap(late: int, early: int, as_of: datetime) -> None:
    """Raise InputError where files given to learn from and to judge by overlap in time."""
    if late:
        raise InputError(
            f"what is learned from must come before the as-of date {as_of.isoformat()}, {late:,} rows of "
            "purchases.path do not: the model would know what it is judged by; choose a later --as-of, or "
            "take these rows out by a rule of [purchases.rules]"
        )
    if early:
        raise InputError(
            f"what is held out must not come before the as-of date {as_of.isoformat()}, {early:,} rows of heldout.path "
            "do: others' purchases of the same time are learned from; choose an earlier --as-of, or, for data without "
            "times, set purchases.order and heldout.order"
        )


def refuse_leaks(
    as_of: datetime,
    *,
    prepared_as_of: str,
    youngest: float,
    last_sale: datetime | None,
    heldout: Iterable[datetime | None],
    by_time: bool,
) -> None:
    """Raise InputError where something that the model could know comes from the as-of date or after it.

    youngest: the least age of a purchase in the histories, in days before the date. last_sale: the latest in the
    catalogue, whose counts are features. heldout: the first time held out in each part, None for none; with
    ``by_time`` none may come before the date.
    """
    if prepared_as_of != as_of.isoformat():
        raise InputError(
            f"an evaluation must be as of the date of what it judges: as of {as_of.isoformat()}, got tables made as of "
            f"{prepared_as_of}; run topkin run --force"
        )
    if youngest <= 0:
        raise InputError(
            f"no purchase in the histories may be dated at or after the as-of date {as_of.isoformat()}, the latest is "
            f"{-youngest:.3f} days after it: run topkin run --force"
        )
    if last_sale is not None and last_sale >= as_of:
        raise InputError(
            f"the catalogue's counts must be of sales before the as-of date {as_of.isoformat()}, the latest is of "
            f"{last_sale.isoformat()}: a feature computed after the cut tells the future; run topkin run --force"
        )
    early = min((t for t in heldout if t is not None), default=None)
    if by_time and early is not None and early < as_of:
        raise InputError(
            f"no held-out purchase may be dated before the as-of date {as_of.isoformat()}, the first is of "
            f"{early.isoformat()}: it can have been learned from; run topkin run --force"
        )
