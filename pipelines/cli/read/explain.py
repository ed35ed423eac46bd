"""``topkin explain``: why an item is in a user's list, or why it is not."""

import json
import shlex
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from rich.console import Console, Group, RenderableType
from rich.text import Text

from topkin.artifacts import lookup, schemas, storage
from topkin.artifacts.embeddings import SUMMARY, StoredItems, vectors_of
from topkin.artifacts.lookup import Id
from topkin.artifacts.runs import Run
from topkin.config.sections import recorded_settings
from topkin.encoding.blocks import Block
from topkin.encoding.reference import Reference
from topkin.errors import ConfigError
from topkin.ingest.sql import literal
from topkin.interactions import encode_ids
from topkin.models.data.purchase_weights import PurchaseWeights
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.read.query import query
from topkin.pipelines.cli.read.runs import run_of
from topkin.pipelines.cli.show import plain, plain_text
from topkin.pipelines.cli.terminal.tables import Sheet
from topkin.recommend.explain import ExplainableScores
from topkin.recommend.placement import Placement, placement

NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Explained:
    """An item for a user, with what else the run knows of both.

    bought: when each item of the shares was bought last, or its position. alike: the item's neighbours that the user
    bought, with their cosine. support: how many of the nearest users bought the item.
    """

    user_id: Id
    item: lookup.Item
    place: Placement
    bought: dict[Id, str]
    alike: list[tuple[lookup.Item, float]]
    support: int | None


def main(options: CommandOptions, user: str, item: str, run_id: str | None) -> None:
    """Explain and print. Raises ConfigError for a user or an item that the run does not know, with the nearest."""
    run = run_of(options, run_id)
    explained = explain(run, user, item)
    if options.json:
        place = explained.place
        value = {name: getattr(place, name) for name in _FIGURES} | {
            "user_id": explained.user_id,
            "item": explained.item,
            "listed": place.rank is not None,
            "list_length": place.listed,
            "shares": place.shares.to_pylist(),
            "alike": [{"item": i, "cosine": cosine} for i, cosine in explained.alike],
            "support": explained.support,
        }
        print(json.dumps({"run_id": run.run_id, **plain(value)}))  # type: ignore[dict-item]
    else:
        Console().print(_drawn(run, explained))


_FIGURES = ("rank", "score", "source", "why_not", "cosine", "place", "candidates")


def explain(run: Run, user: str, item: str) -> Explained:
    """What there is to say of an item for a user, both as they were typed."""
    user_type, item_type = lookup.id_types(run)
    if user_type is None:
        raise ConfigError(f"run {run.run_id} is of items alone, which has no lists: topkin show ITEM has neighbours")
    user_id = next(
        (i for i in lookup.possible_ids(user, user_type) if lookup.user_rows(run, "prepare", "histories", i)), None
    )
    if user_id is None:
        exchanged = any(lookup.items(run, [i], or_bare=False) for i in lookup.possible_ids(user, item_type))
        cure = (
            f", which is an item: the user comes first, as in topkin explain {shlex.quote(item)} {shlex.quote(user)}"
            if exchanged
            else _nearest(run, "histories", "user_id", user)
        )
        raise ConfigError(f"there is no user {user!r}{cure}")
    known = lookup.possible_ids(item, item_type)
    item_id = next((i for i in known if lookup.items(run, [i], or_bare=False)), None)
    if item_id is None:
        raise ConfigError(f"there is no item {item!r}{_nearest(run, 'catalogue', 'item_id', item)}")
    settings, folder = recorded_settings(run), run.folder("embed")
    catalogue = storage.read_parquet(lookup.table_path(run, "catalogue"))
    summary = storage.read_json(storage.join(folder, SUMMARY))
    stored, reference = StoredItems(folder, str(summary["encoder"])), Reference.read(folder)
    history = lookup.read_rows(run, "prepare", "histories", "user_id", [user_id])
    if (weights := PurchaseWeights.from_signature(summary)) is not None:
        history = weights.added(history)
    date = lookup.table_path(run, "recommendations").rpartition("/")[2]
    place = placement(
        catalogue=catalogue,
        settings=settings.recommend,
        as_of=run.as_of,
        history=history,
        listed=lookup.read_rows(run, "recommend", f"recommendations/{date}", "user_id", [user_id]),
        vector=vectors_of(lookup.read_rows(run, "embed", "users", "user_id", [user_id]))[0],
        scores=ExplainableScores(
            vectors=stored.column("vector"),
            in_vectors=stored.column("in_vector"),
            buyers=np.asarray((catalogue if reference is None else reference.counted(catalogue))["users"]),
            blocks=[Block.from_json(block) for block in summary["blocks"]],
            history_length=settings.embed.history_length,
        ),
        item=int(encode_ids(pa.array([item_id], item_type), catalogue["item_id"])[0]),
        timed=settings.timed,
    )
    view = lookup.user(run, user_id)
    assert view is not None, "its history is there"
    bought = {
        p.item.item_id: f"{p.time:%Y-%m-%d}" if p.time else f"position {p.position:,}" for p in view.history[::-1]
    }
    neighbours = lookup.item(run, item_id)
    alike = [(n.item, n.score) for n in (neighbours.neighbours if neighbours else ()) if n.item.item_id in bought]
    support = next((b.support for b in view.bought_by_neighbours if b.item.item_id == item_id), None)
    named = lookup.items(run, [item_id])[item_id]
    return Explained(user_id=user_id, item=named, place=place, bought=bought, alike=alike, support=support)


