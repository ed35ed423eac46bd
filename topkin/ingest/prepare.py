"""Prepare in memory: what the prepare job does, as functions of tables; and the counts of where rows went."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.artifacts.ids import Values
from topkin.config import undated
from topkin.config.shop import vectors
from topkin.config.shop.events import EventType
from topkin.ingest.catalogue import catalogue, merge_sales, sales, vocabulary, with_unsold, words_vocabulary
from topkin.ingest.cleaning import (
    Cleaned,
    clean_items,
    clean_purchases,
    clean_users,
    item_rows,
    one_of_each_id,
    order_columns,
    purchase_rows,
    user_rows,
)
from topkin.ingest.contract import InputSource
from topkin.ingest.events import histories, sort_and_deduplicate, split_by_time
from topkin.ingest.files import FILE
from topkin.ingest.joins.measure import EXAMPLES, IdCounts, Join, measure_join
from topkin.ingest.joins.words import short_line
from topkin.ingest.judging.lookups import Lookup
from topkin.ingest.positions import hold_out_last_position, with_times
from topkin.ingest.splits import count_leaks, hold_out_last
from topkin.ingest.typed.counts import STATISTICS, counts_by_source, counts_by_type, counts_of_types
from topkin.ingest.typed.rows import before_heldout, part_events, with_inputs
from topkin.ingest.values.baskets import rows_added

COUNTS = schemas.schema(source=pa.string(), kind=pa.string(), reason=pa.string(), n=pa.int64())
"""Rows by what became of them: accepted, duplicates, rejected for a reason; added by lists; counts of no source.

Those of a join have its columns for source and kind.
"""


@dataclass(frozen=True, kw_only=True)
class PreparePlan:
    """What preparing depends on, beside the rows. ``as_of`` and ``clock`` are naive UTC.

    split: ``time`` or ``last``, see ``config.Prepare``; a source ``heldout`` takes its place. vector_dim: how many
    numbers the items' vectors have, where there are some; user_dim: likewise the users'. missing: ``list``
    or ``exclude``, whether sold items that the items' table lacks may be recommended. lookups: what the purchases'
    rules ask, by side. types: of events, where there are several or they have weights; events: the inputs with those
    beside the purchases, by name. item_features,
    user_features, purchase_features: the type of the column ``features``, where there are some.
    """

    purchases: InputSource | None = None
    items: InputSource | None = None
    users: InputSource | None = None
    heldout: InputSource | None = None
    user_type: pa.DataType
    item_type: pa.DataType
    as_of: datetime
    clock: datetime
    recent_days: float = 7.0
    drop_duplicates: bool = True
    split: str = "time"
    vector_dim: int | None = None
    missing: str = "list"
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    item_features: pa.StructType | None = None
    user_features: pa.StructType | None = None
    purchase_features: pa.StructType | None = None
    user_dim: int | None = None
    types: tuple[EventType, ...] = ()
    events: Mapping[str, InputSource] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Whether the purchases have times; else times stand for positions, see :mod:`topkin.ingest.positions`."""
        return self.purchases is None or self.purchases.timed

    @property
    def sources(self) -> dict[str, InputSource]:
        """The inputs there are, by name."""
        names = ("purchases", "items", "users", "heldout")
        return {name: source for name in names if (source := getattr(self, name)) is not None} | {**self.events}

    def types_of(self, name: str) -> tuple[EventType, ...]:
        """The types of events that an input's rows have."""
        return self.types if name != "heldout" or "event_type" in self.sources[name].columns else ()

    def rows(self, name: str) -> pa.Schema:
        """The schema of the accepted rows of an input."""
        if name not in ("items", "users"):
            source = self.sources.get(name)
            order = None if source is None else order_columns(source)
            more: dict[str, Any] = {"order": order, "typed": bool(self.types_of(name))}
            more["features"] = self.purchase_features if name == "purchases" else None
            return purchase_rows(self.user_type, self.item_type, row_hashes=self.drop_duplicates, **more)
        latest = "latest_by" in self.sources[name].columns
        if name == "items":
            return item_rows(self.item_type, self.vector_dim, self.item_features, latest=latest)
        return user_rows(self.user_type, self.user_features, self.user_dim, latest=latest)

    def clean(self, name: str, rows: pa.Table, lookups: Mapping[str, pa.Table] | None = None) -> Cleaned:
        """Clean rows of an input, with FILE and ROW; ``lookups``: the tables of the plan's look-ups, by side."""
        source = self.sources[name]
        if name not in ("items", "users"):
            more: dict[str, Any] = {"lookups": lookups, "types": self.types_of(name)}
            more["features"] = self.purchase_features if name == "purchases" else None
            return clean_purchases(rows, source, self.clock, row_hashes=self.drop_duplicates, **more)
        if name == "items":
            return clean_items(rows, source, self.vector_dim, self.item_features)
        return clean_users(rows, source, self.user_features, self.user_dim)


