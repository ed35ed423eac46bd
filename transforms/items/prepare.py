"""Preparing items for an encoder in Beam: thin transforms around :mod:`topkin.ingest.items`.

As of purchases, rows go through files to those who work on a partition; what Beam moves is names and counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsList, PCollection, TaggedOutput

from topkin.artifacts import schemas, storage
from topkin.artifacts.shuffle import PartFile, read_part
from topkin.ingest.items import (
    ItemsPlan,
    items_statistics,
    labelled_catalogue,
    merge_catalogues,
    prepare_items_part,
)
from topkin.ingest.prepare import COUNTS, merge_counts
from topkin.telemetry import progress
from topkin.transforms.coders import MergeTables
from topkin.transforms.counters import counted
from topkin.transforms.parquet import RowGroupSplit, read_split
from topkin.transforms.prepare import each_part

GROUP_BYTES = 32 << 20
"""Bytes of a row group of prepared items, about."""


@dataclass
class CleanItems(beam.PTransform):
    """Splits of an input to the paths of files with their accepted rows; those with rejects under ``rejects``."""

    name: str
    plan: ItemsPlan
    columns: Sequence[str]
    rows: int
    scratch: str
    parts: int

    @counted
    def _clean(self, split: RowGroupSplit) -> Iterator[Any]:
        path = storage.join(self.scratch, self.name, f"{split.name}.arrow")
        rejects = storage.join(self.scratch, "rejects", f"{self.name}-{split.name}.arrow")
        with (
            PartFile(path, self.plan.rows(self.name), "item_id", self.parts) as good,
            PartFile(rejects, schemas.REJECTS, "row", self.parts) as bad,
        ):
            for table in read_split(self.name, split, self.columns):
                cleaned = self.plan.clean(self.name, table)
                good.add(cleaned.accepted)
                bad.add(cleaned.rejects)
                progress.advance(f"clean {self.name}", len(table), self.rows)
        if good.rows:
            yield good.path
        if bad.rows:
            yield TaggedOutput("rejects", bad.path)

    def expand(self, splits: PCollection) -> Any:
        step = beam.FlatMap(self._clean).with_output_types(str, rejects=str)
        return splits | "Clean" >> step.with_outputs("rejects", main="accepted")


@dataclass
class PrepareItemParts(beam.PTransform):
    """Paths of an input's accepted rows to its files below ``out``: what feeds the encoder, part by part.

    Gives tables of the catalogue and of counts, and the paths of rejects.
    """

    name: str
    plan: ItemsPlan
    out: str
    scratch: str
    parts: int

    @counted
    def _prepare(self, part: int, paths: Sequence[str]) -> Iterator[Any]:
        rows = read_part(paths, part, self.parts, self.plan.rows(self.name))
        tables = prepare_items_part(rows, self.name, self.plan)
        group = max(1, int(GROUP_BYTES / max(1, tables.feeds.nbytes / max(len(tables.feeds), 1))))
        path = storage.join(self.out, self.name, storage.part_name(part, self.parts))
        storage.write_parquet(tables.feeds, path, row_group_rows=min(group, storage.ROW_GROUP_ROWS))
        yield TaggedOutput("catalogue", tables.catalogue)
        yield TaggedOutput("counts", tables.counts)
        rejects = storage.join(self.scratch, "rejects", f"{self.name}-twice-{part:05d}.arrow")
        with PartFile(rejects, schemas.REJECTS, "row", self.parts) as bad:
            bad.add(tables.rejects)
        if bad.rows:
            yield TaggedOutput("rejects", bad.path)
        progress.advance(f"prepare {self.name}", 1, self.parts)

    def expand(self, paths: PCollection) -> Any:
        hints = {"catalogue": pa.Table, "counts": pa.Table, "rejects": str}
        prepare = beam.FlatMap(self._prepare, AsList(paths)).with_output_types(int, **hints)
        tables = each_part(paths.pipeline, self.parts) | "Prepare" >> prepare.with_outputs(*hints)
        return {name: tables[name] for name in hints}


@dataclass
class WriteCatalogue(beam.PTransform):
    """Tables of the catalogue to one file, sorted by id; gives its labels as one row name, labels."""

    name: str
    plan: ItemsPlan
    path: str

    @counted
    def _write(self, catalogue: pa.Table) -> pa.Table:
        storage.write_parquet(catalogue, self.path)
        return pa.table({"name": [self.name], "labels": [len(pc.unique(catalogue["label"].drop_null()))]})

    def expand(self, tables: PCollection) -> PCollection:
        schema = labelled_catalogue(self.plan.id_types[self.name])
        merged = tables | "Merge" >> beam.CombineGlobally(MergeTables(merge_catalogues, schema))
        return merged | "Write" >> beam.Map(self._write).with_output_types(pa.Table)


@dataclass
class WriteItemsStatistics(beam.PTransform):
    """Tables of counts and of labels to statistics.json."""

    plan: ItemsPlan
    out: str
    files: Mapping[str, tuple[int, int]]

    @counted
    def _write(self, counts: pa.Table, labels: Sequence[pa.Table]) -> str:
        path = storage.join(self.out, "statistics.json")
        by_name = {table["name"][0].as_py(): table["labels"][0].as_py() for table in labels}
        storage.write_json(items_statistics(counts, self.files, by_name, self.plan), path)
        return path

    def expand(self, inputs: Any) -> PCollection:
        counts = inputs["counts"] | "Counts" >> beam.CombineGlobally(MergeTables(merge_counts, COUNTS))
        return counts | "Write" >> beam.Map(self._write, AsList(inputs["labels"])).with_output_types(str)
