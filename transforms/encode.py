"""A trained Keras model run over a table: row groups in, vectors in Parquet out, one part for each split.

The arrays of the next rows are made while the model runs on those before.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput
from apache_beam.utils.shared import Shared

from topkin.artifacts import ids, schemas, storage
from topkin.artifacts.embeddings import REJECTS, vector_column
from topkin.encoding.batching import prefetched
from topkin.encoding.columns import Rejections
from topkin.encoding.signature import EncoderInput
from topkin.ingest.cleaning import reject_table
from topkin.ingest.folders.file import File
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.rules import Rules
from topkin.telemetry.counters import CountsByKind, counts_table
from topkin.telemetry.progress import advance
from topkin.transforms.counters import WriteTally
from topkin.transforms.parquet import ParquetSplits, RowGroupSplit, read_split

if TYPE_CHECKING:
    from topkin.models.encoders.keras_encoder import Feeds

CHUNK_BYTES = 32 << 20
"""Bytes of arrays that are made at a time, and of rows that are read; a few such chunks are in memory at once."""

CHUNK_BATCHES = 16
"""Most batches of a chunk, for each length of histories: only the last one of a length is padded."""

SPLIT_ROWS = 1 << 16
"""Rows of a part of the output, about: a row group is never cut."""


@dataclass(frozen=True, kw_only=True)
class EncodeInputs:
    """What is embedded, and by what.

    Args:
        encoder: The encoder's folder.
        side: Which of its models: ``items`` or ``users``, whom the table lists.
        files: Of the table.
        id_column: Its column of ids.
        id_type: What these are kept as.
        columns: Those read.
        rules: What replaces a column's value, and what makes a row good.
        batch_size: Most rows of a call of the model.
        jit_compile: See ``KerasEncoder``.
        precision: See ``KerasEncoder``.
        by_name: Whether the columns have the names of the encoder's inputs, as ``prepare`` writes them, in the place
            of those that its signature names.
    """

    encoder: str
    side: str = "items"
    files: Sequence[File]
    id_column: str
    id_type: pa.DataType
    columns: Sequence[str]
    rules: Rules = field(default_factory=Rules)
    batch_size: int = 1024
    jit_compile: bool = False
    precision: str = "float32"
    by_name: bool = False

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)


class Chunk(NamedTuple):
    """Rows as they were read but for what is long, their ids, the arrays of the good ones, and which are not good."""

    raw: pa.Table
    ids: pa.ChunkedArray
    feeds: "Feeds"
    rejections: Rejections

    @classmethod
    def joined(cls, chunks: Sequence["Chunk"]) -> "Chunk":
        """Several, one after the other."""
        if len(chunks) == 1:
            return chunks[0]
        names = chunks[0].feeds
        return cls(
            pa.concat_tables([c.raw for c in chunks]),
            pa.chunked_array([part for c in chunks for part in c.ids.chunks], chunks[0].ids.type),
            {name: np.concatenate([c.feeds[name] for c in chunks]) for name in names},
            Rejections.joined([c.rejections for c in chunks]),
        )


class TableEncoder:
    """The encoder, loaded once a process."""

    def __init__(self, inputs: EncodeInputs) -> None:
        from topkin.models.encoders.keras_encoder import KerasEncoder
        from topkin.models.encoders.keras_files import read_model

        saved = read_model(inputs.encoder, inputs.side)
        assert saved.signature is not None  # written by the launcher
        signature = saved.signature.by_name() if inputs.by_name else saved.signature
        specs = signature.side(inputs.side)
        batch = batch_rows(specs, min(inputs.batch_size, max(inputs.rows, 1)))
        self.inputs = inputs
        self.encoder = KerasEncoder(
            saved, signature, batch_size=batch, jit_compile=inputs.jit_compile, precision=inputs.precision
        )
        self.chunk_rows = chunk_rows(specs, batch)
        encoded = schemas.encoded_users if inputs.side == "users" else schemas.encoded_items
        self.schema = schemas.with_encoder(encoded(inputs.id_type, signature.dim), signature.hash)

    def chunks(self, split: RowGroupSplit) -> Iterator[Chunk]:
        """A split's rows as the model takes them, in order; what breaks a rule is noted."""
        tables = read_split(self.inputs.side, split, self.inputs.columns, size=CHUNK_BYTES, least=1)
        folder, parts = split.file.path.rpartition("/")[0], []
        for raw, full in of_rows(tables, self.chunk_rows, CHUNK_BYTES):
            parts.append(self._chunk(raw, folder))
            if full:
                yield Chunk.joined(parts)
                parts = []
        if parts:
            yield Chunk.joined(parts)

    def _chunk(self, raw: pa.Table, folder: str) -> Chunk:
        rejections = Rejections(len(raw))
        raw, invalid = escape_invalid_utf8(raw)
        for column, where in invalid.items():
            rejections.reject(where, f"{column} is not UTF-8")
        rows = self.inputs.rules.normalised(raw)
        row_ids = self._ids(rows[self.inputs.id_column], rejections)
        self._ask_rules(rows, rejections)
        feeds = self.encoder.read(rows, rejections, folder=folder)
        return Chunk(raw.drop_columns(self._long(raw.schema)), row_ids, feeds, rejections)

    def _ask_rules(self, rows: pa.Table, rejections: Rejections) -> None:
        """Note the configured rule that each row breaks which broke none so far."""
        alive = np.flatnonzero(rejections.good)
        broken = np.full(len(rows), -1, np.int32)
        broken[alive] = self.inputs.rules.broken(rows.take(pa.array(alive)) if len(alive) < len(rows) else rows)
        for number, reason in enumerate(self.inputs.rules.rejection_reasons):
            rejections.reject(broken == number, reason)

    def _ids(self, values: pa.ChunkedArray, rejections: Rejections) -> pa.ChunkedArray:
        canonical, column = ids.canonical(values), self.inputs.id_column
        rejections.reject(np.asarray(pc.is_null(values)), f"{column} is null")
        rejections.reject(np.asarray(pc.is_null(canonical)), f"{column} is above the largest int64")
        return canonical

    def write(self, split: RowGroupSplit, out: str) -> tuple[str, CountsByKind]:
        """The part of a split into ``out``/items or /users, what was rejected into ``out``/rejects; path and counts.

        Counts are of rows read and embedded, of padding and all that the model worked through (see
        ``keras_encoder.Embedded``), of rejects by reason, and of splits by device.
        """
        name, side = f"part-{split.name}.parquet", self.inputs.side
        path, rejects = storage.join(out, side, name), []
        counts, worked = {"read": 0, "embedded": 0, "padded": 0}, 0
        encoded = closing(prefetched(self.chunks(split)))
        with storage.parquet_writer(path, self.schema) as writer, encoded as chunks:
            for chunk in chunks:
                vectors, good, reasons, padding = self.encoder.finish(chunk.feeds, chunk.rejections)
                kept = chunk.ids.filter(pa.array(good)).combine_chunks()
                writer.write_table(pa.Table.from_arrays([kept, vector_column(vectors)], schema=self.schema))
                if len(reasons):
                    rejects.append(reject_table(side, chunk.raw.filter(pa.array(~good)), reasons))
                rows = {"read": len(good), "embedded": len(vectors), "padded": padding.padded}
                counts = {key: counts[key] + n for key, n in rows.items()}
                worked += padding.worked
                advance(f"embed {side}", len(good), self.inputs.rows)
        table = pa.concat_tables([schemas.REJECTS.empty_table(), *rejects])
        if rejects:
            storage.write_parquet(table, storage.join(out, REJECTS[side], name))
        by_reason = {r["values"]: r["counts"] for r in pc.value_counts(table["reason"]).to_pylist()}
        return path, {
            side: counts,
            "worked": {side: worked},
            "rejects": by_reason,
            "device": {self.encoder.device: 1},
        }

    def _long(self, schema: pa.Schema) -> list[str]:
        """What rejects are told without: images and vectors."""
        long = [f.name for f in schema if pa.types.is_nested(ids.storage(f.type)) or _is_binary(f.type)]
        return [name for name in long if name != self.inputs.id_column]


