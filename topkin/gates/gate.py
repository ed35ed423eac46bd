"""A gate and its verdict, and the comparisons that most gates are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

PASSED: Literal["passed"] = "passed"
REFUSED: Literal["refused"] = "refused"
NOT_ASKED: Literal["not asked"] = "not asked"
NOTHING_LIVE = "nothing is live"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a gate found.

    Attributes:
        name: What it looks at.
        key: The key of ``[publish]`` that sets it.
        verdict: ``passed``, ``refused`` or ``not asked``.
        sentence: The figure, the limit and the outcome in words; why it was not asked.
        figure: What was measured; None where nothing was.
        limit: What the figure was held against.
        live: The same of the live version; None without one.
    """

    name: str
    key: str
    verdict: Literal["passed", "refused", "not asked"]
    sentence: str
    figure: float | None = None
    limit: float | None = None
    live: float | None = None


def count(value: float) -> str:
    """A count with thousands apart, with decimals where it is small."""
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:,.3g}"


def percent(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.3g} %"


def not_asked(name: str, key: str, why: str) -> Gate:
    """A gate that could not be asked."""
    return Gate(name=name, key=f"publish.{key}", verdict=NOT_ASKED, sentence=why)


def at_least(name: str, key: str, figure: float, limit: float, what: str, show: Callable[[float], str]) -> Gate:
    """A figure that must reach a limit. what: a sentence with {} for the figure."""
    fine = figure >= limit
    held = f"publish.{key} asks for {show(limit)}"
    return asked(name, key, fine, f"{what.format(show(figure))}; {held}", figure=figure, limit=limit)


def at_most(name: str, key: str, figure: float, limit: float, what: str, show: Callable[[float], str]) -> Gate:
    """A figure that must not be above a limit, likewise."""
    fine = figure <= limit
    held = f"publish.{key} allows {show(limit)}"
    return asked(name, key, fine, f"{what.format(show(figure))}; {held}", figure=figure, limit=limit)


def risen(
    name: str, key: str, figure: float | None, live: float | None, rise: float, what: str, why: str = NOTHING_LIVE
) -> Gate:
    """A share that must not be above the live version's by more than ``rise``; what: with {} for the share."""
    if figure is None or live is None:
        return not_asked(name, key, why)
    limit = live + rise
    sentence = f"{what.format(percent(figure))}, {percent(live)} in the live version; publish.{key} allows "
    sentence = f"{sentence}{percent(rise)} of all more"
    return asked(name, key, figure <= limit, sentence, figure=figure, limit=limit, live=live)


def as_many(
    name: str,
    figure: float | None,
    live: float | None,
    drop: float | Literal[False],
    growth: float | Literal[False],
    show: Callable[[float], str] = count,
    why: str = NOTHING_LIVE,
) -> Sequence[Gate]:
    """A count beside the live version's, by which it may be less (``max_drop``) or more (``max_growth``).

    None where both are false.
    """
    key = "max_drop" if drop is not False else "max_growth"
    if drop is False and growth is False:
        return []
    if figure is None or not live:
        return [not_asked(name, key, why)]
    change = figure / live - 1
    how = f"{percent(abs(change))} {'fewer' if change < 0 else 'more'} than the live version's {show(live)}"
    what = f"{show(figure)} {name}, {how if change else 'as many as in the live version'}"
    if growth is not False and (change > growth or drop is False):
        key, fine, limit, more = "max_growth", change <= growth, live * (1 + growth), f"{percent(growth)} more"
    else:
        key, fine, limit, more = "max_drop", -change <= drop, live * (1 - drop), f"{percent(drop)} fewer"
    sentence = f"{what}; publish.{key} allows {more}"
    return [asked(name, key, fine, sentence, figure=figure, limit=limit, live=live)]


def asked(
    name: str,
    key: str,
    fine: bool,
    sentence: str,
    *,
    figure: float | None = None,
    limit: float | None = None,
    live: float | None = None,
) -> Gate:
    """A gate that was asked."""
    verdict = PASSED if fine else REFUSED
    return Gate(
        name=name,
        key=f"publish.{key}",
        verdict=verdict,
        sentence=sentence,
        figure=figure,
        limit=limit,
        live=live,
    )
