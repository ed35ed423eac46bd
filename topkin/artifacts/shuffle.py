"""Tables moved to their partition through files: a shuffle whose memory does not grow with the rows.

Whoever reads rows writes them into one file, ordered by partition; whoever works on a partition reads its rows of
every such file and no other byte. What travels between workers is the files' names. A file is named by
what it was made of, and appears whole: made again, it replaces itself with the same bytes.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.partition import partition_of, split_by_partition

CHUNK_ROWS, CHUNK_BYTES = 1 << 20, 256 << 20
"""Rows, or bytes, that are gathered before they are written."""


class PartFile:
    """Writes tables of one schema, ordered by the partition of an id column, into an Arrow IPC file.

    A context manager; without a row there is no file. Of the file's record batches, number n holds rows of
    partition n % parts, in the order in which they came. numbered: the column holds partitions' numbers, not ids.
    """

    def __init__(self, path: str, schema: pa.Schema, column: str, parts: int, *, numbered: bool = False) -> None:
        self.path, self.rows = path, 0
        self._schema, self._column, self._parts, self._numbered = schema, column, parts, numbered
        self._tables: list[pa.Table] = []
        self._open = ExitStack()
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:
            if self._tables:
                self._write()

    def sent(self) -> list[str]:
        """The path, once the file is there."""
        return [self.path] if self.rows else []

    def add(self, table: pa.Table) -> None:
        """Write a table's rows, now or with the next."""
        if len(table):
            self._tables.append(table)
            self.rows += len(table)
        if sum(map(len, self._tables)) >= CHUNK_ROWS or sum(t.nbytes for t in self._tables) >= CHUNK_BYTES:
            self._write()

    def _write(self) -> None:
        table = pa.concat_tables(self._tables).combine_chunks()
        self._tables = []
        if self._writer is None:
            stream = self._open.enter_context(storage.atomic_write(self.path, durable=False))
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = self._open.enter_context(pa.ipc.new_file(stream, self._schema, options=options))
        column = table[self._column]
        part = column.to_numpy() if self._numbered else partition_of(column, self._parts)
        table = table.take(pa.array(np.argsort(part.astype(np.min_scalar_type(self._parts)), kind="stable")))
        ends = np.cumsum(np.bincount(part, minlength=self._parts))
        no_rows = pa.RecordBatch.from_pylist([], self._schema)
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            self._writer.write_batch(next(iter(table.slice(start, end - start).to_batches()), no_rows))


class PartTables:
    """The same rows, held until they are asked for: for an engine that moves tables itself. name: as a file's path."""

    def __init__(self, name: str, schema: pa.Schema, column: str, parts: int) -> None:
        self.name, self.rows = name, 0
        self._column, self._parts, self._tables = column, parts, [schema.empty_table()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def add(self, table: pa.Table) -> None:
        """Hold a table's rows."""
        self._tables.append(table)
        self.rows += len(table)

    def sent(self) -> list[tuple[int, tuple[str, pa.Table]]]:
        """(part, (name, its rows in the order in which they came)) of each part that has some."""
        table = pa.concat_tables(self._tables).combine_chunks()
        by_part = split_by_partition(table, self._column, self._parts)
        return [(part, (self.name, rows)) for part, rows in by_part.items()]


def join_part(sent: Iterable[tuple[int, tuple[str, pa.Table]]], schema: pa.Schema) -> pa.Table:
    """What :func:`read_part` would read, of tables that :class:`PartTables` sent, in any order."""
    ordered = sorted(sent, key=lambda one: (one[1][0], one[0]))
    return pa.concat_tables([schema.empty_table(), *(table for _, (_, table) in ordered)])


def read_part(paths: Iterable[str], part: int, parts: int, schema: pa.Schema) -> pa.Table:
    """The rows of one partition in the files of ``paths``, whose order does not matter; none where there is no path.

    schema, parts: what the files were written with.
    """
    tables = [schema.empty_table()]
    for path in sorted(paths):
        fs, inner = storage.filesystem(path)
        with fs.open_input_file(inner) as source:
            reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False))
            batches = [reader.get_batch(n) for n in range(part, reader.num_record_batches, parts)]
            tables.append(pa.Table.from_batches(batches, schema))
    return pa.concat_tables(tables)


def write_arrow(table: pa.Table, path: str) -> None:
    """Write a table for a later step of the same job: as it is in memory, of which a crash may leave nothing."""
    with storage.atomic_write(path, durable=False) as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def read_arrow(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A table of :func:`write_arrow`, or some of its columns."""
    fs, inner = storage.filesystem(path)
    with fs.open_input_file(inner) as source:
        table = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all()
    return table if columns is None else table.select(columns)
