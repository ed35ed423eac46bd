"""Lists for every user, part by part.

First what sold in each segment, which users without a history get, and how often items are bought again are counted
over all users. Where the catalogue's vectors are too many for one worker, each shard of them is searched for every
part, and what the shards found is merged by part.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, PBegin, PCollection, TaggedOutput
from apache_beam.utils.shared import Shared

from topkin.artifacts import storage
from topkin.artifacts.embeddings import SUMMARY, StoredItems, read_items, read_users
from topkin.baselines import fitted
from topkin.config.sections import RecommendSettings
from topkin.encoding.blocks import Block, preferences_of
from topkin.encoding.reference import Reference
from topkin.errors import ArtifactError
from topkin.interactions import concatenate
from topkin.linalg.csr import Csr
from topkin.models.data.purchase_weights import PurchaseWeights
from topkin.planning.estimate import PARTS_A_LOAD
from topkin.recommend.columns import catalogue_columns
from topkin.recommend.explain import ExplainableScores, VectorRows
from topkin.recommend.lists import ItemContext, Lists, PartUsers, build_queries, fallback_reasons, longest
from topkin.recommend.repurchase.blend import Repurchase, Weights
from topkin.recommend.repurchase.rates import RepurchaseRates
from topkin.recommend.rules.columns import item_columns
from topkin.recommend.rules.eligibility import allowed_of
from topkin.recommend.rules.shop import ShopRules
from topkin.recommend.rules.shown import shown_items
from topkin.recommend.searchers import (
    BaselineSearcher,
    ExactSearcher,
    IndexSearcher,
    MergedSearcher,
    Searcher,
    UserQueries,
    WholeSearcher,
)
from topkin.recommend.second.candidates import ENCODER
from topkin.recommend.second.stage import SecondStage
from topkin.recommend.sharded import Shard, lists_of, merge_lists, shard_bounds
from topkin.recommend.shared_search import SharedSearcher
from topkin.search.hnsw.files import load_index
from topkin.search.topk import TopK
from topkin.telemetry.counters import counts_table
from topkin.telemetry.progress import advance
from topkin.transforms.coders import MergeTables
from topkin.transforms.counters import WriteTally, counted
from topkin.transforms.engine import engine
from topkin.transforms.lists.counts import counts_of_all
from topkin.transforms.lists.held import HeldParts, PartTables, bytes_of_queries, bytes_of_tables
from topkin.transforms.parquet import WriteToParquetBatched


@dataclass(frozen=True, kw_only=True)
class RecommendInputs:
    """What recommending reads: folders of the finished stages, and the settings.

    encoder: the hash that every table must carry. recent_days: as prepare counted ``recent``. shards: into how
    many runs the items are cut, so that a worker holds one; 1 for all of them at once. Lists are the same.
    repurchase: the weights by which bought items are ranked; None where the model ranks alone. second: those of the
    second stage, see ``second.chosen.blend_of``; None without one. fitted: where :func:`fit` writes the baseline that
    makes the lists, if one does, or the sources of the second stage, and every worker reads them. neighbours: theirs.
    shown: tables of lists of earlier nights whose items are not shown again. name: of a list of ``[lists]``.
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
    shown: tuple[str, ...] = ()
    name: str = ""

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

    def list_width(self, n_items: int) -> int:
        """The width of the lists."""
        return longest(self.settings.k, n_items)

    def catalogue(self, columns: list[str] | None = None) -> pa.Table:
        """The catalogue, or some of its columns."""
        return storage.read_parquet(storage.join(self.prepared, "catalogue.parquet"), columns)


def fit(lists: Sequence[RecommendInputs]) -> None:
    """Where baselines make lists, or stand beside the encoder, fit them on all histories and write them down.

    All purchases are then in memory at once, as in ``transforms.evaluate.fit``. lists: that are written to one place.
    """
    names, inputs = list(dict.fromkeys(name for one in lists for name in one.fitted_names)), lists[0]
    if not names:
        return
    item_ids = inputs.catalogue(["item_id"])["item_id"]
    history = concatenate(fitted.known_purchases(inputs.prepared, inputs.parts, item_ids, inputs.as_of))
    fitted.save_baselines(fitted.fit_baselines(history, names, inputs.neighbours), inputs.fitted)


class HeldItems:
    """What all that makes lists in a process shares: the items' vectors, and parts that were read."""

    def __init__(self, inputs: RecommendInputs) -> None:
        self.rows, self.parts = read_items(inputs.embeddings, inputs.encoder), HeldParts(bytes_of_tables)


