"""Hindsight over nights: the series that each night carries on, and the verdict that it comes to.

The verdict is that of the youngest lists that enough users tell something of, by the headline metric under the rule by
which they were made; where tonight tells of none, such as after a closed day, the verdict of the night before stands.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.baselines.registry import BASELINES
from topkin.evaluation.hindsight import PastLists
from topkin.evaluation.summary import MIN_USERS, headline

NIGHTS = 400
"""Nights of the series that are kept: a year and a month, so that it does not grow for ever."""

_ITEMS = {"novel": "items new to the user", "all": "all items"}


def carry_on(before: pa.Table | None, tonight: pa.Table, night: datetime) -> pa.Table:
    """The series with a night more: ``schemas.HINDSIGHT``, in time order.

    before: the series of the night before, if there is one; what it has of ``night`` or later is dropped.
    """
    rows = schemas.HINDSIGHT.empty_table() if before is None else before
    rows = rows.filter(pc.less(rows["night"], pa.scalar(night, schemas.TIME)))
    nights = rows["night"].unique().to_pylist()
    if len(nights) >= NIGHTS:
        first = sorted(nights)[-(NIGHTS - 1)]
        rows = rows.filter(pc.greater_equal(rows["night"], pa.scalar(first, schemas.TIME)))
    return pa.concat_tables([rows, tonight]).combine_chunks()


def entry_of(
    lists: PastLists, night: datetime, ks: Sequence[int], rows: pa.Table, counts: Mapping[str, int]
) -> dict[str, Any]:
    """What ``hindsight.json`` tells of one version.

    rows: of ``hindsight.compare``. counts: those of ``hindsight.judge_part``, of all parts.
    """
    protocol, metric = headline(lists.ks(ks), lists.bought)
    chosen = [r for r in rows.to_pylist() if (r["truth"], r["metric"]) == (protocol, metric)]
    return {
        "days": lists.days,
        "version": lists.version,
        "as_of": lists.as_of.isoformat(),
        "age": (night - lists.as_of).total_seconds() / 86_400,
        "bought": lists.bought,
        "made_by": lists.model,
        "protocol": protocol,
        "metric": metric,
        "users": counts[f"{protocol}_users"],
        "counts": dict(counts),
        "values": {r["model"]: [r["low"], r["value"], r["high"]] for r in chosen},
        "differences": {
            r["model"]: [r["difference_low"], r["difference"], r["difference_high"]]
            for r in chosen
            if r["difference"] is not None
        },
        "reason": _why_not(lists, protocol, counts),
    }


def _why_not(lists: PastLists, protocol: str, counts: Mapping[str, int]) -> str | None:
    """Why lists are not judged, None where they are."""
    users, date = counts[f"{protocol}_users"], day(lists.as_of)
    if not counts["purchases"]:
        return f"nothing was bought since {date}"
    if users >= MIN_USERS:
        return None
    what = "something new to them" if protocol == "novel" else "something sold before it"
    who = "1 user who had bought before" if users == 1 else f"{users:,} users who had bought before"
    return f"{who} {date} bought {what} since, which is too few to tell; it takes {MIN_USERS}"


def judged(entries: Sequence[Mapping[str, Any]], night: datetime) -> dict[str, Any] | None:
    """The verdict on the youngest lists that are judged: ``good`` is None where no difference is clear.

    entries: of :func:`entry_of`, the youngest first. None where no lists are judged.
    """
    entry = next((entry for entry in entries if entry["reason"] is None), None)
    if entry is None:
        return None
    above = [name for name, (low, _, _) in entry["differences"].items() if low > 0]
    below = [name for name, (_, _, high) in entry["differences"].items() if high < 0]
    good = False if below else True if len(above) == len(entry["differences"]) else None
    same = [name for name in entry["differences"] if name not in (*above, *below)]
    texts = {"beat {}": above, "are below {}": below, "do not differ clearly from {}": same}
    outcome = " and ".join(text.format(_names(names)) for text, names in texts.items() if names)
    values = ", ".join(f"{BASELINES[n].label.lower()}'s {entry['values'][n][1]:.4f}" for n in entry["differences"])
    span = "day" if entry["age"] == 1 else f"{entry['age']:.3g} days"
    whose = (
        f"The lists of {day(datetime.fromisoformat(entry['as_of']))}, judged by what {entry['users']:,} users bought"
    )
    what = f"{entry['metric'].upper()} on {_ITEMS[entry['protocol']]} is {entry['values']['model'][1]:.4f}"
    sentence = f"{whose} in the {span} since, {outcome}: {what}, {values}"
    return {**entry, "night": night.isoformat(), "good": good, "sentence": sentence}


def _names(names: Sequence[str]) -> str:
    return " and ".join(BASELINES[name].label.lower() for name in names)


def hindsight_json(
    night: datetime,
    days: Sequence[int],
    entries: Sequence[Mapping[str, Any]],
    before: Mapping[str, Any] | None = None,
    *,
    off: str | None = None,
) -> dict[str, Any]:
    """``hindsight.json``: what the head of the report and the gate read.

    ``verdict`` is that of :func:`judged` or, where tonight comes to none, of the night before; its ``night`` says
    which. ``reason`` is why tonight comes to none, else null.

    Args:
        night: The date of the run.
        days: As the settings ask.
        entries: Of :func:`entry_of`, or with a ``reason`` of lists that could not be read; the youngest first.
        before: The content that the run published before has.
        off: Why no lists are judged at all.
    """
    verdict: Mapping[str, Any] | None = judged(entries, night)
    reason = off
    if off is None and verdict is None:
        reason = "; ".join(entry["reason"] for entry in entries) or first_night(days)
        verdict = before and before["verdict"]
    return {
        "night": night.isoformat(),
        "days": sorted(set(days)),
        "least_users": MIN_USERS,
        "versions": list(entries),
        "verdict": verdict,
        "reason": reason,
    }


def first_night(days: Sequence[int]) -> str:
    """Why a night is not judged before which none was published, and what it takes."""
    least = min(days)
    return (
        f"hindsight needs one published night, {'a day' if least == 1 else f'{least} days'} or more before this one, "
        f"with {MIN_USERS} users who came back since; there is none yet"
    )


def day(date: datetime) -> str:
    """9 Nov 2011, and the time of day where it is not midnight."""
    text = f"{date.day} {date:%b %Y}"
    return f"{text}, {date:%H:%M}" if date.hour or date.minute else text
