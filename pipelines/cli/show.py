"""``topkin show``: a user's history and recommendations, or an item's neighbours, as tables or JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime

from rich.console import Console, Group, RenderableType
from rich.text import Text

from topkin.artifacts import lookup
from topkin.artifacts.lookup import Id, Item, Match, RankedItem
from topkin.artifacts.runs import Run
from topkin.config.shop.events import done_with
from topkin.errors import ConfigError
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.read.runs import run_of
from topkin.pipelines.cli.terminal.tables import Sheet

HISTORY = 12  # purchases shown
NEIGHBOURS = 5  # items that people alike bought, shown
LONGEST = 120  # characters of an id or a title, shown


def main(options: CommandOptions, words: Sequence[str], *, user: bool, item: bool, run_id: str | None) -> None:
    """Show what the words mean in the published run. Raises ConfigError where they mean nothing."""
    if user and item:
        raise ConfigError("--user and --item exclude each other: an id is one or the other")
    run = run_of(options, run_id)
    text = " ".join(words)
    match = lookup.find(run, text)
    if not item and match.user_id is not None:
        view: object = lookup.user(run, match.user_id)
        drawn: RenderableType = show_user(run, match.user_id)
    elif not user and (item_id := _one_item(match, text)) is not None:
        view = lookup.item(run, item_id)
        drawn = show_item(run, item_id)
    elif not user and match.titles:
        view, drawn = match.titles, _candidates(match.titles)
    else:
        raise ConfigError(_unknown(text, match, "user" if user else "item" if item else "user or item"))
    if options.json:
        print(json.dumps({"run_id": run.run_id, _name(view): plain(view)}))
    else:
        Console().print(drawn)


def show_user(run: Run, user_id: Id) -> RenderableType:
    """A user's history, recommendations and what people alike bought. Raises ConfigError for an unknown user."""
    view = lookup.user(run, user_id)
    if view is None:
        raise ConfigError(f"run {run.run_id} knows no user {lookup.format_id(user_id)!r}")
    n = len(view.history)
    parts: list[RenderableType] = []
    who = f"user {plain_text(str(lookup.format_id(user_id)))}{f', {plain_text(view.segment)}' if view.segment else ''}"
    bought = "bought" if all(p.time for p in view.history) else "position"
    cut = f", the last {HISTORY}" if n > HISTORY else ""
    history = Sheet(f"{who}: {n:,} purchase{'' if n == 1 else 's'}{cut}", bought, "item", "title", ">pieces")
    for p in view.history[:HISTORY]:
        when = f"{p.time:%Y-%m-%d}" if p.time else f"{p.position:,}"
        history.add(when, _id(p.item), _title(p.item), f"{p.quantity:g}")
    parts.append(history)
    types = lookup.statistics(run).get("event_types", {})
    lists: list[tuple[str, lookup.UserView | lookup.OtherList]] = [("", view), *(view.lists or {}).items()]
    for name, list_ in lists:
        what = f"recommendations {name}".strip()
        by = "" if list_.model in (None, "encoder") else f" by {list_.model}"
        parts.append(_listed(what + by, list_.recommendations, types) or Text(_none(run, "recommend", what)))
        if list_.short:
            parts.append(Text(f"the list {name} is short: {_short(list_.short)}".replace("  ", " "), style="yellow"))
    if view.bought_by_neighbours:
        alike = Sheet("bought by people alike", ">rank", "item", "title", ">bought by")
        for r in view.bought_by_neighbours[:NEIGHBOURS]:
            alike.add(str(r.rank), _id(r.item), _title(r.item), str(r.support))
        parts.append(alike)
    return Group(*parts)


def _listed(title: str, ranked: Sequence[RankedItem], types: Mapping[str, Mapping[str, object]]) -> Sheet | None:
    """A list with its reasons; None for one without items. types: ``event_types`` of statistics.json."""
    listed = Sheet(title, ">rank", "item", "title", ">score", "source", "because")
    for r in ranked:
        done = [done_with(event, types) for event in r.because_events or [None] * len(r.because)]
        named = [_title(b) if b.title else _id(b) for b in r.because]
        reasons = Text("; ").join(reason + Text(did) for reason, did in zip(named, done, strict=True))
        if r.times_bought:
            reasons = Text(f"bought {r.times_bought:,} time{'' if r.times_bought == 1 else 's'}")
        listed.add(str(r.rank), _id(r.item), _title(r.item), f"{r.score:.3f}", r.source or "", reasons)
    return listed if ranked else None


