"""Looking one user or one item up in a run's tables, reading no more of them than that takes.

A user's rows lie in one part file (:mod:`topkin.artifacts.partition`), sorted, so that the statistics of its row
groups lead to them; ranked rows lie in the order of their ranks. Ids are typed as texts and read as the table's type.
"""

import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts import schemas, storage
from topkin.artifacts.partition import partition_of
from topkin.artifacts.runs import LISTS, Run, list_folder, list_names
from topkin.errors import ArtifactError, nearest_name

Id = int | str | bytes
TABLES = {
    "events": ("prepare", "events"),
    "heldout": ("prepare", "heldout"),
    "histories": ("prepare", "histories"),
    "catalogue": ("prepare", "catalogue.parquet"),
    "rejects": ("prepare", "rejects"),
    "item_embeddings": ("embed", "items"),
    "user_embeddings": ("embed", "users"),
    "recommendations": ("recommend", "recommendations"),
    "short_lists": ("recommend", "short_lists"),
    "similar_items": ("similar", "similar_items"),
    "bundles": ("similar", "bundles.parquet"),
    "similar_users": ("similar", "similar_users"),
    "neighbours_bought": ("similar", "neighbours_bought"),
}
"""Each table of a run by name: its stage, and its place in the stage's folder."""
OF_A_LIST = ("recommendations", "short_lists")
"""The tables that a list of ``[lists]`` has too, under ``lists/NAME/``."""
_PART = re.compile(r"part-(\d+)-of-(\d+)\.parquet$")


@dataclass(frozen=True)
class Item:
    """An item as the catalogue has it; ``title`` is None where there is none, as is what a run does not know."""

    item_id: Id
    title: str | None = None
    category: str | None = None
    price: float | None = None
    available: bool = True
    events: int = 0
    users: int = 0
    recent: int = 0
    first_sale: datetime | None = None
    last_sale: datetime | None = None
    label: str | None = None


@dataclass(frozen=True)
class RankedItem:
    """A ranked item with what is known of the ranking.

    ``because_events``: what the user did with each item of ``because``, where that need not be a purchase.
    """

    rank: int
    item: Item
    score: float
    source: str | None = None
    because: tuple[Item, ...] = ()
    because_events: tuple[str | None, ...] = ()
    support: int | None = None
    times_bought: int | None = None


@dataclass(frozen=True)
class Purchase:
    """One purchase of a history; without times it has a ``position``, from 1, in the user's order."""

    time: datetime | None
    item: Item
    quantity: float
    position: int | None = None


@dataclass(frozen=True)
class OtherList:
    """A list of ``[lists]`` of a user: as the fields of :class:`UserView` by these names."""

    recommendations: tuple[RankedItem, ...]
    short: dict[str, Any] | None
    model: str | None


@dataclass(frozen=True)
class UserView:
    """All that a run knows of a user; ``history`` is latest first, ``short`` is why a list is short.

    ``model``: what made the recommendations, ``encoder`` or a baseline; None where there are none yet. ``lists``: by
    name, where there are others than that of ``[recommend]``.
    """

    user_id: Id
    segment: str | None
    history: tuple[Purchase, ...]
    recommendations: tuple[RankedItem, ...]
    short: dict[str, Any] | None = None
    neighbours: tuple[tuple[Id, float], ...] = ()
    bought_by_neighbours: tuple[RankedItem, ...] = ()
    model: str | None = None
    lists: dict[str, OtherList] | None = None


@dataclass(frozen=True)
class ItemView:
    """An item, its neighbours, and what is bought together with it, whose score is the lift."""

    item: Item
    neighbours: tuple[RankedItem, ...] = ()
    bundles: tuple[RankedItem, ...] = ()


@dataclass(frozen=True)
class Match:
    """What words may mean: a user, an item, items by title (best sold first)."""

    user_id: Id | None = None
    item_id: Id | None = None
    titles: tuple[Item, ...] = ()
    nearest: tuple[Item, ...] = field(default=())


def tables(run: Run) -> tuple[str, ...]:
    """The names of the tables that a run has."""
    places = {n: storage.join(run.folders[stage], at) for n, (stage, at) in TABLES.items() if stage in run.folders}
    others = list_names(run.folders["recommend"]) if "recommend" in run.folders else []
    named = [name for name, place in places.items() if storage.exists(place)]
    return *named, *(f"{LISTS}/{other}/{table}" for other in others for table in OF_A_LIST)


