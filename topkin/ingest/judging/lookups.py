"""What rules over purchases ask of the item and the user: columns of the catalogue and of the users' table.

A rule names them ``item.category``. The rows that it is asked of get a struct column with the named columns, null
throughout where the catalogue does not have the item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids
from topkin.artifacts.partition import hash_ids
from topkin.errors import ConfigError, InputError
from topkin.ingest import readers
from topkin.ingest.contract import InputSource, Inspection, column_findings
from topkin.ingest.files import FILE, ROW
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.sql import SIDES, nearest, side_column

_LATEST = "latest"
HASH, ID, FIELDS = "hash", "id", "fields"
"""Columns of a look-up's table: the canonical id and its hash, a struct of what is asked by the names in the rules."""


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """What rules ask of the items or the users.

    side: ``item`` or ``user``. columns: the name in a rule -> the file's, or one that ``normalise`` makes. read: the
    columns to read. schema: of the look-up's table, sorted by the ids' hashes: so an id is found in it by bisection,
    and no worker builds an index of it.
    """

    side: str
    source: InputSource
    columns: Mapping[str, str]
    read: tuple[str, ...]
    schema: pa.Schema

    @property
    def role(self) -> str:
        """The purchases' id that it is looked up by."""
        return f"{self.side}_id"

    def merged(self, tables: Sequence[pa.Table]) -> pa.Table:
        """Tables of it as one, sorted by hash: of each id the row that counts, as in ``cleaning.one_of_each_id``."""
        rows = pa.concat_tables(tables)
        order = "descending" if self.source.keep == "last" else "ascending"
        by = [(HASH, "ascending"), (ID, "ascending"), (_LATEST, "descending"), (FILE, order), (ROW, order)]
        rows = rows.take(pc.sort_indices(rows, by))
        again = np.zeros(len(rows), bool)
        if len(rows) > 1:
            sorted_ids = rows[ID].combine_chunks()
            again[1:] = np.asarray(pc.equal(sorted_ids[1:], sorted_ids[:-1]))
        return rows.filter(pa.array(~again)).combine_chunks()


def lookups_of(asking: Sequence[Inspection], inputs: Mapping[str, Inspection]) -> dict[str, Lookup]:
    """The look-ups that rules need, by side.

    Args:
        asking: the inspections of purchases and held-out ones.
        inputs: those that there are, by name.

    Raises:
        ConfigError: a rule asks for a section or a column that there is not.
        InputError: some file of the section lacks the column.
    """
    sides: dict[str, dict[str, tuple[str, str]]] = {}
    for inspection in asking:
        rules, read = inspection.source.rules, [inspection.schema.field(c) for c in inspection.columns]
        for side, fields in rules.asked(rules.normalised(pa.schema(read).empty_table()).schema).items():
            for field, key in fields.items():
                sides.setdefault(side, {}).setdefault(field.lower(), (field, key))
    lookups = {}
    for side, asked in sides.items():
        section = SIDES[side]
        if section not in inputs:
            field, key = next(iter(asked.values()))
            raise ConfigError(
                f"{key} asks for {side}.{field}, a column of [{section}], and the configuration has no such section: "
                f"add [{section}] with its path, or take the rule away"
                + (f'; the column of the file is "{side}".{field}' if _has_column(asking, side) else "")
            )
        lookups[side] = _lookup(side, inputs[section], list(asked.values()))
    return lookups


def _lookup(side: str, inspection: Inspection, asked: Sequence[tuple[str, str]]) -> Lookup:
    source, schema = inspection.source, inspection.schema
    normalised = [c for c, _ in source.rules.normalise]
    stored = list(dict.fromkeys(n for s in (schema, *inspection.schemas.values()) for n in s.names))
    names = list(dict.fromkeys([*stored, *normalised]))
    lower = {n.lower(): n for n in reversed(names)}
    columns = {}
    for field, key in asked:
        column = field if field in names else lower.get(field.lower()) or source.columns.get(field.lower())
        if column is None:
            raise ConfigError(
                f"{key} asks for {side}.{field}, and [{source.name}] has no column {field!r}"
                f"{nearest(field, [*names, *source.columns])}; its columns are {', '.join(names)}"
            )
        columns[field] = column
    asking = {columns[field]: key for field, key in asked if columns[field] not in normalised}
    if findings := column_findings(inspection, asking):
        raise InputError("\n".join(map(str, findings)))
    id_column = source.columns[f"{side}_id"]
    latest = [c for c in (source.column("latest_by"),) if c is not None]
    wanted = {id_column, *asking, *latest, *source.rules.columns(schema.names)}
    read = tuple(c for c in schema.names if c in wanted)
    bound = source.rules.bound(pa.schema([schema.field(c) for c in read]))
    struct = pa.struct([pa.field(name, _plain(bound.field(column).type)) for name, column in columns.items()])
    id_type = ids.canonical_type(bound.field(id_column).type)
    table = {HASH: pa.uint64(), ID: id_type, FIELDS: struct, _LATEST: pa.float64(), FILE: pa.string(), ROW: pa.int64()}
    return Lookup(side=side, source=source, columns=columns, read=read, schema=pa.schema(table))


