"""The joins of the configured inputs, measured on their files: on all rows where that is cheap, else on a sample."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids
from topkin.config.sections import Settings
from topkin.config.shop.lists import of_list
from topkin.errors import InputError, TopkinError
from topkin.ingest.contract import InputSource, Inspection
from topkin.ingest.files import FILE, ROW, Files, batches, opened
from topkin.ingest.joins.measure import FEW, IdCounts, Join, measure_join
from topkin.ingest.joins.spelling import Merging, Spelling, suggest_join
from topkin.ingest.joins.words import FAILED, SHOP, NamedColumn, advice, left_line, lines_of_join
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.values.type_cures import normalise_key

WHOLE = 1_000_000  # rows up to which all are looked at
SAMPLED, PIECES = 200_000, 16  # rows of a larger input, and of how many row groups

JOINS = (
    ("purchases", "items", "item_id"),
    ("purchases", "users", "user_id"),
    ("heldout", "purchases", "item_id"),
    ("heldout", "purchases", "user_id"),
)
"""Left, right and role of the joins between inputs."""

LISTED = (("heldout", "items", "item_id"), ("heldout", "users", "user_id"))
"""Those without purchases."""


def joins_of(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Those between all inputs that there are, events too."""
    if "purchases" not in (names := list(names)):
        return list(LISTED)
    events = [("purchases", n, role) for n in names if n.startswith("events.") for role in ("item_id", "user_id")]
    return [*JOINS, *events]


class IdColumn(NamedTuple):
    """The ids of a column of an input after its rules: of all rows (``whole``) or of a sample."""

    name: NamedColumn
    counts: IdCounts
    whole: bool


class MeasuredJoin(NamedTuple):
    """A join, its columns, and what would mend it. of: the list of ``[lists]`` whose item list it is of."""

    join: Join
    left: NamedColumn
    right: NamedColumn
    suggestion: Spelling | Merging | None
    of: str = ""

    def lines(self, settings: Settings) -> list[str]:
        """The shares, what would mend them where no fault says so, and what becomes of ids on one side, or twice."""
        first, *others = lines_of_join(self.join, settings)
        mend = None if self.fault is not None else advice(self.join, self.left, self.right, self.suggestion)
        return [of_list(self.of, line) for line in (f"{first}: {mend}" if mend else first, *others)]

    @property
    def fault(self) -> InputError | None:
        """What is wrong where nearly no id of the left side is on the right.

        Sold items that the catalogue lacks would all be listed beside its own, and an allow-list without items allows
        nothing. Users, purchases to judge by and denied items may well be others: with them it is a fault only where
        the spelling is all that differs.
        """
        join = self.join
        outcome = FAILED.get((join.left, join.right), "") if join.left_ids >= FEW else ""
        if not join.fails or not (outcome or isinstance(self.suggestion, Spelling)):
            return None
        if join.right == SHOP and not (join.right_whole or isinstance(self.suggestion, Spelling)):
            return None
        mend = advice(join, self.left, self.right, self.suggestion)
        cure = mend or f"set {join.left} and {join.right} to columns with the same ids"
        if join.right == SHOP and not mend:
            cure = "write the list with ids of the purchases or of the catalogue"
        such = f": they are such as {', '.join(join.examples)}, those such as {', '.join(join.right_examples)}"
        key = join.left if join.right == SHOP else join.right
        return InputError(of_list(self.of, f"{key}: {left_line(join)}{outcome}{such}; {cure}"))

    @property
    def mends(self) -> dict[tuple[str, str], str]:
        """By section and column the expressions that make the columns meet; none where there is none."""
        if not isinstance(self.suggestion, Spelling):
            return {}
        sides = {"left": self.left, "right": self.right}
        settings = [(sides[side], form) for side, form in self.suggestion.changes.items()]
        return {(name.section, name.column): name.setting(form)[1] for name, form in settings}


def named_column(source: InputSource, role: str) -> NamedColumn:
    """The column of a role, as messages name it."""
    column = source.columns[role]
    expressions = {c: e.text for c, e in source.rules.normalise}
    return NamedColumn(source.name, column, expressions.get(column))