def stage_of(name: str) -> str:
    """The stage that makes a table. Raises ValueError for a name of none."""
    above, _, table = name.rpartition("/")
    if table not in TABLES or (above and table not in OF_A_LIST):
        raise ValueError(f"a run's tables are {', '.join(TABLES)} and those of {LISTS}/, got {name!r}")
    return TABLES[table][0]


def table_path(run: Run, name: str) -> str:
    """The file or the folder of a table. Raises ValueError for a name of none, ArtifactError where it is not made."""
    above, _, table = name.rpartition("/")
    folder = run.folder(stage_of(name))
    if above and name not in tables(run):
        raise ValueError(f"run {run.run_id} has the tables {', '.join(tables(run))}, got {name!r}")
    path = storage.join(*(part for part in (folder, above, TABLES[table][1]) if part))
    return storage.join(path, storage.folders(path)[-1]) if table == "recommendations" else path


def user(run: Run, user_id: Id) -> UserView | None:
    """A user's history, recommendations and neighbours; None for a user that the run does not know."""
    rows = user_rows(run, "prepare", "histories", user_id)
    if not rows:
        return None
    row = rows[0]
    (recommended, short, model), others = _NO_LIST, {}
    neighbours, bought = [], []
    if "recommend" in run.folders:
        recommended, short, model = _list_of(run, "", user_id)
        others = {name: _list_of(run, name, user_id) for name in list_names(run.folder("recommend"))}
    if "similar" in run.folders:
        neighbours = user_rows(run, "similar", "similar_users", user_id)
        bought = user_rows(run, "similar", "neighbours_bought", user_id)
    listed = [*recommended, *(r for other, _, _ in others.values() for r in other)]
    ids = {*row["items"], *(r["item_id"] for r in [*listed, *bought])}
    by_id = items(run, sorted(ids.union(*(r["because"] for r in listed))))

    def ranked(row: dict[str, Any]) -> RankedItem:
        columns = {name: row[name] for name in ("rank", "score", "source", "support", "times_bought") if name in row}
        return RankedItem(
            item=by_id[row["item_id"]],
            because=tuple(by_id[b] for b in row.get("because", ())),
            because_events=tuple(row.get("because_events", ())),
            **columns,
        )

    times: Sequence[datetime | None] = row["times"]
    places: Sequence[int | None] = [None] * len(times)
    if not has_times(run):
        times, places = [None] * len(times), _positions(row["times"])
    history = zip(times, (by_id[item] for item in row["items"]), row["weights"], places, strict=True)
    return UserView(
        user_id=user_id,
        segment=row["segment"],
        history=tuple(Purchase(*purchase) for purchase in history)[::-1],
        recommendations=tuple(map(ranked, recommended)),
        short=short[0] if short else None,
        neighbours=tuple((r["neighbour_id"], r["score"]) for r in neighbours),
        bought_by_neighbours=tuple(map(ranked, bought)),
        model=model,
        lists={name: OtherList(tuple(map(ranked, r)), s[0] if s else None, m) for name, (r, s, m) in others.items()}
        or None,
    )


_List = tuple[list[dict[str, Any]], list[dict[str, Any]], str | None]
_NO_LIST: _List = ([], [], None)


def _list_of(run: Run, name: str, user_id: Id) -> _List:
    """A user's rows in the tables of a list, recommended and short, and what made them."""
    folder = list_folder(run.folder("recommend"), name)
    inner = folder.removeprefix(run.folder("recommend")).lstrip("/")
    summary = storage.read_json(storage.join(folder, "lists.json"))
    dates = storage.folders(storage.join(folder, "recommendations"))
    table = storage.join(inner, "recommendations") + f"/{dates[-1]}" if dates else ""
    recommended = user_rows(run, "recommend", table, user_id) if dates else []
    short = user_rows(run, "recommend", storage.join(inner, "short_lists"), user_id)
    return recommended, short, str(summary.get("model", "encoder"))  # runs of before there was a choice name none


def has_times(run: Run) -> bool:
    """Whether the purchases have times; else those in the tables stand for positions."""
    return bool(statistics(run).get("times", "dates") == "dates")  # runs of before there was an order do not say


def statistics(run: Run) -> dict[str, Any]:
    """What ``prepare`` counted, by the names of statistics.json; nothing where there is no such file."""
    path = storage.join(run.folder("prepare"), "statistics.json")
    return storage.read_json(path) if storage.exists(path) else {}


def _positions(times: Sequence[datetime]) -> list[int]:
    """The positions from 1 that ascending times stand for."""
    return [1 + place for place in np.unique(np.array(times, "datetime64[us]"), return_inverse=True)[1].tolist()]


