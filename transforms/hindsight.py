"""Judging published lists part by part: what was known is counted over all parts first, then each part is judged."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin.artifacts import storage
from topkin.artifacts.partition import partition_of
from topkin.evaluation.hindsight import PastLists, buyers_before, judge_part
from topkin.evaluation.results import EvaluationResults
from topkin.telemetry.progress import advance
from topkin.transforms.counters import counted


@dataclass(frozen=True, kw_only=True)
class HindsightInputs:
    """What is read. prepared: tonight's folder of the stage prepare, of so many parts.

    versions: what is judged, and the folder of the tables of each, of any number of parts. ks: cut-offs, ascending.
    """

    prepared: str
    parts: int
    versions: Sequence[tuple[PastLists, str]]
    ks: tuple[int, ...]

    def histories(self, part: int) -> pa.Table:
        """Tonight's histories of a part."""
        path = storage.join(self.prepared, "histories", storage.part_name(part, self.parts))
        return storage.read_parquet(path, ["user_id", "items", "times", "weights"])

    def item_ids(self) -> pa.Array:
        """Tonight's catalogue."""
        path = storage.join(self.prepared, "catalogue.parquet")
        return storage.read_parquet(path, ["item_id"])["item_id"].combine_chunks()


def lists_of_part(folder: str, part: int, parts: int) -> pa.Table:
    """The published rows of a part's users: user_id, rank, item_id.

    Tables of as many parts have them in one file; of others every file is read for them, one at a time.
    """
    paths, columns = storage.parquet_files(folder), ["user_id", "rank", "item_id"]
    own = [path for path in paths if path.endswith("/" + storage.part_name(part, parts))]
    if own:
        return storage.read_parquet(own[0], columns)
    tables = (storage.read_parquet(path, columns) for path in paths)
    return pa.concat_tables([t.filter(pa.array(partition_of(t["user_id"], parts) == part)) for t in tables])


def count_part(inputs: HindsightInputs, item_ids: pa.Array, part: int) -> np.ndarray:
    """Buyers of each item before the date of each version, (n_versions, n_items) int64."""
    histories = inputs.histories(part)
    return np.array([buyers_before(histories, item_ids, lists.as_of) for lists, _ in inputs.versions])


def judge(inputs: HindsightInputs, item_ids: pa.Array, buyers: np.ndarray, part: int) -> Iterator[pa.Table]:
    """The metrics of a part's users, of each version."""
    histories = inputs.histories(part)
    for (lists, folder), counts in zip(inputs.versions, buyers, strict=True):
        recommendations = lists_of_part(folder, part, inputs.parts)
        yield judge_part(lists, histories, recommendations, item_ids=item_ids, buyers=counts, ks=inputs.ks)


class _Catalogue:
    """A holder that Beam can share."""

    def __init__(self, inputs: HindsightInputs):
        self.item_ids = inputs.item_ids()


class _WithCatalogue(beam.DoFn):
    def __init__(self, inputs: HindsightInputs, out: str, shared: Shared):
        self._inputs, self._out, self._shared = inputs, out, shared

    def setup(self) -> None:
        self._item_ids = self._shared.acquire(lambda: _Catalogue(self._inputs), tag=self._out).item_ids


class _CountPart(_WithCatalogue):
    """A part's number to :func:`count_part`."""

    @counted
    def process(self, part: int) -> Iterator[np.ndarray]:
        yield count_part(self._inputs, self._item_ids, part)


class _JudgePart(_WithCatalogue):
    """Writes the tables of a part; a bundle done again writes the same bytes."""

    @counted
    def process(self, part: int, buyers: np.ndarray) -> Iterator[int]:
        tables = judge(self._inputs, self._item_ids, buyers, part)
        for (lists, _), table in zip(self._inputs.versions, tables, strict=True):
            name = storage.part_name(part, self._inputs.parts)
            storage.write_parquet(table, storage.join(self._out, str(lists.days), name))
        advance("hindsight", 1, self._inputs.parts)
        yield part


def _add(counts: Iterable[np.ndarray]) -> np.ndarray:
    return sum(counts, np.zeros((), np.int64))


@dataclass
class JudgePastLists(beam.PTransform):
    """Judges every part into ``out``, a folder of each version by its days; gives the numbers of the parts."""

    inputs: HindsightInputs
    out: str
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection[int]:
        parts = pipeline | "Parts" >> beam.Create(range(self.inputs.parts), reshuffle=True)
        buyers = (
            parts
            | "CountPart" >> beam.ParDo(_CountPart(self.inputs, self.out, self.shared)).with_output_types(np.ndarray)
            | "Add" >> beam.CombineGlobally(_add).with_output_types(np.ndarray)
        )
        return parts | "JudgePart" >> beam.ParDo(_JudgePart(self.inputs, self.out, self.shared), AsSingleton(buyers))


def read_results(out: str, days: int, parts: int) -> EvaluationResults:
    """What :class:`JudgePastLists` wrote of a version."""

    def read(part: int, name: str, columns: Sequence[str] | None) -> pa.Table:
        return storage.read_parquet(storage.join(out, str(days), storage.part_name(part, parts)), columns)

    return EvaluationResults(parts, read)
