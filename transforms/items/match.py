"""Embedded queries looked up in an index: which known item each of them is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import require_encoder, vectors_of
from topkin.linalg.cosine import unit_rows
from topkin.search.hnsw.files import load_index
from topkin.telemetry.counters import counts_table
from topkin.transforms.counters import WriteTally, counted


@dataclass(frozen=True, kw_only=True)
class MatchInputs:
    """What queries are looked up in.

    Args:
        index: The folder of the index.
        catalogue: The file of the items, for their labels.
        encoder: The hash of the encoder of both sides.
        threshold: The least cosine of a match.
    """

    index: str
    catalogue: str
    encoder: str
    threshold: float


class Matcher:
    """The index and the labels of its items; loaded once a process."""

    def __init__(self, inputs: MatchInputs) -> None:
        self.inputs = inputs
        self.index = load_index(inputs.index, encoder=inputs.encoder)
        items = storage.read_parquet(inputs.catalogue, ["item_id", "label"])
        at = pc.index_in(self.index.item_ids, value_set=items["item_id"].combine_chunks())
        self.labels = items["label"].combine_chunks().take(at)
        self._place = np.argsort(self.index.rows)  # rows are numbers of the table that was indexed, any of them once

    def matches(self, queries: pa.Table) -> pa.Table:
        """``schemas.matches`` of rows of ``schemas.encoded_items``; a zero vector is near to nothing."""
        vectors = vectors_of(queries)
        rows, scores = self.index.search(unit_rows(vectors), 1)
        zero = np.asarray(~vectors.any(axis=1))
        none = (rows[:, 0] < 0) | zero
        scores = np.where(zero[:, None], np.float32(0), scores)
        at = self._place[np.searchsorted(self.index.rows[self._place], np.where(none, self.index.rows[0], rows[:, 0]))]
        nearest = self.index.item_ids.take(pa.array(at, mask=none))
        is_match = pa.array(~none & (scores[:, 0] >= self.inputs.threshold))
        item = pc.if_else(is_match, nearest, pa.scalar(None, nearest.type))
        label = pc.if_else(is_match, self.labels.take(pa.array(at, mask=none)), pa.scalar(None, pa.string()))
        schema = schemas.with_encoder(
            schemas.matches(queries.schema.field("item_id").type, nearest.type), self.inputs.encoder
        )
        columns = [queries["item_id"], item, label, nearest, pa.array(scores[:, 0], pa.float32())]
        return pa.Table.from_arrays(columns, schema=schema)


class _Match(beam.DoFn):
    """The path of a part of embedded queries to its counts; its matches go into a file of the same name."""

    def __init__(self, inputs: MatchInputs, folder: str, shared: Shared) -> None:
        self._inputs, self._folder, self._shared = inputs, folder, shared

    def setup(self) -> None:
        self._matcher = self._shared.acquire(lambda: Matcher(self._inputs))

    @counted
    def process(self, path: str) -> Iterator[pa.Table]:
        queries = storage.read_parquet(path)
        require_encoder(queries, self._inputs.encoder, path)
        matches = self._matcher.matches(queries)
        storage.write_parquet(matches, storage.join(self._folder, path.rpartition("/")[2]))
        counts = {"all": len(matches), "matched": len(matches) - matches["item_id"].null_count}
        yield counts_table({"queries": {**counts, "zero": matches["nearest_id"].null_count}})


@dataclass
class MatchQueries(beam.PTransform):
    """Paths of embedded queries to matches in a folder; counts to ``tally``, whose path it gives."""

    inputs: MatchInputs
    paths: Sequence[str]
    folder: str
    tally: str
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        match = beam.ParDo(_Match(self.inputs, self.folder, self.shared)).with_output_types(pa.Table)
        paths = pipeline | "Parts" >> beam.Create(list(self.paths), reshuffle=True)
        return paths | "Match" >> match | "Tally" >> WriteTally(self.tally)
