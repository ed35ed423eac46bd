"""A sample of an input's rows, from all of its files: what ``check`` judges an input by."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from topkin.ingest.contract import Inspection
from topkin.ingest.files import ROW, batches, opened
from topkin.ingest.folders.file import File, Files

ROWS, BYTES, GROUPS, DECODED = 200_000, 128 << 20, 256, 5
"""Most rows of a sample, its bytes, row groups that it comes from, and rows decoded for each that is kept."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Group:
    """A row group of a file, by its number there."""

    file: File
    number: int
    rows: int


def sample_rows(inspection: Inspection, files: Files, rows: int = ROWS) -> list[pa.Table]:
    """Rows of an input as its reader gives them, with FILE and ROW: a table for each schema that its files have.

    All of them where there are at most ``rows``. Else some of each row group or, where there are more of these than
    GROUPS, of so many spread evenly over the files: drawn at random from the first rows of each, always the same ones.
    Wide rows make it smaller, and lists, each of which is there as a whole or not at all: its elements are rows.
    """
    some = [f for f in inspection.files if f.rows]
    if not some:
        return []
    name, columns = inspection.source.name, inspection.columns
    first = next(t for t in batches(name, some[0], files, columns, rows=1024) if len(t))
    rows = max(1, min(rows, BYTES * len(first) // max(first.nbytes, 1)))
    tables = []
    if inspection.rows_judged <= rows:
        for file in some:
            tables += list(batches(name, file, files, columns, rows=1 << 17))
        return _by_schema(tables)
    rows = max(1, rows * inspection.rows // inspection.rows_judged)
    groups = _spread(_groups(name, some, files), GROUPS)
    total = sum(g.rows for g in groups)

    def draw(group: _Group) -> list[pa.Table]:
        head = max(1, min(group.rows, DECODED * rows * group.rows // total))
        rng = np.random.default_rng([group.number, group.rows])
        chosen = np.sort(rng.choice(head, max(1, min(head, rows * group.rows // total)), replace=False))
        drawn, start = [], -1
        for table in batches(name, group.file, files, columns, groups=[group.number], rows=min(head, 1 << 14)):
            numbers = np.asarray(table[ROW])
            start = int(numbers[0]) if start < 0 else start
            drawn.append(table.filter(pa.array(np.isin(numbers - start, chosen))))
            if numbers[-1] - start + 1 >= head:
                break
        return drawn

    with ThreadPoolExecutor(8) as pool:
        return _by_schema([table for drawn in pool.map(draw, groups) for table in drawn])


def _by_schema(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """The tables with rows, those of one schema as one: widths and units may differ between files."""
    alike: dict[str, list[pa.Table]] = {}
    for table in tables:
        if len(table):
            alike.setdefault(str(table.schema), []).append(table)
    return [pa.concat_tables(some) for some in alike.values()]


def _groups(name: str, some: Sequence[File], files: Files) -> list[_Group]:
    """The row groups with rows; of very many files those of some, spread evenly."""
    groups = []
    for file in _spread(some, GROUPS):
        with opened(name, file.path, files) as parquet:
            meta = parquet.metadata
            sizes = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
        groups += [_Group(file, number, n) for number, n in enumerate(sizes) if n]
    return groups


def _spread(values: Sequence[T], n: int) -> list[T]:
    """At most n of the values, evenly spread, the first and the last among them."""
    if len(values) <= n:
        return list(values)
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, n).round().astype(int))]
