"""Rows of users' own, learned beside what their histories say: added to the trained block's pooled history.

A user whom training never saw has none, and is known by the history alone. Trained by
``topkin.models.objective.user_embeddings``; users are encoded here, without TensorFlow.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vector_column, vectors_of
from topkin.artifacts.ids import vocabulary_hash
from topkin.artifacts.schemas import encoder_of, with_encoder
from topkin.errors import ArtifactError
from topkin.interactions import encode_ids

FILE = "users.parquet"
_AT_ONCE = 65_536


@dataclass(frozen=True)
class UserRows:
    """The rows of some users: ids (n,), each once, and rows (n, dim) float32, dim that of the trained block."""

    ids: pa.Array
    rows: np.ndarray

    def of(self, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """The rows of users by id, (m, dim) float32; zero for a user who has none.

        Raises TypeError where the ids are of another type.
        """
        if ids.type != self.ids.type:
            raise TypeError(f"ids must be of the type of the users with rows, {self.ids.type}, got {ids.type}")
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        asked = ids.dictionary_encode()
        at = encode_ids(self.ids, asked.dictionary)  # the table is as long as the shop has users: it is no hash table
        found = np.zeros((len(asked.dictionary), self.rows.shape[1]), np.float32)
        found[at[at >= 0]] = self.rows[at >= 0]
        return found[np.asarray(asked.indices)]

    def turned(self, rotation: np.ndarray) -> Self:
        """The rows after a rotation, (dim, dim), of the block."""
        parts = [self.rows[n : n + _AT_ONCE].astype(np.float64) @ rotation for n in range(0, len(self.rows), _AT_ONCE)]
        rows = np.concatenate([part.astype(np.float32) for part in parts]) if parts else self.rows
        return replace(self, rows=rows)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of ids and rows; part of what the encoder's own hash is taken of."""
        digest = hashlib.sha256(f"{vocabulary_hash(self.ids)}:{self.rows.shape[1]}:".encode())
        digest.update(np.ascontiguousarray(self.rows, np.float32).reshape(-1).data)
        return digest.hexdigest()


def write(users: UserRows, folder: str, encoder: str) -> None:
    """Keep the rows beside the encoder of that hash, as ``users.parquet``."""
    table = pa.table({"user_id": users.ids, "row": vector_column(users.rows)})
    storage.write_parquet(table.cast(with_encoder(table.schema, encoder)), storage.join(folder, FILE))


def load(folder: str, encoder: str, sha256: str) -> UserRows:
    """The rows that :func:`write` kept, of that :attr:`UserRows.sha256`.

    Raises ArtifactError where they are missing, another encoder's or others than these.
    """
    path = storage.join(folder, FILE)
    table = storage.read_parquet(path)
    if encoder_of(table.schema) != encoder:
        raise ArtifactError(f"{path} must be of the encoder {encoder}, got {encoder_of(table.schema)}: train again")
    ids = table["user_id"].combine_chunks()
    users = UserRows(ids if isinstance(ids, pa.Array) else pa.array([], ids.type), vectors_of(table, "row"))
    if users.sha256 != sha256:
        raise ArtifactError(
            f"{path} must hold the rows that the encoder was trained with, of SHA-256 {sha256}, got {users.sha256}: "
            "train again with --force"
        )
    return users
