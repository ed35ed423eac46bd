"""Gathers from the folders of a run what its report shows. Tables by user are read part by part."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY, vectors_of
from topkin.artifacts.lookup import Id
from topkin.encoding.blocks import Block, preference_embeddings
from topkin.interactions import encode_ids
from topkin.linalg.csr import Csr
from topkin.linalg.gram import principal_axes
from topkin.report import hindsight
from topkin.report.hindsight import Hindsight
from topkin.report.metrics_file import Metrics, TrainingRecord
from topkin.search.topk import top_k

MAP_ITEMS = 1200
MAP_NAMES = 30
MAP_CATEGORIES = 8
ENOUGH_USERS = 200
EXAMPLE_SHARES = (0.2, 0.5, 0.8, 0.95)
EXAMPLE_HISTORY = 12
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
class ItemMap:
    """Items in the plane: points (n, 2), groups (n,) numbers in ``names``, labels (point, title).

    explained: share of the vectors' variance that the plane keeps. ordered: the groups are deciles of
    sales, the last sold most; else they are categories, with ``rest`` the last one all the others.
    whole: every item that has a vector is shown.
    """

    points: np.ndarray
    groups: np.ndarray
    names: Sequence[str]
    labels: Sequence[tuple[int, str]]
    explained: float
    ordered: bool
    rest: bool
    whole: bool


@dataclass(frozen=True, kw_only=True)
class HistoryLine:
    """An item of an example's history: its title, how often it was bought, and when last; None without times."""

    title: str
    times: int
    last: date | None


@dataclass(frozen=True, kw_only=True)
class ListLine:
    """An item of an example's list: how often the user had bought it, the titles that it is listed because of."""

    rank: int
    title: str
    score: float
    source: str
    times_bought: int
    because: Sequence[str]
    bought_later: bool


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
    list_users, short_lists: users by the source of their first item, short lists by reason. hindsight: what became of
    earlier nights' lists, where that was asked.
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
    item_map: ItemMap | None
    examples: Sequence[Example]
    neighbours: Sequence[Neighbours]
    hindsight: Hindsight | None = None


def gather(folders: Mapping[str, str], metrics: Mapping[str, object], *, as_of: datetime, run_id: str) -> ReportData:
    """From the folders of the stages prepare, train, embed, recommend and, where it is among them, hindsight."""
    prepared, lists = folders["prepare"], folders["recommend"]
    signature = storage.read_json(storage.join(folders["train"], "signature.json"))
    statistics = storage.read_json(storage.join(prepared, "statistics.json"))
    timed = statistics.get("times", "dates") == "dates"
    catalogue = storage.read_parquet(storage.join(prepared, "catalogue.parquet"), schemas.CATALOGUE_COLUMNS)
    names = Titles(catalogue)
    summary = storage.read_json(storage.join(folders["embed"], SUMMARY))
    vectors = vectors_of(storage.read_parts(storage.join(folders["embed"], ITEMS), ["vector"]))
    preferences = preference_embeddings(vectors, [Block.from_json(b) for b in summary["blocks"]])  # as in similar/
    histories = _tables(storage.join(prepared, "histories"), ["times"])
    lengths = [np.asarray(pc.list_value_length(table["times"])) for table in histories]
    users = count_sources(_tables(storage.join(lists, "recommendations"), ["rank", "source"]))
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
        item_map=map_items(catalogue, names, preferences),
        examples=example_users(prepared, lists, names, timed=timed),
        neighbours=best_sold_neighbours(catalogue, names, preferences),
        hindsight=hindsight.read(folders["hindsight"]) if "hindsight" in folders else None,
    )