def _nearest(run: Run, table: str, column: str, text: str) -> str:
    """The ids that are spelled most like a text."""
    sql = f"SELECT {column} AS id FROM {table} ORDER BY levenshtein(CAST({column} AS VARCHAR), {literal(text)}), id"
    ids = [str(row["id"]) for row in query(run, f"{sql} LIMIT {NEAREST}")[1]]
    return f"; the nearest ids are {', '.join(ids)}" if ids else ""


def _drawn(run: Run, explained: Explained) -> RenderableType:
    place, name = explained.place, str(lookup.format_id(explained.user_id))
    titled = f"{lookup.format_id(explained.item.item_id)}{f'  {explained.item.title}' if explained.item.title else ''}"
    parts: list[RenderableType] = [Text.assemble((f"item {plain_text(titled)} for user {plain_text(name)}", "bold"))]
    if place.rank is not None:
        by = "by what sells, score" if place.source != schemas.SOURCES[0] else "score"
        parts.append(Text(f"rank {place.rank} of {place.listed}, {by} {place.score:.4g}"))
    else:
        parts.append(Text("not in the list, because"))
        parts += [Text(f"  - {reason}") for reason in place.why_not]
    if place.cosine is not None:
        where = (
            f", place {place.place:,} of the {place.candidates:,} items that the user may get" if place.place else ""
        )
        parts.append(Text(f"by the encoder: cosine {place.cosine:.4f}{where}"))
    if len(place.shares):
        items = lookup.items(run, place.shares["item_id"].to_pylist())
        sheet = Sheet("what speaks for it", ">share", "last bought", "item", "title")
        for row in place.shares.slice(0, 10).to_pylist():
            it = items[row["item_id"]]
            when = explained.bought.get(row["item_id"], row.get("event") or "")
            title = plain_text(it.title or "no title")
            sheet.add(f"{row['share']:.4f}", when, plain_text(str(lookup.format_id(it.item_id))), title)
        parts.append(sheet)
        if len(place.shares) > len(sheet.rows):
            parts.append(Text(f"and {len(place.shares) - len(sheet.rows):,} more"))
    for it, cosine in explained.alike[:5]:
        what = f"{lookup.format_id(it.item_id)}  {it.title or 'no title'}"
        parts.append(Text.assemble("alike and bought: ", plain_text(what), f" (cosine {cosine:.3f})"))
    if explained.support:
        parts.append(Text(f"bought by {explained.support:,} of the nearest users"))
    return Group(*parts)
