"""Preparing in Beam: thin transforms around :mod:`topkin.ingest.prepare`.

Rows go from those who read them to those who work on a partition as a :class:`Shuffle` says. ``expand`` says ``Any`` of
several collections by name: Beam would take the real type for a hint that it does not know, and warn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, AsSingleton, PCollection, TaggedOutput

from topkin.artifacts import schemas, storage
from topkin.artifacts.shuffle import PartFile, PartTables, join_part, read_part
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


SENT = tuple[int, tuple[str, pa.Table]]


@dataclass(frozen=True)
class Shuffle:
    """How rows go from those who read them to those who work on a part.

    Through files below ``scratch``, so that a runner that holds all in memory does not hold them: what Beam moves is
    their names. Or, by the engine, as tables through its GroupByKey, which spills and balances them.
    """

    scratch: str
    parts: int
    by_engine: bool = False

    @property
    def element(self) -> Any:
        """The type of what is sent."""
        return SENT if self.by_engine else str

    def sender(self, folder: str, name: str, schema: pa.Schema, column: str) -> PartFile | PartTables:
        """What takes the rows of one who reads, by the partition of a column."""
        kind = PartTables if self.by_engine else PartFile
        return kind(storage.join(self.scratch, folder, f"{name}.arrow"), schema, column, self.parts)

    def rejects(self, name: str) -> PartFile | PartTables:
        """What takes rejects, by the partition of their rows' numbers."""
        return self.sender("rejects", name, schemas.REJECTS, "row")

    def received(self, part: int, sent: Any) -> Mapping[str, Sequence[Any]]:
        """What :class:`ToParts` gave for a part, by name."""
        if not self.by_engine:
            return sent  # type: ignore[no-any-return]
        received: dict[str, list[Any]] = {}
        for name, path, table in sent:
            received.setdefault(name, []).append((part, (path, table)))
        return received

    def rows(self, sent: Sequence[Any], schema: pa.Schema, part: int | None = None) -> pa.Table:
        """The rows of a part in what it received, or of all parts in all that was sent."""
        if self.by_engine:
            return join_part(sent, schema)
        return read_part(sent, part or 0, 1 if part is None else self.parts, schema)


@dataclass
class ToParts(beam.PTransform):
    """{name: what was sent} to (part, what of it has the part's rows) of all parts; see ``Shuffle.received``."""

    shuffle: Shuffle

    def _all(self, part: int, **sent: Sequence[str]) -> tuple[int, dict[str, Sequence[str]]]:
        return part, sent

    def expand(self, sent: Any) -> Any:
        parts = each_part(next(iter(sent.values())).pipeline, self.shuffle.parts)
        if not self.shuffle.by_engine:
            sides = {name: AsList(paths) for name, paths in sent.items()}
            return parts | "All" >> beam.Map(self._all, **sides).with_output_types(tuple[int, dict[str, Any]])
        every = parts | "Every" >> beam.Map(lambda part: (part, ("", "", pa.table({})))).with_output_types(_NAMED)
        rows = [tables | f"Name {name}" >> _named(name) for name, tables in sent.items()]
        return (every, *rows) | "Rows" >> beam.Flatten() | "Group" >> beam.GroupByKey()


_NAMED = tuple[int, tuple[str, str, pa.Table]]


def _named(name: str) -> beam.PTransform:
    return beam.MapTuple(lambda part, row: (part, (name, *row))).with_output_types(_NAMED)


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
    """{splits: of an input} to their accepted rows, sent to their parts; rejects likewise under ``rejects``.

    Beside the splits stand the tables of the plan's look-ups by side, where there are some: each worker gets them.

    Tables of counts under the tag ``counts`` tell how many rows were added by lists.

    What is sent is named by its split; see :mod:`topkin.artifacts.shuffle`.
    """

    name: str
    plan: PreparePlan
    columns: Sequence[str]
    rows: int
    shuffle: Shuffle

    @counted
    def _clean(self, split: RowGroupSplit, **lookups: Any) -> Iterator[Any]:
        key = "item_id" if self.name == "items" else "user_id"
        added = 0
        with (
            self.shuffle.sender(self.name, split.name, self.plan.rows(self.name), key) as good,
            self.shuffle.rejects(f"{self.name}-{split.name}") as bad,
        ):
            for table in read_split(self.name, split, self.columns):
                more = rows_added(table)
                added += more
                batch = self._cleaned(table, lookups)
                good.add(batch.accepted)
                bad.add(batch.rejects)
                progress.advance(f"clean {self.name}", len(table) - more, self.rows)
        Metrics.counter("topkin", f"{self.name}_rejected").inc(bad.rows)
        yield from good.sent()
        yield from (TaggedOutput("rejects", sent) for sent in bad.sent())
        if added:
            yield TaggedOutput("counts", counts_of((self.name, "unnested", "", added)))

    @counted
    def _cleaned(self, table: pa.Table, lookups: Mapping[str, pa.Table]) -> Cleaned:
        return self.plan.clean(self.name, table, lookups)

    def expand(self, inputs: Any) -> Any:
        lookups = {side: AsSingleton(inputs[side]) for side in self.plan.lookups if side in inputs}
        sent = self.shuffle.element
        step = beam.FlatMap(self._clean, **lookups).with_output_types(sent, rejects=sent, counts=pa.Table)
        return inputs["splits"] | "Clean" >> step.with_outputs("rejects", "counts", main="accepted")


