"""Qdrant: a collection for each version of a table of vectors, under an alias with the table's name.

A point's id is a UUID made from the user's or item's; its payload is the row without the vectors. The collection of the
version before stays for readers that are at it.
"""

import uuid
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from qdrant_client import QdrantClient
from qdrant_client import models as q
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from topkin.artifacts.lookup import format_id
from topkin.errors import ConfigError
from topkin.exports.sink import busy, explained, foreign
from topkin.exports.tables import ExportTable
from topkin.exports.values import plain, rows

POINTS = 256
NAMESPACE = uuid.UUID("8c2f3f0e-5a64-4f5e-9a0b-0d9d8f7c1b11")


def open_sink(target: str) -> "Qdrant":
    """``qdrant://HOST:PORT`` or ``qdrant:https://HOST``; ``qdrant:FOLDER`` is the client's own store."""
    rest = target.partition(":")[2]
    with explained(target, ResponseHandlingException, ApiException, OSError, RuntimeError, ValueError):
        if "//" not in rest:
            return Qdrant(target, QdrantClient(path=rest))
        client = QdrantClient(url=f"http:{rest}" if rest.startswith("//") else rest, check_compatibility=False)
        client.get_collections()
        return Qdrant(target, client)


def point_id(value: int | str | bytes) -> str:
    """The id of a user's or item's point."""
    return str(uuid.uuid5(NAMESPACE, str(format_id(value))))


class Qdrant:
    """A server, or a folder of the client's own."""

    def __init__(self, target: str, client: QdrantClient) -> None:
        self.target, self.db = target, client

    def alone(self, wait: float) -> AbstractContextManager[object]:
        """See :class:`topkin.exports.sink.Sink`. A server has nothing to lock by, its client locks its own store."""
        return nullcontext()

    def version(self, table: str) -> str | None:
        """See :class:`topkin.exports.sink.Sink`."""
        with self._explained():
            if table in self._collections():
                raise foreign(self.target, table)
            there = self._aliases().get(table)
        if there is not None and not there.startswith(f"{table}--"):
            raise foreign(self.target, table)
        return None if there is None else there.removeprefix(f"{table}--")

    def write(self, table: ExportTable) -> int:
        """See :class:`topkin.exports.sink.Sink`. Raises ConfigError for a table without vectors."""
        if not table.vectors:
            raise ConfigError(
                f"qdrant takes tables of vectors, {table.name} has none: --table item_embeddings, or another target"
            )
        collection, count = f"{table.name}--{table.version}", 0
        params = {n: q.VectorParams(size=dim, distance=q.Distance.COSINE) for n, dim in table.vectors.items()}
        with self._explained():
            before = self._aliases().get(table.name)
            for name in self._collections():  # older ones, and one that was not finished
                if name.startswith(f"{table.name}--") and name != before:
                    self.db.delete_collection(name)
            self.db.create_collection(collection, vectors_config=params)
            for batch in table.batches(POINTS):
                self.db.upsert(collection, [_point(row, table) for row in rows(batch)], wait=True)
                count += batch.num_rows
            there = self.db.count(collection, exact=True).count
            if there != count or self._aliases().get(table.name) != before:
                raise busy(self.target, f"another wrote {table.name} meanwhile")
            alias = q.CreateAliasOperation(
                create_alias=q.CreateAlias(collection_name=collection, alias_name=table.name)
            )
            gone = q.DeleteAliasOperation(delete_alias=q.DeleteAlias(alias_name=table.name))
            self.db.update_collection_aliases([*([gone] if before else []), alias])
        return count

    def _collections(self) -> list[str]:
        return [c.name for c in self.db.get_collections().collections]

    def _aliases(self) -> dict[str, str]:
        return {a.alias_name: a.collection_name for a in self.db.get_aliases().aliases}

    def _explained(self) -> Any:
        return explained(self.target, ResponseHandlingException, ApiException)

    def close(self) -> None:
        """See :class:`topkin.exports.sink.Sink`."""
        self.db.close()


def _point(row: dict[str, Any], table: ExportTable) -> q.PointStruct:
    vectors = {name: row[name] for name in table.vectors}
    payload = {name: plain(value) for name, value in row.items() if name not in vectors}
    return q.PointStruct(id=point_id(row[table.key[0]]), vector=vectors, payload=payload)
