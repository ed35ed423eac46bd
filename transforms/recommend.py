"""Lists for every user, part by part.

First what sold in each segment, which users without a history get, and how often items are bought again are counted
over all users. Where the catalogue's vectors are too many for one worker, each shard of them is searched for every
part, and what the shards found is merged by part.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, PBegin, PCollection, TaggedOutput
from apache_beam.utils.shared import Shared

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import SUMMARY, StoredItems, read_items, read_users
from topkin.baselines import fitted
from topkin.config.sections import RecommendSettings
from topkin.encoding.blocks import Block
from topkin.encoding.reference import Reference
from topkin.errors import ArtifactError
from topkin.interactions import Interactions, concatenate
from topkin.planning.estimate import PARTS_A_LOAD
from topkin.recommend.eligibility import allowed_of
from topkin.recommend.explain import ExplainableScores, VectorRows
from topkin.recommend.lists import ItemContext, Lists, build_queries, fallback_reasons, recommend
from topkin.recommend.popular_fallback import merge_segment_counts, segment_counts
from topkin.recommend.repurchase.blend import Repurchase, Weights
from topkin.recommend.repurchase.rates import COUNTS, RepurchaseRates, counts_of, merge_counts
from topkin.recommend.searchers import BaselineSearcher, ExactSearcher, IndexSearcher, MergedSearcher, Searcher
from topkin.recommend.second.candidates import ENCODER
from topkin.recommend.second.stage import SecondStage
from topkin.recommend.sharded import Shard, merge_lists, shard_bounds
from topkin.search.hnsw.files import load_index
from topkin.telemetry.counters import counts_table
from topkin.telemetry.progress import advance
from topkin.transforms.coders import MergeTables
from topkin.transforms.counters import WriteTally, counted
from topkin.transforms.engine import engine
from topkin.transforms.parquet import WriteToParquetBatched


@dataclass(frozen=True, kw_only=True)
class RecommendInputs:
    """What recommending reads: folders of the finished stages, and the settings.

    encoder: the hash that every table must carry. recent_days: as prepare counted ``recent``. shards: into how
    many runs the items are cut, so that a worker holds one; 1 for all of them at once. Lists are the same.
    repurchase: the weights by which bought items are ranked; None where the model ranks alone. second: those of the
    second stage, see ``second.chosen.blend_of``; None without one. fitted: where :func:`fit` writes the baseline that
    makes the lists, if one does, or the sources of the second stage, and every worker reads them. neighbours: theirs.
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
    second: Mapping[str, float] | None = None
    fitted: str = ""
    neighbours: int = 0

    @property
    def fitted_names(self) -> list[str]:
        """The baselines that are fitted: the one that makes the lists, or the sources of the second stage."""
        if self.settings.baseline is not None:
            return [self.settings.baseline]
        return [name for name, weight in (self.second or {}).items() if name != ENCODER and weight]

    def histories(self, part: int, columns: list[str] | None = None) -> pa.Table:
        """The histories of a part."""
        name = storage.part_name(part, self.parts)
        return storage.read_parquet(storage.join(self.prepared, "histories", name), columns)

    def catalogue(self, columns: list[str] | None = None) -> pa.Table:
        """The catalogue, or some of its columns."""
        return storage.read_parquet(storage.join(self.prepared, "catalogue.parquet"), columns)


def fit(inputs: RecommendInputs) -> None:
    """Where baselines make the lists, or stand beside the encoder, fit them on all histories and write them down.

    All purchases are then in memory at once, as in ``transforms.evaluate.fit``.
    """
    names = inputs.fitted_names
    if not names:
        return
    item_ids = inputs.catalogue(["item_id"])["item_id"]
    history = concatenate(fitted.known_purchases(inputs.prepared, inputs.parts, item_ids, inputs.as_of))
    fitted.save_baselines(fitted.fit_baselines(history, names, inputs.neighbours), inputs.fitted)


