"""Tables moved to their partition: the columnar form of GroupByKey."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from topkin.partition import split


@dataclass
class PartitionBy(beam.PTransform):
    """Tables to (part, rows of that part), by the stable hash of an id column; parts without rows are left out."""

    column: str
    parts: int

    def _split(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        yield from split(table, self.column, self.parts).items()

    def expand(self, tables: PCollection) -> PCollection:
        return tables | "Split" >> beam.FlatMap(self._split).with_output_types(tuple[int, pa.Table])


@dataclass
class GroupParts(beam.PTransform):
    """(part, table) to (part, all its rows as one table), for each of ``parts`` parts, the empty ones too.

    The rows' order is the runner's: whoever needs one sorts.
    """

    schema: pa.Schema
    parts: int

    def expand(self, tables: PCollection) -> PCollection:
        grouped = {"rows": tables} | CoGroupParts({"rows": self.schema}, self.parts)
        return grouped | "Alone" >> beam.MapTuple(lambda part, named: (part, named["rows"])).with_output_types(
            tuple[int, pa.Table]
        )


@dataclass
class CoGroupParts(beam.PTransform):
    """{name: (part, table)} to (part, {name: all its rows as one table}), for each of ``parts`` parts."""

    schemas: Mapping[str, pa.Schema]
    parts: int

    def _joined(self, part: int, named: Iterable[tuple[str, pa.Table]]) -> tuple[int, dict[str, pa.Table]]:
        found: dict[str, list[pa.Table]] = {name: [schema.empty_table()] for name, schema in self.schemas.items()}
        for name, table in named:
            if name:
                found[name].append(table)
        return part, {name: pa.concat_tables(tables) for name, tables in found.items()}

    def expand(self, inputs: Any) -> PCollection:
        named_tables = tuple[int, tuple[str, pa.Table]]
        pipeline = next(iter(inputs.values())).pipeline
        every = (
            pipeline
            | "Parts" >> beam.Create(range(self.parts))
            | "Empty" >> beam.Map(lambda part: (part, ("", pa.table({})))).with_output_types(named_tables)
        )
        named = [
            tables
            | f"Name {name}"
            >> beam.MapTuple(lambda part, table, name=name: (part, (name, table))).with_output_types(named_tables)
            for name, tables in inputs.items()
        ]
        return (
            (every, *named)
            | "All" >> beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Join" >> beam.MapTuple(self._joined).with_output_types(tuple[int, dict[str, pa.Table]])
        )