def show_item(run: Run, item_id: Id) -> RenderableType:
    """An item and its neighbours. Raises ConfigError for an unknown item."""
    view = lookup.item(run, item_id)
    if view is None:
        raise ConfigError(f"run {run.run_id} knows no item {lookup.format_id(item_id)!r}")
    it = view.item
    recently = f", {it.recent:,} recently" if it.last_sale or not it.events else ""
    sold = lookup.has_users(run)
    facts = [f"sold {it.events:,} times to {it.users:,} users{recently}"] if sold else []
    facts += [f"label {plain_text(it.label)}"] if it.label is not None else []
    facts += [f"category {plain_text(it.category)}"] if it.category else []
    facts += [f"price {it.price:g}"] if it.price is not None else []
    facts += [f"last sold {it.last_sale:%Y-%m-%d}"] if it.last_sale else []
    facts += [] if it.available else ["not available"]
    drawn = Sheet("neighbours", ">rank", "item", "title", ">score", ">sold" if sold else "label")
    for r in view.neighbours:
        last = f"{r.item.events:,}" if sold else plain_text(r.item.label or "")
        drawn.add(str(r.rank), _id(r.item), _title(r.item), f"{r.score:.3f}", last)
    head = Text(f"item {_id(it)}  {_title(it)}", style="bold")
    parts = [head, Text(", ".join(facts)), drawn if view.neighbours else Text(_none(run, "similar", "neighbours"))]
    if view.bundles:
        together = Sheet("bought together", ">rank", "item", "title", ">lift", ">baskets")
        for r in view.bundles:
            together.add(str(r.rank), _id(r.item), _title(r.item), f"{r.score:.3g}", f"{r.support:,}")
        parts.append(together)
    return Group(*parts)


def _none(run: Run, stage: str, what: str) -> str:
    return f"no {what}" if stage in run.folders else f"no {what} yet: topkin {stage} makes them"


def plain(value: object) -> object:
    """A view as JSON can hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bytes):
        return lookup.format_id(value)
    if isinstance(value, float):
        return float(f"{value:.7g}")  # all that a float32 holds
    return value.isoformat() if isinstance(value, datetime | date) else value


def _one_item(match: Match, text: str) -> Id | None:
    """The one item that is meant: by its id, as the only title, or by its whole title."""
    if match.item_id is not None:
        return match.item_id
    whole = [i for i in match.titles if i.title is not None and i.title.strip().lower() == text.strip().lower()]
    only = whole or list(match.titles)
    return only[0].item_id if len(only) == 1 else None


def _name(view: object) -> str:
    return {lookup.UserView: "user", lookup.ItemView: "item"}.get(type(view), "candidates")


def _candidates(items: Sequence[Item]) -> RenderableType:
    drawn = Sheet("several titles have these words: name one by its id", "item", "title", ">sold")
    for i in items:
        drawn.add(_id(i), _title(i), f"{i.events:,}")
    return drawn


def _unknown(text: str, match: Match, what: str) -> str:
    fault = f"there is no {what} {str(plain_text(text))!r}"
    if text.startswith("-"):
        return f"{fault}, and no option of that name: topkin show --help lists them; an id that is one goes behind --"
    if near := match.nearest or match.titles:
        listed = "\n".join(f"  {_id(i)}  {_title(i)}" for i in near)
        return f"{fault}; the nearest titles are\n{listed}"
    return f"{fault}, and no title is near it: give an id of the tables as it stands there, or a word of a title"


def _short(row: Mapping[str, object]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.items() if k != "user_id")


def _id(item: Item) -> Text:
    return plain_text(str(lookup.format_id(item.item_id)))


def _title(item: Item) -> Text:
    return plain_text(item.title) if item.title else Text("no title", style="dim")


def plain_text(text: str) -> Text:
    """A text of the data as a terminal may see it: no markup, nothing that moves the cursor, of bounded length."""
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut))