def _is_binary(t: pa.DataType) -> bool:
    return ids.value_kind(t) == "binary"


def _row_bytes(inputs: Sequence[EncoderInput]) -> int:
    """Bytes of a row's arrays, about: a text is taken for 64."""
    sizes = (64 if i.dtype == "string" else np.dtype(i.dtype).itemsize for i in inputs)
    return sum(size * int(np.prod(i.shape)) for i, size in zip(inputs, sizes, strict=True))


def batch_rows(inputs: Sequence[EncoderInput], most: int) -> int:
    """Rows of a call: ``most``, halved until their arrays are no larger than CHUNK_BYTES."""
    while most > 1 and most * _row_bytes(inputs) > CHUNK_BYTES:
        most //= 2
    return most


def chunk_rows(inputs: Sequence[EncoderInput], batch: int) -> int:
    """Rows of a chunk: as many whole batches as fit into CHUNK_BYTES, CHUNK_BATCHES at most."""
    fit = CHUNK_BYTES // (batch * _row_bytes(inputs))
    lengths = max((len(i.buckets) for i in inputs), default=0)
    return batch * min(max(fit, 1), CHUNK_BATCHES * max(lengths, 1))


def of_rows(tables: Iterable[pa.Table], rows: int, size: int) -> Iterator[tuple[pa.Table, bool]]:
    """The same rows in the same order, and whether the table ends a run of ``rows`` of them.

    Such a run is one table, or several where it has more than ``size`` bytes.
    """
    waiting: list[pa.Table] = []
    held, room = 0, rows
    for table in tables:
        while len(table):
            part, table = table.slice(0, room), table.slice(room)
            if waiting and held + part.nbytes > size:
                yield pa.concat_tables(waiting).combine_chunks(), False
                waiting, held = [], 0
            waiting.append(part)
            held, room = held + part.nbytes, room - len(part)
            if not room:
                yield pa.concat_tables(waiting).combine_chunks(), True
                waiting, held, room = [], 0, rows
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks(), False