def _tables(folder: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    for name in storage.files(folder):
        if name.endswith(".parquet"):
            yield storage.read_parquet(storage.join(folder, name), columns)


def _add_counts(counter: Counter[str], values: pa.ChunkedArray) -> None:
    """Add how often each value comes; of these there is a handful."""
    for entry in values.value_counts():
        counter[entry["values"].as_py()] += entry["counts"].as_py()


def show_id(value: Id) -> str:
    """An id as text: binary ones in hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else str(value)


class Titles:
    """The titles of a catalogue's items, by row or by id; an item without a title is called by its id."""

    def __init__(self, catalogue: pa.Table):
        self._ids, self._titles = catalogue["item_id"].combine_chunks(), catalogue["title"]

    def has(self, row: int) -> bool:
        """Whether the item of a row has a title."""
        title = self._titles[int(row)].as_py()
        return bool(title and title.strip())

    def __getitem__(self, row: int) -> str:
        if self.has(row):
            return " ".join(self._titles[int(row)].as_py().split())
        return show_id(self._ids[int(row)].as_py())

    def of(self, items: Sequence[Id]) -> list[str]:
        """The titles of some ids; one that the catalogue lacks is shown as it is."""
        rows = encode_ids(pa.array(items, self._ids.type), self._ids)
        return [self[row] if row >= 0 else show_id(item) for row, item in zip(rows, items, strict=True)]


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


def plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """The two principal components of the rows, (n, 2), and the share of the variance that they keep.

    Each axis points to where its largest coordinate lies, so that the picture does not flip between runs.
    """
    vectors = vectors.astype(np.float64)
    mean, variances, axes = principal_axes(vectors)
    points = (vectors - mean) @ np.pad(axes, ((0, 0), (0, 1)))[:, :2]
    signs = np.sign(points[np.abs(points).argmax(axis=0), [0, 1]])
    total = float(variances.sum())
    return points * np.where(signs == 0, 1, signs), float(variances[:2].sum()) / total if total else 0.0


def _best_sold(catalogue: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """The purchases of each item, and the rows, most sold first."""
    events = np.asarray(catalogue["events"])
    return events, np.argsort(-events, kind="stable")


def map_items(catalogue: pa.Table, names: Titles, vectors: np.ndarray) -> ItemMap | None:
    """The best-sold items that have a vector, in the plane; None with fewer than 3 of them.

    The names are those of the best-sold items that have a title.
    """
    events, best = _best_sold(catalogue)
    usable = best[vectors[best].any(axis=1)]
    shown = usable[:MAP_ITEMS]
    if len(shown) < 3:
        return None
    points, explained = plane(vectors[shown])
    categories = [catalogue["category"][int(i)].as_py() for i in shown]
    sales: Counter[str] = Counter()
    for category, sold in zip(categories, events[shown].tolist(), strict=True):
        if category:
            sales[category] += sold
    common = sorted(sales, key=lambda c: (-sales[c], c))
    ordered, rest = len(common) < 2, False
    if ordered:
        groups = np.minimum(9 - np.arange(len(shown)) * 10 // len(shown), 9)
        words = ["sold least", *([""] * 8), "sold most"]
    else:
        rest = len(common) > MAP_CATEGORIES or not all(categories)
        words = [*common[: MAP_CATEGORIES - 1], "all others"] if rest else common
        groups = np.array([words.index(c) if c in words else len(words) - 1 for c in categories])
    return ItemMap(
        points=points,
        groups=groups,
        names=words,
        labels=[(n, names[i]) for n, i in enumerate(shown) if names.has(i)][:MAP_NAMES],
        explained=explained,
        ordered=ordered,
        rest=rest,
        whole=len(shown) == len(usable),
    )


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


def example_users(prepared: str, lists: str, names: Titles, *, timed: bool = True) -> list[Example]:
    """Users of short to long histories, those with held-out purchases first, and one without the model.

    Without times (``timed``) no item has a day on which it was bought last.

    They are picked by their place in the order of history lengths, not by how well they were served.
    """
    names_of_parts = (n for n in storage.files(storage.join(lists, "recommendations")) if n.endswith(".parquet"))
    recommended = {path.rpartition("/")[2]: path for path in names_of_parts}
    parts: list[tuple[pa.Table, ...]] = []
    for name, path in recommended.items():
        if sum(len(part[0]) for part in parts) < ENOUGH_USERS:
            histories = storage.read_parquet(storage.join(prepared, "histories", name))
            listed = storage.read_parquet(storage.join(lists, "recommendations", path))
            heldout = storage.read_parquet(storage.join(prepared, "heldout", name), ["user_id", "item_id"])
            parts.append((histories, listed, heldout))
    if not parts:
        return []
    histories, listed, heldout = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
    lengths = np.asarray(pc.list_value_length(histories["items"]))
    order = np.argsort(lengths, kind="stable")
    first = listed.filter(pc.equal(listed["rank"], 1))

    def among(users: pa.Table) -> np.ndarray:
        return np.asarray(pc.is_in(histories["user_id"], value_set=users["user_id"].combine_chunks()))

    by_model = among(first.filter(pc.equal(first["source"], "model")))
    by_rest = among(first.filter(pc.not_equal(first["source"], "model")))
    returning = among(heldout)
    pool = order[(by_model & returning)[order]]
    if len(pool) < len(EXAMPLE_SHARES):
        pool = order[by_model[order]]
    chosen = list(dict.fromkeys(int(pool[int(s * (len(pool) - 1))]) for s in EXAMPLE_SHARES)) if len(pool) else []
    chosen += [int(i) for i in order[by_rest[order]][-1:]]
    return [_example(histories, listed, heldout, row, names, timed=timed) for row in chosen]


def _example(
    histories: pa.Table, listed: pa.Table, heldout: pa.Table, row: int, names: Titles, *, timed: bool
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
                because=names.of(r["because"] or []),
                bought_later=r["item_id"] in bought,
            )
            for r, name in zip(rows, of, strict=True)
        ],
        bought_later=len(bought),
    )
