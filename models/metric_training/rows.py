"""The rows of a training as arrays: read once from Parquet, by the reading of columns that serving has.

Numbers and images lie in memory, images as uint8; what is more than fits lies in memory-mapped files of the scratch
folder, decoded once for all epochs. Texts lie in memory. Either way any rows can be taken in any order.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import ids as id_columns
from topkin.artifacts import storage
from topkin.encoding.columns import Rejections, read_column
from topkin.encoding.signature import EncoderInput
from topkin.errors import InputError
from topkin.ingest.readers import escape_invalid_utf8
from topkin.models.encoders.image_files import decode

BLOCK_BYTES = 32 << 20
PRINTED = 256
ITEM_ID, LABEL = "item_id", "label"

Feeds = dict[str, np.ndarray]


class Texts:
    """A column of texts, taken by row numbers as an object array of bytes, as a model's input takes them."""

    def __init__(self, chunks: Sequence[pa.Array]) -> None:
        self.values = pa.chunked_array(chunks, pa.large_binary())
        self.shape: tuple[int, ...] = (len(self.values),)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.values.take(pa.array(rows)).to_numpy()


Column = np.ndarray | Texts


@dataclass(frozen=True)
class Rows:
    """The rows that a training may take.

    Args:
        specs: The inputs of the model.
        columns: A column of n rows for each input.
        ids: (n,) the items.
        labels: (n,) int64, numbers of ``classes``; -1 for none.
        classes: The distinct labels, in order.
        rejects: How many rows cannot be given, by reason.
    """

    specs: tuple[EncoderInput, ...]
    columns: Mapping[str, Column]
    ids: pa.Array
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    rejects: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def feeds(self, rows: np.ndarray) -> Feeds:
        """The inputs of some rows, (k, …) by name, in that order."""
        return {s.name: self.feed(s, rows) for s in self.specs}

    def feed(self, spec: EncoderInput, rows: np.ndarray) -> np.ndarray:
        """One input of some rows, (k, …)."""
        return np.asarray(self.columns[spec.name][rows]).reshape(len(rows), *spec.shape)

    def fingerprint(self) -> str:
        """The hash of some rows spread over all: other columns have another."""
        digest = hashlib.sha256()
        for values in self.feeds(np.linspace(0, len(self) - 1, min(len(self), PRINTED)).astype(np.int64)).values():
            digest.update(b"\0".join(values.reshape(-1).tolist()) if values.dtype == object else values.tobytes())
        return digest.hexdigest()


def read_rows(
    paths: Sequence[str], specs: Sequence[EncoderInput], *, memory: int, scratch: str = "", folder: str = ""
) -> Rows:
    """Read the rows of prepared parts, in their order.

    Args:
        paths: Parquet files with ``item_id``, perhaps ``label``, and the columns of the inputs.
        specs: The inputs; their ``column`` is that of the files.
        memory: Bytes that may be held; what is more goes to ``scratch``.
        scratch: A local folder; without one all is held.
        folder: What relative paths of images begin in.

    Raises:
        InputError: No row that can be given.
    """
    total = sum(_rows_of(path) for path in paths)
    store = _Store(tuple(specs), total, memory, scratch)
    ids: list[pa.Array] = []
    labels: list[pa.Array] = []
    rejects: dict[str, int] = {}
    for path in paths:
        with storage.open_parquet(path, made_by="the stage prepare") as file:
            names = file.schema_arrow.names
            wanted = [ITEM_ID, *([LABEL] if LABEL in names else []), *dict.fromkeys(s.column for s in specs)]
            for batch in file.iter_batches(store.block, columns=list(dict.fromkeys(wanted))):
                table = pa.Table.from_batches([batch])
                good, reasons = store.add(table, folder)
                kept = table.filter(pa.array(good)) if not good.all() else table
                ids.append(id_columns.decoded(kept[ITEM_ID]).combine_chunks())
                label = id_columns.decoded(kept[LABEL]) if LABEL in names else pa.chunked_array([pa.nulls(len(kept))])
                labels.append(label.cast(pa.large_string()).combine_chunks())
                for reason in reasons.to_pylist():
                    rejects[reason] = rejects.get(reason, 0) + 1
    if not store.filled:
        most = max(rejects, key=lambda reason: rejects[reason], default="there are none")
        raise InputError(f"training needs rows, none of {total:,} can be given to the model: {most}")
    codes, classes = _codes(pa.chunked_array(labels, pa.large_string()))
    joined = pa.chunked_array(ids).combine_chunks()
    return Rows(store.specs, store.columns(), joined, codes, classes, rejects)


