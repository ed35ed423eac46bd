"""Preparing in Beam: thin transforms around :mod:`topkin.ingest.prepare`.

Rows go from those who read them to those who work on a partition through files, so that no runner holds them:
what Beam moves is the names of these files and small tables of counts. ``expand`` says ``Any`` of several collections
by name: Beam would take the real type for a hint that it does not know, and warn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, AsSingleton, PCollection, TaggedOutput

from topkin.artifacts import schemas, storage
from topkin.artifacts.shuffle import PartFile, read_part
from topkin.ingest.catalogue import VOCABULARY, merge_sales, sales_schema, vocabulary
from topkin.ingest.cleaning import Cleaned
from topkin.ingest.judging.lookups import Lookup, joinable, lookup_rows
from topkin.ingest.prepare import (
    COUNTS,
    PreparePlan,
    count_rejects,
    counts_of,
    held_items_schema,
    merge_counts,
    merge_held_items,
    prepare_catalogue,
    prepare_part,
    sale_span,
    sorted_rejects,
    statistics,
)
from topkin.ingest.values.baskets import rows_added
from topkin.telemetry import progress
from topkin.transforms.coders import MergeTables
from topkin.transforms.counters import counted
from topkin.transforms.parquet import RowGroupSplit, WriteToParquetBatched, read_split


def _merge_vocabularies(tables: list[pa.Table]) -> pa.Table:
    rows = pa.concat_tables(tables)
    return vocabulary(rows["value"], rows["count"])


def _rejects(scratch: str, name: str, parts: int) -> PartFile:
    """A file of rejects, by the partition of their rows' numbers."""
    return PartFile(storage.join(scratch, "rejects", f"{name}.arrow"), schemas.REJECTS, "row", parts)


@dataclass
class ReadLookup(beam.PTransform):
    """Splits of the items or users to one table of what rules over purchases ask of them."""

    lookup: Lookup

    @counted
    def _read(self, split: RowGroupSplit) -> Iterator[pa.Table]:
        for table in read_split(self.lookup.source.name, split, self.lookup.read):
            yield lookup_rows(table, self.lookup)

    def expand(self, splits: PCollection) -> PCollection:
        rows = splits | "Read" >> beam.FlatMap(self._read).with_output_types(pa.Table)
        merged = rows | "Merge" >> beam.CombineGlobally(MergeTables(self.lookup.merged, self.lookup.schema))
        return merged | "Columns" >> beam.Map(joinable).with_output_types(pa.Table)


@dataclass
class Clean(beam.PTransform):
    """{splits: of an input} to the paths of files with their accepted rows; those with rejects under ``rejects``.

    Beside the splits stand the tables of the plan's look-ups by side, where there are some: each worker gets them.

    Tables of counts under the tag ``counts`` tell how many rows were added by lists.

    The files lie below ``scratch``, each named by its split, ordered by partition; see :mod:`topkin.artifacts.shuffle`.
    """

    name: str
    plan: PreparePlan
    columns: Sequence[str]
    rows: int
    scratch: str
    parts: int

    @counted
    def _clean(self, split: RowGroupSplit, **lookups: Any) -> Iterator[Any]:
        path = storage.join(self.scratch, self.name, f"{split.name}.arrow")
        key = "item_id" if self.name == "items" else "user_id"
        added = 0
        with (
            PartFile(path, self.plan.rows(self.name), key, self.parts) as good,
            _rejects(self.scratch, f"{self.name}-{split.name}", self.parts) as bad,
        ):
            for table in read_split(self.name, split, self.columns):
                more = rows_added(table)
                added += more
                found = self._cleaned(table, lookups)
                good.add(found.accepted)
                bad.add(found.rejects)
                progress.advance(f"clean {self.name}", len(table) - more, self.rows)
        Metrics.counter("topkin", f"{self.name}_rejected").inc(bad.rows)
        if good.rows:
            yield good.path
        if bad.rows:
            yield TaggedOutput("rejects", bad.path)
        if added:
            yield TaggedOutput("counts", counts_of((self.name, "unnested", "", added)))

    @counted
    def _cleaned(self, table: pa.Table, lookups: Mapping[str, pa.Table]) -> Cleaned:
        return self.plan.clean(self.name, table, lookups)

    def expand(self, inputs: Any) -> Any:
        lookups = {side: AsSingleton(inputs[side]) for side in self.plan.lookups if side in inputs}
        step = beam.FlatMap(self._clean, **lookups).with_output_types(str, rejects=str, counts=pa.Table)
        return inputs["splits"] | "Clean" >> step.with_outputs("rejects", "counts", main="accepted")


def each_part(pipeline: beam.Pipeline, parts: int) -> PCollection:
    """The numbers of all partitions, spread over the workers."""
    return pipeline | "Parts" >> beam.Create(range(parts), reshuffle=True)


