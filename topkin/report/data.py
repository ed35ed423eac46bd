"""Gathers from the folders of a run what its report shows. Tables by user are read part by part."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, vectors_of
from topkin.artifacts.lookup import Id
from topkin.artifacts.runs import list_folder, list_names
from topkin.config.shop.events import done_with
from topkin.encoding.blocks import Block, preference_embeddings
from topkin.linalg.csr import Csr
from topkin.report import hindsight
from topkin.report.browse.content import PageContent, Source, content
from topkin.report.browse.names import Titles, show_id
from topkin.report.browse.sample import People, read_neighbours, read_people
from topkin.report.hindsight import Hindsight
from topkin.report.metrics_file import Metrics, TrainingRecord
from topkin.search.topk import top_k

EXAMPLES = 10
EXAMPLE_HISTORY = 5
EXAMPLE_LIST = 8
NEIGHBOUR_ITEMS = 8
NEIGHBOURS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Month:
    """The purchases of one calendar month: before the as-of date, and held out."""

    name: str
    before: int
    held_out: int


@dataclass(frozen=True, kw_only=True)
class HistoryLine:
    """An item of an example's history: its title, how often it was bought, and when last; None without times."""

    title: str
    times: int
    last: date | None


@dataclass(frozen=True, kw_only=True)
class ListLine:
    """An item of an example's list: how often the user had bought it, the titles that it is listed because of, and the
    address that holds its picture.
    """

    rank: int
    title: str
    score: float
    source: str
    times_bought: int
    because: Sequence[str]
    bought_later: bool
    picture: str | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """A user: the latest items of the history, and the list."""

    user: str
    segment: str | None
    purchases: int
    items: int
    history: Sequence[HistoryLine]
    listed: Sequence[ListLine]
    bought_later: int


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """A best-sold item and the items nearest to it, with their cosines."""

    title: str
    events: int
    nearest: Sequence[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that the report shows; the mappings are the run's JSON files.

    item_events: (n_items,) purchases of each item. history_lengths: (n_users,) purchases of each user.
    list_users, short_lists: users by the source of their first item, short lists by reason. content: what can be looked
    up. changes: the content of ``changes.json``, None on a first night. hindsight: what became of earlier
    nights' lists, where that was asked. other_lists: ``lists.json`` of each list of ``[lists]``, by name.
    """

    as_of: datetime
    run_id: str
    encoder: str
    statistics: Mapping[str, Any]
    metrics: Metrics
    training: TrainingRecord
    signature: Mapping[str, Any]
    months: Sequence[Month]
    item_events: np.ndarray
    history_lengths: np.ndarray
    list_users: Mapping[str, int]
    short_lists: Mapping[str, int]
    content: PageContent
    examples: Sequence[Example]
    neighbours: Sequence[Neighbours]
    changes: Mapping[str, Any] | None = None
    hindsight: Hindsight | None = None
    other_lists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def gather(
    folders: Mapping[str, str],
    metrics: Mapping[str, object],
    *,
    as_of: datetime,
    run_id: str,
    changes: Mapping[str, Any] | None = None,
    pictures: Callable[[pa.Array], Mapping[Id, str]] | None = None,
) -> ReportData:
    """From the folders of the stages prepare, train, embed, recommend and, where they are there, similar, hindsight.

    pictures: see ``browse.content.Source``.
    """
    prepared, lists = folders["prepare"], folders["recommend"]
    signature = storage.read_json(storage.join(folders["train"], "signature.json"))
    statistics = storage.read_json(storage.join(prepared, "statistics.json"))
    timed = statistics.get("times", "dates") == "dates"
    catalogue = read_catalogue(storage.join(prepared, "catalogue.parquet"))
    names, people, types = Titles(catalogue), read_people(folders), statistics.get("event_types", {})
    summary = storage.read_json(storage.join(folders["embed"], SUMMARY))
    vectors = vectors_of(storage.read_parts(storage.join(folders["embed"], ITEMS), ["vector"]))
    preferences = preference_embeddings(vectors, [Block.from_json(b) for b in summary["blocks"]])  # as in similar/
    histories = _tables(storage.join(prepared, "histories"), ["times"])
    lengths = [np.asarray(pc.list_value_length(table["times"])) for table in histories]
    users = count_sources(_tables(storage.join(lists, "recommendations"), ["rank", "source"]))
    shown = content(
        Source(
            catalogue=catalogue,
            vectors=preferences.__getitem__,
            neighbours=partial(read_neighbours, folders.get("similar")),
            people=people,
            timed=timed,
            types=types,
            pictures=pictures,
        )
    )
    shortfalls: Counter[str] = Counter()
    for table in _tables(storage.join(lists, "short_lists"), ["reason"]):
        _add_counts(shortfalls, table["reason"])
    return ReportData(
        as_of=as_of,
        run_id=run_id,
        encoder=str(signature["encoder"]),
        statistics=statistics,
        metrics=cast(Metrics, metrics),
        training=storage.read_json(storage.join(folders["train"], "training.json")),
        signature=signature,
        months=count_months(
            _tables(storage.join(prepared, "events"), ["timestamp"]),
            _tables(storage.join(prepared, "heldout"), ["timestamp"]),
        )
        if timed
        else [],
        item_events=np.asarray(catalogue["events"]),
        history_lengths=np.concatenate(lengths) if lengths else np.zeros(0, np.int64),
        list_users=users,
        short_lists=dict(shortfalls),
        content=shown,
        examples=[] if people is None else example_users(people, names, types, timed=timed, pictures=shown.pictures),
        neighbours=best_sold_neighbours(catalogue, names, preferences),
        changes=changes,
        hindsight=hindsight.read(folders["hindsight"]) if "hindsight" in folders else None,
        other_lists={
            n: storage.read_json(storage.join(list_folder(lists, n), "lists.json")) for n in list_names(lists)
        },
    )


def read_catalogue(path: str) -> pa.Table:
    """A catalogue without the items' own vectors, which only the encoder reads."""
    with storage.open_parquet(path) as file:
        columns = [name for name in file.schema_arrow.names if name != "vector"]
    return storage.read_parquet(path, columns)


def _tables(folder: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    for name in storage.files(folder):
        if name.endswith(".parquet"):
            yield storage.read_parquet(storage.join(folder, name), columns)


def _add_counts(counter: Counter[str], values: pa.ChunkedArray) -> None:
    """Add how often each value comes; of these there is a handful."""
    for entry in values.value_counts():
        counter[entry["values"].as_py()] += entry["counts"].as_py()


def count_months(events: Iterator[pa.Table], heldout: Iterator[pa.Table]) -> list[Month]:
    """The purchases of each month from the first to the last, months without any too."""
    counts: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    for counter, tables in zip(counts, (events, heldout), strict=True):
        for table in tables:
            months = np.asarray(table["timestamp"]).astype("datetime64[M]").astype(np.int64)
            distinct, n = np.unique(months, return_counts=True)
            counter.update(dict(zip(distinct.tolist(), n.tolist(), strict=True)))
    both = sorted({*counts[0], *counts[1]})
    if not both:
        return []
    return [
        Month(name=str(np.datetime64(m, "M")), before=counts[0][m], held_out=counts[1][m])
        for m in range(both[0], both[-1] + 1)
    ]


def count_sources(tables: Iterator[pa.Table]) -> dict[str, int]:
    """Users by the source of their first item."""
    users: Counter[str] = Counter()
    for table in tables:
        _add_counts(users, table["source"].filter(pc.equal(table["rank"], 1)))
    return dict(users)


def _best_sold(catalogue: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The purchases of each item, and the rows, most sold first."""
    events = np.asarray(catalogue["events"])
    return events, np.argsort(-events, kind="stable")


def best_sold_neighbours(catalogue: pa.Table, names: Titles, vectors: np.ndarray) -> list[Neighbours]:
    """The nearest items of the best-sold ones."""
    events, best = _best_sold(catalogue)
    usable = np.asarray(vectors.any(axis=1))
    queries = best[usable[best] & (events[best] > 0)][:NEIGHBOUR_ITEMS]
    if not len(queries):
        return []
    ids, scores = top_k(vectors[queries], vectors, NEIGHBOURS_SHOWN, exclude=Csr.single(queries), allowed=usable)
    return [
        Neighbours(
            title=names[i],
            events=int(events[i]),
            nearest=[(names[j], float(s)) for j, s in zip(row, score, strict=True) if j >= 0],
        )
        for i, row, score in zip(queries, ids, scores, strict=True)
    ]


def example_users(
    people: People,
    names: Titles,
    types: Mapping[str, Mapping[str, Any]],
    *,
    timed: bool = True,
    pictures: Mapping[Id, str] = MappingProxyType({}),
) -> list[Example]:
    """Users of short to long histories, those with held-out purchases first, and one without the model.

    Without times (``timed``) no item has a day on which it was bought last. types: ``event_types`` of statistics.json.

    They are picked by their place in the order of history lengths, not by how well they were served.
    """
    histories, listed, heldout = people.histories, people.listed, people.heldout
    order = np.argsort(np.asarray(pc.list_value_length(histories["items"])), kind="stable")
    first = listed.filter(pc.equal(listed["rank"], 1))

    def among(users: pa.Table) -> np.ndarray:
        return np.asarray(pc.is_in(histories["user_id"], value_set=users["user_id"].combine_chunks()))

    by_model = among(first.filter(pc.equal(first["source"], "model")))
    by_rest = among(first.filter(pc.not_equal(first["source"], "model")))
    chosen = [int(i) for i in order[by_rest[order]][-1:]]
    pool = order[(by_model & among(heldout))[order]]
    if len(pool) < EXAMPLES:
        pool = order[by_model[order]]
    places = np.linspace(0.05, 0.95, EXAMPLES - len(chosen)) * (len(pool) - 1)
    chosen = list(dict.fromkeys(int(pool[int(place)]) for place in places if len(pool))) + chosen
    return [_example(histories, listed, heldout, row, names, types, timed=timed, pictures=pictures) for row in chosen]


def reasons_of(row: Mapping[str, Any], names: Titles) -> Iterator[tuple[str, str | None]]:
    """The title of each item that is a reason, and what the user did with it."""
    reasons = row["because"] or []
    return zip(names.of(reasons), row.get("because_events") or [None] * len(reasons), strict=True)


def _example(
    histories: pa.Table,
    listed: pa.Table,
    heldout: pa.Table,
    row: int,
    names: Titles,
    types: Mapping[str, Mapping[str, Any]],
    *,
    timed: bool,
    pictures: Mapping[Id, str],
) -> Example:
    user = histories["user_id"][row]
    items, times = histories["items"][row].as_py(), histories["times"][row].as_py()
    number = Counter(items)
    last = dict(zip(items, times, strict=True))  # in time order: the last one stays
    title = dict(zip(last, names.of(list(last)), strict=True))
    latest = sorted(last, key=lambda i: (last[i], number[i], title[i]), reverse=True)
    bought = set(heldout.filter(pc.equal(heldout["user_id"], user))["item_id"].to_pylist())
    rows = listed.filter(pc.equal(listed["user_id"], user)).sort_by("rank").slice(0, EXAMPLE_LIST).to_pylist()
    of = names.of([r["item_id"] for r in rows])
    return Example(
        user=show_id(user.as_py()),
        segment=histories["segment"][row].as_py(),
        purchases=len(items),
        items=len(last),
        history=[
            HistoryLine(title=title[i], times=number[i], last=last[i].date() if timed else None)
            for i in latest[:EXAMPLE_HISTORY]
        ],
        listed=[
            ListLine(
                rank=r["rank"],
                title=name,
                score=r["score"],
                source=r["source"],
                times_bought=r["times_bought"],
                because=[name + done_with(event, types) for name, event in reasons_of(r, names)],
                bought_later=r["item_id"] in bought,
                picture=pictures.get(r["item_id"]),
            )
            for r, name in zip(rows, of, strict=True)
        ],
        bought_later=len(bought),
    )
