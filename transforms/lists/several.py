"""Several lists of each user in one pipeline: one search for all that go by the vectors, tables for each.

The tables are those that a run of each list by itself would write.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PBegin, PCollection

from topkin.config.sections import RecommendSettings
from topkin.linalg.csr import Csr
from topkin.recommend.searchers import ExactSearcher
from topkin.recommend.sharded import Shard, lists_of, lists_table, shard_bounds
from topkin.recommend.shared_search import SLACK, JointQueries
from topkin.search.topk import TopK, top_k
from topkin.transforms.counters import counted
from topkin.transforms.engine import engine
from topkin.transforms.lists.counts import counts_of_all
from topkin.transforms.recommend import (
    OFFERED_TO,
    ListDoFn,
    ListMaker,
    LoadedItems,
    PartsAlone,
    RecommendParts,
    SearchShards,
    ShardSearcher,
)

SAME_ITEMS = ("bought", "cooldown_days", "cooldown_by_category", "allow", "deny", "eligible", "valid_from", "valid_to")
"""Settings that say which items a user may have, beside ``not_shown_nights`` and ``capacity``."""


def joint_depth(lists: Sequence[RecommendSettings], depths: Sequence[int], n_items: int) -> int:
    """How many items of each user are searched for. depths: how many each list begins with."""
    own = [[getattr(settings, name) for name in SAME_ITEMS] for settings in lists]
    other = any(settings.not_shown_nights or settings.capacity is not None for settings in lists)
    other = other or any(one != own[0] for one in own)
    return min(max(depths) * (SLACK if other else 1), max(n_items, 1))


class _SearchJointly(beam.DoFn):
    """(part, None) to (part, what a search for several lists has for its users); or likewise of one shard.

    makers: of each list, as it loads what makes its lists.
    """

    def __init__(self, makers: Sequence[ListDoFn]) -> None:
        self._makers = makers

    def setup(self) -> None:
        for maker in self._makers:
            maker.setup()
        self._items: list[LoadedItems] = [maker.loaded.items for maker in self._makers]
        contexts, settings = [one.context for one in self._items], [one.inputs.settings for one in self._items]
        depths = [context.searched(own.k) for context, own in zip(contexts, settings, strict=True)]
        self._allowed = [context.allowed for context in contexts]
        self._depth = joint_depth(settings, depths, len(self._allowed[0]))

    def _joint(self, part: int) -> JointQueries:
        return JointQueries.of([one.queries(part) for one in self._items], self._allowed)


class _SearchAll(_SearchJointly):
    @counted
    def process(self, element: tuple[int, None]) -> Iterator[tuple[int, pa.Table]]:
        part, maker = element[0], self._makers[0].loaded
        assert isinstance(maker, ListMaker), "the items are in one shard"
        searcher = maker.searcher
        assert isinstance(searcher, ExactSearcher), "lists by the index, or a baseline, share no search"

        def find(vectors: np.ndarray, exclude: Csr, mask: np.ndarray) -> TopK:
            may = mask & searcher.has_vector
            return top_k(vectors, searcher.vectors, self._depth, exclude=exclude, allowed=may, engine=searcher.engine)

        yield part, lists_table(self._joint(part).search(self._depth, find), 0)


class _SearchShardForAll(_SearchJointly):
    @counted
    def process(self, element: tuple[int, int, int]) -> Iterator[tuple[int, pa.Table]]:
        number, first, end = element
        held, inputs = self._makers[0].loaded, self._items[0].inputs
        assert isinstance(held, ShardSearcher), "the items are in several shards"
        bounds = shard_bounds(len(self._allowed[0]), inputs.shards)[number : number + 2]
        with held.one_shard:
            shard = Shard.load(held.stored, int(bounds[0]), int(bounds[1]), np.logical_or.reduce(self._allowed))

            def find(vectors: np.ndarray, exclude: Csr, mask: np.ndarray) -> TopK:
                return lists_of(shard.search(vectors, exclude, self._depth, engine(), mask))

            for part in range(first, end):
                table = lists_table(self._joint(part).search(self._depth, find), 0).drop_columns("offered")
                for one, allowed in zip(self._items, self._allowed, strict=True):
                    offered = np.full(len(table), allowed[shard.numbers].sum(), np.int64)
                    table = table.append_column(OFFERED_TO + one.inputs.name, pa.array(offered))
                yield part, table


@dataclass
class SeveralLists(beam.PTransform):
    """Writes the tables of each list; gives the paths of all. lists: by name, for steps and counts."""

    lists: Mapping[str, RecommendParts]

    def _source(self, pipeline: PBegin, together: Sequence[RecommendParts]) -> PCollection[tuple[int, pa.Table]]:
        inputs = together[0].inputs
        makers = [ListDoFn(one.inputs, one.maker, one.shared) for one in together]
        if inputs.shards > 1:
            return pipeline | "SearchShards" >> SearchShards(inputs, _SearchShardForAll(makers))
        search = beam.ParDo(_SearchAll(makers)).with_output_types(tuple[int, pa.Table])
        return pipeline | "Alone" >> PartsAlone(inputs.parts) | "Search" >> search

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        segments, repeats = counts_of_all(pipeline, list(self.lists.values()))
        together = [one for one in self.lists.values() if one.shares]
        source = self._source(pipeline, together) if len(together) > 1 else None
        written = []
        for name, one in self.lists.items():
            users = source if source is not None and one.shares else pipeline | f"Users of {name}" >> _Source(one)
            written.append(users | f"List {name}" >> _Written(one, segments, repeats))
        return tuple(written) | beam.Flatten()


@dataclass
class _Source(beam.PTransform):
    """Where one list begins, by itself."""

    of: RecommendParts

    def expand(self, pipeline: PBegin) -> PCollection[tuple[int, pa.Table | None]]:
        return self.of.source(pipeline)


@dataclass
class _Written(beam.PTransform):
    """From there to its tables."""

    of: RecommendParts
    segments: AsSingleton
    repeats: AsSingleton

    def expand(self, source: PCollection[tuple[int, pa.Table | None]]) -> PCollection[str]:
        return self.of.written(source, self.segments, self.repeats)
