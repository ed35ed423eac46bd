"""CSV and JSON lines: a folder for each version, and ``current.json`` which names those that are whole.

Folders lie on a disk or in an object store. The version before stays for readers that are at it; older ones go.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.csv

from topkin.artifacts import storage
from topkin.errors import ArtifactError
from topkin.exports.sink import explained, foreign, in_folder
from topkin.exports.tables import ExportTable
from topkin.exports.values import doubles, is_nested, plain, rows, to_json

POINTER = "current.json"


def open_sink(target: str) -> "FileSink":
    """``csv:FOLDER`` or ``jsonl:FOLDER``."""
    kind, _, folder = target.partition(":")
    return FileSink(folder, kind)


class FileSink:
    """Tables as ``FOLDER/TABLE/VERSION.csv`` or ``.jsonl``."""

    def __init__(self, folder: str, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self._write: Callable[[ExportTable, pa.NativeFile, Any], None] = {"csv": _csv, "jsonl": _jsonl}[kind]

    def alone(self, wait: float) -> Any:
        """See :class:`topkin.exports.sink.Sink`."""
        return in_folder(f"{self.kind}:{self.folder}", self.folder, wait)

    def version(self, table: str) -> str | None:
        """See :class:`topkin.exports.sink.Sink`."""
        with self._explained():
            place = storage.join(self.folder, table)
            entry = self._entry(table)
            if entry is None and storage.exists(place) and storage.files(place):
                raise foreign(self.folder, table)
        return None if entry is None else entry["version"]

    def write(self, table: ExportTable) -> int:
        """See :class:`topkin.exports.sink.Sink`."""
        with self._explained():
            return self._replace(table)

    def _replace(self, table: ExportTable) -> int:
        place, before, name = (
            storage.join(self.folder, table.name),
            self._entry(table.name),
            f"{table.version}.{self.kind}",
        )
        if before is None:  # whoever stops after this has written a file of ours
            storage.write_json({"version": None, "file": None, "before": None, "rows": 0}, storage.join(place, POINTER))
        count = 0

        def counted() -> Any:
            nonlocal count
            for batch in table.batches():
                count += batch.num_rows
                yield batch

        with storage.atomic_write(storage.join(place, name)) as stream:
            self._write(table, stream, counted())
        last = None if before is None else before["file"]
        value = {"version": table.version, "file": name, "before": last, "rows": count}
        storage.write_json(value, storage.join(place, POINTER))
        old = [n for n in storage.files(place) if n not in (POINTER, name, last) and n.endswith(f".{self.kind}")]
        storage.remove_files(place, old)
        return count

    def close(self) -> None:
        """See :class:`topkin.exports.sink.Sink`."""

    def _entry(self, table: str) -> dict[str, Any] | None:
        path = storage.join(self.folder, table, POINTER)
        if not storage.exists(path):
            return None
        try:
            entry: dict[str, Any] = storage.read_json(path)
            return {name: entry[name] for name in ("version", "file")}
        except (ArtifactError, TypeError):  # no JSON, or none of ours
            raise foreign(self.folder, table) from None

    def _explained(self) -> Any:
        return explained(f"{self.kind}:{self.folder}", (), OSError, pa.ArrowInvalid)


def _csv(table: ExportTable, stream: pa.NativeFile, batches: Any) -> None:
    kinds = [
        pa.string() if _as_text(f.type) else pa.float64() if f.type == pa.float32() else f.type for f in table.schema
    ]
    schema = pa.schema(list(zip(table.schema.names, kinds, strict=True)))
    with pa.csv.CSVWriter(stream, schema) as writer:
        for batch in batches:
            columns = [_text(c) if _as_text(c.type) else doubles(c) for c in batch.columns]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=schema))


def _as_text(kind: pa.DataType) -> bool:
    return is_nested(kind) or pa.types.is_binary(kind)


def _text(column: pa.Array) -> pa.Array:
    """Lists as JSON; binary ids as :func:`topkin.exports.values.plain` has them."""
    write = to_json if is_nested(column.type) else plain
    return pa.array([None if v is None else str(write(v)) for v in doubles(column).to_pylist()], pa.string())


def _jsonl(table: ExportTable, stream: pa.NativeFile, batches: Any) -> None:
    for batch in batches:
        stream.write("".join(f"{to_json(row)}\n" for row in rows(batch)).encode())
