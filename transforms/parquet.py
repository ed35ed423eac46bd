"""Parquet to tables and back, on every filesystem that Beam or pyarrow reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection

from topkin import storage
from topkin.inputs import ArrowFiles, File, batches, in_folder, opened


class AnyFiles:
    """Local paths and ``file://`` by pyarrow, every other scheme by Beam's filesystems; see ``inputs.Files``."""

    def find(self, path: str) -> list[File]:
        """The files that a path, folder or glob means, sorted by path."""
        if _is_local(path):
            return ArrowFiles().find(path)
        folder = path.rstrip("/")
        found = {m.path: m for m in FileSystems.match([path])[0].metadata_list if not m.path.endswith("/")}
        if not found:
            inside = {m.path: m for m in FileSystems.match([f"{folder}/**"])[0].metadata_list}
            found = {name: inside[name] for name in in_folder(list(inside), folder)}
        return [File(m.path, m.size_in_bytes, m.last_updated_in_seconds or None) for _, m in sorted(found.items())]

    def open(self, path: str) -> Any:
        """A seekable binary file."""
        if _is_local(path):
            return ArrowFiles().open(path)
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def _is_local(path: str) -> bool:
    return "://" not in path or path.startswith("file://")


@dataclass
class ReadFromParquetBatched(beam.PTransform):
    """Some columns of Parquet files as tables, with the columns inputs.FILE and inputs.ROW added.

    A split is a run of row groups with about ``split_rows`` rows; a table has at most ``batch_rows`` rows and
    about ``batch_bytes`` bytes. ``source`` is what messages call the input.
    """

    source: str
    paths: Sequence[str]
    columns: Sequence[str]
    split_rows: int = 1 << 20
    batch_rows: int = 1 << 17
    batch_bytes: int = 64 << 20

    def _splits(self, path: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """The path with the first row group and the one after the last."""
        with opened(self.source, path, AnyFiles()) as file:
            meta = file.metadata
            first = rows = 0
            for group in range(meta.num_row_groups):
                rows += meta.row_group(group).num_rows
                if rows >= self.split_rows or group == meta.num_row_groups - 1:
                    yield path, (first, group + 1)
                    first, rows = group + 1, 0

    def _rows(self, path: str) -> int:
        """Rows that make a batch."""
        with opened(self.source, path, AnyFiles()) as file:
            meta, wanted, size = file.metadata, set(self.columns), 0
            for group in range(meta.num_row_groups):
                chunks = (meta.row_group(group).column(c) for c in range(meta.num_columns))
                size += sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in wanted)
            a_row = size / max(meta.num_rows, 1)
        return int(min(self.batch_rows, max(1024, self.batch_bytes / max(a_row, 1))))

    def _read(self, path: str, groups: tuple[int, int]) -> Iterator[pa.Table]:
        rows, counter = self._rows(path), Metrics.counter("topkin", f"{self.source}_rows_read")
        for table in batches(self.source, path, AnyFiles(), self.columns, groups=range(*groups), rows=rows):
            counter.inc(len(table))
            yield table

    def expand(self, start: Any) -> PCollection:
        return (
            start
            | "Paths" >> beam.Create(list(self.paths))
            | "Splits" >> beam.FlatMap(self._splits).with_output_types(tuple[str, tuple[int, int]])
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMapTuple(self._read).with_output_types(pa.Table)
        )


@dataclass
class WriteToParquetBatched(beam.PTransform):
    """(part, table) to one file in ``folder`` for each part, named by ``storage.part_name``; gives the paths.

    Written again, a part replaces itself with the same bytes.
    """

    folder: str
    parts: int

    def _write(self, part: int, table: pa.Table) -> str:
        path = storage.join(self.folder, storage.part_name(part, self.parts))
        storage.write_parquet(table, path)
        Metrics.counter("topkin", "rows_written").inc(len(table))
        return path

    def expand(self, tables: PCollection) -> PCollection:
        return tables | "Write" >> beam.MapTuple(self._write).with_output_types(str)