@dataclass
class PrepareParts(beam.PTransform):
    """{purchases, users, heldout: paths} to the files of events, heldout and histories below ``out``.

    Gives four collections of tables, sales, segments, held_items and counts, and the paths of rejects.
    """

    plan: PreparePlan
    out: str
    scratch: str
    parts: int

    @counted
    def _prepare(
        self, part: int, purchases: Sequence[str], users: Sequence[str], heldout: Sequence[str]
    ) -> Iterator[Any]:
        plan = self.plan
        given = read_part(heldout, part, self.parts, plan.rows("heldout")) if plan.heldout else None
        listed = read_part(users, part, self.parts, plan.rows("users")) if plan.users else None
        made = prepare_part(read_part(purchases, part, self.parts, plan.rows("purchases")), listed, plan, given)
        for name in ("events", "heldout", "histories"):
            yield TaggedOutput(name, (part, getattr(made, name)))
        for name in ("sales", "segments", "held_items", "counts"):
            yield TaggedOutput(name, getattr(made, name))
        with _rejects(self.scratch, f"users-{part:05d}", self.parts) as bad:
            bad.add(made.rejects)
        if bad.rows:
            yield TaggedOutput("rejects", bad.path)
        progress.advance("prepare users", 1, self.parts)

    def expand(self, inputs: Any) -> Any:
        written, told = ("events", "heldout", "histories"), ("sales", "segments", "held_items", "counts")
        hints = {**dict.fromkeys(written, tuple[int, pa.Table]), **dict.fromkeys(told, pa.Table), "rejects": str}
        lists = [AsList(inputs[name]) for name in ("purchases", "users", "heldout")]
        prepare = beam.FlatMap(self._prepare, *lists)
        made = each_part(inputs["purchases"].pipeline, self.parts) | "Prepare" >> prepare.with_output_types(
            int, **hints
        ).with_outputs(*hints)
        for name in written:
            made[name] | f"Write {name}" >> WriteToParquetBatched(storage.join(self.out, name), self.parts)
        return {name: made[name] for name in (*told, "rejects")}


@dataclass
class MakeShop(beam.PTransform):
    """Sales, segments, held items (tables) and items (paths) to the catalogue's and vocabularies' files.

    Gives two collections of tables, counts and span, and the paths of rejects.
    """

    plan: PreparePlan
    out: str
    scratch: str
    parts: int

    @counted
    def _make(self, sold: pa.Table, items: Sequence[str], segments: pa.Table, held: pa.Table) -> Iterator[Any]:
        listed = read_part(items, 0, 1, self.plan.rows("items")) if self.plan.items else None
        shop = prepare_catalogue(sold, listed, segments, held, self.plan)
        storage.write_parquet(shop.catalogue, storage.join(self.out, "catalogue.parquet"))
        for name, words in shop.vocabularies.items():
            storage.write_parquet(words, storage.join(self.out, "vocabularies", f"{name}.parquet"))
        yield TaggedOutput("counts", shop.counts)
        yield TaggedOutput("span", sale_span(shop.catalogue))
        with _rejects(self.scratch, "items", self.parts) as bad:
            bad.add(shop.rejects)
        if bad.rows:
            yield TaggedOutput("rejects", bad.path)

    def expand(self, inputs: Any) -> Any:
        segments = inputs["segments"] | "Segments" >> beam.CombineGlobally(MergeTables(_merge_vocabularies, VOCABULARY))
        held_schema = held_items_schema(self.plan.item_type)
        held = inputs["held_items"] | "Held" >> beam.CombineGlobally(MergeTables(merge_held_items, held_schema))
        make = beam.FlatMap(self._make, AsList(inputs["items"]), AsSingleton(segments), AsSingleton(held))
        hints = {"counts": pa.Table, "span": pa.Table, "rejects": str}
        made = (
            inputs["sales"]
            | "Sales" >> beam.CombineGlobally(MergeTables(merge_sales, sales_schema(self.plan.item_type)))
            | "Make" >> make.with_output_types(int, **hints).with_outputs(*hints)
        )
        return {name: made[name] for name in hints}


@dataclass
class WriteRejects(beam.PTransform):
    """Paths of files with rejects to a folder of ``parts`` files; gives the counts by source and reason."""

    folder: str
    parts: int

    @counted
    def _sorted(self, part: int, paths: Sequence[str]) -> tuple[int, pa.Table]:
        return part, sorted_rejects(read_part(paths, part, self.parts, schemas.REJECTS))

    def expand(self, paths: PCollection) -> PCollection:
        tables = each_part(paths.pipeline, self.parts) | "Sort" >> beam.Map(
            self._sorted, AsList(paths)
        ).with_output_types(tuple[int, pa.Table])
        tables | WriteToParquetBatched(self.folder, self.parts)
        return tables | "Count" >> beam.MapTuple(lambda _, rows: count_rejects(rows)).with_output_types(pa.Table)


@dataclass
class WriteStatistics(beam.PTransform):
    """Counts (tables) and the sale span (one table) to statistics.json."""

    plan: PreparePlan
    out: str
    files: Mapping[str, tuple[int, int]]

    @counted
    def _write(self, counts: pa.Table, span: pa.Table) -> str:
        path = storage.join(self.out, "statistics.json")
        storage.write_json(statistics(counts, self.files, span, self.plan), path)
        return path

    def expand(self, inputs: Any) -> PCollection:
        counts = inputs["counts"] | "Counts" >> beam.CombineGlobally(MergeTables(merge_counts, COUNTS))
        return counts | "Write" >> beam.Map(self._write, AsSingleton(inputs["span"])).with_output_types(str)
