"""``topkin show``: a user's history and recommendations, or an item's neighbours, as tables or JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from topkin.artifacts import lookup, runs
from topkin.artifacts.lookup import Id, Item, Match
from topkin.artifacts.runs import Run
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.cli.commands import CommandOptions

HISTORY = 12  # purchases shown
NEIGHBOURS = 5  # items that people alike bought, shown
LONGEST = 120  # characters of an id or a title, shown


def main(options: CommandOptions, words: Sequence[str], *, user: bool, item: bool, run_id: str | None) -> None:
    """Show what the words mean in the published run. Raises ConfigError where they mean nothing."""
    if user and item:
        raise ConfigError("--user and --item exclude each other: an id is one or the other")
    run = shown_run(options.run_settings().run.output, run_id)
    text = " ".join(words)
    found = lookup.find(run, text)
    if not item and found.user_id is not None:
        view: object = lookup.user(run, found.user_id)
        drawn: RenderableType = show_user(run, found.user_id)
    elif not user and (item_id := _one_item(found, text)) is not None:
        view = lookup.item(run, item_id)
        drawn = show_item(run, item_id)
    elif not user and found.titles:
        view, drawn = found.titles, _candidates(found.titles)
    else:
        raise ConfigError(_unknown(text, found, "user" if user else "item" if item else "user or item"))
    if options.json:
        print(json.dumps({"run_id": run.run_id, _name(view): plain(view)}))
    else:
        Console().print(drawn)


def shown_run(root: str, run_id: str | None) -> Run:
    """The run by its name, else the published one, else the newest that has prepared tables."""
    known = runs.run_ids(root)
    if run_id is not None:
        if run_id not in known:
            raise ConfigError(f"there is no run {run_id!r} in {root}; it has {', '.join(known) or 'none'}")
        return runs.read_run(root, run_id)
    if (current := runs.published(root)) is not None:
        return current
    for name in reversed(known):
        if "prepare" in (run := runs.read_run(root, name)).folders:
            return run
    raise ArtifactError(f"{root} has no finished run to show: topkin run makes one")


def show_user(run: Run, user_id: Id) -> RenderableType:
    """A user's history, recommendations and what people alike bought. Raises ConfigError for an unknown user."""
    view = lookup.user(run, user_id)
    if view is None:
        raise ConfigError(f"run {run.run_id} knows no user {lookup.format_id(user_id)!r}")
    n = len(view.history)
    parts: list[RenderableType] = []
    who = f"user {_plain(str(lookup.format_id(user_id)))}{f', {_plain(view.segment)}' if view.segment else ''}"
    bought = "bought" if all(p.time for p in view.history) else "position"
    cut = f", the last {HISTORY}" if n > HISTORY else ""
    history = _table(f"{who}: {n:,} purchase{'' if n == 1 else 's'}{cut}", bought, "item", "title", ">pieces")
    for p in view.history[:HISTORY]:
        when = f"{p.time:%Y-%m-%d}" if p.time else f"{p.position:,}"
        history.add_row(when, _id(p.item), _title(p.item), f"{p.quantity:g}")
    parts.append(history)
    made = "recommendations" if view.model == "encoder" else f"recommendations by {view.model}"
    listed = _table(made, ">rank", "item", "title", ">score", "source", "because")
    for r in view.recommendations:
        reasons = Text("; ").join(_title(b) if b.title else _id(b) for b in r.because)
        if r.times_bought:
            reasons = Text(f"bought {r.times_bought:,} time{'' if r.times_bought == 1 else 's'}")
        listed.add_row(str(r.rank), _id(r.item), _title(r.item), f"{r.score:.3f}", r.source, reasons)
    parts.append(listed if view.recommendations else Text(_none(run, "recommend", "recommendations")))
    if view.short:
        parts.append(Text(f"the list is short: {_short(view.short)}", style="yellow"))
    if view.bought_by_neighbours:
        alike = _table("bought by people alike", ">rank", "item", "title", ">bought by")
        for r in view.bought_by_neighbours[:NEIGHBOURS]:
            alike.add_row(str(r.rank), _id(r.item), _title(r.item), str(r.support))
        parts.append(alike)
    return Group(*parts)


def show_item(run: Run, item_id: Id) -> RenderableType:
    """An item and its neighbours. Raises ConfigError for an unknown item."""
    view = lookup.item(run, item_id)
    if view is None:
        raise ConfigError(f"run {run.run_id} knows no item {lookup.format_id(item_id)!r}")
    it = view.item
    recently = f", {it.recent:,} recently" if it.last_sale or not it.events else ""
    sold = lookup.has_users(run)
    told = [f"sold {it.events:,} times to {it.users:,} users{recently}"] if sold else []
    told += [f"label {_plain(it.label)}"] if it.label is not None else []
    told += [f"category {_plain(it.category)}"] if it.category else []
    told += [f"price {it.price:g}"] if it.price is not None else []
    told += [f"last sold {it.last_sale:%Y-%m-%d}"] if it.last_sale else []
    told += [] if it.available else ["not available"]
    drawn = _table("neighbours", ">rank", "item", "title", ">score", ">sold" if sold else "label")
    for r in view.neighbours:
        last = f"{r.item.events:,}" if sold else _plain(r.item.label or "")
        drawn.add_row(str(r.rank), _id(r.item), _title(r.item), f"{r.score:.3f}", last)
    head = Text(f"item {_id(it)}  {_title(it)}", style="bold")
    return Group(head, Text(", ".join(told)), drawn if view.neighbours else Text(_none(run, "similar", "neighbours")))


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


def _one_item(found: Match, text: str) -> Id | None:
    """The one item that is meant: by its id, as the only title, or by its whole title."""
    if found.item_id is not None:
        return found.item_id
    whole = [i for i in found.titles if i.title is not None and i.title.strip().lower() == text.strip().lower()]
    only = whole or list(found.titles)
    return only[0].item_id if len(only) == 1 else None


def _name(view: object) -> str:
    return {lookup.UserView: "user", lookup.ItemView: "item"}.get(type(view), "candidates")


def _candidates(items: Sequence[Item]) -> RenderableType:
    drawn = _table("several titles have these words: name one by its id", "item", "title", ">sold")
    for i in items:
        drawn.add_row(_id(i), _title(i), f"{i.events:,}")
    return drawn


def _unknown(text: str, found: Match, what: str) -> str:
    said = f"there is no {what} {str(_plain(text))!r}"
    if text.startswith("-"):
        return f"{said}, and no option of that name: topkin show --help lists them; an id that is one goes behind --"
    if near := found.nearest or found.titles:
        listed = "\n".join(f"  {_id(i)}  {_title(i)}" for i in near)
        return f"{said}; the nearest titles are\n{listed}"
    return f"{said}, and no title is near it: give an id of the tables as it stands there, or a word of a title"


def _short(row: Mapping[str, object]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.items() if k != "user_id")


def _table(title: str, *columns: str) -> Table:
    """An empty table; a column that begins with > is aligned to the right."""
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    return table


def _id(item: Item) -> Text:
    return _plain(str(lookup.format_id(item.item_id)))


def _title(item: Item) -> Text:
    return _plain(item.title) if item.title else Text("no title", style="dim")


def _plain(text: str) -> Text:
    """A text of the data as a terminal may see it: no markup, nothing that moves the cursor, of bounded length."""
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return Text("".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut))
