"""Counts of all workers, summed into one JSON file: the same for any number of retries."""

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from topkin.artifacts import storage
from topkin.telemetry.counters import sum_counts


@dataclass
class WriteTally(beam.PTransform):
    """Tables of ``tally.SCHEMA``, summed, to a JSON file kind -> name -> count; gives its path."""

    path: str

    def _write(self, _: int, tables: Iterable[pa.Table]) -> str:
        storage.write_json(sum_counts(tables), self.path)
        return self.path

    def expand(self, tables: PCollection) -> PCollection:
        return (
            tables
            | "OneKey" >> beam.Map(lambda table: (0, table)).with_output_types(tuple[int, pa.Table])
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.MapTuple(self._write).with_output_types(str)
        )