def _rows_of(path: str) -> int:
    with storage.open_parquet(path, made_by="the stage prepare") as file:
        return int(file.metadata.num_rows)


def _codes(labels: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of each label in their order, -1 for null, and the labels."""
    classes = pc.unique(labels).drop_null().sort()
    codes = pc.fill_null(pc.index_in(labels, classes), -1)
    return np.asarray(codes).astype(np.int64), tuple(classes.to_pylist())


class _Store:
    """Columns that are filled block by block."""

    def __init__(self, specs: tuple[EncoderInput, ...], rows: int, memory: int, scratch: str) -> None:
        self.specs, self.filled = specs, 0
        sizes = {s.name: int(np.prod(s.shape)) * _dtype(s).itemsize for s in specs if s.dtype != "string"}
        self.block = max(1, min(16_384, BLOCK_BYTES // max(4 * sum(sizes.values()), 1)))
        self.texts: dict[str, list[pa.Array]] = {s.name: [] for s in specs if s.dtype == "string" and _alone(s)}
        self.arrays: dict[str, np.ndarray] = {}
        left = memory
        for spec in specs:
            if spec.name in self.texts:
                continue
            shape, dtype = (rows, *spec.shape), _dtype(spec)
            left -= rows * sizes.get(spec.name, 64 * int(np.prod(spec.shape)))
            if left < 0 and scratch and "://" not in scratch and dtype.kind != "O":
                os.makedirs(scratch, exist_ok=True)
                path = os.path.join(scratch, f"column-{len(self.arrays)}.npy")
                self.arrays[spec.name] = np.lib.format.open_memmap(path, "w+", dtype, shape)
            else:
                self.arrays[spec.name] = np.empty(shape, dtype)

    def add(self, table: pa.Table, folder: str) -> tuple[np.ndarray, pa.Array]:
        """Take the rows of a block that can be given: which these are, (n,) bool, and the reasons of the others."""
        rejections = Rejections(len(table))
        table, invalid = escape_invalid_utf8(table)
        for column, where in invalid.items():
            if column in {s.column for s in self.specs}:
                rejections.reject(where, f"{column} is not UTF-8")
        read = {s.name: read_column(table[s.column], s, rejections, partial(decode, folder=folder)) for s in self.specs}
        good = rejections.good
        end = self.filled + int(good.sum())
        for spec in self.specs:
            values = read[spec.name] if good.all() else read[spec.name][good]
            if spec.name in self.texts:
                self.texts[spec.name].append(pa.array(values.reshape(-1), pa.large_binary()))
            else:
                array = self.arrays[spec.name]
                array[self.filled : end] = np.rint(values) if array.dtype == np.uint8 else values
        self.filled = end
        return good, rejections.reasons()

    def columns(self) -> dict[str, Any]:
        """What was taken, by input."""
        texts = {name: Texts(chunks) for name, chunks in self.texts.items()}
        arrays = {name: array[: self.filled] for name, array in self.arrays.items()}
        return {s.name: texts[s.name] if s.name in texts else arrays[s.name] for s in self.specs}


def _alone(spec: EncoderInput) -> bool:
    return int(np.prod(spec.shape)) == 1


def _dtype(spec: EncoderInput) -> np.dtype:
    """How an input is held: images as uint8, whole steps of their 256; the others as the model takes them."""
    if spec.kind == "image":
        return np.dtype(np.uint8)
    return np.dtype(object) if spec.dtype == "string" else np.dtype(spec.dtype)
