"""The index, built by the workers: shards are planned by one, built by any, and joined by one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, PBegin, PCollection

from topkin.artifacts.embeddings import StoredItems, read_some_users
from topkin.config.sections import IndexSettings
from topkin.search.hnsw.shards import build_shard, join_shards, plan_shards
from topkin.transforms.counters import counted


@dataclass(frozen=True, kw_only=True)
class IndexInputs:
    """What the index is made from.

    embeddings: the folder of the vectors. encoder: that made them. users: how many there are, in so many parts.
    scratch: where shards are built, which outlives a killed job; every worker reads and writes there. out: where the
    index goes. at_a_time: shards that a worker builds at a time, each by one thread.
    """

    embeddings: str
    encoder: str
    users: int
    parts: int
    settings: IndexSettings
    seed: int
    scratch: str
    out: str
    at_a_time: int = 1

    @cached_property
    def items(self) -> StoredItems:
        """The table of the items."""
        return StoredItems(self.embeddings, self.encoder)

    def queries(self) -> np.ndarray:
        """The vectors of ``index.sample`` users drawn by the seed, (n, dim) float32, without those of zero."""
        sample = min(self.users, self.settings.sample)
        drawn = np.sort(np.random.default_rng(self.seed).choice(self.users, sample, replace=False))
        vectors = read_some_users(self.embeddings, self.parts, self.encoder, drawn)
        return np.asarray(vectors[vectors.any(axis=1)])


@dataclass
class BuildIndex(beam.PTransform):
    """The start of a pipeline to the index below ``inputs.out``; gives the number of its shards."""

    inputs: IndexInputs

    def _plan(self, _: None) -> Iterator[list[int]]:
        inputs = self.inputs
        shards = plan_shards(inputs.items, inputs.queries(), inputs.settings, inputs.seed, inputs.scratch)
        yield from (
            list(range(first, min(first + inputs.at_a_time, shards))) for first in range(0, shards, inputs.at_a_time)
        )

    @counted
    def _build(self, numbers: list[int]) -> int:
        inputs = self.inputs

        def build(number: int) -> None:
            build_shard(inputs.items, inputs.settings, inputs.scratch, number)

        with ThreadPoolExecutor(len(numbers)) as pool:
            return len(list(pool.map(build, numbers)))

    def _join(self, _: None, built: Sequence[int]) -> int:
        join_shards(self.inputs.items, self.inputs.settings, self.inputs.scratch, self.inputs.out)
        return sum(built)

    def expand(self, pipeline: PBegin) -> PCollection[int]:
        built = (
            pipeline
            | "Index" >> beam.Create([None])
            | "Plan" >> beam.FlatMap(self._plan).with_output_types(list[int])
            | "Spread" >> beam.Reshuffle()
            | "Build" >> beam.Map(self._build).with_output_types(int)
        )
        return pipeline | "Once" >> beam.Create([None]) | "Join" >> beam.Map(self._join, AsList(built))
