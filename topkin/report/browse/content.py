"""The users and items that can be looked up in a page, as compact JSON that its script draws on demand.

Everything by item or user is a list in the order of the sample; an item is a number in it, or from its end on one of
``named``, whose ids and titles alone are held.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts.lookup import Id
from topkin.config.shop.events import done_with
from topkin.report.browse.item_map import ItemMap, map_items
from topkin.report.browse.names import Titles, clean, show_id
from topkin.report.browse.sample import ITEMS, USERS, People, sample_items
from topkin.report.wording import plural

LIMIT = 6_000_000
"""Bytes of the JSON; fewer users and items are held where they would take more."""
HISTORY = 15
"""Items of a history, the latest, that are held."""
FEATURES, FEATURE = 6, 80
"""Other columns of an item that are held, and characters of each."""


@dataclass(frozen=True, kw_only=True)
class PageContent:
    """What can be looked up: the JSON, how much of all it holds, and what the map keeps; ``map`` None without one.

    pictures: by item, the addresses that hold them.
    """

    script: str
    users: int
    items: int
    map: ItemMap | None
    pictures: Mapping[Id, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the content is made of.

    catalogue: item_id, title and further columns of ``schemas.catalogue`` that there are. vectors: gives those of some
    rows of it, (n,) int, as unit rows (n, dim), zero for none. neighbours: gives ``schemas.similar_items`` of some ids;
    None where they were not made. people: of a run over purchases. types: ``event_types`` of statistics.json. pictures:
    gives the addresses that hold pictures of some ids.
    """

    catalogue: pa.Table
    vectors: Callable[[np.ndarray], np.ndarray]
    neighbours: Callable[[pa.Array], pa.Table | None]
    people: People | None = None
    timed: bool = True
    types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Callable[[pa.Array], Mapping[Id, str]] | None = None


def content(source: Source, *, users: int = USERS, items: int = ITEMS, limit: int = LIMIT) -> PageContent:
    """At most so many users and items, fewer of both where they take more than ``limit`` bytes."""
    while True:
        people = None if source.people is None else source.people.least(users)
        held, drawn, pictures = _items(source, people, items)
        script = script_json(held)
        size = len(script.encode())
        if size <= limit or max(users, items) <= 1:
            n = 0 if people is None else len(people.histories)
            return PageContent(script=script, users=n, items=len(held["items"]["id"]), map=drawn, pictures=pictures)
        share = 0.9 * limit / size
        users, items = max(1, int(users * share)), max(1, int(items * share))


def held(content: PageContent, statistics: Mapping[str, Any]) -> str:
    """What the page holds to be looked up, and by which rule."""
    sides, cut = [], False
    for n, name, noun, rule in (
        (content.users, "users", "customer", "drawn by a hash of their ids, the same from night to night"),
        (content.items, "items", "item", "the best sold, and a fifth drawn by a hash of their ids"),
    ):
        if (whole := statistics.get(name)) is not None:
            cut |= n < whole
            sides.append(f"{n:,} of {plural(whole, noun)} ({rule})" if n < whole else f"all {plural(whole, noun)}")
    pictures = f" Pictures of {plural(len(content.pictures), 'item')} are in it, the best sold first."
    return (
        f"The page holds {' and '.join(sides)}."
        + (pictures if content.pictures else "")
        + (" topkin serve and topkin show know every other one." if cut else "")
    )


def script_json(value: object) -> str:
    """JSON that may stand in a ``script`` element whatever texts it holds, and that stays JSON where credentials in it
    are masked: no character that HTML knows, no quote but those around texts.
    """
    text = re.sub(r"\\(.)", lambda m: "\\u0022" if m[1] == '"' else m[0], json.dumps(value, **_COMPACT))
    for c in "<>&'\u2028\u2029":
        text = text.replace(c, f"\\u{ord(c):04x}")
    return text


_COMPACT: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}


class _Numbers:
    """The numbers of items by id: those of the sample, then others as they come."""

    def __init__(self, ids: Sequence[Id]) -> None:
        self._of = {item: n for n, item in enumerate(ids)}
        self.others: list[Id] = []

    def __call__(self, item: Id) -> int:
        if item not in self._of:
            self._of[item] = len(self._of)
            self.others.append(item)
        return self._of[item]


def _items(source: Source, people: People | None, most: int) -> tuple[dict[str, Any], ItemMap | None, Mapping[Id, str]]:
    catalogue, names = source.catalogue, Titles(source.catalogue)
    rows = sample_items(catalogue, most)
    taken = catalogue.take(pa.array(rows))
    ids = taken["item_id"].to_pylist()
    number = _Numbers(ids)
    vectors = source.vectors(rows)
    known = np.flatnonzero(vectors.any(axis=1))
    filled = [c for c in ("category", "label") if c in taken.column_names and taken[c].null_count < len(taken)]
    group_by = filled[0] if filled else None
    groups = (
        [None if t is None else clean(t, 60) for t in taken[group_by].to_pylist()] if group_by else [None] * len(ids)
    )
    events = np.asarray(taken["events"]) if "events" in taken.column_names else np.zeros(len(taken), np.int64)
    drawn = map_items(vectors[known], [groups[i] for i in known], events[known])
    words = {word: n for n, word in enumerate(dict.fromkeys(g for g in groups if g))}
    columns: dict[str, Any] = {
        "id": [show_id(i) for i in ids],
        "title": [names.own(row) for row in rows],
        "group": [words.get(g or "", -1) for g in groups],
        "near": _neighbours(source.neighbours(taken["item_id"].combine_chunks()), ids, number),
    }
    for name in ("events", "users", "recent"):
        if name in taken.column_names:
            columns[name] = taken[name].to_pylist()
    if "price" in taken.column_names and taken["price"].null_count < len(taken):
        columns["price"] = [None if p is None or p != p else float(f"{p:.6g}") for p in taken["price"].to_pylist()]
    if "available" in taken.column_names:
        columns["gone"] = [n for n, there in enumerate(taken["available"].to_pylist()) if not there]
    if "features" in taken.column_names:
        columns["more"] = [_features(row) for row in taken["features"].to_pylist()]
    pictures = {} if source.pictures is None else source.pictures(taken["item_id"].combine_chunks())
    if pictures:
        columns["picture"] = [pictures.get(i, 0) for i in ids]
    held: dict[str, Any] = {"kind": group_by or "category", "groups": list(words), "items": columns}
    if drawn is not None:
        held["map"] = _placed(drawn, known)
    if people is not None:
        held |= {"users": _users(people, number, source), "timed": source.timed}
    held["named"] = {"id": [show_id(i) for i in number.others], "title": []}
    held["named"]["title"] = [names.own(row) if row >= 0 else "" for row in names.rows(number.others)]
    return held, drawn, pictures


