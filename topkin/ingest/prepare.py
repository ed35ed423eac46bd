"""Prepare in memory: what the prepare job does, as functions of tables; and the counts of where rows went."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import schemas
from topkin.ingest.catalogue import catalogue, merge_sales, sales, vocabulary, words_vocabulary
from topkin.ingest.cleaning import (
    clean_items,
    clean_purchases,
    clean_users,
    first_of_each_id,
    item_rows,
    purchase_rows,
    user_rows,
)
from topkin.ingest.contract import InputSource
from topkin.ingest.events import histories, sort_and_deduplicate, split_by_time
from topkin.ingest.files import FILE
from topkin.ingest.splits import count_leaks, hold_out_last

COUNTS = pa.schema(
    [
        pa.field("source", pa.string(), False),
        pa.field("kind", pa.string(), False),  # accepted, duplicates, rejected, …
        pa.field("reason", pa.string(), False),
        pa.field("n", pa.int64(), False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class PreparePlan:
    """What preparing depends on, beside the rows. ``as_of`` and ``clock`` are naive UTC.

    split: ``time`` or ``last``, see ``config.Prepare``; a source ``heldout`` takes its place. vector_dim: how many
    numbers the items' vectors have, where there are some.
    """

    purchases: InputSource
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

    @property
    def sources(self) -> dict[str, InputSource]:
        """The inputs there are, by name."""
        found = {"purchases": self.purchases, "items": self.items, "users": self.users}
        found["heldout"] = self.heldout
        return {name: source for name, source in found.items() if source is not None}

    def rows(self, name: str) -> pa.Schema:
        """The schema of the accepted rows of an input."""
        if name in ("purchases", "heldout"):
            return purchase_rows(self.user_type, self.item_type, row_hashes=self.drop_duplicates)
        return item_rows(self.item_type, self.vector_dim) if name == "items" else user_rows(self.user_type)


class PreparedPart(NamedTuple):
    """What one partition of users becomes."""

    events: pa.Table
    heldout: pa.Table
    histories: pa.Table
    rejects: pa.Table
    sales: pa.Table
    segments: pa.Table
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
    found = rows.group_by(COUNTS.names[:3], use_threads=False).aggregate([("n", "sum")]).rename_columns({"n_sum": "n"})
    return found.select(COUNTS.names).cast(COUNTS).sort_by(keys).combine_chunks()


def count_rejects(rejects: pa.Table) -> pa.Table:
    """``COUNTS`` of rejects by source and reason."""
    found = rejects.group_by(["source", "reason"], use_threads=False).aggregate([([], "count_all")])
    kind = pa.array(["rejected"] * len(found), pa.string())
    return pa.table([found["source"], kind, found["reason"], found["count_all"]], schema=COUNTS)


def prepare_part(
    purchases: pa.Table, users: pa.Table | None, plan: PreparePlan, given: pa.Table | None = None
) -> PreparedPart:
    """What becomes of all accepted purchases and listed users of one partition.

    given: purchases to hold out, where the plan has a source of them; else ``plan.split`` chooses them.
    """
    events, dropped = sort_and_deduplicate(purchases)
    before, heldout = split_by_time(events, plan.as_of)
    more: list[tuple[str, str, str, int]] = []
    if plan.split == "last":
        before, heldout = hold_out_last(before)
    if plan.heldout is not None and given is not None:
        heldout, again = sort_and_deduplicate(given)
        late, early = count_leaks(events, heldout, plan.as_of)
        more = [("heldout", "accepted", "", len(heldout)), ("heldout", "duplicates", "", again)]
        more += [("", "late_rows", "", late), ("", "early_rows", "", early)]
    rejects = schemas.REJECTS.empty_table()
    listed = 0
    if plan.users is not None and users is not None:
        users, rejects = first_of_each_id(users, plan.users)
        listed = len(users)
    lists = histories(before, users)
    lengths = np.asarray(pc.list_value_length(lists["items"]))
    sold = sales(before, plan.as_of, plan.recent_days)
    counts = [
        ("purchases", "accepted", "", len(events)),
        ("purchases", "duplicates", "", dropped),
        ("users", "accepted", "", listed),
        ("", "events", "", len(before)),
        ("", "heldout_events", "", len(heldout)),
        *more,
        ("", "users", "", len(lists)),
        ("", "users_without_history", "", int((lengths == 0).sum())),
    ]
    return PreparedPart(before, heldout, lists, rejects, sold, vocabulary(lists["segment"]), counts_of(*counts))


def prepare_catalogue(
    sold: pa.Table, items: pa.Table | None, segments: pa.Table, plan: PreparePlan
) -> PreparedCatalogue:
    """The catalogue and vocabularies from merged sales, all accepted rows of the items' table, and segments."""
    rejects = schemas.REJECTS.empty_table()
    listed = 0
    if plan.items is not None and items is not None:
        items, rejects = first_of_each_id(items, plan.items)
        listed = len(items)
    found = catalogue(sold, items)
    unsold = int(pc.sum(pc.equal(found["events"], 0)).as_py() or 0)
    counts = counts_of(
        ("items", "accepted", "", listed),
        ("", "items", "", len(found)),
        ("", "items_without_sales", "", unsold),
    )
    words = {
        "words": words_vocabulary(found["title"]),
        "categories": vocabulary(found["category"]),
        "segments": vocabulary(segments["value"], segments["count"]),
    }
    return PreparedCatalogue(found, words, rejects, counts)


