"""The vectors' tables: reading them checked, building them, setting aside what is no vector."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas, storage
from topkin.errors import ArtifactError

ITEMS, USERS, SUMMARY = "items", "users", "vectors.json"
LOOK_UPS = "look_ups.parquet"
"""Of items alone: look-ups and their nearest items, for the report."""
REJECTS = {ITEMS: "rejects", USERS: "user_rejects"}
"""Of a trained model's vectors: the folders of rejected rows, and the keys of their counts in the summary, by side."""


def vector_column(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """(n, dim) float32 as a column of vectors."""
    flat = np.ascontiguousarray(vectors, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])


def vectors_of(table: pa.Table, column: str = "vector") -> np.ndarray:
    """A column of vectors as (n, dim) float32. Raises ArtifactError where the table has none of that name."""
    if column not in table.column_names or not pa.types.is_fixed_size_list(table.schema.field(column).type):
        raise ArtifactError(
            f"a table of vectors must have the column {column}, lists of one length, got "
            f"{', '.join(table.column_names)}: read one of embeddings, or what topkin embed wrote"
        )
    dim = table.schema.field(column).type.list_size
    flat = [np.asarray(chunk.flatten()) for chunk in table[column].chunks]
    return np.concatenate([np.zeros(0, np.float32), *flat]).reshape(len(table), dim)


def zero_non_finite(*vectors: np.ndarray) -> tuple[int, list[np.ndarray]]:
    """Rows with a NaN or an infinity in any of the arrays, (n, dim) each, made zero in all.

    Returns how many they are, and the arrays.
    """
    bad = np.zeros(len(vectors[0]), bool)
    for array in vectors:
        bad |= ~np.isfinite(array).all(axis=1)
    return int(bad.sum()), [np.where(bad[:, None], np.float32(0), array) for array in vectors]


def require_encoder(table: pa.Table, encoder: str, path: str) -> None:
    """Raise ArtifactError where a table was made by another encoder, or does not say by which."""
    maker = schemas.encoder_of(table.schema)
    if maker != encoder:
        raise ArtifactError(
            f"{path} must be made by encoder {encoder[:12]}…, got {maker and maker[:12]}…: tables of two encoders "
            "do not mix; run topkin embed again with --force"
        )


@dataclass(frozen=True)
class ItemEmbeddings:
    """The item table: ids (n_items,), vectors and in_vectors (n_items, dim) float32, in catalogue order."""

    ids: pa.Array
    vectors: np.ndarray
    in_vectors: np.ndarray


def read_items(folder: str, encoder: str) -> ItemEmbeddings:
    """The item vectors of a stage's folder; beside them no more than a row group is in memory.

    Raises ArtifactError where they are missing, damaged or of another encoder.
    """
    stored = StoredItems(folder, encoder)
    every = np.arange(len(stored))
    return ItemEmbeddings(stored.ids(), stored.read("vector", every), stored.read("in_vector", every))


@dataclass(frozen=True)
class EncodedItems:
    """What a trained model made of a table: ids (n,), vectors (n, dim) float32 of any length."""

    ids: pa.Array
    vectors: np.ndarray


def read_encoded(folder: str, encoder: str, table: str = ITEMS) -> EncodedItems:
    """The vectors of a table that an encoder was run over, in the order of its files.

    Raises ArtifactError where they are missing, damaged or of another encoder.
    """
    paths = storage.parquet_files(storage.join(folder, table), made_by="topkin embed")
    parts = []
    for path in paths:
        parts.append(storage.read_parquet(path))
        require_encoder(parts[-1], encoder, path)
    rows = pa.concat_tables(parts)
    ids = rows["item_id"].combine_chunks()
    return EncodedItems(ids if isinstance(ids, pa.Array) else ids.chunk(0), vectors_of(rows))


_open = partial(storage.open_parquet, made_by="topkin embed")