class LoadedItems:
    """What a process knows of the items whatever searches them, loaded once and shared by its threads.

    vectors, in_vectors: (n_items, dim) float32, or what looks rows up. held: parts that were read.
    """

    def __init__(
        self,
        inputs: RecommendInputs,
        ids: pa.Array,
        vectors: VectorRows,
        in_vectors: VectorRows,
        held: HeldParts[PartTables] | None = None,
    ):
        self.inputs, settings, self._held = inputs, inputs.settings, held or HeldParts(bytes_of_tables)
        self._queries = HeldParts(bytes_of_queries)  # of lists that several steps make
        base = ["item_id", "available", "category", "events", "users", "recent"]
        catalogue = inputs.catalogue(
            list(dict.fromkeys([*base, *item_columns(settings), *catalogue_columns(settings.columns)]))
        )
        if not ids.equals(catalogue["item_id"].combine_chunks()):
            raise ArtifactError(
                f"{inputs.embeddings}/items must have the catalogue's items in its order: "
                "run topkin embed again with --force"
            )
        summary = storage.read_json(storage.join(inputs.embeddings, SUMMARY))
        self.purchases = PurchaseWeights.from_signature(summary)
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
        compared = partial(preferences_of, vectors, self.scores.blocks)
        rules = ShopRules.of(settings, catalogue, inputs.as_of, allowed, compared)
        self.context = ItemContext.of_catalogue(
            catalogue, settings, allowed=allowed, encoder=inputs.encoder, vectors=vectors, second=second, rules=rules
        )

    @classmethod
    def looked_up(cls, inputs: RecommendInputs) -> "LoadedItems":
        """Without the vectors in memory: their rows are read when they are asked for."""
        stored = StoredItems(inputs.embeddings, inputs.encoder)
        return cls(inputs, stored.ids(), stored.column("vector"), stored.column("in_vector"))

    def users(self, part: int) -> PartTables:
        """The histories of a part's users, and their vectors; a baseline's users have none."""
        return self._held.get(part, partial(self._read, part))

    def _read(self, part: int) -> PartTables:
        inputs, histories = self.inputs, self.inputs.histories(part)
        if inputs.settings.baseline is not None:
            return histories, np.zeros((len(histories), 0), np.float32)
        user_ids, vectors = read_users(inputs.embeddings, part, inputs.parts, inputs.encoder)
        if not user_ids.equals(histories["user_id"]):
            raise ArtifactError(
                f"{inputs.embeddings}/users must have the users of the histories in their order, part {part} has "
                "others: run topkin embed again with --force"
            )
        return histories if self.purchases is None else self.purchases.added(histories), vectors

    def queries(self, part: int) -> UserQueries:
        """What is searched for of a part's users."""
        histories, vectors = self.users(part)
        settings, shown = self.inputs.settings, self.shown(part, histories)
        return build_queries(histories, vectors, self.context, settings, self.inputs.as_of, shown)

    def shown(self, part: int, histories: pa.Table) -> Csr | None:
        """What lists of earlier nights showed a part's users; None where that does not matter."""
        if not self.inputs.shown:
            return None
        return shown_items(self.inputs.shown, part, self.inputs.parts, histories["user_id"], self.context.item_ids)

    def lists(self, part: int, segments: pa.Table, repeats: pa.Table, searcher: Searcher) -> Lists:
        """The lists of a part's users. segments, repeats: SEGMENT_COUNTS and COUNTS of all users."""
        users = self.part_users(part, segments, repeats, searcher)
        return users.tables(*users.lists())

    def part_users(
        self, part: int, segments: pa.Table, repeats: pa.Table, searcher: Searcher, rows: np.ndarray | None = None
    ) -> PartUsers:
        """A part's users, as :meth:`lists` makes their lists; or some of them, (m,) int."""
        histories, vectors = self.users(part)
        weights, context = self.inputs.repurchase, self.context
        context = replace(context, popularity=replace(context.popularity, segments=segments))
        if weights is not None:
            rates = RepurchaseRates.of(repeats, len(self.categories), self.categories)
            context = replace(context, repurchase=Repurchase(weights, rates))
        settings, rules = self.inputs.settings, context.rules

        def queries() -> UserQueries:
            return build_queries(histories, vectors, context, settings, self.as_of, self.shown(part, histories))

        steps = rules is not None and rules.capacity is not None
        users = self._queries.get(part, queries) if steps else queries()
        if rows is not None:
            histories, users = histories.take(pa.array(rows)), users.take(rows)
        return PartUsers.of(histories, users, context, searcher, settings)