class LoadedItems:
    """What a process knows of the items whatever searches them, loaded once and shared by its threads.

    vectors, in_vectors: (n_items, dim) float32, or what looks rows up.
    """

    def __init__(self, inputs: RecommendInputs, ids: pa.Array, vectors: VectorRows, in_vectors: VectorRows):
        self.inputs, settings = inputs, inputs.settings
        catalogue = inputs.catalogue(["item_id", "available", "category", "events", "users", "recent"])
        if not ids.equals(catalogue["item_id"].combine_chunks()):
            raise ArtifactError(
                f"{inputs.embeddings}/items must have the catalogue's items in its order: "
                "run topkin embed again with --force"
            )
        summary = storage.read_json(storage.join(inputs.embeddings, SUMMARY))
        reference = Reference.read(inputs.embeddings)
        # Where nothing bought is listed ages only explain, and are those that were pooled.
        pooled = reference is not None and settings.bought == "exclude"
        self.as_of = reference.as_of if reference is not None and pooled else inputs.as_of
        self.categories, self.events = catalogue["category"], np.asarray(catalogue["events"])
        self.scores = ExplainableScores(
            vectors=vectors,
            in_vectors=in_vectors,
            buyers=np.asarray(catalogue["users"] if reference is None else reference.buyers(ids)),
            blocks=[Block.from_json(block) for block in summary["blocks"]],
            history_length=summary["history_length"],
        )
        allowed = allowed_of(settings, catalogue).mask
        second = None
        if inputs.second:
            sources = fitted.load_baselines(inputs.fitted, inputs.fitted_names, inputs.neighbours)
            second = SecondStage(inputs.second, sources)
        self.context = ItemContext.of_catalogue(
            catalogue, settings, allowed=allowed, encoder=inputs.encoder, vectors=vectors, second=second
        )

    @classmethod
    def looked_up(cls, inputs: RecommendInputs) -> "LoadedItems":
        """Without the vectors in memory: their rows are read when they are asked for."""
        stored = StoredItems(inputs.embeddings, inputs.encoder)
        return cls(inputs, stored.ids(), stored.column("vector"), stored.column("in_vector"))

    def users(self, part: int, columns: list[str] | None = None) -> tuple[pa.Table, np.ndarray]:
        """The histories of a part's users, and their vectors; a baseline's users have none."""
        inputs, histories = self.inputs, self.inputs.histories(part, columns)
        if inputs.settings.baseline is not None:
            return histories, np.zeros((len(histories), 0), np.float32)
        user_ids, vectors = read_users(inputs.embeddings, part, inputs.parts, inputs.encoder)
        if not user_ids.equals(histories["user_id"]):
            raise ArtifactError(
                f"{inputs.embeddings}/users must have the users of the histories in their order, part {part} has "
                "others: run topkin embed again with --force"
            )
        return histories, vectors

    def lists(self, part: int, segments: pa.Table, repeats: pa.Table, searcher: Searcher) -> Lists:
        """The lists of a part's users. segments, repeats: SEGMENT_COUNTS and COUNTS of all users."""
        histories, vectors = self.users(part)
        weights, context = self.inputs.repurchase, self.context
        context = replace(context, popularity=replace(context.popularity, segments=segments))
        if weights is not None:
            rates = RepurchaseRates.of(repeats, len(self.categories), self.categories)
            context = replace(context, repurchase=Repurchase(weights, rates))
        return recommend(histories, vectors, context, searcher, self.inputs.settings, self.as_of)


class ListMaker:
    """Makes lists with a searcher of all items: the one place that knows which kinds there are."""

    def __init__(self, inputs: RecommendInputs):
        settings = inputs.settings
        if settings.baseline is not None:
            self.items = LoadedItems.looked_up(inputs)
            baseline = fitted.load_baselines(inputs.fitted, [settings.baseline], inputs.neighbours)[settings.baseline]
            self.searcher: Searcher = BaselineSearcher(baseline, self.items.events > 0)
            return
        rows = read_items(inputs.embeddings, inputs.encoder)
        self.items = LoadedItems(inputs, rows.ids, rows.vectors, rows.in_vectors)
        if settings.search == "index":
            index = load_index(inputs.index, encoder=inputs.encoder, dim=rows.vectors.shape[1])
            self.searcher = IndexSearcher(index, rows.vectors, self.items.scores)
        else:
            self.searcher = ExactSearcher(rows.vectors, self.items.scores, engine())

    def lists(self, part: int, segments: pa.Table, repeats: pa.Table) -> Lists:
        """See :meth:`LoadedItems.lists`."""
        return self.items.lists(part, segments, repeats, self.searcher)


