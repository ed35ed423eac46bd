"""Items without purchases: what preparing them for an encoder depends on, and what becomes of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from topkin.artifacts import ids, schemas
from topkin.config.items_run import ItemsRunSettings
from topkin.ending.expressions import Limits
from topkin.ingest.cleaning import Cleaned, clean_encoder_items, encoder_item_rows, one_of_each_id
from topkin.ingest.contract import InputSource
from topkin.ingest.judging.lookups import Lookup
from topkin.ingest.prepare import counts_of
from topkin.ingest.readers import INPUT
from topkin.ingest.rules import Rules
from topkin.ingest.sql import Expression, query, quoted

ROLES = ("item_id", "title", "category", "price", "available", "label", "latest_by")
OWN = ("item_id", "label")
"""Columns of the prepared rows beside what feeds the encoder; an input may not have their names."""


class Feed(NamedTuple):
    """What feeds an input of an encoder: a column or an SQL expression over the row, and whether it is a path."""

    name: str
    column: str
    is_path: bool = False


def items_sources(
    settings: ItemsRunSettings, feeds: Sequence[Feed] = (), stored: Sequence[str] = ()
) -> dict[str, InputSource]:
    """The inputs by name: items, and queries where there are some, with the columns that feed the encoder.

    stored: the columns that the items' files have; what is none of them, nor looks like one, is an expression.
    """
    items, queries = settings.items, settings.queries
    limits = Limits(settings.prepare.rule_seconds, settings.prepare.rule_memory)
    columns = {role: c for role in ROLES if (c := getattr(items, role)) is not None}
    computed = [f for f in feeds if f.column not in stored and not f.column.isidentifier()]
    computed_rules = tuple(
        (f"{INPUT}{f.name}", Expression(f"encoder.inputs.{f.name}", f.column, limits)) for f in computed
    )
    columns |= {f"{INPUT}{f.name}": f"{INPUT}{f.name}" if f in computed else f.column for f in feeds}

    def source(name: str, section: Any, own: Mapping[str, str]) -> InputSource:
        rules = Rules.of(name, section.normalise, section.rules, limits=limits)
        return InputSource(
            name=name,
            path=section.path,
            columns=own,
            rules=Rules((*rules.normalise, *computed_rules), rules.rules),
            keep=items.duplicates,
            record=settings.rejects.record,
        )

    inputs = {"items": source("items", items, columns)}
    if queries is not None:
        own = {role: c for role, c in columns.items() if role not in ("available", "latest_by")}
        inputs["queries"] = source("queries", queries, {**own, "item_id": queries.item_id or items.item_id})
    return inputs


@dataclass(frozen=True, kw_only=True)
class ItemsPlan:
    """What preparing items for an encoder depends on, beside the rows.

    sources: items, and queries where there are some. id_types: what their ids are kept as. inputs: the type of what
    feeds each input, by role. paths: the roles whose texts are paths of files.
    """

    sources: Mapping[str, InputSource]
    id_types: Mapping[str, pa.DataType]
    inputs: Mapping[str, pa.DataType]
    paths: Sequence[str] = ()
    lookups: Mapping[str, Lookup] = field(default_factory=dict)

    def rows(self, name: str) -> pa.Schema:
        """The schema of the accepted rows of an input."""
        latest = "latest_by" in self.sources[name].columns
        return encoder_item_rows(self.id_types[name], self.inputs, latest=latest)

    def clean(self, name: str, rows: pa.Table, lookups: Mapping[str, pa.Table] | None = None) -> Cleaned:
        """Clean rows of an input, with FILE and ROW; items ask no look-ups."""
        return clean_encoder_items(rows, self.sources[name], self.rows(name), self.paths)


def kept_type(t: pa.DataType) -> pa.DataType:
    """The type in which what feeds an encoder is kept: bytes of any length with offsets that have room."""
    t = ids.storage(t)
    if pa.types.is_binary(t) or pa.types.is_binary_view(t):
        return pa.large_binary()
    if pa.types.is_string_view(t):
        return pa.string()
    return pa.float32() if pa.types.is_float16(t) else t


def feeds_schema(plan: ItemsPlan, name: str) -> pa.Schema:
    """The prepared rows of an input: :data:`OWN`, then what feeds the encoder by the names of its inputs."""
    feeds = [pa.field(role.removeprefix(INPUT), t) for role, t in plan.inputs.items()]
    return pa.schema([*schemas.schema("label", item_id=plan.id_types[name], label=pa.string()), *feeds])


def labelled_catalogue(item: pa.DataType) -> pa.Schema:
    """``schemas.catalogue`` of items without sales, and their label."""
    return schemas.catalogue(item).append(pa.field("label", pa.string()))


def row_hashes(rows: pa.Table) -> np.ndarray:
    """A hash of each row's values, nested ones too, (n,) uint64: alike within one process alone."""
    named = ", ".join(quoted(name) for name in rows.column_names)
    return np.asarray(query(f"SELECT hash({named}) AS found FROM rows", rows)["found"]).astype(np.uint64)


