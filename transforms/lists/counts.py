"""What lists need to know of all users: what sold in each segment, and how often items are bought again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PBegin, PCollection, TaggedOutput

from topkin.artifacts import schemas, storage
from topkin.interactions import Interactions
from topkin.recommend.popular_fallback import merge_segment_counts, segment_counts
from topkin.recommend.repurchase.rates import COUNTS, counts_of, merge_counts
from topkin.transforms.counters import counted

if TYPE_CHECKING:
    from topkin.transforms.recommend import RecommendInputs, RecommendParts


def count_part(inputs: "RecommendInputs", part: int) -> tuple[pa.Table, pa.Table]:
    """SEGMENT_COUNTS and COUNTS of a part's users; the second empty where no bought item is ranked by them."""
    histories = inputs.histories(part, ["items", "times", "weights", "segment"])
    history = Interactions.from_histories(histories, inputs.catalogue(["item_id"])["item_id"], inputs.as_of)
    segments = segment_counts(history, histories, inputs.as_of, inputs.recent_days)
    return segments, COUNTS.empty_table() if inputs.repurchase is None else counts_of(history)


class _CountPart(beam.DoFn):
    """A part's number to its counts of segments; those of repeats beside."""

    def __init__(self, inputs: "RecommendInputs"):
        self._inputs = inputs

    @counted
    def process(self, part: int) -> Iterator[object]:
        segments, repeats = count_part(self._inputs, part)
        yield segments
        yield TaggedOutput("repeats", repeats)


@dataclass
class _MergeTables(beam.PTransform):
    """Tables to one."""

    merge: Callable[[list[pa.Table]], pa.Table]

    @counted
    def _merge(self, _: int, tables: Iterable[pa.Table]) -> pa.Table:
        return self.merge(list(tables))

    def expand(self, tables: PCollection[pa.Table]) -> PCollection[pa.Table]:
        return (
            tables
            | "OneKey" >> beam.Map(lambda table: (0, table)).with_output_types(tuple[int, pa.Table])
            | "Group" >> beam.GroupByKey()
            | "Merge" >> beam.MapTuple(self._merge).with_output_types(pa.Table)
        )


def counts_of_all(pipeline: PBegin, lists: "Sequence[RecommendParts]") -> tuple[AsSingleton, AsSingleton]:
    """SEGMENT_COUNTS, and COUNTS where some list ranks by them, which are written beside it."""

    def merged_repeats(tables: list[pa.Table]) -> pa.Table:
        merged = merge_counts(tables)
        for encoder, path in paths:
            storage.write_parquet(merged.cast(schemas.with_encoder(COUNTS, encoder)), path)
        return merged

    ranked = [one for one in lists if one.inputs.repurchase is not None]
    paths = [(one.inputs.encoder, one.repeats) for one in ranked]
    inputs = (ranked or lists)[0].inputs
    parts = pipeline | "Parts" >> beam.Create(range(inputs.parts), reshuffle=True)
    count = beam.ParDo(_CountPart(inputs)).with_output_types(pa.Table, repeats=pa.Table)
    counts = parts | "Count" >> count.with_outputs("repeats", main="segments")
    repeats = counts.repeats | "MergeRepeats" >> _MergeTables(merged_repeats)
    return AsSingleton(counts.segments | "MergeSegments" >> _MergeTables(merge_segment_counts)), AsSingleton(repeats)
