"""What the page's script asks for, as the page's own content has it: hits of a search, a user, an item."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from topkin.artifacts import lookup
from topkin.artifacts.lookup import Item, RankedItem
from topkin.artifacts.runs import Run
from topkin.config.shop.events import done_with
from topkin.report.browse.names import clean, show_id

HITS, HISTORY = 20, 50
"""Titles that a search finds and items of a history that are told, at most."""
Record = dict[str, Any]


def hits(run: Run, text: str) -> list[Record]:
    """What a text may mean: a user's id, an item's id, words of a title, or of titles near it."""
    match = lookup.find(run, text, most=HITS)
    users = [] if match.user_id is None else [{"kind": "user", "id": show_id(match.user_id), "title": ""}]
    own = [] if match.item_id is None else list(lookup.items(run, [match.item_id]).values())
    items = {item.item_id: item for item in (*own, *match.titles, *match.nearest)}
    return users + [{"kind": "item", **_item(item)} for item in items.values()]


def user(run: Run, text: str) -> Record | None:
    """A user by the text of the id; None where the run has none."""
    kind, _ = lookup.id_types(run)
    ids = [] if kind is None else lookup.possible_ids(text, kind)
    view = next((view for i in ids if (view := lookup.user(run, i)) is not None), None)
    if view is None:
        return None
    types = lookup.statistics(run).get("event_types", {})
    times = Counter(p.item.item_id for p in view.history)
    latest = {p.item.item_id: p for p in reversed(view.history)}  # the latest is the last one in, and stays
    shown = list(dict.fromkeys(p.item.item_id for p in view.history))[:HISTORY]
    return {
        "id": show_id(view.user_id),
        "segment": None if view.segment is None else clean(view.segment),
        "purchases": len(view.history),
        "later": 0,
        "history": [{**_item(latest[i].item), "times": times[i], "last": _day(latest[i].time)} for i in shown],
        "list": [_listed(ranked, types) for ranked in view.recommendations],
        "near": [{"id": show_id(i), "score": _score(score)} for i, score in view.neighbours],
    }


def item(run: Run, text: str) -> Record | None:
    """An item by the text of the id; None where the catalogue has none."""
    _, kind = lookup.id_types(run)
    view = next((view for i in lookup.possible_ids(text, kind) if (view := lookup.item(run, i)) is not None), None)
    if view is None:
        return None
    it = view.item
    facts = [f"sold {it.events:,} times to {it.users:,} customers"] if lookup.has_users(run) else []
    facts += [f"{name} {clean(value)}" for name, value in (("label", it.label), ("category", it.category)) if value]
    facts += [f"price {it.price:g}"] if it.price is not None else []
    facts += [] if it.available else ["not available"]
    near = [{**_item(ranked.item), "score": _score(ranked.score)} for ranked in view.neighbours]
    return {**_item(it), "told": facts, "more": [], "near": near}


def _item(of: Item) -> Record:
    return {"id": show_id(of.item_id), "title": clean(of.title or "")}


def _listed(ranked: RankedItem, types: Mapping[str, Mapping[str, Any]]) -> Record:
    done = ranked.because_events or [None] * len(ranked.because)
    because = [
        (clean(b.title or "") or show_id(b.item_id)) + done_with(event, types)
        for b, event in zip(ranked.because, done, strict=True)
    ]
    columns = {"score": _score(ranked.score), "source": ranked.source or "model", "bought": ranked.times_bought or 0}
    return {**_item(ranked.item), **columns, "later": 0, "because": because}


def _day(time: datetime | None) -> str | None:
    return None if time is None else f"{time.day} {time:%b %Y}"


def _score(score: float) -> float:
    return round(score, 3)