class PreparedPart(NamedTuple):
    """What one partition of users becomes. held_items: the purchases of each item of a source ``heldout``."""

    events: pa.Table
    heldout: pa.Table
    histories: pa.Table
    rejects: pa.Table
    sales: pa.Table
    segments: pa.Table
    held_items: pa.Table
    counts: pa.Table


class PreparedCatalogue(NamedTuple):
    """What is made of all partitions together."""

    catalogue: pa.Table
    vocabularies: Mapping[str, pa.Table]
    rejects: pa.Table
    counts: pa.Table


class Prepared(NamedTuple):
    """All that the prepare job writes."""

    events: pa.Table
    heldout: pa.Table
    histories: pa.Table
    catalogue: pa.Table
    vocabularies: Mapping[str, pa.Table]
    rejects: pa.Table
    statistics: dict[str, Any]


def counts_of(*rows: tuple[str, str, str, int]) -> pa.Table:
    """``COUNTS`` of (source, kind, reason, n)."""
    return pa.Table.from_pylist([dict(zip(COUNTS.names, r, strict=True)) for r in rows], COUNTS)


def merge_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """Counts summed, sorted by source, kind and reason."""
    keys = [(c, "ascending") for c in COUNTS.names[:3]]
    rows = pa.concat_tables([COUNTS.empty_table(), *tables])
    summed = rows.group_by(COUNTS.names[:3], use_threads=False).aggregate([("n", "sum")]).rename_columns({"n_sum": "n"})
    return summed.select(COUNTS.names).cast(COUNTS).sort_by(keys).combine_chunks()


def count_rejects(rejects: pa.Table) -> pa.Table:
    """``COUNTS`` of rejects by source and reason."""
    counts = rejects.group_by(["source", "reason"], use_threads=False).aggregate([([], "count_all")])
    kind = pa.array(["rejected"] * len(counts), pa.string())
    return pa.table([counts["source"], kind, counts["reason"], counts["count_all"]], schema=COUNTS)


Count = tuple[str, str, str, int]
ITEMS, USERS = ("purchases.item_id", "items.item_id"), ("purchases.user_id", "users.user_id")
HELD_ITEMS, HELD_USERS = ("heldout.item_id", "purchases.item_id"), ("heldout.user_id", "purchases.user_id")
LISTED_ITEMS, LISTED_USERS = ("heldout.item_id", "items.item_id"), ("heldout.user_id", "users.user_id")
JOINS = (ITEMS, USERS, HELD_ITEMS, HELD_USERS, LISTED_ITEMS, LISTED_USERS)
"""The joins of the prepared tables, left and right: ``purchases`` are those before the as-of date, if there are any."""

_JOIN_COUNTS = ("left_ids", "right_ids", "shared_ids", "left_rows", "right_rows", "shared_rows")


