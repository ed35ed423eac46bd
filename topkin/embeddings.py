"""The vectors' tables: reading them checked, building them, setting aside what is no vector."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topkin import schemas, storage
from topkin.errors import ArtifactError

ITEMS, USERS, SUMMARY = "items", "users", "vectors.json"


def vector_column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """(n, dim) float32 as a column of vectors."""
    flat = np.ascontiguousarray(vectors, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])


def vectors_of(table: pa.Table, column: str = "vector") -> np.ndarray:
    """A column of vectors as (n, dim) float32."""
    dim = table.schema.field(column).type.list_size
    flat = [np.asarray(chunk.flatten()) for chunk in table[column].chunks]
    return np.concatenate([np.zeros(0, np.float32), *flat]).reshape(len(table), dim)


def set_aside(*vectors: np.ndarray) -> tuple[int, list[np.ndarray]]:
    """Rows with a NaN or an infinity in any of the arrays, (n, dim) each, made zero in all.

    Returns how many they are, and the arrays.
    """
    bad = np.zeros(len(vectors[0]), bool)
    for array in vectors:
        bad |= ~np.isfinite(array).all(axis=1)
    return int(bad.sum()), [np.where(bad[:, None], np.float32(0), array) for array in vectors]


def require_encoder(table: pa.Table, encoder: str, path: str) -> None:
    """Raise ArtifactError where a table was made by another encoder, or does not say by which."""
    found = schemas.encoder_of(table.schema)
    if found != encoder:
        raise ArtifactError(
            f"{path} must be made by encoder {encoder[:12]}…, got {found and found[:12]}…: tables of two encoders "
            "do not mix; run topkin embed again with --force"
        )


@dataclass(frozen=True)
class Items:
    """The item table: ids (n_items,), vectors and in_vectors (n_items, dim) float32, in catalogue order."""

    ids: pa.Array
    vectors: np.ndarray
    in_vectors: np.ndarray


def read_items(folder: str, encoder: str) -> Items:
    """The item vectors of a stage's folder.

    Raises ArtifactError where they are missing, damaged or of another encoder.
    """
    path = storage.join(folder, ITEMS)
    names = [n for n in storage.files(path) if n.endswith(".parquet")]
    tables = [storage.read_parquet(storage.join(path, n)) for n in names]
    if not tables:
        raise ArtifactError(f"{path} holds no Parquet file: run topkin embed again with --force")
    for name, table in zip(names, tables, strict=True):
        require_encoder(table, encoder, storage.join(path, name))
    table = pa.concat_tables(tables)
    ids = table["item_id"].combine_chunks()
    ids = ids if isinstance(ids, pa.Array) else pa.array([], ids.type)
    return Items(ids, vectors_of(table), vectors_of(table, "in_vector"))


def read_users(folder: str, part: int, parts: int, encoder: str) -> tuple[pa.ChunkedArray, np.ndarray]:
    """The ids and vectors, (n, dim) float32, of the users of one part. Raises ArtifactError as :func:`read_items`."""
    path = storage.join(folder, USERS, storage.part_name(part, parts))
    table = storage.read_parquet(path)
    require_encoder(table, encoder, path)
    return table["user_id"], vectors_of(table)


def encoder_of_stage(folder: str) -> str:
    """The hash of the encoder that made a folder of embeddings."""
    return str(storage.read_json(storage.join(folder, SUMMARY))["encoder"])