def _features(row: Mapping[str, Any] | None) -> list[str]:
    """Name and value of an item's features, as texts."""
    texts: list[str] = []
    for name, value in (row or {}).items():
        if value is not None and value != [] and len(texts) < FEATURES:
            text = (
                " ".join(map(str, value))
                if isinstance(value, list)
                else f"{value:g}"
                if isinstance(value, float)
                else str(value)
            )
            texts.append(clean(f"{name}: {text}", FEATURE))
    return texts


def _placed(drawn: ItemMap, known: np.ndarray) -> dict[str, Any]:
    """The map: its items by their numbers, and their places, thousandths of its wider side from its lower left."""
    low = drawn.points.min(axis=0)
    widest = max(float((drawn.points.max(axis=0) - low).max()), 1e-12)
    places = np.rint((drawn.points - low) / widest * 1000).astype(int)
    return {
        "item": known.tolist(),
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
        "group": drawn.groups.tolist(),
        "names": list(drawn.names),
        "ordered": drawn.ordered,
        "rest": drawn.rest,
    }


def _neighbours(own: pa.Table | None, ids: Sequence[Id], number: _Numbers) -> list[list[float]]:
    """For each item its neighbours and their cosines, one after the other."""
    near: dict[Id, list[float]] = {}
    if own is not None:
        columns = (own[name].to_pylist() for name in ("item_id", "neighbour_id", "score"))
        for item, neighbour, score in zip(*columns, strict=True):
            near.setdefault(item, []).extend((number(neighbour), round(score, 3)))
    return [near.get(item, []) for item in ids]


def _users(people: People, number: _Numbers, source: Source) -> dict[str, Any]:
    histories = people.histories
    ids = histories["user_id"].to_pylist()
    at = {user: n for n, user in enumerate(ids)}
    later: dict[Id, set[Id]] = {}
    for user, item in zip(people.heldout["user_id"].to_pylist(), people.heldout["item_id"].to_pylist(), strict=True):
        later.setdefault(user, set()).add(item)
    sources: dict[str, int] = {}
    lists: list[list[list[Any]]] = [[] for _ in ids]
    for row in people.listed.to_pylist():
        user, item = row["user_id"], row["item_id"]
        because = [number(b) for b in row["because"] or ()]
        of = sources.setdefault(row["source"], len(sources))
        line = [
            number(item),
            round(row["score"], 3),
            of,
            row["times_bought"],
            int(item in later.get(user, ())),
            because,
        ]
        events = row.get("because_events")
        lists[at[user]].append([*line, [done_with(e, source.types) for e in events]] if events else line)
    segments = [None if s is None else clean(s, 60) for s in histories["segment"].to_pylist()]
    kinds = {s: n for n, s in enumerate(dict.fromkeys(s for s in segments if s))}
    users: dict[str, Any] = {
        "id": [show_id(i) for i in ids],
        "segment": [kinds.get(s or "", -1) for s in segments],
        "segments": list(kinds),
        "purchases": pc.list_value_length(histories["items"]).to_pylist(),
        "history": [
            _history(items, times, number, timed=source.timed)
            for items, times in zip(histories["items"].to_pylist(), _times(histories), strict=True)
        ],
        "list": lists,
        "sources": list(sources),
        "later": [len(later.get(i, ())) for i in ids],
    }
    if people.near is not None:
        near: list[list[Any]] = [[] for _ in ids]
        columns = (people.near[name].to_pylist() for name in ("user_id", "neighbour_id", "score"))
        for user, neighbour, score in zip(*columns, strict=True):
            near[at[user]].extend((at.get(neighbour, show_id(neighbour)), round(score, 3)))
        users["near"] = near
    return users


def _times(histories: pa.Table) -> list[list[int]]:
    """The times of each history in days since 1970."""
    flat = np.asarray(pc.list_flatten(histories["times"])).astype("datetime64[D]").astype(int)
    ends = np.cumsum(np.asarray(pc.list_value_length(histories["times"])))
    return [part.tolist() for part in np.split(flat, ends[:-1])] if len(ends) else []


def _history(items: Sequence[Id], days: Sequence[int], number: _Numbers, *, timed: bool) -> list[list[int]]:
    """The latest items of a history: number, how often it was bought and, with times, the day of the last time."""
    times, last = Counter(items), dict(zip(items, days, strict=True))  # in time order: the last one stays
    latest = list(dict.fromkeys(reversed(items)))[:HISTORY]
    return [[number(i), times[i], last[i]] if timed else [number(i), times[i]] for i in latest]