def item(run: Run, item_id: Id) -> ItemView | None:
    """An item and its neighbours; None for an item that the catalogue lacks."""
    rows_by_id = items(run, [item_id], or_bare=False)
    if item_id not in rows_by_id:
        return None
    rows: list[dict[str, Any]] = []
    together: list[dict[str, Any]] = []
    if "similar" in run.folders:
        rows = read_rows(run, "similar", "similar_items", "item_id", [item_id]).to_pylist()
        bundles = storage.join(run.folder("similar"), "bundles.parquet")
        together = _where(bundles, "item_id", [item_id]).to_pylist() if storage.exists(bundles) else []
    by_id = items(run, [r["neighbour_id"] for r in [*rows, *together]])
    neighbours = tuple(RankedItem(r["rank"], by_id[r["neighbour_id"]], r["score"]) for r in rows)
    pairs = (RankedItem(r["rank"], by_id[r["neighbour_id"]], r["lift"], support=r["support"]) for r in together)
    return ItemView(rows_by_id[item_id], neighbours, tuple(pairs))


def items(run: Run, ids: Sequence[Id], *, or_bare: bool = True) -> dict[Id, Item]:
    """The catalogue's rows of some ids; ``or_bare`` gives an id that it lacks an item without a title."""
    stored = _schema(_catalogue(run)).names
    columns = [*schemas.CATALOGUE_COLUMNS, *(c for c in ("label",) if c in stored)]
    rows = _where(_catalogue(run), "item_id", list(ids), columns).to_pylist() if ids else []
    if rows and not has_times(run):
        rows = [row | {"recent": 0, "first_sale": None, "last_sale": None} for row in rows]
    by_id = {row["item_id"]: Item(**row) for row in rows}
    return {i: by_id.get(i, Item(i)) for i in ids} if or_bare else by_id


def find(run: Run, text: str, *, most: int = 20) -> Match:
    """What a text may mean: a user's id, an item's id, or words that some titles have all of.

    Where it is none of them, ``nearest`` holds the titles that share most words with it, misspelt ones too.
    """
    user_type, item_type = id_types(run)
    meant = [] if user_type is None else possible_ids(text, user_type)
    users = (i for i in meant if user_rows(run, "prepare", "histories", i, ["user_id"]))
    known = (i for i in possible_ids(text, item_type) if items(run, [i], or_bare=False))
    user_id, item_id = next(users, None), next(known, None)
    titles = by_title(run, text.split(), most=most)
    is_match = user_id is not None or item_id is not None or bool(titles)
    return Match(user_id, item_id, titles, () if is_match else nearest_titles(run, text.split(), most=5))


def by_title(run: Run, words: Sequence[str], *, most: int) -> tuple[Item, ...]:
    """Items whose titles have all the words, in any case; best sold first, then by id."""
    table = _titles(run)
    keep = pc.is_valid(table["title"])
    for word in words:
        keep = pc.and_(keep, pc.fill_null(pc.match_substring(table["title"], word, ignore_case=True), False))
    return _best_sold(table.filter(keep), most)


def nearest_titles(run: Run, words: Sequence[str], *, most: int) -> tuple[Item, ...]:
    """Items whose titles share most of the words, or of the words most like them; best sold first."""
    table = _titles(run)
    table = table.filter(pc.is_valid(table["title"]))
    words_file = storage.join(run.folder("prepare"), "vocabularies", "words.parquet")
    vocabulary: list[str] = []
    if storage.exists(words_file):
        vocabulary = storage.read_parquet(words_file, ["value"])["value"][:50_000].to_pylist()
    hits = np.zeros(len(table), np.int64)
    for word in words:
        similar = nearest_name(word, vocabulary, cutoff=0.7)
        near = [w for w in (word if len(word) > 1 else None, similar) if w]
        matched = [np.asarray(pc.match_substring(table["title"], n, ignore_case=True)) for n in near]
        hits += np.any(matched, axis=0) if matched else 0
    if not hits.any():
        return ()
    return _best_sold(table.filter(pa.array(hits == hits.max())), most)


def _best_sold(table: pa.Table, most: int) -> tuple[Item, ...]:
    order = pc.sort_indices(table, sort_keys=[("events", "descending"), ("item_id", "ascending")])
    return tuple(Item(**row) for row in table.take(order[:most]).to_pylist())


def has_users(run: Run) -> bool:
    """Whether a run is over purchases; one over items alone knows no users."""
    return storage.exists(storage.join(run.folder("prepare"), "histories"))