@dataclass(frozen=True)
class StoredItems:
    """The item table of a stage's folder, read row by row number; its footers are read once.

    Reading raises ArtifactError where a file is missing, damaged or of another encoder.
    """

    folder: str
    encoder: str

    @cached_property
    def _files(self) -> list[str]:
        return storage.parquet_files(storage.join(self.folder, ITEMS), made_by="topkin embed")

    @cached_property
    def dim(self) -> int:
        """Coordinates of a vector."""
        with _open(self._files[0]) as file:
            return int(file.schema_arrow.field("vector").type.list_size)

    @cached_property
    def _groups(self) -> list[tuple[str, int, int, int]]:
        """Path, row group, its first row and the one after its last, in catalogue order."""
        groups, first = [], 0
        for name in self._files:
            with _open(name) as file:
                require_encoder(file.schema_arrow.empty_table(), self.encoder, name)
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    groups.append((name, group, first, first + rows))
                    first += rows
        return groups

    def __len__(self) -> int:
        return self._groups[-1][3] if self._groups else 0

    def ids(self) -> pa.Array:
        """The ids of all items."""
        ids = pa.concat_tables([storage.read_parquet(name, ["item_id"]) for name in self._files])["item_id"]
        ids = ids.combine_chunks()
        return ids if isinstance(ids, pa.Array) else pa.array([], ids.type)

    def ids_of(self, numbers: np.ndarray) -> pa.Array:
        """The ids of ascending row numbers; only the row groups that hold some are read."""
        taken = [table["item_id"].take(pa.array(inside)) for inside, table in self._holding(numbers, "item_id")]
        if not taken:
            return self.ids().slice(0, 0)
        return pa.concat_arrays([chunk for column in taken for chunk in column.chunks])

    def blocks(self, column: str) -> Iterator[np.ndarray]:
        """A column of vectors, (n, dim) float32 for each row group in catalogue order."""
        for _, table in self._holding(np.arange(len(self)), column):
            yield vectors_of(table, column)

    def _holding(self, numbers: np.ndarray, column: str) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Of each row group that holds some ascending numbers, which of its rows they are, and one of its columns."""
        for path, group, first, end in self._groups:
            lo, hi = np.searchsorted(numbers, [first, end])
            if lo < hi:
                with _open(path) as file:
                    table = file.read_row_group(group, columns=[column])
                yield numbers[lo:hi] - first, table

    def column(self, name: str) -> "StoredRows":
        """A column of vectors, to be looked up by row number."""
        return StoredRows(self, name)

    def read(self, column: str, numbers: np.ndarray) -> np.ndarray:
        """The vectors of ascending row numbers, (n, dim) float32; only the row groups that hold some are read."""
        vectors, start = np.zeros((len(numbers), self.dim), np.float32), 0
        for inside, table in self._holding(numbers, column):
            vectors[start : start + len(inside)] = vectors_of(table, column)[inside]
            start += len(inside)
        return vectors


@dataclass(frozen=True)
class StoredRows:
    """One column of vectors of the item table, indexed by ascending row numbers as an array would be."""

    items: StoredItems
    name: str

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        return self.items.read(self.name, numbers)


def read_some_users(folder: str, parts: int, encoder: str, numbers: np.ndarray) -> np.ndarray:
    """The vectors, (n, dim) float32, of users by ascending numbers, counted through all parts.

    Only the row groups that hold some are read, one in memory at a time. Raises ArtifactError as :func:`read_items`.
    """
    vectors, first = [], 0
    for part in range(parts):
        path = storage.join(folder, USERS, storage.part_name(part, parts))
        with _open(path) as file:
            require_encoder(file.schema_arrow.empty_table(), encoder, path)
            if not part:
                vectors.append(vectors_of(file.schema_arrow.empty_table().select(["vector"])))
            for group in range(file.num_row_groups):
                end = first + file.metadata.row_group(group).num_rows
                if (lo := np.searchsorted(numbers, first)) < (hi := np.searchsorted(numbers, end)):
                    table = file.read_row_group(group, columns=["vector"])
                    vectors.append(vectors_of(table)[numbers[lo:hi] - first])
                first = end
    return np.concatenate(vectors)


def user_count(folder: str, part: int, parts: int) -> int:
    """How many users a part has, by its file's footer. Raises ArtifactError as :func:`read_items`."""
    with _open(storage.join(folder, USERS, storage.part_name(part, parts))) as file:
        return int(file.metadata.num_rows)


def read_users(folder: str, part: int, parts: int, encoder: str) -> tuple[pa.ChunkedArray, np.ndarray]:
    """The ids and vectors, (n, dim) float32, of the users of one part. Raises ArtifactError as :func:`read_items`."""
    path = storage.join(folder, USERS, storage.part_name(part, parts))
    table = storage.read_parquet(path)
    require_encoder(table, encoder, path)
    return table["user_id"], vectors_of(table)


def encoder_of_stage(folder: str) -> str:
    """The hash of the encoder that made a folder of embeddings."""
    return str(storage.read_json(storage.join(folder, SUMMARY))["encoder"])
