"""Nights that must not be published, each with the gates one of which must say why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.faults._growing_shop import Files
from topkin.artifacts import manifest, runs, storage
from topkin.artifacts.embeddings import vector_column, vectors_of

NAMED, OWN = "named", "own"
PREPARE = "prepare"
"""In the place of gates: prepare itself refuses the night, as bad input."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A night that must not be published.

    Attributes:
        name: What is wrong with it.
        gates: Each a reason that is right; one of them must be among those given.
        files: What becomes of the good night's files.
        days: By how much its as-of date is later than the good night's.
        sets: Keys that are set.
        damage: What becomes of the finished run, whose stages are sealed again.
    """

    name: str
    gates: Sequence[str]
    files: Callable[[Files], Files] = lambda files: files
    days: int = 0
    sets: Sequence[str] = ()
    damage: Callable[[runs.Run], None] | None = None
    kind: str = OWN


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _purchases(change: Callable[[pa.Table], pa.Table]) -> Callable[[Files], Files]:
    return lambda files: replace(files, purchases=change(files.purchases))


def _items(change: Callable[[pa.Table], pa.Table]) -> Callable[[Files], Files]:
    return lambda files: replace(files, items=change(files.items))


def _share(table: pa.Table, share: float) -> pa.Table:
    return table.filter(pa.array(_rng().random(len(table)) < share))


def _with(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray | pc.Expression) -> pa.Table:
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(name), values)


def _renamed(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each item under another id of the same shape."""
    return pc.binary_join_element_wise("7", pc.utf8_upper(pc.utf8_trim_whitespace(ids)), "")


def _shuffled_users(table: pa.Table, share: float = 1.0) -> pa.Table:
    """The users' ids dealt anew among the users, or among a share of them."""
    users = pc.unique(table["user_id"].drop_null())
    order = np.arange(len(users))
    some = np.flatnonzero(_rng().random(len(users)) < share)
    order[some] = _rng().permutation(some)
    at = pc.index_in(table["user_id"], value_set=users)
    return _with(table, "user_id", users.take(pa.array(order)).take(at))


def _of_users(table: pa.Table, keep: Callable[[np.ndarray], np.ndarray]) -> pa.Table:
    users = pc.fill_null(table["user_id"], 0).to_numpy()
    return table.filter(pa.array(keep(users)))


def _shifted(days: int) -> Callable[[pa.Table], pa.Table]:
    milliseconds = np.timedelta64(days * 86_400_000, "ms")
    return lambda table: _with(
        table, "timestamp", pa.array(np.asarray(table["timestamp"]).astype("datetime64[ms]") + milliseconds)
    )