def held_items_schema(item: pa.DataType) -> pa.Schema:
    """Items with how often they were held out."""
    return schemas.schema(item_id=item, events=pa.int64())


def count_items(items: Values) -> pa.Table:
    """``held_items_schema`` of the items of purchases."""
    counts = IdCounts.of(items)
    return pa.table([counts.ids, counts.rows], schema=held_items_schema(items.type))


def merge_held_items(tables: Sequence[pa.Table]) -> pa.Table:
    """``held_items_schema`` of several groups of users as one table."""
    rows = pa.concat_tables(tables)
    summed = rows.group_by("item_id", use_threads=False).aggregate([("events", "sum")])
    return summed.rename_columns({"events_sum": "events"}).select(rows.schema.names).cast(rows.schema).combine_chunks()


def _counted(table: pa.Table) -> IdCounts:
    """The items of a table with columns item_id (distinct) and events."""
    return IdCounts(table["item_id"].combine_chunks(), np.asarray(table["events"], np.int64))


def _join_counts(join: Join) -> list[Count]:
    """A join as counts of source left and kind right, which are summed over partitions."""
    return [(join.left, join.right, name, getattr(join, name)) for name in _JOIN_COUNTS]


def _joins(by_kind: Mapping[tuple[str, str], Mapping[str, int]]) -> list[Join]:
    """The joins of merged counts by source and kind, then reason."""
    joins = []
    for left, right in JOINS:
        if (left, right) in by_kind:
            counts = {name: by_kind[left, right][name] for name in _JOIN_COUNTS}
            lacks = sorted(by_kind.get((left, f"{right} lacks"), {}).items(), key=lambda e: (-e[1], e[0]))
            joins.append(Join.of_counts(left, right, counts, dict(lacks[:EXAMPLES])))
    return joins


def prepare_part(
    purchases: pa.Table, users: pa.Table | None, plan: PreparePlan, to_hold_out: pa.Table | None = None
) -> PreparedPart:
    """What becomes of all accepted purchases and listed users of one partition.

    to_hold_out: purchases to judge by, where the plan has a source of them; else ``plan.split`` chooses them.
    """
    events, dropped = sort_and_deduplicate(purchases if plan.timed else with_times(purchases, plan.as_of))
    before, heldout = split_by_time(events, plan.as_of)
    more: list[Count] = []
    if plan.purchases is not None:
        more = [("purchases", "accepted", "", len(events)), ("purchases", "duplicates", "", dropped)]
    inputs: pa.Table | None = None
    if plan.types:
        more = counts_by_source(purchases, events, plan.types)
        (before, inputs, *known), (heldout, _, *later) = (part_events(rows, plan.types) for rows in (before, heldout))
        more += counts_by_type(plan.types, known, later)
    held_items = count_items(before["item_id"].slice(0, 0))
    if plan.split == "last":
        before, heldout = hold_out_last(before)
        inputs = None if inputs is None else before_heldout(inputs, heldout)
        if not plan.timed:
            inputs = None if inputs is None else hold_out_last_position(inputs, heldout, plan.as_of)[0]
            before, heldout = hold_out_last_position(before, heldout, plan.as_of)
    if plan.heldout is not None and to_hold_out is not None:
        if not plan.timed:
            to_hold_out = with_times(to_hold_out, plan.as_of, after=True)
        heldout, again = sort_and_deduplicate(to_hold_out)
        late, early = count_leaks(events, heldout, plan.as_of)
        more += [("heldout", "accepted", "", len(heldout)), ("heldout", "duplicates", "", again)]
        heldout = part_events(heldout, plan.types).purchases if plan.types_of("heldout") else heldout
        held_items = count_items(heldout["item_id"])
        held_join, known = (HELD_USERS, before) if plan.purchases or users is None else (LISTED_USERS, users)
        join = measure_join(*held_join, IdCounts.of(heldout["user_id"]), IdCounts.of(known["user_id"]))
        more += [*_join_counts(join), ("", "late_rows", "", late), ("", "early_rows", "", early)]
    rejects = schemas.REJECTS.empty_table()
    listed = 0
    if plan.users is not None and users is not None:
        users, rejects = one_of_each_id(users, plan.users)
        listed = len(users)
        if plan.purchases is not None:
            more += _join_counts(measure_join(*USERS, IdCounts.of(before["user_id"]), IdCounts.of(users["user_id"])))
    lists = histories(before, users, None if inputs is None else inputs["user_id"])
    lengths = np.asarray(pc.list_value_length(lists["items"]))
    sold = sales(before, plan.as_of, plan.recent_days)
    if inputs is not None:
        lists, sold = with_inputs(lists, inputs, plan.types), with_unsold(sold, inputs["item_id"])
    counts = [
        ("users", "accepted", "", listed),
        ("", "events", "", len(before)),
        ("", "heldout_events", "", len(heldout)),
        *more,
        ("", "inputs", "", 0 if inputs is None else len(inputs)),
        ("", "users", "", len(lists)),
        ("", "users_without_history", "", int((lengths == 0).sum())),
    ]
    segments = vocabulary(lists["segment"])
    return PreparedPart(before, heldout, lists, rejects, sold, segments, held_items, counts_of(*counts))


