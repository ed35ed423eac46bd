"""Delta Lake: a table for each below a folder or URI, overwritten in one commit that names the version."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from topkin.artifacts import storage
from topkin.exports.sink import explained, foreign, in_folder
from topkin.exports.tables import ExportTable

VERSION = "topkin.version"
UPKEEP = ("OPTIMIZE", "VACUUM START", "VACUUM END")
"""Operations that leave a table's rows as they are."""
COMMITS = 100
"""Among so many the last one that changed rows is looked for."""


def open_sink(target: str) -> "Delta":
    """``delta:FOLDER``, or ``delta:s3://BUCKET/FOLDER`` with credentials in the environment."""
    return Delta(target)


class Delta:
    """Tables below a folder."""

    def __init__(self, target: str) -> None:
        self.target = target

    def alone(self, wait: float) -> Any:
        """See :class:`topkin.exports.sink.Sink`."""
        return in_folder(self.target, self.target.partition(":")[2], wait)

    def version(self, table: str) -> str | None:
        """See :class:`topkin.exports.sink.Sink`."""
        place = self._place(table)
        with explained(self.target, (), DeltaError, OSError, pa.ArrowInvalid):
            try:
                commits = DeltaTable(place).history(COMMITS)
            except TableNotFoundError:
                if "://" not in place and storage.exists(place) and storage.files(place):
                    raise foreign(self.target, table) from None
                return None
        last: dict[str, Any] = next((c for c in commits if c["operation"] not in UPKEEP), {})
        if VERSION not in last:
            raise foreign(self.target, table)
        return str(last[VERSION])

    def write(self, table: ExportTable) -> int:
        """See :class:`topkin.exports.sink.Sink`."""
        count, own = 0, None

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal count, own
            try:
                for batch in table.batches():
                    count += batch.num_rows
                    yield batch
            except Exception as e:
                own = e
                raise

        reader = pa.RecordBatchReader.from_batches(table.schema, counted())
        named = CommitProperties(custom_metadata={VERSION: table.version})
        place = self._place(table.name)
        with explained(self.target, (), DeltaError, OSError, pa.ArrowInvalid):
            storage.make_folder(place)
            how = {"mode": "overwrite", "schema_mode": "overwrite", "commit_properties": named}
            try:
                write_deltalake(place, reader, **how)
            except DeltaError:
                if own is not None:  # of the table, which the library tells as a text
                    raise own from None
                raise
        return count

    def _place(self, table: str) -> str:
        return storage.join(self.target.partition(":")[2], table)

    def close(self) -> None:
        """See :class:`topkin.exports.sink.Sink`."""
