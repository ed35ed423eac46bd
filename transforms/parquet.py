"""Parquet to tables and back, on every filesystem of :mod:`topkin.artifacts.storage`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PBegin, PCollection

from topkin.artifacts import storage
from topkin.ingest.files import ArrowFiles, File, batches, opened
from topkin.ingest.values.baskets import file_columns, rows_added
from topkin.transforms.counters import counted


class RowGroupSplit(NamedTuple):
    """A run of a file's row groups, read by one worker. ``name`` is the same whenever the same files are read."""

    name: str
    file: File
    first: int
    end: int
    """The row group after the last."""


@dataclass
class ParquetSplits(beam.PTransform):
    """Parquet files to splits of about ``rows`` rows; a row group is never cut. ``source``: what messages call them."""

    source: str
    files: Sequence[File]
    rows: int = 1 << 20

    def _splits(self, number: int, file: File) -> Iterator[RowGroupSplit]:
        with opened(self.source, file.path, ArrowFiles()) as parquet:
            first = rows = 0
            for group in range(parquet.num_row_groups):
                rows += parquet.metadata.row_group(group).num_rows
                if rows >= self.rows or group == parquet.num_row_groups - 1:
                    yield RowGroupSplit(f"{number:06d}-{first:06d}", file, first, group + 1)
                    first, rows = group + 1, 0

    def expand(self, start: PBegin) -> PCollection:
        return (
            start
            | "Files" >> beam.Create(list(enumerate(self.files)))
            | "Splits" >> beam.FlatMapTuple(self._splits).with_output_types(RowGroupSplit)
            | "Spread" >> beam.Reshuffle()
        )


def read_split(
    source: str,
    split: RowGroupSplit,
    columns: Sequence[str],
    *,
    rows: int = 1 << 17,
    size: int = 64 << 20,
    least: int = 1024,
) -> Iterator[pa.Table]:
    """Some columns of a split as tables of at most ``rows`` rows and about ``size`` bytes; see ``batches``.

    least: rows of a table however large they are, but for the last of a row group.
    """
    counter = Metrics.counter("topkin", f"{source}_rows_read")
    rows = _bounded(source, split.file.path, columns, rows, size, least)
    for table in batches(source, split.file, ArrowFiles(), columns, groups=range(split.first, split.end), rows=rows):
        counter.inc(len(table) - rows_added(table))
        yield table


def _bounded(source: str, path: str, columns: Sequence[str], rows: int, size: int, least: int) -> int:
    """Rows that make a batch."""
    with opened(source, path, ArrowFiles()) as file:
        meta, wanted, total = file.metadata, set(file_columns(columns, file.schema_arrow.names)), 0
        for group in range(meta.num_row_groups):
            chunks = (meta.row_group(group).column(c) for c in range(meta.num_columns))
            total += sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in wanted)
        a_row = total / max(meta.num_rows, 1)
    return int(min(rows, max(least, size / max(a_row, 1))))


@dataclass
class WriteToParquetBatched(beam.PTransform):
    """(part, table) to one file in ``folder`` for each part, named by ``storage.part_name``; gives the paths.

    Written again, a part replaces itself with the same bytes.
    """

    folder: str
    parts: int

    @counted
    def _write(self, part: int, table: pa.Table) -> str:
        path = storage.join(self.folder, storage.part_name(part, self.parts))
        storage.write_parquet(table, path)
        Metrics.counter("topkin", "rows_written").inc(len(table))
        return path

    def expand(self, tables: PCollection) -> PCollection:
        return tables | "Write" >> beam.MapTuple(self._write).with_output_types(str)
