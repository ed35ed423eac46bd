"""SQLite: a table for each, replaced in one transaction; lists are JSON texts, times ISO 8601."""

import os
import sqlite3
from typing import Any

import pyarrow as pa

from topkin.errors import ConfigError
from topkin.exports.sink import LOCK, RECORD, explained, foreign, in_folder
from topkin.exports.tables import ExportTable
from topkin.exports.values import is_nested, rows, to_json

ERRORS = sqlite3.DatabaseError


def open_sink(target: str) -> "Sqlite":
    """``sqlite:FILE``."""
    return Sqlite(target)


class Sqlite:
    """A file of SQLite."""

    def __init__(self, target: str) -> None:
        self.target = target
        folder = os.path.dirname(os.path.abspath(target.partition(":")[2]))
        if not os.path.isdir(folder):
            raise ConfigError(f"{target} must lie in a folder that is there, {folder} is not: make it, or name another")
        with explained(target, (), ERRORS):
            self.db = sqlite3.connect(target.partition(":")[2], isolation_level=None)
            self.db.execute("PRAGMA journal_mode = WAL")  # readers go on while a version is written
            self.db.execute(f"CREATE TABLE IF NOT EXISTS {RECORD} (name TEXT PRIMARY KEY, version TEXT, rows INTEGER)")

    def alone(self, wait: float) -> Any:
        """See :class:`topkin.exports.sink.Sink`."""
        folder, name = os.path.split(os.path.abspath(self.target.partition(":")[2]))
        return in_folder(self.target, folder, wait, f"{name}.{LOCK}")

    def version(self, table: str) -> str | None:
        """See :class:`topkin.exports.sink.Sink`."""
        with explained(self.target, (), ERRORS):
            row = self.db.execute(f"SELECT version FROM {RECORD} WHERE name = ?", [table]).fetchone()
            if self.db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone() is None:
                return None
        if row is None:
            raise foreign(self.target, table)
        return str(row[0])

    def write(self, table: ExportTable) -> int:
        """See :class:`topkin.exports.sink.Sink`."""
        columns = ", ".join(f"{_quoted(f.name)} {_type(f.type)}" for f in table.schema)
        marks = ", ".join("?" * len(table.schema))
        name, key = _quoted(table.name), ", ".join(map(_quoted, table.key))
        count = 0
        with explained(self.target, (), ERRORS):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                self.db.execute(f"DROP TABLE IF EXISTS {name}")
                self.db.execute(f"CREATE TABLE {name} ({columns})")
                for batch in table.batches():
                    self.db.executemany(f"INSERT INTO {name} VALUES ({marks})", map(_values, rows(batch)))
                    count += batch.num_rows
                self.db.execute(f"CREATE INDEX {_quoted(f'{table.name}_key')} ON {name} ({key})")
                self.db.execute(f"REPLACE INTO {RECORD} VALUES (?, ?, ?)", [table.name, table.version, count])
                self.db.execute("COMMIT")
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
        return count

    def close(self) -> None:
        """See :class:`topkin.exports.sink.Sink`."""
        self.db.close()


def _values(row: dict[str, object]) -> list[object]:
    return [v if v is None or isinstance(v, int | float | str | bytes) else _text(v) for v in row.values()]


def _text(value: object) -> str:
    text = to_json(value)
    return text if text[0] in "[{" else text.strip('"')


def _type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INTEGER"
    if pa.types.is_floating(kind):
        return "REAL"
    return "BLOB" if pa.types.is_binary(kind) and not is_nested(kind) else "TEXT"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