def each_part(pipeline: beam.Pipeline, parts: int) -> PCollection:
    """The numbers of all partitions, spread over the workers."""
    return pipeline | "Parts" >> beam.Create(range(parts), reshuffle=True)


@dataclass
class PrepareParts(beam.PTransform):
    """{purchases, users, heldout: what was sent} to the files of events, heldout and histories below ``out``.

    Gives four collections of tables, sales, segments, held_items and counts, and rejects that are sent.
    """

    plan: PreparePlan
    out: str
    shuffle: Shuffle

    @counted
    def _prepare(self, part: int, sent: Any) -> Iterator[Any]:
        plan, received = self.plan, self.shuffle.received(part, sent)

        def rows(name: str) -> pa.Table:
            return self.shuffle.rows(received.get(name, ()), plan.rows(name), part)

        given = rows("heldout") if plan.heldout else None
        listed = rows("users") if plan.users else None
        tables = prepare_part(rows("purchases"), listed, plan, given)
        for name in ("events", "heldout", "histories"):
            yield TaggedOutput(name, (part, getattr(tables, name)))
        for name in ("sales", "segments", "held_items", "counts"):
            yield TaggedOutput(name, getattr(tables, name))
        with self.shuffle.rejects(f"users-{part:05d}") as bad:
            bad.add(tables.rejects)
        yield from (TaggedOutput("rejects", one) for one in bad.sent())
        progress.advance("prepare users", 1, self.shuffle.parts)

    def expand(self, inputs: Any) -> Any:
        written, merged = ("events", "heldout", "histories"), ("sales", "segments", "held_items", "counts")
        hints = {**dict.fromkeys(written, tuple[int, pa.Table]), **dict.fromkeys(merged, pa.Table)}
        hints["rejects"] = self.shuffle.element
        sent = {name: inputs[name] for name in ("purchases", "users", "heldout")}
        prepare = beam.FlatMapTuple(self._prepare).with_output_types(int, **hints).with_outputs(*hints)
        tables = sent | "To parts" >> ToParts(self.shuffle) | "Prepare" >> prepare
        for name in written:
            tables[name] | f"Write {name}" >> WriteToParquetBatched(storage.join(self.out, name), self.shuffle.parts)
        return {name: tables[name] for name in (*merged, "rejects")}


@dataclass
class MakeShop(beam.PTransform):
    """Sales, segments, held items (tables) and items (sent) to the catalogue's and vocabularies' files.

    Gives two collections of tables, counts and span, and rejects that are sent.
    """

    plan: PreparePlan
    out: str
    shuffle: Shuffle

    @counted
    def _make(self, sold: pa.Table, items: Sequence[Any], segments: pa.Table, held: pa.Table) -> Iterator[Any]:
        listed = self.shuffle.rows(items, self.plan.rows("items")) if self.plan.items else None
        shop = prepare_catalogue(sold, listed, segments, held, self.plan)
        storage.write_parquet(shop.catalogue, storage.join(self.out, "catalogue.parquet"))
        for name, words in shop.vocabularies.items():
            storage.write_parquet(words, storage.join(self.out, "vocabularies", f"{name}.parquet"))
        yield TaggedOutput("counts", shop.counts)
        yield TaggedOutput("span", sale_span(shop.catalogue))
        with self.shuffle.rejects("items") as bad:
            bad.add(shop.rejects)
        yield from (TaggedOutput("rejects", sent) for sent in bad.sent())

    def expand(self, inputs: Any) -> Any:
        segments = inputs["segments"] | "Segments" >> beam.CombineGlobally(MergeTables(_merge_vocabularies, VOCABULARY))
        held_schema = held_items_schema(self.plan.item_type)
        held = inputs["held_items"] | "Held" >> beam.CombineGlobally(MergeTables(merge_held_items, held_schema))
        make = beam.FlatMap(self._make, AsList(inputs["items"]), AsSingleton(segments), AsSingleton(held))
        hints = {"counts": pa.Table, "span": pa.Table, "rejects": self.shuffle.element}
        tables = (
            inputs["sales"]
            | "Sales" >> beam.CombineGlobally(MergeTables(merge_sales, sales_schema(self.plan.item_type)))
            | "Make" >> make.with_output_types(int, **hints).with_outputs(*hints)
        )
        return {name: tables[name] for name in hints}


@dataclass
class WriteRejects(beam.PTransform):
    """Rejects that were sent to a folder of a file for each part; gives the counts by source and reason."""

    folder: str
    shuffle: Shuffle

    @counted
    def _sorted(self, part: int, sent: Any) -> tuple[int, pa.Table]:
        rejects = self.shuffle.received(part, sent).get("rejects", ())
        return part, sorted_rejects(self.shuffle.rows(rejects, schemas.REJECTS, part))

    def expand(self, rejects: PCollection) -> PCollection:
        sort = beam.MapTuple(self._sorted).with_output_types(tuple[int, pa.Table])
        tables = {"rejects": rejects} | "To parts" >> ToParts(self.shuffle) | "Sort" >> sort
        tables | WriteToParquetBatched(self.folder, self.shuffle.parts)
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