def read_ids(inspection: Inspection, role: str, files: Files) -> IdColumn:
    """The ids of an input, of rows that its rules keep. Raises ConfigError where an expression fails on a row."""
    source = inspection.source
    tables = _rows(inspection, _read_for(inspection, role), files)
    pieces = [ids.canonical(_kept(source, rows)[source.columns[role]]) for rows in tables]
    values = pa.chunked_array([c for piece in pieces for c in piece.chunks], inspection.types[role])
    return IdColumn(named_column(source, role), IdCounts.of(values), inspection.rows_judged <= WHOLE)


def _read_for(inspection: Inspection, role: str) -> list[str]:
    """The columns that the ids of a role need: their own, and those of all expressions."""
    source, available = inspection.source, inspection.columns
    needed = {source.columns[role], *source.rules.columns(available)}
    return [c for c in available if c in needed]


def _kept(source: InputSource, rows: pa.Table) -> pa.Table:
    """The normalised rows that break no configured rule; those that ask the item or the user are left out."""
    rows = source.rules.normalised(rows)
    if not source.rules.rules:
        return rows
    return rows.filter(pa.array(source.rules.of_rows(rows.schema).broken(rows) < 0))


def _rows(inspection: Inspection, columns: list[str], files: Files) -> Iterator[pa.Table]:
    """All rows of an input, or the first of some row groups spread over all its files."""
    name, whole = inspection.source.name, inspection.rows_judged <= WHOLE
    if whole:
        for file in inspection.files:
            for rows in batches(name, file, files, columns, rows=1 << 17):
                yield escape_invalid_utf8(rows.drop_columns([FILE, ROW])).rows
        return
    with_rows = [f for f in inspection.files if f.rows]
    picked = np.linspace(0, inspection.rows - 1, PIECES).astype(np.int64)
    ends = np.cumsum([f.rows for f in with_rows])
    seen: set[tuple[str, int]] = set()
    for at in picked.tolist():
        number = int(np.searchsorted(ends, at, side="right"))
        file = with_rows[number]
        with opened(name, file.path, files) as parquet:
            meta = parquet.metadata
            groups = np.cumsum([meta.row_group(g).num_rows for g in range(meta.num_row_groups)])
        group = int(np.searchsorted(groups, at - (int(ends[number]) - file.rows), side="right"))
        if (file.path, group) in seen:
            continue
        seen.add((file.path, group))
        for rows in batches(name, file, files, columns, groups=[group], rows=SAMPLED // PIECES):
            yield escape_invalid_utf8(rows.drop_columns([FILE, ROW])).rows
            break


def input_joins(
    inspections: Mapping[str, Inspection], files: Callable[[str], Files], only: str = ""
) -> list[MeasuredJoin]:
    """The joins between the inputs that there are, whose ids may be of two types.

    files: what opens the files of an input's path. only: the role whose joins are wanted, by default both. Raises
    TopkinError where rows cannot be read.
    """
    columns: dict[tuple[str, str], IdColumn] = {}
    joins = []
    for left, right, role in joins_of(inspections):
        if left in inspections and right in inspections and only in ("", role):
            for name in (left, right):
                if (name, role) not in columns:
                    source = inspections[name].source
                    columns[name, role] = read_ids(inspections[name], role, files(source.path))
            joins.append(measured(f"{left}.{role}", columns[left, role], f"{right}.{role}", columns[right, role]))
    return joins


def measured(left_key: str, left: IdColumn, right_key: str, right: IdColumn) -> MeasuredJoin:
    """Two columns joined, and what would mend what they lack."""
    whole = {"left_whole": left.whole, "right_whole": right.whole}
    join = measure_join(left_key, right_key, left.counts, right.counts, **whole)
    suggestion = suggest_join(left.counts, right.counts) if join.missing_ids else None
    return MeasuredJoin(join, left.name, right.name, suggestion)


def unavailable_fault(inspection: Inspection, files: Files) -> InputError | None:
    """What is wrong where no item of the whole catalogue is available; reads until the first that is."""
    source = inspection.source
    column = source.column("available")
    if column is None:
        return None
    for file in inspection.files:
        for rows in batches(source.name, file, files, _read_for(inspection, "available"), rows=1 << 16):
            kept = _kept(source, escape_invalid_utf8(rows.drop_columns([FILE, ROW])).rows)
            if pc.any(pc.fill_null(ids.decoded(kept[column]), True)).as_py():
                return None
    return InputError(
        f"{inspection.files[0].path}: column {column!r} (items.available) must be true for some item, got false in all "
        f"{inspection.rows:,} rows, so that none of them could be recommended: name the column that says what is sold "
        f"now, turn it round by items.normalise, or drop items.available"
    )


def faults_of_types(inspections: Mapping[str, Inspection], files: Callable[[str], Files]) -> list[TopkinError]:
    """What is wrong with ids that are of another type than the purchases', and the expression that makes them meet.

    Without purchases those held out meet the items and the users.
    """
    faults: list[TopkinError] = []
    for left, right, role in joins_of(inspections):
        name, known = (right, left) if left == "purchases" else (left, right)
        if any(n not in inspections or inspections[n].findings for n in (name, known)):
            continue
        one, other = (inspections[n].types.get(role) for n in (name, known))
        if one != other:
            source, wanted = inspections[name].source, inspections[known].source.columns[role]
            column = source.columns[role]
            try:
                two = {n: inspections[n] for n in (left, right)}
                joined = next(j for j in input_joins(two, files, role) if j.join.right == f"{right}.{role}")
            except TopkinError as e:
                faults.append(e)
                continue
            mend = advice(joined.join, joined.left, joined.right, joined.suggestion)
            cure = mend or f"write both with one type, or set {normalise_key(name, column)}"
            place = f"{inspections[name].files[0].path}: column {column!r} ({name}.{role})"
            faults.append(InputError(f"{place} is {one}, but {known} have {other} in {wanted!r}: {cure}"))
    return faults


def table_joins(inspections: Mapping[str, Inspection], tables: Mapping[str, pa.Table]) -> list[MeasuredJoin]:
    """As :func:`input_joins`, of whole tables in memory, by name: their columns read, their texts readable.

    Raises ConfigError where an expression fails.
    """
    joins = []
    for left, right, role in joins_of(tables):
        if left in tables and right in tables:
            columns = []
            for name in (left, right):
                source = inspections[name].source
                rows = _kept(source, tables[name].select(_read_for(inspections[name], role)))
                counts = IdCounts.of(ids.canonical(rows[source.columns[role]]))
                columns.append(IdColumn(named_column(source, role), counts, whole=True))
            joins.append(measured(f"{left}.{role}", columns[0], f"{right}.{role}", columns[1]))
    return joins


def measured_joins(
    inspections: Mapping[str, Inspection], files: Callable[[str], Files]
) -> tuple[list[MeasuredJoin], list[TopkinError]]:
    """The joins, and what is wrong where inputs do not meet, cannot be read, or no item is available."""
    try:
        joins = input_joins(inspections, files)
        faults: list[TopkinError | None] = [joined.fault for joined in joins]
        if "items" in inspections:
            faults.append(unavailable_fault(inspections["items"], files(inspections["items"].source.path)))
    except TopkinError as e:
        return [], [e]
    return joins, [fault for fault in faults if fault is not None]


def list_joins(
    lists: Mapping[str, pa.ChunkedArray], inspections: Mapping[str, Inspection], files: Callable[[str], Files]
) -> list[MeasuredJoin]:
    """How the ids of item lists, by ``allow`` and ``deny``, meet the items that are sold or in the catalogue."""
    if not lists:
        return []
    columns = [
        read_ids(inspections[name], "item_id", files(inspections[name].source.path))
        for name in ("purchases", "items")
        if name in inspections
    ]
    known = pa.chunked_array([column.counts.ids for column in columns])
    shop = IdColumn(NamedColumn(SHOP, "item_id"), IdCounts.of(known), all(column.whole for column in columns))
    joins = []
    for name, values in lists.items():
        listed = IdColumn(NamedColumn("recommend", f"{name}_column"), IdCounts.of(values), whole=True)
        joins.append(measured(f"recommend.{name}", listed, SHOP, shop))
    return joins