def prepare_catalogue(
    sold: pa.Table, items: pa.Table | None, segments: pa.Table, held_items: pa.Table, plan: PreparePlan
) -> PreparedCatalogue:
    """The catalogue and vocabularies from merged sales, accepted rows of the items' table, segments and held items."""
    rejects = schemas.REJECTS.empty_table()
    listed = 0
    sold_ids, joins = _counted(sold.filter(pc.greater(sold["events"], 0)) if plan.types else sold), []
    if plan.items is not None and items is not None:
        items, rejects = one_of_each_id(items, plan.items)
        listed = len(items)
    if plan.heldout is not None:
        held_join, known = (HELD_ITEMS, sold_ids)
        if plan.purchases is None and items is not None:
            held_join, known = LISTED_ITEMS, IdCounts.of(items["item_id"])
        joins += _join_counts(measure_join(*held_join, _counted(held_items), known))
    if plan.purchases is not None and items is not None:
        join = measure_join(*ITEMS, sold_ids, IdCounts.of(items["item_id"]))
        joins += _join_counts(join)
        joins += [(join.left, f"{join.right} lacks", example, n) for example, n in join.examples.items()]
    rows = catalogue(sold, items, missing_available=plan.missing == "list")
    unsold = int(pc.sum(pc.equal(rows["events"], 0)).as_py() or 0)
    counts = [("items", "accepted", "", listed), ("", "items", "", len(rows)), ("", "items_without_sales", "", unsold)]
    counts += joins
    vocabularies = {
        "words": words_vocabulary(rows["title"]),
        "categories": vocabulary(rows["category"]),
        "segments": vocabulary(segments["value"], segments["count"]),
    }
    return PreparedCatalogue(rows, vocabularies, rejects, counts_of(*counts))


def sale_span(items: pa.Table) -> pa.Table:
    """The first and last sale of a catalogue, one row."""
    first, last = pc.min(items["first_sale"]), pc.max(items["last_sale"])
    return pa.table({"first_sale": [first.as_py()], "last_sale": [last.as_py()]}, schema=_SPAN)


_SPAN = pa.schema({"first_sale": schemas.TIME, "last_sale": schemas.TIME})