class _Encode(beam.DoFn):
    """A split to its part's path; the counts beside."""

    def __init__(self, inputs: EncodeInputs, out: str, shared: Shared) -> None:
        self._inputs, self._out, self._shared = inputs, out, shared
        names = ("read", "embedded", "padded", "worked")
        self._counters = {name: Metrics.counter("topkin", f"{inputs.side}_{name}") for name in names}

    def setup(self) -> None:
        tag = f"{self._inputs.side} {self._inputs.encoder}"
        self._encoder = self._shared.acquire(partial(TableEncoder, self._inputs), tag=tag)

    def process(self, split: RowGroupSplit) -> Iterator[object]:
        path, counts = self._encoder.write(split, self._out)
        side = self._inputs.side
        for name, number in {**counts[side], "worked": counts["worked"][side]}.items():
            self._counters[name].inc(number)
        yield path
        yield TaggedOutput("counts", counts_table(counts))


@dataclass
class EncodeTable(beam.PTransform):
    """A table's vectors into ``out``/items or /users, rejected rows beside; counts to ``tally``; gives the paths.

    A part for each split of the input, named by it: the same bytes for any number of processes.
    """

    inputs: EncodeInputs
    out: str
    tally: str
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        splits = pipeline | "Splits" >> ParquetSplits(self.inputs.side, self.inputs.files, SPLIT_ROWS)
        encode = beam.ParDo(_Encode(self.inputs, self.out, self.shared))
        encode = encode.with_output_types(str, counts=pa.Table)
        encoded = splits | "Encode" >> encode.with_outputs("counts", main="paths")
        encoded.counts | "Tally" >> WriteTally(self.tally)
        return encoded.paths
