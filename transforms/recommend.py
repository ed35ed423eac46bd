"""Lists for every user, part by part; and what sold in each segment, which users without a history get.

Where the catalogue's vectors are too many for one worker, each shard of them is searched for every part first,
and what the shards found is merged by part. Where bought items are kept or boosted, what all users together tell
of each item's repurchase is counted first and written down.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, PBegin, PCollection, TaggedOutput
from apache_beam.utils.shared import Shared

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import SUMMARY, StoredItems, read_items, read_users
from topkin.baselines import registry
from topkin.config.sections import RecommendSettings
from topkin.encoding.blocks import Block
from topkin.errors import ArtifactError
from topkin.interactions import Interactions, concatenate
from topkin.planning.estimate import PARTS_A_LOAD
from topkin.recommend.eligibility import Allowed, allowed_items, cooldown_days, read_item_list
from topkin.recommend.lists import ItemContext, Lists, Rows, build_queries, longest, recommend
from topkin.recommend.popular_fallback import SEGMENT_COUNTS, SegmentPopularity, merge_segment_counts, segment_counts
from topkin.recommend.repurchase import COUNTS, Repurchase, RepurchaseRates, Weights, counts_of, merge_counts
from topkin.recommend.searchers import BaselineSearch, ExactSearch, IndexSearch, Search
from topkin.recommend.sharded import MergedSearch, Shard, merge_lists, shard_bounds
from topkin.search.hnsw import load_index
from topkin.telemetry.counters import counts_table
from topkin.telemetry.progress import advance
from topkin.transforms.coders import TableCoder
from topkin.transforms.counters import counted
from topkin.transforms.engine import engine
from topkin.transforms.parquet import WriteToParquetBatched
from topkin.transforms.tally import WriteTally


@dataclass(frozen=True, kw_only=True)
class RecommendInputs:
    """What recommending reads: folders of the finished stages, and the settings.

    encoder: the hash that every table must carry. recent_days: as prepare counted ``recent``. shards: into how
    many runs the items are cut, so that a worker holds one; 1 for all of them at once. Lists are the same.
    repurchase: the weights by which bought items are ranked; None where the model ranks alone. fitted: where
    :func:`fit` writes the baseline that makes the lists, if one does, and every worker reads it. neighbours: its.
    """

    prepared: str
    embeddings: str
    index: str
    encoder: str
    parts: int
    as_of: datetime
    recent_days: float
    settings: RecommendSettings
    shards: int = 1
    repurchase: Weights | None = None
    fitted: str = ""
    neighbours: int = 0

    def histories(self, part: int, columns: list[str] | None = None) -> pa.Table:
        """The histories of a part."""
        name = storage.part_name(part, self.parts)
        return storage.read_parquet(storage.join(self.prepared, "histories", name), columns)

    def catalogue(self, columns: list[str] | None = None) -> pa.Table:
        """The catalogue, or some of its columns."""
        return storage.read_parquet(storage.join(self.prepared, "catalogue.parquet"), columns)


def allowed_of(settings: RecommendSettings, catalogue: pa.Table) -> Allowed:
    """The items that availability and the configured lists allow. Raises InputError for a list that cannot be used."""
    t = catalogue.schema.field("item_id").type
    allow = None if settings.allow is None else read_item_list(settings.allow, t, "recommend.allow")
    deny = None if settings.deny is None else read_item_list(settings.deny, t, "recommend.deny")
    return allowed_items(catalogue, allow=allow, deny=deny)


def fit(sources: RecommendInputs) -> None:
    """Where a baseline makes the lists, fit it on the histories of all users and write it down.

    Here all purchases are in memory at once, as in ``transforms.evaluate.fit``.
    """
    if sources.settings.model == "encoder":
        return
    item_ids = sources.catalogue(["item_id"])["item_id"]
    history = concatenate(registry.known_purchases(sources.prepared, sources.parts, item_ids, sources.as_of))
    fitted = registry.fit_baselines(history, [sources.settings.model], sources.neighbours)
    registry.save_baselines(fitted, sources.fitted)


class ListMaker:
    """What a process knows of the items, loaded once and shared by its threads.

    With one shard it holds all vectors; with more, at most one shard of them, and looks up the rows of the
    items that reasons name. Where a baseline makes the lists it holds that, and no vectors.
    """

    def __init__(self, sources: RecommendInputs):
        self.sources, settings = sources, sources.settings
        catalogue = sources.catalogue(["item_id", "available", "category", "events", "users", "recent"])
        made = storage.read_json(storage.join(sources.embeddings, SUMMARY))
        self.search: Search | None = None
        self.stored = StoredItems(sources.embeddings, sources.encoder)
        vectors: Rows = self.stored.column("vector")
        in_vectors: Rows = self.stored.column("in_vector")
        if settings.model != "encoder":
            ids = self.stored.ids()
            fitted = registry.load_baselines(sources.fitted, [settings.model], sources.neighbours)
            self.search = BaselineSearch(fitted[settings.model], np.asarray(catalogue["events"]) > 0)
        elif sources.shards > 1:
            ids = self.stored.ids()
        else:
            items = read_items(sources.embeddings, sources.encoder)
            ids, vectors, in_vectors = items.ids, items.vectors, items.in_vectors
            self.search = ExactSearch(items.vectors, engine())
            if settings.search == "index":
                index = load_index(sources.index, encoder=sources.encoder, dim=items.vectors.shape[1])
                self.search = IndexSearch(index, items.vectors)
        if not ids.equals(catalogue["item_id"].combine_chunks()):
            raise ArtifactError(
                f"{sources.embeddings}/items must have the catalogue's items in its order: "
                "run topkin embed again with --force"
            )
        self.shelf = ItemContext(
            item_ids=ids,
            vectors=vectors,
            in_vectors=in_vectors,
            buyers=np.asarray(catalogue["users"]),
            allowed=allowed_of(settings, catalogue).mask,
            cooldown=cooldown_days(catalogue["category"], settings.cooldown_days, settings.cooldown_by_category),
            popularity=SegmentPopularity(
                np.asarray(catalogue["events"]), np.asarray(catalogue["recent"]), SEGMENT_COUNTS.empty_table()
            ),
            blocks=[Block.from_json(b) for b in made["blocks"]],
            history_length=made["history_length"],
            encoder=sources.encoder,
        )
        self.categories = catalogue["category"]
        self.one_shard = threading.Lock()

    def users(self, part: int, columns: list[str] | None = None) -> tuple[pa.Table, np.ndarray]:
        """The histories of a part's users, and their vectors."""
        histories = self.sources.histories(part, columns)
        if self.sources.settings.model != "encoder":  # its users are their histories: whoever has one is known
            return histories, np.ones((len(histories), 1), np.float32)
        user_ids, vectors = read_users(self.sources.embeddings, part, self.sources.parts, self.sources.encoder)
        if not user_ids.equals(histories["user_id"]):
            raise ArtifactError(
                f"{self.sources.embeddings}/users must have the users of the histories in their order, part {part} has "
                "others: run topkin embed again with --force"
            )
        return histories, vectors

    def lists(self, part: int, segments: pa.Table, habits: pa.Table, search: Search | None = None) -> Lists:
        """The lists of a part's users. segments, habits: what sold in each segment, and ``repurchase.COUNTS``, of all
        parts."""
        histories, vectors = self.users(part)
        weights = self.sources.repurchase
        shelf = replace(
            self.shelf,
            popularity=replace(self.shelf.popularity, segments=segments),
            repurchase=None
            if weights is None
            else Repurchase(weights, RepurchaseRates.of(habits, len(self.categories), self.categories)),
        )
        search = search or self.search
        assert search is not None, "a worker of several shards is given what they found"
        return recommend(histories, vectors, shelf, search, self.sources.settings, self.sources.as_of)

    def found(self, shard: int, parts: Iterable[int]) -> Iterator[tuple[int, pa.Table]]:
        """What one shard has for the users of some parts, see ``shards.merge_lists``."""
        first, end = shard_bounds(len(self.shelf.item_ids), self.sources.shards)[shard : shard + 2]
        with self.one_shard:  # a search uses every core: another shard beside it would only cost memory
            loaded = Shard.load(self.stored, int(first), int(end), self.shelf.allowed)
            for part in parts:
                histories, vectors = self.users(part, ["user_id", "items", "times", "weights"])
                shelf, settings = self.shelf, self.sources.settings
                wanted = build_queries(histories, vectors, shelf.item_ids, shelf.cooldown, settings, self.sources.as_of)
                yield part, loaded.search(wanted, vectors, longest(settings.k, len(shelf.item_ids)), engine())