def id_types(run: Run) -> tuple[pa.DataType | None, pa.DataType]:
    """The types of user ids, None where the run knows no users, and of item ids."""
    if not has_users(run):
        return None, _schema(_catalogue(run)).field("item_id").type
    folder = storage.join(run.folder("prepare"), "histories")
    schema = _schema(storage.join(folder, _parts(folder)[0]))
    return schema.field("user_id").type, schema.field("items").type.value_type


def as_id(text: str, kind: pa.DataType) -> Id | None:
    """A text from a user as an id; binary as text or 0x…; None where it cannot be one."""
    if pa.types.is_integer(kind):
        try:
            number = int(text)
        except ValueError:
            return None
        return number if -(2**63) <= number < 2**63 else None
    if pa.types.is_binary(kind):
        try:
            return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
        except ValueError:
            return None
    return text


def possible_ids(text: str, kind: pa.DataType) -> list[Id]:
    """The ids that a text from a user may mean: as :func:`as_id`, and the 16 bytes of a UUID that it writes."""
    first = as_id(text, kind)
    ids = [] if first is None else [first]
    if pa.types.is_binary(kind):
        with suppress(ValueError):
            ids.append(uuid.UUID(text).bytes)
    return ids


def format_id(value: Id) -> str | int:
    """An id for people and JSON: a binary one as text where it is text, else as 0x…"""
    if not isinstance(value, bytes):
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return text if text.isprintable() and not text.startswith("0x") else f"0x{value.hex()}"


def user_rows(
    run: Run, stage: str, table: str, user_id: Id, columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """A user's rows of a table that is partitioned by user."""
    return read_rows(run, stage, table, "user_id", [user_id], columns).to_pylist()


def read_rows(
    run: Run, stage: str, table: str, key: str, ids: pa.Array | Sequence[Id], columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of a stage's table whose ``key`` is one of some ids, file after file.

    Of a table by user only the files are read in which these users are.
    """
    folder = storage.join(run.folder(stage), table)
    names = _parts(folder)
    schema = _schema(storage.join(folder, names[0]))
    ids = ids if isinstance(ids, pa.Array) else pa.array(ids, schema.field(key).type)
    wanted = [ids] * len(names)
    if key == "user_id":
        part = partition_of(ids, len(names))
        wanted = [ids.filter(pa.array(part == number)) for number in range(len(names))]
    tables = [
        _where(storage.join(folder, n), key, some, columns) for n, some in zip(names, wanted, strict=True) if len(some)
    ]
    return pa.concat_tables(tables or [schema.empty_table().select(columns or schema.names)])


def _parts(folder: str) -> list[str]:
    """The part files of a table by number. Raises ArtifactError where some are missing."""
    parts = [n for n in storage.files(folder) if _PART.search(n)]
    wanted = int(_PART.search(parts[0])[2]) if parts else 1  # type: ignore[index]
    if len(parts) != wanted:
        raise ArtifactError(f"{folder} has {len(parts)} of {wanted} part files: run the stage again with --force")
    return parts


def _schema(path: str) -> pa.Schema:
    with storage.open_parquet(path) as file:
        return file.schema_arrow


def _catalogue(run: Run) -> str:
    return storage.join(run.folder("prepare"), "catalogue.parquet")


def _titles(run: Run) -> pa.Table:
    return storage.read_parquet(_catalogue(run), schemas.CATALOGUE_COLUMNS)


def _where(path: str, column: str, values: pa.Array | Sequence[Id], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file with one of some values; row groups that cannot have one are not read."""
    with storage.open_parquet(path) as file:
        wanted = values if isinstance(values, pa.Array) else pa.array(values, file.schema_arrow.field(column).type)
        read = list(dict.fromkeys([*(columns or file.schema_arrow.names), column]))
        rows = file.read_row_groups(_groups(file.metadata, column, wanted), columns=read)
    return rows.filter(pc.is_in(rows[column], value_set=wanted)).select(columns or read)


def _groups(meta: pq.FileMetaData, column: str, wanted: pa.Array) -> list[int]:
    """The row groups whose statistics say that one of the values may be in them, or say nothing."""
    low, high = (bound.as_py() for bound in pc.min_max(wanted).values())
    at = [meta.schema.column(number).path for number in range(meta.num_columns)].index(column)
    spans = [meta.row_group(number).column(at).statistics for number in range(meta.num_row_groups)]
    known = [span and span.has_min_max for span in spans]
    return [n for n, span in enumerate(spans) if not known[n] or (span.min <= high and low <= span.max)]
