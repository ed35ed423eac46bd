"""A prepared folder as it was at an earlier date: part by part, then the catalogue with the sales until then."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput

from topkin.artifacts import storage
from topkin.ingest.catalogue import merge_sales, sales_schema, with_sales
from topkin.ingest.splits import part_at_cut
from topkin.ingest.typed.rows import with_earlier_inputs
from topkin.interactions import INPUTS, Interactions
from topkin.recommend.repurchase.rates import COUNTS, counts_of, merge_counts
from topkin.telemetry.progress import advance
from topkin.transforms.coders import MergeTables
from topkin.transforms.counters import counted


@dataclass(frozen=True, kw_only=True)
class CutInputs:
    """What a cut reads.

    prepared: folder of the stage. parts: of its tables by user. cut: what came before it is known. recent_days: as
    prepare counted ``recent``. second_half: only users of the second half are judged, see ``splits.part_at_cut``.
    """

    prepared: str
    parts: int
    cut: datetime
    recent_days: float
    second_half: bool

    def catalogue(self, columns: list[str] | None = None) -> pa.Table:
        """The catalogue of now, or some of its columns."""
        return storage.read_parquet(storage.join(self.prepared, "catalogue.parquet"), columns)

    def write_part(self, part: int, out: str) -> tuple[pa.Table, pa.Table]:
        """Write the histories of a part at the cut and what is held out; its sales, and COUNTS of its repurchases."""
        name = storage.part_name(part, self.parts)
        events = storage.read_parquet(storage.join(self.prepared, "events", name))
        before_cut = part_at_cut(events, self.cut, self.recent_days, second_half=self.second_half)
        now = storage.read_parquet(storage.join(self.prepared, "histories", name), ["user_id", *INPUTS, "features"])
        known = with_features(with_earlier_inputs(before_cut.histories, now, self.cut), now)
        storage.write_parquet(known, storage.join(out, "histories", name))
        storage.write_parquet(before_cut.heldout, storage.join(out, "heldout", name))
        history = Interactions.from_histories(before_cut.histories, self.catalogue(["item_id"])["item_id"], self.cut)
        return before_cut.sales, counts_of(history)

    def write_catalogue(self, sold: pa.Table, out: str) -> None:
        """Write the catalogue with the sales before the cut, and whose date that is: after every part."""
        storage.write_parquet(with_sales(self.catalogue(), sold), storage.join(out, "catalogue.parquet"))
        storage.write_json({"as_of": self.cut.isoformat()}, storage.join(out, "statistics.json"))


def with_features(histories: pa.Table, users: pa.Table) -> pa.Table:
    """Histories with the features of their users, where the table of these has some."""
    if "features" not in users.column_names:
        return histories
    rows = pc.index_in(histories["user_id"], value_set=users["user_id"].combine_chunks())
    return histories.append_column(users.schema.field("features"), users["features"].take(rows))


@dataclass
class CutPrepared(beam.PTransform):
    """Writes the folder of a cut to ``out``, and to ``repeats`` COUNTS of all repurchases; gives the parts' numbers."""

    inputs: CutInputs
    out: str
    repeats: str

    @counted
    def _cut(self, part: int) -> Iterator[object]:
        sold, repeats = self.inputs.write_part(part, self.out)
        advance("hold out", 1, self.inputs.parts)
        yield part
        yield TaggedOutput("sales", sold)
        yield TaggedOutput("repeats", repeats)

    @counted
    def _write_catalogue(self, sold: pa.Table) -> str:
        self.inputs.write_catalogue(sold, self.out)
        return self.out

    @counted
    def _write_repeats(self, repeats: pa.Table) -> str:
        storage.write_parquet(repeats, self.repeats)
        return self.repeats

    def expand(self, pipeline: PBegin) -> PCollection[int]:
        item_type = self.inputs.catalogue(["item_id"])["item_id"].type
        cut = beam.FlatMap(self._cut).with_output_types(int, sales=pa.Table, repeats=pa.Table)
        tables = (
            pipeline
            | "Parts" >> beam.Create(range(self.inputs.parts), reshuffle=True)
            | "Cut" >> cut.with_outputs("sales", "repeats", main="parts")
        )
        sales = tables.sales | "Sales" >> beam.CombineGlobally(MergeTables(merge_sales, sales_schema(item_type)))
        sales | "Write catalogue" >> beam.Map(self._write_catalogue).with_output_types(str)
        repeats = tables.repeats | "Repeats" >> beam.CombineGlobally(MergeTables(merge_counts, COUNTS))
        repeats | "Write repeats" >> beam.Map(self._write_repeats).with_output_types(str)
        return tables.parts
