"""What a sample of purchases says of the shop: who comes back for what, the days that there are, what a price is."""

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import pyarrow as pa

from topkin.ingest.sql import query

WITHIN_DAYS = 30
FEW_REPEATS = 0.1
"""Share of re-purchases from which on lists without bought items hide too much."""
_SEEN_IN_A_GAP = 20
"""Purchases that a sample would have had in days without any, for them to be called a gap."""


@dataclass(frozen=True)
class Repurchases:
    """How many purchases are of an item that the user bought on an earlier day.

    purchases: of a user, an item and a day, each once. within, after: re-purchases at most and more than
    ``WITHIN_DAYS`` after the one before.
    """

    users: int
    purchases: int
    within: int
    after: int

    @property
    def share(self) -> float:
        """Re-purchases among the purchases; 0 where there are none."""
        return (self.within + self.after) / max(self.purchases, 1)


def repurchases(events: pa.Table) -> Repurchases:
    """The re-purchases among rows with user_id, item_id and timestamp."""
    days = "SELECT DISTINCT user_id, item_id, CAST(timestamp AS DATE) AS day FROM rows"
    gaps = f"SELECT user_id, day - lag(day) OVER (PARTITION BY user_id, item_id ORDER BY day) AS gap FROM ({days})"
    repeats = f"count(*) FILTER (gap <= {WITHIN_DAYS}), count(*) FILTER (gap > {WITHIN_DAYS})"
    counts = f"count(*), count(DISTINCT user_id), {repeats}"
    row = query(f"SELECT {counts} FROM ({gaps})", events.select(["user_id", "item_id", "timestamp"])).to_pylist()[0]
    purchases, users, within, after = (int(n) for n in row.values())
    return Repurchases(users, purchases, within, after)


@dataclass(frozen=True)
class Proposal:
    """A value proposed for a key, and why."""

    value: str
    why: str


def propose_bought(counts: Repurchases, *, whole: bool = True, timed: bool = True) -> Proposal:
    """What ``recommend.bought`` should be, so that lists do not hide what people buy.

    whole: whether the purchases of these users are all that they made; if not, their share is at least what was seen.
    timed: whether they have times; else a day stands for a position, of which nobody asks how many there are.
    """
    within, after = (n / max(counts.purchases, 1) for n in (counts.within, counts.after))
    when = f" ({within:.0%} within {WITHIN_DAYS} days, {after:.0%} later)" if timed else ""
    why = (
        f"{'' if whole else 'at least '}{counts.share:.0%} of {counts.purchases:,} purchases are of an item that the "
        f"user had bought before{when}"
    )
    few = FEW_REPEATS if whole else FEW_REPEATS / 2
    return Proposal("exclude" if counts.share < few else "keep", why)


@dataclass(frozen=True)
class Calendar:
    """The days of purchases: first and last time, days from one to the other, those without any, the longest gap."""

    first: datetime
    last: datetime
    days: int
    empty: int
    gap: tuple[date, date] | None

    def age(self, clock: datetime) -> int:
        """Whole days since the last purchase."""
        return (clock - self.last).days


def calendar(times: pa.ChunkedArray, spans: np.ndarray | None = None) -> Calendar | None:
    """The days of some timestamps; None for none.

    A gap is told where so many purchases would have been expected in it that chance does not explain it.
    spans: where the times are a part of all, the first and last time of each piece of the whole, (n, 2) int64
    microseconds; gaps are then those between the pieces.
    """
    if spans is not None:
        return _of_spans(spans)
    if not len(times):
        return None
    micros = np.asarray(times.cast(pa.timestamp("us")).cast(pa.int64()))
    seen = np.unique(micros // 86_400_000_000)
    span = int(seen[-1] - seen[0]) + 1
    lengths = np.diff(seen) - 1
    a_day = len(micros) / len(seen)  # on days that have any
    gap = None
    long = lengths * a_day >= _SEEN_IN_A_GAP
    if len(lengths) and long.any():
        at = int(np.argmax(lengths))
        gap = (_day(seen[at] + 1), _day(seen[at + 1] - 1))
    start, end = (np.datetime64(int(m), "us").item() for m in (micros.min(), micros.max()))
    return Calendar(start, end, span, int(lengths[long].sum()), gap)


def _of_spans(spans: np.ndarray) -> Calendar:
    spans = spans[np.argsort(spans[:, 0])]
    days = spans // 86_400_000_000
    reached = np.maximum.accumulate(days[:, 1])
    lengths = days[1:, 0] - reached[:-1] - 1
    gap = None
    if len(lengths) and lengths.max() > 0:
        at = int(np.argmax(lengths))
        gap = (_day(reached[at] + 1), _day(days[at + 1, 0] - 1))
    start, end = (np.datetime64(int(m), "us").item() for m in (spans.min(), spans.max()))
    return Calendar(start, end, int(reached[-1] - days[0, 0]) + 1, int(np.maximum(lengths, 0).sum()), gap)


def _day(number: int) -> date:
    day: date = np.datetime64(int(number), "D").item()
    return day


@dataclass(frozen=True)
class AmountKind:
    """What a column of money is, seen by quantity: of the line (``total``) or of a piece.

    rows: that tell it. amount, each: by what share of it the amount, and the amount over the quantity, stray from the
    item's median.
    """

    total: bool
    rows: int
    amount: float
    each: float

    @property
    def why(self) -> str:
        """In words."""
        less, more = sorted((self.amount, self.each))
        one, other = ("amount / quantity", "the amount") if self.total else ("the amount", "amount / quantity")
        return f"{one} strays {less:.0%} from the item's median, {other} {more:.0%}"


def amount_kind(items: pa.ChunkedArray, quantities: pa.ChunkedArray, amounts: pa.ChunkedArray) -> AmountKind | None:
    """Whether amounts are of the line or of a piece; None where quantities do not tell.

    Asked of the items that came in several quantities: what strays less from the item's median, the amount or the
    amount over the quantity, is its price. Amounts and quantities that are no finite numbers tell nothing.
    """
    rows = pa.table({"item": items, "n": quantities, "amount": amounts})
    sql = """
        WITH good AS (
            SELECT item, TRY_CAST(n AS DOUBLE) AS n, TRY_CAST(amount AS DOUBLE) AS amount FROM rows
            WHERE item IS NOT NULL
        ), several AS (
            SELECT n, amount, median(amount) OVER w AS usual, median(amount / n) OVER w AS usual_each
            FROM good WHERE n > 0 AND amount > 0 AND isfinite(n) AND isfinite(amount) WINDOW w AS (PARTITION BY item)
            QUALIFY count(*) OVER w > 2 AND min(n) OVER w < max(n) OVER w
        )
        SELECT count(*) AS n, avg(abs(ln(amount / usual))) AS amount, avg(abs(ln(amount / n / usual_each))) AS each
        FROM several
    """
    counts = query(sql, rows).to_pylist()[0]
    if counts["n"] < 20:
        return None
    less, more = sorted((counts["amount"], counts["each"]))
    if less > 0.5 * more:
        return None
    strays = (float(np.expm1(counts[name])) for name in ("amount", "each"))
    return AmountKind(counts["each"] < counts["amount"], int(counts["n"]), *strays)