class ItemsPart(NamedTuple):
    """What one partition of an input becomes: rows of ``feeds_schema`` and of the catalogue, sorted by id."""

    feeds: pa.Table
    catalogue: pa.Table
    rejects: pa.Table
    counts: pa.Table


def prepare_items_part(rows: pa.Table, name: str, plan: ItemsPlan) -> ItemsPart:
    """What becomes of all accepted rows of one partition of an input: one row an id, the others rejected."""
    kept, rejects = one_of_each_id(rows, plan.sources[name])
    schema = feeds_schema(plan, name)
    feeds = kept.select([*OWN, *plan.inputs]).rename_columns(schema.names).cast(schema)
    known = labelled_catalogue(plan.id_types[name])
    n = len(kept)
    unsold = {f.name: pa.array(np.zeros(n, np.int64)) for f in known if f.type == pa.int64() and f.name != "item_id"}
    never = {f.name: pa.nulls(n, f.type) for f in known if f.type == schemas.TIME}
    columns = {f.name: kept[f.name] for f in known if f.name in kept.column_names} | unsold | never
    catalogue = pa.table([columns[c] for c in known.names], schema=known)
    return ItemsPart(feeds, catalogue, rejects, counts_of((name, "accepted", "", n)))


def merge_catalogues(tables: Iterable[pa.Table]) -> pa.Table:
    """The catalogue's rows of several partitions, sorted by id."""
    return pa.concat_tables(list(tables)).sort_by("item_id").combine_chunks()


def items_statistics(
    counts: pa.Table, files: Mapping[str, tuple[int, int]], labels: Mapping[str, int], plan: ItemsPlan
) -> dict[str, Any]:
    """The content of statistics.json: as of a run over purchases, what came of the rows of each input.

    files: (files, rows) of each input. labels: distinct labels of each. Raises AssertionError where a row is neither
    accepted nor rejected.
    """
    summary: dict[str, Any] = {"sources": {}, "item_type": str(plan.id_types["items"])}
    of_source: dict[str, dict[str, dict[str, int]]] = {}
    for row in counts.to_pylist():
        of_source.setdefault(row["source"], {}).setdefault(row["kind"], {})[row["reason"]] = row["n"]
    for name in plan.sources:
        by_kind = of_source.get(name, {})
        accepted, rejected = sum(by_kind.get("accepted", {}).values()), by_kind.get("rejected", {})
        n, rows = files[name]
        assert rows == accepted + sum(rejected.values()), (name, rows, accepted, rejected)
        source = {"files": n, "rows": rows, "accepted": accepted, "duplicates": 0, "rejected": rejected}
        summary["sources"][name] = source
        summary[name] = accepted
    if "label" in plan.sources["items"].columns:
        summary["labels"] = labels["items"]
    return summary
