"""Preparing in Beam: thin transforms around :mod:`topkin.prepare`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints import with_input_types, with_output_types

from topkin import progress, schemas, storage
from topkin.catalogue import VOCABULARY, merge_sales, sales_schema, vocabulary
from topkin.cleaning import Cleaned, clean_items, clean_purchases, clean_users, item_rows, purchase_rows, user_rows
from topkin.prepare import (
    COUNTS,
    Plan,
    count_rejects,
    merge_counts,
    prepare_part,
    prepare_shop,
    sale_span,
    sorted_rejects,
    statistics,
)
from topkin.transforms.coders import TableCoder
from topkin.transforms.parquet import WriteToParquetBatched
from topkin.transforms.partition import CoGroupParts, GroupParts, PartitionBy


@with_input_types(pa.Table)
@with_output_types(pa.Table)
class MergeTables(beam.CombineFn):
    """Combines tables by an associative, commutative function of a list of them."""

    def __init__(self, merge: Callable[[list[pa.Table]], pa.Table], schema: pa.Schema) -> None:
        self._merge = merge
        self._schema = schema

    def create_accumulator(self) -> pa.Table:
        return self._schema.empty_table()

    def add_input(self, accumulator: pa.Table, table: pa.Table) -> pa.Table:
        return self.merge_accumulators([accumulator, table])

    def merge_accumulators(self, accumulators: Iterable[pa.Table]) -> pa.Table:
        tables = [t for t in accumulators if len(t)]
        return self._merge(tables) if tables else self._schema.empty_table()

    def extract_output(self, accumulator: pa.Table) -> pa.Table:
        return accumulator

    def get_accumulator_coder(self) -> TableCoder:
        return TableCoder()


def _merge_vocabularies(tables: list[pa.Table]) -> pa.Table:
    rows = pa.concat_tables(tables)
    return vocabulary(rows["value"], rows["count"])


@dataclass
class Clean(beam.PTransform):
    """Raw tables to accepted rows; the rejects come under the tag ``rejects``."""

    name: str
    plan: Plan
    rows: int

    def _clean(self, table: pa.Table) -> Iterator[Any]:
        found = self._cleaned(table)
        progress.advance(f"clean {self.name}", len(table), self.rows)
        Metrics.counter("topkin", f"{self.name}_rejected").inc(len(found.rejects))
        if len(found.accepted):
            yield found.accepted
        if len(found.rejects):
            yield TaggedOutput("rejects", found.rejects)

    def _cleaned(self, table: pa.Table) -> Cleaned:
        source = self.plan.sources[self.name]
        if self.name == "purchases":
            return clean_purchases(table, source, self.plan.clock, prints=self.plan.drop_duplicates)
        return clean_items(table, source) if self.name == "items" else clean_users(table, source)

    def expand(self, tables: PCollection) -> Any:
        step = beam.FlatMap(self._clean).with_output_types(pa.Table, rejects=pa.Table)
        return tables | "Clean" >> step.with_outputs("rejects", main="accepted")


@dataclass
class PrepareParts(beam.PTransform):
    """{purchases, users: (part, table)} to the files of events, heldout and histories below ``out``.

    Gives four collections of tables: rejects, sales, segments, counts.
    """

    plan: Plan
    out: str
    parts: int

    def _prepare(self, part: int, rows: Mapping[str, pa.Table]) -> Iterator[Any]:
        made = prepare_part(rows["purchases"], rows.get("users"), self.plan)
        progress.advance("prepare users", 1, self.parts)
        for name in ("events", "heldout", "histories"):
            yield TaggedOutput(name, (part, getattr(made, name)))
        for name in ("rejects", "sales", "segments", "counts"):
            yield TaggedOutput(name, getattr(made, name))

    def expand(self, inputs: Any) -> Any:
        plan = self.plan
        shapes = {"purchases": purchase_rows(plan.user_type, plan.item_type, prints=plan.drop_duplicates)}
        if "users" in inputs:
            shapes["users"] = user_rows(plan.user_type)
        written, told = ("events", "heldout", "histories"), ("rejects", "sales", "segments", "counts")
        hints = {**dict.fromkeys(written, tuple[int, pa.Table]), **dict.fromkeys(told, pa.Table)}
        made = (
            {name: rows | f"Part {name}" >> PartitionBy("user_id", self.parts) for name, rows in inputs.items()}
            | CoGroupParts(shapes, self.parts)
            | "Prepare"
            >> beam.FlatMapTuple(self._prepare).with_output_types(int, **hints).with_outputs(*written, *told)
        )
        for name in written:
            made[name] | f"Write {name}" >> WriteToParquetBatched(storage.join(self.out, name), self.parts)
        return {name: made[name] for name in told}


@dataclass
class MakeShop(beam.PTransform):
    """Sales (tables), items (accepted tables) and segments to the catalogue's and vocabularies' files.

    Gives three collections of tables: rejects, counts, span.
    """

    plan: Plan
    out: str

    def _make(self, sold: pa.Table, items: pa.Table, segments: pa.Table) -> Iterator[Any]:
        shop = prepare_shop(sold, items, segments, self.plan)
        storage.write_parquet(shop.catalogue, storage.join(self.out, "catalogue.parquet"))
        for name, words in shop.vocabularies.items():
            storage.write_parquet(words, storage.join(self.out, "vocabularies", f"{name}.parquet"))
        yield TaggedOutput("rejects", shop.rejects)
        yield TaggedOutput("counts", shop.counts)
        yield TaggedOutput("span", sale_span(shop.catalogue))

    def expand(self, inputs: Any) -> Any:
        item = self.plan.item_type
        rows = item_rows(item)
        items = inputs["items"] | "Items" >> beam.CombineGlobally(MergeTables(pa.concat_tables, rows))
        segments = inputs["segments"] | "Segments" >> beam.CombineGlobally(MergeTables(_merge_vocabularies, VOCABULARY))
        told = ("rejects", "counts", "span")
        make = beam.FlatMap(self._make, AsSingleton(items), AsSingleton(segments))
        made = (
            inputs["sales"]
            | "Sales" >> beam.CombineGlobally(MergeTables(merge_sales, sales_schema(item)))
            | "Make" >> make.with_output_types(int, **dict.fromkeys(told, pa.Table)).with_outputs(*told)
        )
        return {name: made[name] for name in told}


@dataclass
class WriteRejects(beam.PTransform):
    """Tables of rejects to files of ``parts`` parts; gives the counts by source and reason."""

    folder: str
    parts: int

    def expand(self, rejects: PCollection) -> PCollection:
        tables = (
            rejects
            | PartitionBy("row", self.parts)
            | GroupParts(schemas.REJECTS, self.parts)
            | "Sort"
            >> beam.MapTuple(lambda part, rows: (part, sorted_rejects(rows))).with_output_types(tuple[int, pa.Table])
        )
        tables | WriteToParquetBatched(self.folder, self.parts)
        return tables | "Count" >> beam.MapTuple(lambda _, rows: count_rejects(rows)).with_output_types(pa.Table)


@dataclass
class WriteStatistics(beam.PTransform):
    """Counts (tables) and the sale span (one table) to statistics.json."""

    plan: Plan
    out: str
    files: Mapping[str, tuple[int, int]]

    def _write(self, counts: pa.Table, span: pa.Table) -> str:
        path = storage.join(self.out, "statistics.json")
        storage.write_json(statistics(counts, self.files, span, self.plan), path)
        return path

    def expand(self, inputs: Any) -> PCollection:
        counts = inputs["counts"] | "Counts" >> beam.CombineGlobally(MergeTables(merge_counts, COUNTS))
        return counts | "Write" >> beam.Map(self._write, AsSingleton(inputs["span"])).with_output_types(str)