class ListMaker:
    """Makes lists with a searcher of all items: the one place that knows which kinds there are.

    held: by which :class:`HeldItems` are in a process once, whatever makes lists with them.
    """

    def __init__(self, inputs: RecommendInputs, held: Shared | None = None):
        settings = inputs.settings
        if settings.baseline is not None:
            self.items = LoadedItems.looked_up(inputs)
            baseline = fitted.load_baselines(inputs.fitted, [settings.baseline], inputs.neighbours)[settings.baseline]
            self.searcher: Searcher = BaselineSearcher(baseline, self.items.events > 0)
            return
        load = partial(HeldItems, inputs)
        self.held: HeldItems = load() if held is None else held.acquire(load)
        rows = self.held.rows
        self.items = LoadedItems(inputs, rows.ids, rows.vectors, rows.in_vectors, self.held.parts)
        if settings.search == "index":
            index = load_index(inputs.index, encoder=inputs.encoder, dim=rows.vectors.shape[1])
            self.searcher = IndexSearcher(index, rows.vectors, self.items.scores)
        else:
            self.searcher = ExactSearcher(rows.vectors, self.items.scores, engine(rows.vectors.size))

    def lists(self, part: int, segments: pa.Table, repeats: pa.Table, neighbours: pa.Table | None = None) -> Lists:
        """See :meth:`LoadedItems.lists`. found: what a search for several lists did, if there was one."""
        return self.items.lists(part, segments, repeats, self.searcher_of(neighbours))

    def searcher_of(self, neighbours: pa.Table | None, offered: int = 0) -> Searcher:
        """What searches for a part's users."""
        return self.searcher if neighbours is None else SharedSearcher(neighbours, self.searcher)


OFFERED_TO = "offered to "
"""Before a list's name: how many items a search for several lists had for it."""


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
                users = self.items.queries(part)
                known = np.asarray(users.vectors.any(axis=1))
                why = fallback_reasons(users.history, known, inputs.settings.min_history)
                users = users.take(np.flatnonzero(why < 0))
                yield part, self._search(loaded, users, context.searched(inputs.settings.k))

    def lists(self, part: int, segments: pa.Table, repeats: pa.Table, neighbours: pa.Table | None) -> Lists:
        """See :meth:`LoadedItems.lists`. found: what all shards did."""
        return self.items.lists(part, segments, repeats, self.searcher_of(neighbours))

    def searcher_of(self, neighbours: pa.Table | None, offered: int = 0) -> Searcher:
        """What hands out what all shards found, or searches them one by one; offered: the items that they have."""
        if neighbours is None:
            return WholeSearcher(self.whole, offered, self.items.scores)
        if (own := OFFERED_TO + self.items.inputs.name) in neighbours.column_names:
            offered = int(neighbours[own][0].as_py()) if len(neighbours) else 0
            return SharedSearcher(neighbours, WholeSearcher(self.whole, offered, self.items.scores))
        return MergedSearcher(neighbours, self.items.scores, self.whole)

    def _search(self, shard: Shard, users: UserQueries, k: int) -> pa.Table:
        """What a shard has for users, each of those that the user may get."""
        if users.audience is None:
            return shard.search(users.vectors, users.exclude, k, engine())
        groups = users.audience.groups()
        searched = [shard.search(users.vectors[r], users.exclude.take(r), k, engine(), mask) for r, mask in groups]
        if not searched:
            return shard.search(users.vectors, users.exclude, k, engine())
        order = np.argsort(np.concatenate([rows for rows, _ in groups]))
        return pa.concat_tables(searched).take(pa.array(order)).combine_chunks()

    def whole(self, users: UserQueries, k: int, allowed: np.ndarray) -> TopK:
        """The k best of all shards, one after the other, for users whom the rules left short."""
        inputs, context = self.items.inputs, self.items.context
        bounds, tables = shard_bounds(len(context.item_ids), inputs.shards), []
        with self.one_shard:
            for first, end in itertools.pairwise(bounds):
                shard = Shard.load(self.stored, int(first), int(end), allowed)
                tables.append(shard.search(users.vectors, users.exclude, k, engine()))
        return lists_of(merge_lists(tables))


class ListDoFn(beam.DoFn):
    """What makes lists loads it once a process: ``maker``, or a searcher of shards where there are some."""

    def __init__(self, inputs: RecommendInputs, maker: Callable[[RecommendInputs], ListMaker], shared: Shared):
        self._inputs, self._load, self._shared = inputs, maker, shared

    def setup(self) -> None:
        load = self._load if self._inputs.shards == 1 else ShardSearcher
        self.loaded: ListMaker | ShardSearcher = self._shared.acquire(lambda: load(self._inputs))