def _plain(t: pa.DataType) -> pa.DataType:
    """A type as DuckDB gives it back: values of a dictionary."""
    return t.value_type if pa.types.is_dictionary(t) else t


def lookup_rows(raw: pa.Table, lookup: Lookup, only: pa.ChunkedArray | None = None) -> pa.Table:
    """``lookup.schema`` of rows of the items or users, read with FILE and ROW, that keep the rules of their section.

    only: ids to which the table is held, so that it is no larger than a sample needs. Raises InputError where a file
    has a column of another type.
    """
    source = lookup.source
    position = {FILE: ids.decoded(raw[FILE]).cast(pa.string()), ROW: raw[ROW]}
    rows = source.rules.normalised(escape_invalid_utf8(raw.drop_columns([FILE, ROW])).rows)
    canonical = ids.canonical(rows[source.columns[lookup.role]])
    kept = (source.rules.broken(rows) < 0) & np.asarray(pc.is_valid(canonical))
    if only is not None:
        kept &= np.asarray(pc.is_in(canonical, value_set=only))
    struct = lookup.schema.field(FIELDS).type
    try:
        fields = [ids.decoded(rows[c]).combine_chunks().cast(struct.field(n).type) for n, c in lookup.columns.items()]
    except pa.ArrowException as e:
        raise InputError(
            f"{source.name}: a column that rules over purchases ask for must have one type in all files, got another "
            f"({e}): write all files with one, or cast it with {source.name}.normalise"
        ) from e
    latest = source.column("latest_by")
    order = pa.array(np.zeros(len(rows))) if latest is None else readers.order_keys(rows[latest])
    values = {
        ID: canonical,
        _LATEST: order,
        FIELDS: pa.StructArray.from_arrays(fields, fields=list(struct)),
        **position,
    }
    table = pa.table(values, schema=lookup.schema.remove(0)).filter(pa.array(kept))
    table = table.add_column(0, lookup.schema.field(0), pa.array(hash_ids(table[ID])))
    return lookup.merged([table])


def joinable(table: pa.Table) -> pa.Table:
    """Of a look-up's merged table what :func:`joined` needs, in one piece."""
    return table.select([HASH, ID, FIELDS]).combine_chunks()


def joined(rows: pa.Table, keys: Mapping[str, pa.ChunkedArray | pa.Array], tables: Mapping[str, pa.Table]) -> pa.Table:
    """The rows with a struct column for each look-up, by the canonical ids of theirs in ``keys``, none of them null."""
    for side, table in tables.items():
        rows = rows.append_column(side_column(side), _whole(table[FIELDS]).take(_places(keys[f"{side}_id"], table)))
    return rows


def _places(keys: pa.ChunkedArray | pa.Array, table: pa.Table) -> pa.Array:
    """The row of each id in a look-up's table, (n,) int64; null where it has none."""
    hashes, known = np.asarray(_whole(table[HASH])), _whole(table[ID])
    wanted = hash_ids(keys)
    order = np.argsort(wanted)
    at, places = np.empty(len(wanted), np.int64), np.full(len(wanted), -1)
    at[order] = np.searchsorted(hashes, wanted[order])
    left = np.arange(len(wanted))
    while len(left):  # again only where several ids have one hash
        left = left[at[left] < len(hashes)]
        left = left[hashes[at[left]] == wanted[left]]
        same = np.asarray(pc.equal(known.take(pa.array(at[left])), keys.take(pa.array(left)))).astype(bool)
        places[left[same]] = at[left[same]]
        left = left[~same]
        at[left] += 1
    return pa.array(places, mask=places < 0)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array: itself where it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _has_column(inspections: Sequence[Inspection], name: str) -> bool:
    return any(name == field.name.lower() for inspection in inspections for field in inspection.schema)
