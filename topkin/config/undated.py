"""Purchases without times: which settings mean nothing for them, and what is said of it.

Each user's purchases have an order; a position in it stands for a day, the last one just before the as-of date.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from topkin.baselines.registry import BASELINES

if TYPE_CHECKING:
    from topkin.config.section import Section
    from topkin.config.sections import Settings

EVER = 36_500.0
"""``prepare.recent_days`` for purchases without times: all of them are recent."""

LISTS: Mapping[str, float] = {"personal_recent": 0.0, "personal_due": 0.0}
"""What stands in each list of a user for what only times can give."""

OFF: Mapping[str, tuple[str, ...]] = {
    "prepare": (
        "no times: each user's purchases are in the order of {order}; equal rows are purchases again, none is dropped",
        "off without times: prepare.recent_days (all purchases count as recent) and purchases.duplicates",
    ),
    "train": ("off without times: recency; half-lives are of positions, and validation is on the last ones of users",),
    "recommend": ("off without times: cool-downs, due dates and recent rates; popular is what sold most of all time",),
    "hindsight": ("off without times: hindsight, for nothing says which purchases came since an earlier night",),
    "evaluate": ("off without times: evaluate.days and baselines of recent sales; cold items are those sold least",),
}
"""What is said below the line of each stage, and in the report."""


HELD_OUT = {
    "last": "the last position of each user is held out and unknown to the lists; with prepare.split = 'time' none is, "
    "and nothing is measured",
    "time": "nothing is held out, for prepare.split = 'time' asks for dates: all is learned from, nothing is measured",
}


def notes(settings: "Settings", stage: str) -> list[str]:
    """What a person must know of a stage whose purchases have no times; empty where they have."""
    if settings.timed:
        return []
    held = [HELD_OUT[settings.prepare.split]] if stage == "prepare" and settings.heldout is None else []
    return [*lines(settings.purchases.order, stage), *held]


def lines(order: str | None, *stages: str) -> list[str]:
    """What is said of some stages, all by default, where ``order`` orders the purchases: a column, or None for rows."""
    words = "files and rows" if order in (None, "row") else f"column {order!r}"
    return [line.format(order=words) for stage in stages or OFF for line in OFF[stage]]


def sections(settings: "Settings") -> dict[str, "Section"]:
    """The sections by name in which what goes by time is off.

    Raises ValueError where one asks for what only times can give.
    """
    prepare, recommend = settings.prepare, settings.recommend
    came = f"got purchases without times (purchases.order = {settings.purchases.order!r})"
    if recommend.bought in ("cooldown", "boost"):
        what = "days since a purchase" if recommend.bought == "cooldown" else "a user's own interval"
        raise ValueError(
            f'recommend.bought = "{recommend.bought}" goes by {what}, {came}: set "exclude", or "keep" to list bought '
            "items by how often they were bought"
        )
    named = {"recommend.model": [recommend.model], "publish.must_beat": settings.publish.must_beat}
    for key, names in named.items():
        if by_time := [name for name in names if name in BASELINES and BASELINES[name].by_time]:
            raise ValueError(f"{key} names {by_time[0]}, which goes by time, {came}: name another")
    baselines = tuple(name for name in settings.evaluate.baselines if not BASELINES[name].by_time)
    asked = settings.heldout is not None or "split" in prepare.model_fields_set
    split = prepare.split if asked else "last"
    return {
        "prepare": prepare.model_copy(update={"recent_days": EVER, "split": split}),
        "recommend": recommend.model_copy(update=LISTS),
        "evaluate": settings.evaluate.model_copy(update={"days": None, "baselines": baselines}),
    }