class ShardSearcher:
    """Searches one shard of the items at a time, and holds no vectors of others."""

    def __init__(self, inputs: RecommendInputs):
        self.items, self.stored = LoadedItems.looked_up(inputs), StoredItems(inputs.embeddings, inputs.encoder)
        self.one_shard = threading.Lock()

    def search(self, shard: int, parts: Iterable[int]) -> Iterator[tuple[int, pa.Table]]:
        """(part, what one shard has for its users) for some parts, see ``sharded.lists_table``."""
        inputs, context = self.items.inputs, self.items.context
        first, end = shard_bounds(len(context.item_ids), inputs.shards)[shard : shard + 2]
        with self.one_shard:  # a search uses every core: another shard beside it would only cost memory
            loaded = Shard.load(self.stored, int(first), int(end), context.allowed)
            for part in parts:
                histories, vectors = self.items.users(part, ["user_id", "items", "times", "weights"])
                users = build_queries(histories, vectors, context, inputs.settings, inputs.as_of)
                known = np.asarray(vectors.any(axis=1))
                why = fallback_reasons(users.history, known, inputs.settings.min_history)
                users = users.take(np.flatnonzero(why < 0))
                k = context.depth(inputs.settings.k)
                yield part, loaded.search(users.vectors, users.exclude, k, engine())


class _MakeLists(beam.DoFn):
    """A part's number to (part, its lists); short lists and counts beside."""

    def __init__(self, inputs: RecommendInputs, maker: Callable[[RecommendInputs], ListMaker], shared: Shared):
        self._inputs, self._load, self._shared = inputs, maker, shared

    def setup(self) -> None:
        self._maker = self._shared.acquire(lambda: self._load(self._inputs))

    @counted
    def process(self, part: int, segments: pa.Table, repeats: pa.Table) -> Iterator[object]:
        yield from _outputs(part, self._maker.lists(part, segments, repeats))


class _MakeMergedLists(beam.DoFn):
    """(part, what all shards found for its users) to the outputs of :class:`_MakeLists`."""

    def __init__(self, inputs: RecommendInputs, shared: Shared):
        self._inputs, self._shared = inputs, shared

    def setup(self) -> None:
        self._worker = self._shared.acquire(lambda: ShardSearcher(self._inputs))

    @counted
    def process(self, merged: tuple[int, pa.Table], segments: pa.Table, repeats: pa.Table) -> Iterator[object]:
        part, table = merged
        items = self._worker.items
        yield from _outputs(part, items.lists(part, segments, repeats, MergedSearcher(table, items.scores)))


_USERS = Metrics.counter("topkin", "users_recommended")


def _outputs(part: int, lists: Lists) -> Iterator[object]:
    users = lists.counts["users"]["all"]
    _USERS.inc(users)
    advance("recommend", users)
    yield part, lists.recommendations
    yield TaggedOutput("short_lists", (part, lists.short_lists))
    yield TaggedOutput("counts", counts_table(lists.counts))


class _SearchShard(beam.DoFn):
    """(shard, first part, the one after the last) to (part, what the shard has for its users)."""

    def __init__(self, inputs: RecommendInputs, shared: Shared):
        self._inputs, self._shared = inputs, shared

    def setup(self) -> None:
        self._worker = self._shared.acquire(lambda: ShardSearcher(self._inputs))

    @counted
    def process(self, element: tuple[int, int, int]) -> Iterator[tuple[int, pa.Table]]:
        shard, first, end = element
        yield from self._worker.search(shard, range(first, end))


