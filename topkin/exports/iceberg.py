"""Iceberg: a table for each in the namespace ``topkin`` of a catalogue in SQLite, ``FOLDER/catalogue.db``.

A version is one commit, which names it among the table's properties.
"""

import os
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.expressions import AlwaysTrue
from sqlalchemy.exc import SQLAlchemyError

from topkin.exports.sink import explained, foreign, in_folder
from topkin.exports.tables import ExportTable

NAMESPACE, VERSION = "topkin", "topkin.version"
ROWS = 1 << 17
"""Rows of a data file."""
ERRORS = (OSError, SQLAlchemyError, CommitFailedException)


def open_sink(target: str) -> "Iceberg":
    """``iceberg:FOLDER``, on this machine's disk."""
    return Iceberg(target)


class Iceberg:
    """A folder with a catalogue and the tables."""

    def __init__(self, target: str) -> None:
        folder = os.path.abspath(target.partition(":")[2])
        self.target, self.folder = target, folder
        with explained(target, (), *ERRORS):
            os.makedirs(folder, exist_ok=True)
            uri = f"sqlite:///{folder}/catalogue.db"
            self.catalog = SqlCatalog("topkin", uri=uri, warehouse=f"file://{folder}")
            self.catalog.create_namespace_if_not_exists(NAMESPACE)

    def alone(self, wait: float) -> Any:
        """See :class:`topkin.exports.sink.Sink`."""
        return in_folder(self.target, self.folder, wait)

    def version(self, table: str) -> str | None:
        """See :class:`topkin.exports.sink.Sink`."""
        with explained(self.target, (), *ERRORS):
            try:
                properties = self.catalog.load_table((NAMESPACE, table)).properties
            except NoSuchTableError:
                return None
        if VERSION not in properties:
            raise foreign(self.target, table)
        return str(properties[VERSION]) or None

    def write(self, table: ExportTable) -> int:
        """See :class:`topkin.exports.sink.Sink`."""
        count, name = 0, (NAMESPACE, table.name)
        with explained(self.target, (), *ERRORS):
            target = self.catalog.create_table_if_not_exists(name, table.schema, properties={VERSION: ""})
            with target.transaction() as changes:
                with changes.update_schema(allow_incompatible_changes=True) as columns:
                    columns.union_by_name(table.schema)
                    for gone in {f.name for f in target.schema().fields} - {*table.schema.names}:
                        columns.delete_column(gone)
                if target.current_snapshot() is not None:
                    changes.delete(AlwaysTrue())
                for batch in table.batches(ROWS):
                    changes.append(pa.Table.from_batches([batch]))
                    count += batch.num_rows
                changes.set_properties({VERSION: table.version})
        return count

    def close(self) -> None:
        """See :class:`topkin.exports.sink.Sink`."""
        self.catalog.close()
