"""What changed from one run to another: rows, users and items, and every list, part by part."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from topkin.artifacts import lookup, manifest, runs, storage
from topkin.errors import ConfigError

MOST = 10
"""Items and users that are named."""


@dataclass(frozen=True)
class _Lists:
    """The table of lists of a run: whose they are, and what is listed."""

    folder: str
    owner: str
    listed: str

    def part(self, name: str) -> pa.Table:
        names = {"owner": self.owner, "rank": "rank", "listed": self.listed}
        table = storage.read_parquet(storage.join(self.folder, name), list(names.values()))
        return pa.table({new: table[old] for new, old in names.items()})

    def names(self) -> list[str]:
        return [name for name in storage.files(self.folder) if name.endswith(".parquet")]


def diff(before: runs.Run, after: runs.Run) -> dict[str, Any]:
    """Compare two runs.

    Returns:
        ``counts``: rows of the inputs, events before the date, users and items, before and after. ``lists``: how many
        users have one in both, before only and after only; of those in both how many differ in any place, and the mean
        share of a list that stayed. ``entering`` and ``leaving``: how many items are in lists after only and before
        only, and those in ``most`` of them; ``gained`` and ``lost``: likewise those in more and in fewer lists than
        before. ``affected``: the users whose lists kept least. Of runs over items alone the lists are the neighbours
        of items.

    Raises:
        ConfigError: The runs are of two kinds, or their ids of two types.
        ArtifactError: A run has not got so far, or a file is damaged.
    """
    for run in (before, after):
        for stage in ("prepare", "recommend", "similar"):
            if stage in run.folders:
                manifest.verify(run.folder(stage), contents=False)  # no part is missing; what is read is verified then
    one, two = _lists(before), _lists(after)
    summary: dict[str, Any] = {
        "before": before.run_id,
        "after": after.run_id,
        "counts": {
            name: [_count(run, name) for run in (before, after)] for name in ("rows", "events", "users", "items")
        },
    }
    return {**summary, **({} if one is None or two is None else _compare(one, two, before, after))}


def _lists(run: runs.Run) -> _Lists | None:
    if "recommend" in run.folders or lookup.has_users(run):  # of a run that has not got so far the folder is asked
        folder = storage.join(run.folder("recommend"), "recommendations")
        return _Lists(storage.join(folder, storage.folders(folder)[-1]), "user_id", "item_id")
    folder = storage.join(run.folder("similar"), "similar_items")
    return _Lists(folder, "item_id", "neighbour_id") if storage.exists(folder) else None


def _count(run: runs.Run, name: str) -> int | None:
    statistics = storage.read_json(storage.join(run.folder("prepare"), "statistics.json"))
    if name == "rows":
        return sum(source["rows"] for source in statistics["sources"].values())
    value = statistics.get(name)
    return None if value is None else int(value)


def _pairs(one: _Lists, two: _Lists) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The tables of the same owners in both: part by part where both have the same parts, else at once."""
    names, others = one.names(), two.names()
    if names == others:
        yield from ((one.part(name), two.part(name)) for name in names)
    else:
        whole = [
            pa.concat_tables([lists.part(n) for n in names_of]) for lists, names_of in ((one, names), (two, others))
        ]
        yield whole[0], whole[1]


def _compare(one: _Lists, two: _Lists, before: runs.Run, after: runs.Run) -> dict[str, Any]:
    import duckdb

    if one.owner != two.owner:
        raise ConfigError(
            f"two runs of one kind can be compared, of {before.run_id} and {after.run_id} one is over purchases and "
            "one over items alone"
        )
    with duckdb.connect() as db:
        for number, (a, b) in enumerate(_pairs(one, two)):
            if a.schema.types != b.schema.types:
                raise ConfigError(
                    f"two runs with ids of the same types can be compared, {before.run_id} has {a.schema.types[0]} and "
                    f"{a.schema.types[2]}, {after.run_id} {b.schema.types[0]} and {b.schema.types[2]}"
                )
            db.register("a", a)
            db.register("b", b)
            for table, query in (("owners", _OWNERS), ("counts", _COUNTS)):
                db.execute(f"insert into {table} {query}" if number else f"create table {table} as {query}")
        db.execute("create table items as select item, sum(was) as was, sum(now) as now from counts group by item")
        totals = db.execute(_TOTALS).fetchone() or ()
        kept = db.execute(_KEPT).fetchall()  # whole numbers: threads would add fractions in an order of their own
        affected = db.execute(_AFFECTED).fetchall()
        sides = {name: db.execute(f"{_SIDE} {rule} limit {MOST}").fetchall() for name, rule in _SIDES.items()}
    owner = one.owner.removesuffix("_id")
    both = sum(lists for _, _, lists in kept)
    share = sum(items / was for was, items, _ in kept) / both if both else None
    return {
        "lists": {**dict(zip(_LISTS, totals, strict=True)), "kept_share": share},
        **{
            name: {"items": rows[0][3] if rows else 0, "most": _items(rows, before if name in _GOING else after)}
            for name, rows in sides.items()
        },
        "affected": [
            {owner: lookup.format_id(who), "kept": kept, "before": was, "after": now}
            for who, kept, was, now in affected
        ],
    }


def _items(rows: list[tuple[Any, ...]], run: runs.Run) -> list[dict[str, Any]]:
    known = lookup.items(run, [item for item, *_ in rows])
    return [
        {"item": lookup.format_id(item), "title": known[item].title, "before": was, "after": now}
        for item, was, now, _ in rows
    ]


_BOTH = """
    (select coalesce(a.owner, b.owner) as owner, coalesce(a.listed, b.listed) as item, a.rank as was, b.rank as now
     from a full join b on a.owner = b.owner and a.listed = b.listed)
"""
_OWNERS = f"""
    select owner, count(was) as was, count(now) as now, count(*) filter (was is not null and now is not null) as kept,
           bool_or(was is distinct from now) as changed
    from {_BOTH} group by owner
"""
_COUNTS = f"select item, count(was) as was, count(now) as now from {_BOTH} group by item"
_LISTS = ("both", "before_only", "after_only", "changed")
_TOTALS = """
    select count(*) filter (was > 0 and now > 0), count(*) filter (now = 0), count(*) filter (was = 0),
           count(*) filter (was > 0 and now > 0 and changed)
    from owners
"""
_KEPT = "select was, sum(kept), count(*) from owners where was > 0 and now > 0 group by was order by was"
_AFFECTED = f"""
    select owner, kept, was, now from owners where changed and was > 0 and now > 0
    order by kept / was, owner limit {MOST}
"""
_SIDE = "select item, was, now, count(*) over () from items where"
_SIDES = {
    "entering": "was = 0 order by now desc, item",
    "leaving": "now = 0 order by was desc, item",
    "gained": "was > 0 and now > was order by now - was desc, item",
    "lost": "now > 0 and now < was order by was - now desc, item",
}
_GOING = ("leaving", "lost")