@dataclass
class SearchShards(beam.PTransform):
    """The start of a pipeline to (part, its users' best of all shards), see ``sharded.merge_lists``.

    A shard is loaded once for ``PARTS_A_LOAD`` parts.
    """

    inputs: RecommendInputs
    shared: Shared

    def expand(self, pipeline: PBegin) -> PCollection[tuple[int, pa.Table]]:
        parts, shards = self.inputs.parts, self.inputs.shards
        tasks = [
            (shard, first, min(first + PARTS_A_LOAD, parts))
            for shard in range(shards)
            for first in range(0, parts, PARTS_A_LOAD)
        ]
        merge = beam.CombinePerKey(MergeTables(merge_lists, pa.schema([]))).with_output_types(tuple[int, pa.Table])
        search = beam.ParDo(_SearchShard(self.inputs, self.shared)).with_output_types(tuple[int, pa.Table])
        return pipeline | "Tasks" >> beam.Create(tasks, reshuffle=True) | "Search" >> search | "Merge" >> merge


def count_part(inputs: RecommendInputs, part: int) -> tuple[pa.Table, pa.Table]:
    """SEGMENT_COUNTS and COUNTS of a part's users; the second empty where no bought item is ranked by them."""
    histories = inputs.histories(part, ["items", "times", "weights", "segment"])
    history = Interactions.from_histories(histories, inputs.catalogue(["item_id"])["item_id"], inputs.as_of)
    segments = segment_counts(history, histories, inputs.as_of, inputs.recent_days)
    return segments, COUNTS.empty_table() if inputs.repurchase is None else counts_of(history)


class _CountPart(beam.DoFn):
    """A part's number to its counts of segments; those of repeats beside."""

    def __init__(self, inputs: RecommendInputs):
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


@dataclass
class RecommendParts(beam.PTransform):
    """Writes every user's list into ``lists``, the short ones into ``short_lists``, the counts to ``tally``.

    repeats: where the counts of items bought again go, if they rank any. maker: what makes the lists of a part where
    the items are in one shard, loaded once a process.
    """

    inputs: RecommendInputs
    lists: str
    short_lists: str
    tally: str
    repeats: str
    maker: Callable[[RecommendInputs], ListMaker] = ListMaker
    shared: Shared = field(default_factory=Shared)

    def _merged_repeats(self, tables: list[pa.Table]) -> pa.Table:
        merged = merge_counts(tables)
        if self.inputs.repurchase is not None:
            storage.write_parquet(merged.cast(schemas.with_encoder(COUNTS, self.inputs.encoder)), self.repeats)
        return merged

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        inputs = self.inputs
        parts = pipeline | "Parts" >> beam.Create(range(inputs.parts), reshuffle=True)
        count = beam.ParDo(_CountPart(inputs)).with_output_types(pa.Table, repeats=pa.Table)
        counts = parts | "Count" >> count.with_outputs("repeats", main="segments")
        segments = AsSingleton(counts.segments | "MergeSegments" >> _MergeTables(merge_segment_counts))
        repeats = AsSingleton(counts.repeats | "MergeRepeats" >> _MergeTables(self._merged_repeats))
        if inputs.shards > 1:
            source = pipeline | "SearchShards" >> SearchShards(inputs, self.shared)
            make = beam.ParDo(_MakeMergedLists(inputs, self.shared), segments, repeats)
        else:
            source, make = parts, beam.ParDo(_MakeLists(inputs, self.maker, self.shared), segments, repeats)
        make = make.with_output_types(tuple[int, pa.Table], short_lists=tuple[int, pa.Table], counts=pa.Table)
        made = source | "MakeLists" >> make.with_outputs("short_lists", "counts", main="lists")
        made.counts | "Tally" >> WriteTally(self.tally)
        made.short_lists | "WriteShortLists" >> WriteToParquetBatched(self.short_lists, inputs.parts)
        return made.lists | "WriteLists" >> WriteToParquetBatched(self.lists, inputs.parts)