def statistics(
    counts: pa.Table, files: Mapping[str, tuple[int, int]], span: pa.Table, plan: PreparePlan
) -> dict[str, Any]:
    """The content of statistics.json from merged counts, (files, rows) of each input, and the sale span.

    Rows of files, and those that their lists added, ``unnested``, are accepted, duplicates or rejected. Raises
    AssertionError where one is none of them.
    """
    summary: dict[str, Any] = {"as_of": plan.as_of.isoformat(), "sources": {}}
    summary["times"] = "dates" if plan.timed else "order"
    if not plan.timed:
        summary["without_times"] = undated.lines(plan.sources["purchases"].column("order"))
    if plan.purchases is None:
        summary["without_purchases"] = [*vectors.OFF.values()]
    summary.update(user_type=str(plan.user_type), item_type=str(plan.item_type))
    by_kind: dict[tuple[str, str], dict[str, int]] = {}
    for row in counts.to_pylist():
        by_kind.setdefault((row["source"], row["kind"]), {})[row["reason"]] = row["n"]

    def total(source: str, kind: str) -> int:
        return sum(by_kind.get((source, kind), {}).values())

    for name in plan.sources:
        accepted, duplicates = total(name, "accepted"), total(name, "duplicates")
        rejected = by_kind.get((name, "rejected"), {})
        n, rows = files[name]
        unnested = total(name, "unnested")
        whole = rows + unnested
        assert whole == accepted + duplicates + sum(rejected.values()), (name, whole, accepted, duplicates, rejected)
        summary["sources"][name] = {"files": n, "rows": rows, "accepted": accepted, "duplicates": duplicates}
        if unnested:
            summary["sources"][name]["unnested"] = unnested
        summary["sources"][name]["rejected"] = rejected
    if plan.vector_dim is not None:
        summary["vector_dim"] = plan.vector_dim
    if plan.heldout is not None:
        summary["leaks"] = {kind: total("", kind) for kind in ("late_rows", "early_rows")}
    for kind in ("events", "heldout_events", "users", "users_without_history", "items", "items_without_sales"):
        summary[kind] = total("", kind)
    if plan.types:
        summary |= {"inputs": total("", "inputs"), STATISTICS: counts_of_types(plan.types, by_kind)}
    summary["joins"] = [{"line": short_line(join, plan.missing), **join.to_json()} for join in _joins(by_kind)]
    for name in _SPAN.names:
        time = span[name][0].as_py() if plan.timed else None
        summary[name] = None if time is None else time.isoformat()
    return summary


def sorted_rejects(rejects: pa.Table) -> pa.Table:
    """Rejects sorted by source, file and row."""
    return rejects.sort_by([("source", "ascending"), ("file", "ascending"), ("row", "ascending")]).combine_chunks()


def prepare(raw: Mapping[str, pa.Table], plan: PreparePlan, lookups: Mapping[str, pa.Table] | None = None) -> Prepared:
    """Prepare whole inputs in memory: each a table of the columns read, FILE and ROW, by name; look-ups by side."""
    cleaned = {name: plan.clean(name, raw[name], lookups) for name in plan.sources}
    purchases, items, users, heldout = (
        cleaned[name].accepted if name in cleaned else None for name in ("purchases", "items", "users", "heldout")
    )
    bought = [plan.rows("purchases").empty_table() if purchases is None else purchases]
    others = [cleaned[name].accepted for name in plan.events]
    part = prepare_part(pa.concat_tables([*bought, *others]), users, plan, heldout)
    shop = prepare_catalogue(merge_sales([part.sales]), items, part.segments, part.held_items, plan)
    rejects = sorted_rejects(pa.concat_tables([*(c.rejects for c in cleaned.values()), part.rejects, shop.rejects]))
    added = {name: rows_added(table) for name, table in raw.items()}
    unnested = counts_of(*((name, "unnested", "", n) for name, n in added.items() if n))
    counts = merge_counts([unnested, part.counts, shop.counts, count_rejects(rejects)])
    files = {name: (len(table[FILE].unique()), len(table) - added[name]) for name, table in raw.items()}
    summary = statistics(counts, files, sale_span(shop.catalogue), plan)
    return Prepared(part.events, part.heldout, part.histories, shop.catalogue, shop.vocabularies, rejects, summary)