class _Recommend(beam.DoFn):
    """A part's number, or that and what the shards found, to (part, its lists); short lists and counts beside."""

    def __init__(self, sources: RecommendInputs, shared: Shared):
        self._sources, self._shared = sources, shared
        self._users = Metrics.counter("topkin", "users_recommended")

    def setup(self) -> None:
        self._worker = self._shared.acquire(lambda: ListMaker(self._sources))

    @counted
    def process(self, element: int | tuple[int, pa.Table], segments: pa.Table, habits: pa.Table) -> Iterator[Any]:
        part, merged = element if isinstance(element, tuple) else (element, None)
        made = self._worker.lists(part, segments, habits, None if merged is None else MergedSearch(merged))
        self._users.inc(made.counts["users"]["all"])
        advance("recommend", made.counts["users"]["all"])
        yield part, made.recommendations
        yield TaggedOutput("short_lists", (part, made.short_lists))
        yield TaggedOutput("counts", counts_table(made.counts))


class _SearchShard(beam.DoFn):
    """(shard, first part, the one after the last) to (part, what the shard has for its users)."""

    def __init__(self, sources: RecommendInputs, shared: Shared):
        self._sources, self._shared = sources, shared

    def setup(self) -> None:
        self._worker = self._shared.acquire(lambda: ListMaker(self._sources))

    @counted
    def process(self, element: tuple[int, int, int]) -> Iterator[tuple[int, pa.Table]]:
        shard, first, end = element
        yield from self._worker.found(shard, range(first, end))