def sale_span(items: pa.Table) -> pa.Table:
    """The first and last sale of a catalogue, one row."""
    first, last = pc.min(items["first_sale"]), pc.max(items["last_sale"])
    return pa.table({"first_sale": [first.as_py()], "last_sale": [last.as_py()]}, schema=_SPAN)


_SPAN = pa.schema([pa.field("first_sale", schemas.TIME), pa.field("last_sale", schemas.TIME)])


def statistics(
    counts: pa.Table, files: Mapping[str, tuple[int, int]], span: pa.Table, plan: PreparePlan
) -> dict[str, Any]:
    """The content of statistics.json from merged counts, (files, rows) of each input, and the sale span.

    Raises AssertionError where a row was neither accepted nor dropped nor rejected.
    """
    found: dict[str, Any] = {"as_of": plan.as_of.isoformat(), "sources": {}}
    found.update(user_type=str(plan.user_type), item_type=str(plan.item_type))
    by_kind: dict[tuple[str, str], dict[str, int]] = {}
    for row in counts.to_pylist():
        by_kind.setdefault((row["source"], row["kind"]), {})[row["reason"]] = row["n"]
    for name in plan.sources:
        accepted = sum(by_kind.get((name, "accepted"), {}).values())
        duplicates = sum(by_kind.get((name, "duplicates"), {}).values())
        rejected = by_kind.get((name, "rejected"), {})
        n, rows = files[name]
        assert rows == accepted + duplicates + sum(rejected.values()), (name, rows, accepted, duplicates, rejected)
        found["sources"][name] = {
            "files": n,
            "rows": rows,
            "accepted": accepted,
            "duplicates": duplicates,
            "rejected": rejected,
        }
    if plan.vector_dim is not None:
        found["vector_dim"] = plan.vector_dim
    if plan.heldout is not None:
        found["leaks"] = {kind: sum(by_kind.get(("", kind), {}).values()) for kind in ("late_rows", "early_rows")}
    for kind in ("events", "heldout_events", "users", "users_without_history", "items", "items_without_sales"):
        found[kind] = sum(by_kind.get(("", kind), {}).values())
    for name in _SPAN.names:
        when = span[name][0].as_py()
        found[name] = None if when is None else when.isoformat()
    return found


def sorted_rejects(rejects: pa.Table) -> pa.Table:
    """Rejects sorted by source, file and row."""
    return rejects.sort_by([("source", "ascending"), ("file", "ascending"), ("row", "ascending")]).combine_chunks()


def prepare(raw: Mapping[str, pa.Table], plan: PreparePlan) -> Prepared:
    """Prepare whole inputs in memory: each a table of the columns read, FILE and ROW, by name."""
    purchases = clean_purchases(raw["purchases"], plan.purchases, plan.clock, row_hashes=plan.drop_duplicates)
    rejects = [purchases.rejects]
    items = users = None
    if plan.items is not None:
        items, bad = clean_items(raw["items"], plan.items, plan.vector_dim)
        rejects.append(bad)
    if plan.users is not None:
        users, bad = clean_users(raw["users"], plan.users)
        rejects.append(bad)
    given = None
    if plan.heldout is not None:
        given, bad = clean_purchases(raw["heldout"], plan.heldout, plan.clock, row_hashes=plan.drop_duplicates)
        rejects.append(bad)
    part = prepare_part(purchases.accepted, users, plan, given)
    shop = prepare_catalogue(merge_sales([part.sales]), items, part.segments, plan)
    every = sorted_rejects(pa.concat_tables([*rejects, part.rejects, shop.rejects]))
    counts = merge_counts([part.counts, shop.counts, count_rejects(every)])
    files = {name: (len(table[FILE].unique()), len(table)) for name, table in raw.items()}
    stated = statistics(counts, files, sale_span(shop.catalogue), plan)
    return Prepared(part.events, part.heldout, part.histories, shop.catalogue, shop.vocabularies, every, stated)
