"""Lists for every user, part by part; and what sold in each segment, which users without a history get."""

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

from topkin import storage
from topkin.ann import load_index
from topkin.config import Recommend
from topkin.embeddings import SUMMARY, read_items, read_users
from topkin.errors import ArtifactError
from topkin.fallback import SEGMENT_COUNTS, Popularity, merge_segment_counts, segment_counts
from topkin.policy import Allowed, allowed_items, cooldown_days, read_item_list
from topkin.progress import advance
from topkin.recommend import Lists, Shelf, recommend
from topkin.search import ExactSearch, IndexSearch, Search
from topkin.tally import tally_table
from topkin.transforms.parquet import WriteToParquetBatched
from topkin.transforms.tally import WriteTally


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What recommending reads: folders of the finished stages, and the settings.

    encoder: the hash that every table must carry. recent_days: as prepare counted ``recent``.
    """

    prepared: str
    embeddings: str
    index: str
    encoder: str
    parts: int
    as_of: datetime
    recent_days: float
    settings: Recommend

    def histories(self, part: int, columns: list[str] | None = None) -> pa.Table:
        """The histories of a part."""
        name = storage.part_name(part, self.parts)
        return storage.read_parquet(storage.join(self.prepared, "histories", name), columns)

    def catalogue(self) -> pa.Table:
        """The catalogue."""
        return storage.read_parquet(storage.join(self.prepared, "catalogue.parquet"))


def allowed_of(settings: Recommend, catalogue: pa.Table) -> Allowed:
    """The items that availability and the configured lists allow. Raises InputError for a list that cannot be used."""
    t = catalogue.schema.field("item_id").type
    allow = None if settings.allow is None else read_item_list(settings.allow, t, "recommend.allow")
    deny = None if settings.deny is None else read_item_list(settings.deny, t, "recommend.deny")
    return allowed_items(catalogue, allow=allow, deny=deny)


class Worker:
    """The shelf and the search, loaded once a process and shared by its threads."""

    def __init__(self, sources: Sources):
        self.sources, settings = sources, sources.settings
        catalogue = sources.catalogue()
        made = storage.read_json(storage.join(sources.embeddings, SUMMARY))
        items = read_items(sources.embeddings, sources.encoder)
        if not items.ids.equals(catalogue["item_id"].combine_chunks()):
            raise ArtifactError(
                f"{sources.embeddings}/items must have the catalogue's items in its order: "
                "run topkin embed again with --force"
            )
        self.shelf = Shelf(
            item_ids=items.ids,
            vectors=items.vectors,
            in_vectors=items.in_vectors,
            buyers=np.asarray(catalogue["users"]),
            allowed=allowed_of(settings, catalogue).mask,
            cooldown=cooldown_days(catalogue["category"], settings.cooldown_days, settings.cooldown_by_category),
            popularity=Popularity(
                np.asarray(catalogue["events"]), np.asarray(catalogue["recent"]), SEGMENT_COUNTS.empty_table()
            ),
            rarity=made["rarity"],
            half_life_days=made["half_life_days"],
            history_length=made["history_length"],
            encoder=sources.encoder,
        )
        self.search: Search = ExactSearch(items.vectors)
        if settings.search == "index":
            index = load_index(sources.index, encoder=sources.encoder, dim=items.vectors.shape[1])
            self.search = IndexSearch(index, items.vectors)

    def lists(self, part: int, segments: pa.Table) -> Lists:
        """The lists of a part's users. segments: what sold in each segment, of all parts."""
        histories = self.sources.histories(part)
        user_ids, vectors = read_users(self.sources.embeddings, part, self.sources.parts, self.sources.encoder)
        if not user_ids.equals(histories["user_id"]):
            raise ArtifactError(
                f"{self.sources.embeddings}/users must have the users of the histories in their order, part {part} has "
                "others: run topkin embed again with --force"
            )
        shelf = replace(self.shelf, popularity=replace(self.shelf.popularity, segments=segments))
        return recommend(histories, vectors, shelf, self.search, self.sources.settings, self.sources.as_of)


class _Recommend(beam.DoFn):
    """A part's number to (part, its lists); the short lists and the counts beside."""

    def __init__(self, sources: Sources, shared: Shared):
        self._sources, self._shared = sources, shared
        self._users = Metrics.counter("topkin", "users_recommended")

    def setup(self) -> None:
        self._worker = self._shared.acquire(lambda: Worker(self._sources))

    def process(self, part: int, segments: pa.Table) -> Iterator[Any]:
        made = self._worker.lists(part, segments)
        self._users.inc(made.counts["users"]["all"])
        advance("recommend", made.counts["users"]["all"])
        yield part, made.recommendations
        yield TaggedOutput("short_lists", (part, made.short_lists))
        yield TaggedOutput("counts", tally_table(made.counts))


@dataclass
class CountSegments(beam.PTransform):
    """Part numbers to one table: recent purchases by segment and item, see ``fallback.segment_counts``."""

    sources: Sources

    def _count(self, part: int) -> tuple[int, pa.Table]:
        histories = self.sources.histories(part, ["items", "times", "weights", "segment"])
        item_ids = self.sources.catalogue()["item_id"]
        return 0, segment_counts(histories, item_ids, self.sources.as_of, self.sources.recent_days)

    def _merge(self, _: int, tables: Iterable[pa.Table]) -> pa.Table:
        return merge_segment_counts(list(tables))

    def expand(self, parts: PCollection) -> PCollection:
        return (
            parts
            | "Count" >> beam.Map(self._count).with_output_types(tuple[int, pa.Table])
            | "Group" >> beam.GroupByKey()
            | "Merge" >> beam.MapTuple(self._merge).with_output_types(pa.Table)
        )


@dataclass
class RecommendParts(beam.PTransform):
    """Writes every user's list into ``lists``, the short ones into ``short_lists``, the counts to ``tally``."""

    sources: Sources
    lists: str
    short_lists: str
    tally: str
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection:
        parts = pipeline | "Parts" >> beam.Create(range(self.sources.parts), reshuffle=True)
        segments = AsSingleton(parts | "CountSegments" >> CountSegments(self.sources))
        lists = beam.ParDo(_Recommend(self.sources, self.shared), segments)
        lists = lists.with_output_types(tuple[int, pa.Table], short_lists=tuple[int, pa.Table], counts=pa.Table)
        done = parts | "Recommend" >> lists.with_outputs("short_lists", "counts", main="lists")
        done.counts | "Tally" >> WriteTally(self.tally)
        done.short_lists | "WriteShortLists" >> WriteToParquetBatched(self.short_lists, self.sources.parts)
        return done.lists | "WriteLists" >> WriteToParquetBatched(self.lists, self.sources.parts)


def recommend_parts(sources: Sources) -> list[Lists]:
    """What :class:`RecommendParts` writes, in memory, in the order of the parts."""
    item_ids = sources.catalogue()["item_id"]
    counted = [
        segment_counts(sources.histories(part), item_ids, sources.as_of, sources.recent_days)
        for part in range(sources.parts)
    ]
    worker, segments = Worker(sources), merge_segment_counts(counted)
    return [worker.lists(part, segments) for part in range(sources.parts)]