class _MakeLists(ListDoFn):
    """(part, what all shards found for its users, if there are any) to :func:`list_outputs`."""

    @counted
    def process(self, element: tuple[int, pa.Table | None], segments: pa.Table, repeats: pa.Table) -> Iterator[object]:
        part, table = element
        yield from list_outputs(part, self.loaded.lists(part, segments, repeats, table))


_USERS = Metrics.counter("topkin", "users_recommended")


def outputs_of(make: beam.ParDo) -> beam.PTransform:
    """A step that yields :func:`list_outputs`, as three collections by name."""
    typed = make.with_output_types(tuple[int, pa.Table], short_lists=tuple[int, pa.Table], counts=pa.Table)
    return typed.with_outputs("short_lists", "counts", main="lists")


def list_outputs(part: int, lists: Lists) -> Iterator[object]:
    """(part, its lists), and under their tags its short lists and counts."""
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

    A shard is loaded once for ``PARTS_A_LOAD`` parts. searcher: (shard, first part, the one after the last) to (part,
    what the shard has for its users).
    """

    inputs: RecommendInputs
    searcher: beam.DoFn

    def expand(self, pipeline: PBegin) -> PCollection[tuple[int, pa.Table]]:
        parts, shards = self.inputs.parts, self.inputs.shards
        tasks = [
            (shard, first, min(first + PARTS_A_LOAD, parts))
            for shard in range(shards)
            for first in range(0, parts, PARTS_A_LOAD)
        ]
        merge = beam.CombinePerKey(MergeTables(merge_lists, pa.schema([]))).with_output_types(tuple[int, pa.Table])
        search = beam.ParDo(self.searcher).with_output_types(tuple[int, pa.Table])
        return pipeline | "Tasks" >> beam.Create(tasks, reshuffle=True) | "Search" >> search | "Merge" >> merge


@dataclass
class RecommendParts(beam.PTransform):
    """Writes every user's list into ``lists``, the short ones into ``short_lists``, the counts to ``tally``.

    repeats: where the counts of items bought again go, if they rank any. maker: what makes the lists of a part where
    the items are in one shard, loaded once a process. shared_search: whether a search for several lists may serve it.
    """

    inputs: RecommendInputs
    lists: str
    short_lists: str
    tally: str
    repeats: str
    maker: Callable[[RecommendInputs], ListMaker] = ListMaker
    shared: Shared = field(default_factory=Shared)
    shared_search: bool = True

    def outputs(self, source: PCollection, segments: AsSingleton, repeats: AsSingleton) -> Any:
        """(part, what all shards found for its users, None without shards) to lists, short_lists and counts."""
        make = beam.ParDo(_MakeLists(self.inputs, self.maker, self.shared), segments, repeats)
        return source | "MakeLists" >> outputs_of(make)

    @property
    def shares(self) -> bool:
        """Whether its lists can be taken from a search for several: a search of all items by their vectors."""
        settings = self.inputs.settings
        return settings.baseline is None and settings.search == "exact" and self.shared_search

    def source(self, pipeline: PBegin) -> PCollection[tuple[int, pa.Table | None]]:
        """(part, what all shards found for its users, None without shards)."""
        if self.inputs.shards > 1:
            return pipeline | "SearchShards" >> SearchShards(self.inputs, _SearchShard(self.inputs, self.shared))
        return pipeline | "Alone" >> PartsAlone(self.inputs.parts)

    def written(
        self, source: PCollection[tuple[int, pa.Table | None]], segments: AsSingleton, repeats: AsSingleton
    ) -> PCollection[str]:
        """The tables of every part in files; gives the paths of the lists."""
        outputs = self.outputs(source, segments, repeats)
        outputs.counts | "Tally" >> WriteTally(self.tally)
        outputs.short_lists | "WriteShortLists" >> WriteToParquetBatched(self.short_lists, self.inputs.parts)
        return outputs.lists | "WriteLists" >> WriteToParquetBatched(self.lists, self.inputs.parts)

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        return self.written(self.source(pipeline), *counts_of_all(pipeline, [self]))


@dataclass
class PartsAlone(beam.PTransform):
    """The start of a pipeline to (part, None)."""

    parts: int

    def expand(self, pipeline: PBegin) -> PCollection[tuple[int, pa.Table | None]]:
        parts = pipeline | "Parts" >> beam.Create(range(self.parts), reshuffle=True)
        return parts | "None" >> beam.Map(lambda part: (part, None)).with_output_types(tuple[int, Any])