def _half_by_time(newest: bool) -> Callable[[pa.Table], pa.Table]:
    """The newer or the older half of the lines, which are in time order."""
    return lambda table: table.slice(len(table) // 2) if newest else table.slice(0, len(table) // 2)


def _one_id(column: str, share: float) -> Callable[[pa.Table], pa.Table]:
    """A share of the lines is of one user or item."""

    def change(table: pa.Table) -> pa.Table:
        mine = pa.array(_rng().random(len(table)) < share)
        one = pc.mode(table["user_id"])[0]["mode"] if column == "user_id" else table["item_id"][0]
        return _with(table, column, pc.if_else(mine, one, table[column]))

    return change


def _own_users(table: pa.Table) -> pa.Table:
    """Each line is of a user of its own, as where a session's id is written as the user's."""
    return _with(table, "user_id", pa.array(np.arange(len(table)) + 5_000_000))


def _swapped(table: pa.Table) -> pa.Table:
    users, items = table["user_id"].cast(pa.string()), table["item_id"]
    columns = {name: table[name] for name in table.column_names}
    return pa.table({**columns, "user_id": items, "item_id": users})


def _without_category(files: Files) -> Files:
    """The largest category, and its purchases, are gone."""
    counted = sorted(
        (row["counts"], row["values"]) for row in files.items["category"].drop_null().value_counts().to_pylist()
    )
    gone = counted[-1][1]
    items = files.items.filter(pc.not_equal(files.items["category"], gone).fill_null(True))
    lost = files.items.filter(pc.equal(files.items["category"], gone).fill_null(False))["item_id"]
    lost = pc.utf8_upper(pc.utf8_trim_whitespace(lost))
    sold = pc.utf8_upper(pc.utf8_trim_whitespace(files.purchases["item_id"]))
    kept = pc.invert(pc.is_in(sold, value_set=lost.combine_chunks()))
    return replace(files, items=items, purchases=files.purchases.filter(kept))


def _nulls(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: _with(table, name, pa.nulls(len(table), table.schema.field(name).type))


def _times(name: str, factor: float) -> Callable[[pa.Table], pa.Table]:
    return lambda table: _with(table, name, pc.multiply(table[name], factor))


def _no_prices(table: pa.Table) -> pa.Table:
    free = pa.array(_rng().random(len(table)) < 0.85)
    return _with(table, "price", pc.if_else(free, 0.0, table["price"]))


def _one_day(table: pa.Table) -> pa.Table:
    """Each line at its own time of the last day."""
    times = np.asarray(table["timestamp"]).astype("datetime64[ms]")
    of_day = times - times.astype("datetime64[D]")
    return _with(table, "timestamp", pa.array(times[-1].astype("datetime64[D]") - np.timedelta64(1, "D") + of_day))


def reseal(run: runs.Run, stage: str) -> None:
    """Seal a stage's folder as it is now, and record it so."""
    folder = run.folder(stage)
    sealed = manifest.read(folder)
    assert sealed is not None
    manifest.seal(folder, stage=stage, key=sealed["key"], summary=sealed["summary"])
    place = folder.removeprefix(run.root).lstrip("/")
    runs.record_stage(run, stage, {"key": "", "folder": place, "seconds": 0.0, "reused": True}, {})


def _in_json(stage: str, file: str, change: Callable[[dict], None]) -> Callable[[runs.Run], None]:  # type: ignore[type-arg]
    def damage(run: runs.Run) -> None:
        path = storage.join(run.folder(stage), file)
        value = storage.read_json(path)
        change(value)
        storage.write_json(value, path)
        reseal(run, stage)

    return damage


def _in_tables(stage: str, under: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[runs.Run], None]:
    def damage(run: runs.Run) -> None:
        folder = Path(run.folder(stage), under)
        for path in sorted(folder.rglob("*.parquet")):
            table = storage.read_parquet(str(path))
            storage.write_parquet(change(table).cast(table.schema), str(path))
        reseal(run, stage)

    return damage


def _vectors(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: _with(table, "vector", vector_column(change(vectors_of(table).copy())))


def _some_nan(vectors: np.ndarray) -> np.ndarray:
    vectors[::20, 0] = np.nan
    return vectors


def _all_one(vectors: np.ndarray) -> np.ndarray:
    return np.repeat(vectors[:1] * 0 + 1 / np.sqrt(vectors.shape[1]), len(vectors), axis=0)


def _few_directions(vectors: np.ndarray) -> np.ndarray:
    return np.repeat(vectors[: max(2, len(vectors) // 100)], 101, axis=0)[: len(vectors)]


def _same_list(table: pa.Table) -> pa.Table:
    first = table.filter(pc.equal(table["user_id"], table["user_id"][0]))
    at = pc.index_in(table["rank"], value_set=first["rank"].combine_chunks())
    return _with(table, "item_id", first["item_id"].combine_chunks().take(at.combine_chunks()))


def _dealt_lists(table: pa.Table) -> pa.Table:
    """Items at random, distinct within a list."""
    items, rng = pc.unique(table["item_id"]), _rng()
    rank, user = np.asarray(table["rank"]), np.asarray(table["user_id"])
    shift = rng.integers(len(items), size=int(user.max()) + 1)[user]
    order = rng.permutation(len(items))
    return _with(table, "item_id", items.take(pa.array(order[(shift + rank * 7) % len(items)])))


def _low_recall(index: dict) -> None:  # type: ignore[type-arg]
    index["recall"] |= {name: 0.24 for name in index["recall"] if name.startswith("recall@")}


def _badly_judged(metrics: dict) -> None:  # type: ignore[type-arg]
    scores = {"model": {"ndcg@10": 0.01}, "popularity": {"ndcg@10": 0.05}}
    metrics["heldout"] |= {"users": 200, "novel_users": 200}
    metrics["novel"], metrics["differences"]["novel"] = scores, {"popularity": {"ndcg@10": [-0.05, -0.04, -0.03]}}


def _no_vectors(lists: dict) -> None:  # type: ignore[type-arg]
    lists["fallback"]["no vector: none was brought, or the encoder knows no item bought"] = lists["users"] // 2


ALL_FREE = 'prepare.max_reject_share_by_reason."no price"=1.0'


ROWS, GONE = ("rows of purchases",), ("known purchases",)
NIGHTS: Sequence[Garbage] = (
    Garbage(kind=NAMED, name="half of the purchases missing", gates=ROWS, files=_purchases(lambda t: _share(t, 0.5))),
    Garbage(
        kind=NAMED,
        name="half of the users missing from the purchases",
        gates=ROWS,
        files=_purchases(lambda t: _of_users(t, lambda u: u % 2 == 0)),
    ),
    Garbage(
        kind=NAMED,
        name="the newer half of the purchases missing",
        gates=("age of the last purchase",),
        files=_purchases(_half_by_time(False)),
    ),
    Garbage(
        kind=NAMED, name="the older half of the purchases missing", gates=ROWS, files=_purchases(_half_by_time(True))
    ),
    Garbage(
        kind=NAMED,
        name="all item ids renamed",
        gates=("unknown items",),
        files=lambda f: replace(
            f,
            purchases=_with(f.purchases, "item_id", _renamed(f.purchases["item_id"])),
            items=_with(f.items, "item_id", _renamed(f.items["item_id"])),
        ),
    ),
    Garbage(
        kind=NAMED,
        name="all item ids renamed in the catalogue alone",
        gates=(PREPARE,),
        files=_items(lambda t: _with(t, "item_id", _renamed(t["item_id"]))),
    ),
    Garbage(kind=NAMED, name="users shuffled", gates=GONE, files=_purchases(_shuffled_users)),
    Garbage(
        kind=NAMED, name="half of the users shuffled", gates=GONE, files=_purchases(lambda t: _shuffled_users(t, 0.5))
    ),
    Garbage(kind=NAMED, name="a catalogue of 10 %", gates=("rows of items",), files=_items(lambda t: _share(t, 0.1))),
    Garbage(
        kind=NAMED,
        name="10 % of the catalogue available",
        gates=("available items",),
        files=_items(lambda t: _with(t, "available", pa.array(_rng().random(len(t)) < 0.1))),
    ),
    Garbage(kind=NAMED, name="data 400 days old", gates=("age of the last purchase",), days=400),
    Garbage(kind=NAMED, name="data 10 days old", gates=("age of the last purchase",), days=10),
    Garbage(
        kind=NAMED,
        name="5 of the users left",
        gates=("users",),
        files=lambda f: replace(
            f,
            users=f.users.slice(0, 5),
            purchases=f.purchases.filter(
                pc.is_in(f.purchases["user_id"], value_set=f.users["user_id"].slice(0, 5).combine_chunks())
            ),
        ),
    ),
    Garbage(
        kind=NAMED,
        name="85 % of the rows rejected, which a limit allows",
        gates=("rejects of purchases",),
        files=_purchases(_no_prices),
        sets=(ALL_FREE,),
    ),
    Garbage(kind=NAMED, name="85 % of the rows rejected", gates=(PREPARE,), files=_purchases(_no_prices)),
    Garbage(
        kind=NAMED,
        name="an index of recall .24",
        gates=("recall of the index",),
        damage=_in_json("index", "index.json", _low_recall),
    ),
    Garbage(kind=NAMED, name="3 % of the purchases left", gates=ROWS, files=_purchases(lambda t: _share(t, 0.03))),
    Garbage(name="every row ten times", gates=ROWS, files=_purchases(lambda t: pa.concat_tables([t] * 10))),
    Garbage(name="all times one day", gates=("largest day", "known purchases"), files=_purchases(_one_day)),
    Garbage(name="times 200 days too early", gates=("age of the last purchase",), files=_purchases(_shifted(-200))),
    Garbage(name="times a day too early", gates=GONE, files=_purchases(_shifted(-1))),
    Garbage(name="times 60 days too late", gates=("purchases", "known purchases"), files=_purchases(_shifted(60))),
    Garbage(
        name="one user with half of the purchases", gates=("largest user",), files=_purchases(_one_id("user_id", 0.5))
    ),
    Garbage(
        name="one item with half of the purchases", gates=("largest item",), files=_purchases(_one_id("item_id", 0.5))
    ),
    Garbage(name="each purchase of a user of its own", gates=("users", "unknown users"), files=_purchases(_own_users)),
    Garbage(name="users and items swapped", gates=(PREPARE,), files=_purchases(_swapped)),
    Garbage(name="prices in cents", gates=("middle price",), files=_items(_times("price", 100.0))),
    Garbage(name="titles gone", gates=("items with a title",), files=_items(_nulls("title"))),
    Garbage(
        name="categories gone",
        gates=("items with a category", "purchases by category"),
        files=_items(_nulls("category")),
    ),
    Garbage(name="one category gone, with its purchases", gates=("purchases by category",), files=_without_category),
    Garbage(
        name="user ids renamed",
        gates=("unknown users",),
        files=lambda f: replace(
            f,
            purchases=_with(f.purchases, "user_id", pc.add(f.purchases["user_id"], 7_000_000)),
            users=_with(f.users, "user_id", pc.add(f.users["user_id"], 7_000_000)),
        ),
    ),
    Garbage(
        name="lists all equal",
        gates=("lists alike", "overlap"),
        damage=_in_tables("recommend", "recommendations", _same_list),
    ),
    Garbage(
        name="lists of items at random",
        gates=("overlap",),
        damage=_in_tables("recommend", "recommendations", _dealt_lists),
    ),
    Garbage(
        name="vectors that are not finite",
        gates=("finite vectors of items",),
        damage=_in_tables("embed", "items", _vectors(_some_nan)),
    ),
    Garbage(
        name="vectors of users all one",
        gates=("spread of users' vectors",),
        damage=_in_tables("embed", "users", _vectors(_all_one)),
    ),
    Garbage(
        name="half of the users without a vector",
        gates=("lists by the model",),
        damage=_in_json("recommend", "lists.json", _no_vectors),
    ),
    Garbage(
        name="a model below popularity",
        gates=("above popularity",),
        damage=_in_json("evaluate", "metrics.json", _badly_judged),
    ),
)
"""The 17 kinds that went through once, then 20 others."""
