"""Neighbours of items by the vectors of an encoder, run of rows by run of rows against all items."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin.artifacts import storage
from topkin.artifacts.embeddings import read_encoded
from topkin.linalg.cosine import unit_rows
from topkin.recommend.similar import items_table, similar_items
from topkin.telemetry.progress import advance
from topkin.transforms.counters import counted
from topkin.transforms.engine import engine
from topkin.transforms.parquet import WriteToParquetBatched
from topkin.transforms.prepare import each_part


@dataclass(frozen=True, kw_only=True)
class ItemNeighboursInputs:
    """What the neighbours are made from: folders of stages, the encoder's hash, how many and in how many parts."""

    prepared: str
    embeddings: str
    encoder: str
    k: int
    parts: int


class ItemNeighbours:
    """The items' vectors; loaded once a process."""

    def __init__(self, inputs: ItemNeighboursInputs) -> None:
        self.inputs = inputs
        encoded = read_encoded(inputs.embeddings, inputs.encoder)
        self.ids, self.vectors = encoded.ids, unit_rows(encoded.vectors)
        catalogue = storage.read_parquet(storage.join(inputs.prepared, "catalogue.parquet"), ["item_id", "available"])
        at = pc.index_in(self.ids, value_set=catalogue["item_id"].combine_chunks())
        self.allowed = np.asarray(catalogue["available"].combine_chunks().take(at)).astype(bool)

    def table(self, part: int) -> pa.Table:
        """``schemas.similar_items`` of a run of rows."""
        n, parts, k = len(self.ids), self.inputs.parts, min(self.inputs.k, len(self.ids))
        rows = np.arange(part * n // parts, (part + 1) * n // parts)
        rows = rows if k else rows[:0]
        return items_table(
            self.ids, rows, similar_items(self.vectors, rows, self.allowed, max(k, 1), engine), self.inputs.encoder
        )


class _Neighbours(beam.DoFn):
    """A part's number to its number and table."""

    def __init__(self, inputs: ItemNeighboursInputs, shared: Shared) -> None:
        self._inputs, self._shared = inputs, shared

    def setup(self) -> None:
        self._items = self._shared.acquire(lambda: ItemNeighbours(self._inputs))

    @counted
    def process(self, part: int) -> Iterator[tuple[int, pa.Table]]:
        yield part, self._items.table(part)
        advance("similar", 1, self._inputs.parts)


@dataclass
class SimilarItems(beam.PTransform):
    """Writes the neighbours into a folder, a file for each part; gives the paths."""

    inputs: ItemNeighboursInputs
    folder: str
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection:
        find = beam.ParDo(_Neighbours(self.inputs, self.shared)).with_output_types(tuple[int, pa.Table])
        tables = each_part(pipeline, self.inputs.parts) | "Neighbours" >> find
        return tables | WriteToParquetBatched(self.folder, self.inputs.parts)