class _MergeLists(beam.CombineFn):
    """Tables of lists over disjoint items to one, see ``shards.merge_lists``."""

    def create_accumulator(self) -> pa.Table:
        return pa.table({})

    def add_input(self, mutable_accumulator: pa.Table, element: pa.Table) -> pa.Table:
        return merge_lists([mutable_accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[pa.Table]) -> pa.Table:
        return merge_lists(list(accumulators))

    def extract_output(self, accumulator: pa.Table) -> pa.Table:
        return accumulator

    def get_accumulator_coder(self) -> TableCoder:
        return TableCoder()


@dataclass
class SearchShards(beam.PTransform):
    """The start of a pipeline to (part, its users' best of all shards), see ``shards.merge_lists``.

    A shard is loaded once for ``PARTS_A_LOAD`` parts.
    """

    sources: RecommendInputs
    shared: Shared

    def expand(self, pipeline: PBegin) -> PCollection:
        parts, shards = self.sources.parts, self.sources.shards
        tasks = [
            (shard, first, min(first + PARTS_A_LOAD, parts))
            for shard in range(shards)
            for first in range(0, parts, PARTS_A_LOAD)
        ]
        search = beam.ParDo(_SearchShard(self.sources, self.shared)).with_output_types(tuple[int, pa.Table])
        return (
            pipeline
            | "Tasks" >> beam.Create(tasks, reshuffle=True)
            | "Search" >> search
            | "Merge" >> beam.CombinePerKey(_MergeLists()).with_output_types(tuple[int, pa.Table])
        )


@dataclass
class CountSegments(beam.PTransform):
    """Part numbers to one table: recent purchases by segment and item, see ``fallback.segment_counts``."""

    sources: RecommendInputs

    @counted
    def _count(self, part: int) -> tuple[int, pa.Table]:
        histories = self.sources.histories(part, ["items", "times", "weights", "segment"])
        item_ids = self.sources.catalogue(["item_id"])["item_id"]
        return 0, segment_counts(histories, item_ids, self.sources.as_of, self.sources.recent_days)

    @counted
    def _merge(self, _: int, tables: Iterable[pa.Table]) -> pa.Table:
        return merge_segment_counts(list(tables))

    def expand(self, parts: PCollection) -> PCollection:
        return (
            parts
            | "Count" >> beam.Map(self._count).with_output_types(tuple[int, pa.Table])
            | "Group" >> beam.GroupByKey()
            | "Merge" >> beam.MapTuple(self._merge).with_output_types(pa.Table)
        )


def repeat_history_of(sources: RecommendInputs, part: int) -> pa.Table:
    """``repurchase.COUNTS`` of a part's users; empty where no bought item is ranked by them."""
    if sources.repurchase is None:
        return COUNTS.empty_table()
    histories = sources.histories(part, ["items", "times", "weights"])
    item_ids = sources.catalogue(["item_id"])["item_id"]
    return counts_of(Interactions.from_histories(histories, item_ids, sources.as_of))


@dataclass
class CountRepeats(beam.PTransform):
    """Part numbers to one table, ``repurchase.COUNTS`` of all users, also written to ``path`` where it is used."""

    sources: RecommendInputs
    path: str

    @counted
    def _count(self, part: int) -> tuple[int, pa.Table]:
        return 0, repeat_history_of(self.sources, part)

    @counted
    def _merge(self, _: int, tables: Iterable[pa.Table]) -> pa.Table:
        merged = merge_counts(list(tables))
        if self.sources.repurchase is not None:
            storage.write_parquet(merged.cast(schemas.with_encoder(COUNTS, self.sources.encoder)), self.path)
        return merged

    def expand(self, parts: PCollection) -> PCollection:
        return (
            parts
            | "Count" >> beam.Map(self._count).with_output_types(tuple[int, pa.Table])
            | "Group" >> beam.GroupByKey()
            | "Merge" >> beam.MapTuple(self._merge).with_output_types(pa.Table)
        )


@dataclass
class RecommendParts(beam.PTransform):
    """Writes every user's list into ``lists``, the short ones into ``short_lists``, the counts to ``tally``.

    habits: where the counts of repurchase go.
    """

    sources: RecommendInputs
    lists: str
    short_lists: str
    tally: str
    habits: str
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection:
        parts = pipeline | "Parts" >> beam.Create(range(self.sources.parts), reshuffle=True)
        segments = AsSingleton(parts | "CountSegments" >> CountSegments(self.sources))
        habits = AsSingleton(parts | "CountRepeats" >> CountRepeats(self.sources, self.habits))
        lists = beam.ParDo(_Recommend(self.sources, self.shared), segments, habits)
        lists = lists.with_output_types(tuple[int, pa.Table], short_lists=tuple[int, pa.Table], counts=pa.Table)
        sharded = self.sources.shards > 1
        asked_for = pipeline | "SearchShards" >> SearchShards(self.sources, self.shared) if sharded else parts
        done = asked_for | "RecommendSettings" >> lists.with_outputs("short_lists", "counts", main="lists")
        done.counts | "Tally" >> WriteTally(self.tally)
        done.short_lists | "WriteShortLists" >> WriteToParquetBatched(self.short_lists, self.sources.parts)
        return done.lists | "WriteLists" >> WriteToParquetBatched(self.lists, self.sources.parts)


def recommend_parts(sources: RecommendInputs) -> list[Lists]:
    """What :class:`RecommendParts` writes, in memory, in the order of the parts."""
    item_ids = sources.catalogue(["item_id"])["item_id"]
    counted = [
        segment_counts(sources.histories(part), item_ids, sources.as_of, sources.recent_days)
        for part in range(sources.parts)
    ]
    worker, segments = ListMaker(sources), merge_segment_counts(counted)
    habits = merge_counts([repeat_history_of(sources, part) for part in range(sources.parts)])
    return [worker.lists(part, segments, habits) for part in range(sources.parts)]
