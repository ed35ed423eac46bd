"""Tonight in plain words, and what changed since the version before as the page shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from topkin.report.browse.names import clean
from topkin.report.hindsight import Hindsight
from topkin.report.metrics_file import Metrics, protocol_scores
from topkin.report.wording import count, day, plural, share

REJECTS = 8
"""Reasons of rejects that are shown."""


def plain_verdict(metrics: Metrics, earlier: Hindsight | None, made_by: str | None) -> str:
    """Are the lists good, in a sentence or two without a term of the field."""
    verdict, lists = metrics["verdict"], f"The lists, made by {made_by}," if made_by else "The lists"
    if verdict["good"] is None:
        judged = None if earlier is None else earlier.verdict
        if judged is None:
            return "Whether these lists are good is not known yet: too little was bought since to tell."
        words = {
            True: "found what was bought since better than lists of what sells most, or of what each customer buys",
            False: "found what was bought since less well than a simple list would have",
            None: "were neither clearly better nor clearly worse than simple ones",
        }[judged["good"]]
        return f"The lists of {day(judged['as_of'])} {words}."
    n, beaten = len(metrics["beats"]), sum(metrics["beats"].values())
    if verdict["good"]:
        than = f"each of {n} simple methods" if n > 1 else "the simple method"
        sentence = f"{lists} find what customers buy next better than {than} that they were compared with."
    else:
        of = f"{beaten or 'none'} of {plural(n, 'simple method')} that they were compared with"
        sentence = f"{lists} are surely better than {of}, and should be better than all."
    return f"{sentence} {_hits(metrics)}".strip()


def _hits(metrics: Metrics) -> str:
    """Of a hundred users, how many bought from the first items of their list."""
    protocol, k = metrics["verdict"]["protocol"], metrics["verdict"]["metric"].partition("@")[2]
    scores = protocol_scores(metrics, protocol)
    of = [scores.get(name, {}).get(f"hit_rate@{k}") for name in ("model", "popularity")]
    if of[0] is None:
        return ""
    what = "bought something new to them" if protocol == "novel" else "bought again"
    sentence = (
        f"Of 100 customers who {what} afterwards, {100 * of[0]:.0f} bought one of the first {k} items of their list"
    )
    best = "" if of[1] is None else f"; a list of what sells most would have reached {100 * of[1]:.0f}"
    return f"{sentence}{best}."


def alarms(metrics: Metrics) -> list[str]:
    """What the measurements themselves warn of, a sentence each."""
    warnings = [*metrics.get("doubts", ()), (metrics.get("promise") or {}).get("alarm")]
    return [f"{text[0].upper()}{text[1:].rstrip('.')}." for text in warnings if text]


def change_section(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``changes.json`` as rows and sentences."""
    return {
        "since": day(changes["since"]) if changes["since"] else "the version before",
        "counts": [
            (_COUNTS.get(name, name), shown_number(was), shown_number(now), *change_words(was, now))
            for name, was, now in sorted(changes["counts"], key=lambda row: _ORDER.get(row[0], len(_ORDER)))
        ],
        "rejects": [(s, clean(why), share(was, 1), share(now, 1)) for s, why, was, now in changes["rejects"]][:REJECTS],
        "lists": _lists(changes["lists"]) if "lists" in changes else "",
        "ranks": changes.get("lists", {}).get("rank-biased overlap"),
        "known": _known(changes) if "items" in changes else "The ids are of another type: none is compared.",
        "items": [
            (title, changes["items"][key])
            for key, title in _ITEMS
            if changes.get("items", {}).get(key, {}).get("items")
        ],
        "movers": [(title, note, changes[key]) for key, title, note in MOVERS if changes.get(key, {}).get("items")],
    }


_COUNTS = {
    "rows of purchases": "rows of purchases read",
    "purchases": "purchases before the date",
    "purchases a day": "purchases a day, of late",
    "users": "customers",
    "items": "items",
}
_ORDER = {name: place for place, name in enumerate(_COUNTS)}
_ITEMS = (("new", "New in the catalogue"), ("gone", "Gone from the catalogue"))
MOVERS = (
    ("climbers", "Climbers", "in more lists than before"),
    ("fallers", "Fallers", "in fewer lists than before"),
    ("entering", "New in the lists", "in no list before"),
    ("leaving", "Gone from the lists", "in no list now"),
)


def _known(changes: Mapping[str, Any]) -> str:
    items = changes["items"]
    parts = [f"{plural(items['new']['items'], 'item is', 'items are')} new and {count(items['gone']['items'])} gone"]
    if users := changes.get("users"):
        parts.insert(0, f"{plural(users['new'], 'customer is', 'customers are')} new and {count(users['gone'])} gone")
    return f"{'; '.join(parts)}."


def _lists(lists: Mapping[str, Any]) -> str:
    if lists["overlap"] is None or not lists["users"]:
        return "No customer has a list in both versions."
    stayed = f"{lists['overlap'] * lists['k']:.1f} of the first {lists['k']} items of a customer's list stayed"
    users = plural(lists["users"], "customer")
    return f"On average {stayed} ({share(lists['overlap'], 1)}, over {users} with a list in both versions)."


def shown_number(value: float | None) -> str:
    """A count, or a dash for none."""
    return "–" if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def change_words(was: float | None, now: float | None) -> tuple[str, str]:
    """A change in words, and up, down or same."""
    if was is None or now is None or not was:
        return "–", "same"
    part = 100 * (now / was - 1)
    if now == was:
        return "as before", "same"
    text = f"{part:+.1f} %".replace("-", "−") if abs(part) >= 0.05 else f"under 0.1 % {'more' if part > 0 else 'fewer'}"
    return text, "up" if part > 0 else "down"


def settings_rows(values: Mapping[str, Any], before: str = "") -> Sequence[tuple[str, str]]:
    """Keys of a configuration with their values, by their dotted names."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += settings_rows(value, f"{before}{name}.")
        else:
            rows.append((f"{before}{name}", str(value)))
    return rows
