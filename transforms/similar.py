"""Neighbours of every item and every user, part by part against all parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput
from apache_beam.utils.shared import Shared

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import read_items, read_users, user_count
from topkin.config.sections import RecommendSettings
from topkin.config.shop.similar import SimilarSettings
from topkin.encoding.blocks import Block, preference_embeddings
from topkin.recommend.columns import ItemColumns, catalogue_columns
from topkin.recommend.rules.eligibility import allowed_of
from topkin.recommend.similar import items_table, similar_items, similar_part
from topkin.search.topk import TopK
from topkin.telemetry.counters import counts_table
from topkin.telemetry.progress import advance
from topkin.transforms.counters import WriteTally, counted
from topkin.transforms.engine import engine
from topkin.transforms.parquet import WriteToParquetBatched

TABLES = ("similar_items", "similar_users", "neighbours_bought")


@dataclass(frozen=True, kw_only=True)
class SimilarInputs:
    """What the neighbours are made from.

    blocks: those of the vectors; the personal ones are compared. rules: whose allow-list and deny-list hold here too.
    """

    prepared: str
    embeddings: str
    encoder: str
    blocks: Sequence[Block]
    parts: int
    as_of: datetime
    settings: SimilarSettings
    rules: RecommendSettings

    def histories(self, part: int) -> pa.Table:
        """The histories of a part."""
        name = storage.part_name(part, self.parts)
        return storage.read_parquet(storage.join(self.prepared, "histories", name))

    def vectors(self, part: int) -> np.ndarray:
        """The preferences of a part's users, (n, dim) float32 unit rows, zero for a user without a vector."""
        return self.preferences(read_users(self.embeddings, part, self.parts, self.encoder)[1])

    def firsts(self) -> list[int]:
        """The number of each part's first user, then how many there are, by the footers of the files."""
        sizes = [user_count(self.embeddings, part, self.parts) for part in range(self.parts)]
        return [0, *np.cumsum(sizes).tolist()]

    def preferences(self, vectors: np.ndarray) -> np.ndarray:
        """What is compared: see ``blocks.preferences``."""
        return preference_embeddings(vectors, self.blocks)


class NeighbourFinder:
    """The items, and where each part's users begin; loaded once a process and shared by its threads."""

    def __init__(self, sources: SimilarInputs):
        self.sources = sources
        path, names = storage.join(sources.prepared, "catalogue.parquet"), sources.settings.columns
        catalogue = storage.read_parquet(path, ["item_id", "available", *catalogue_columns(names)])
        self.columns = ItemColumns.of(catalogue, names)
        items = read_items(sources.embeddings, sources.encoder)
        self.ids, self.vectors = items.ids, sources.preferences(items.vectors)
        self.allowed = allowed_of(sources.rules, catalogue).mask
        self.firsts = sources.firsts()
        most = {"items": len(self.ids), "users": self.firsts[-1], "bought": len(self.ids)}  # no list is longer
        bounded = {name: min(getattr(sources.settings, name), n) for name, n in most.items()}
        self.sources = replace(sources, settings=sources.settings.model_copy(update=bounded))

    def items(self, part: int) -> pa.Table:
        """``schemas.similar_items`` of a run of catalogue rows."""
        n, k = len(self.ids), self.sources.settings.items
        rows = np.arange(part * n // self.sources.parts, (part + 1) * n // self.sources.parts)
        if not k:
            rows = rows[:0]
        return items_table(
            self.ids, rows, similar_items(self.vectors, rows, self.allowed, max(k, 1), engine), self.sources.encoder
        )

    def users(self, part: int, neighbours: TopK | None = None) -> tuple[pa.Table, pa.Table]:
        """``schemas.similar_users`` and ``schemas.neighbours_bought`` of a part's users; neighbours: theirs."""
        sources, histories = self.sources, self.sources.histories(part)
        if not sources.settings.users:
            users, items = histories.schema.field("user_id").type, self.ids.type
            empty = (schemas.similar_users(users), schemas.neighbours_bought(users, items))
            return tuple(schemas.with_encoder(s, sources.encoder).empty_table() for s in empty)  # type: ignore[return-value]
        numbers = range(sources.parts)
        return similar_part(
            histories,
            sources.vectors(part) if neighbours is None else np.zeros((0, 0), np.float32),
            self.firsts[part],
            blocks=((self.firsts[other], sources.vectors(other)) for other in numbers),
            tables=((self.firsts[other], sources.histories(other)) for other in numbers),
            item_ids=self.ids,
            allowed=self.allowed,
            as_of=sources.as_of,
            engine=engine,
            settings=sources.settings,
            encoder=sources.encoder,
            neighbours=neighbours,
        )

    def tables(self, part: int, neighbours: TopK | None) -> dict[str, pa.Table]:
        """All tables of a part, by name. neighbours: its users' neighbours, where they were found."""
        users, bought = self.users(part) if neighbours is None else self.users(part, neighbours)
        items = self.items(part)
        if self.columns is not None:
            items, bought = self.columns.joined(items, "neighbour_id"), self.columns.joined(bought, "item_id")
        return {"similar_items": items, "similar_users": users, "neighbours_bought": bought}


Finder = Callable[[SimilarInputs], NeighbourFinder]


class _Similar(beam.DoFn):
    """(part, its users' neighbours if they were found) to its tables, one output for each, and their counts."""

    def __init__(self, sources: SimilarInputs, finder: Finder, shared: Shared):
        self._sources, self._finder, self._shared = sources, finder, shared
        self._rows = {name: Metrics.counter("topkin", f"{name}_rows") for name in TABLES}

    def setup(self) -> None:
        self._worker = self._shared.acquire(lambda: self._finder(self._sources))

    @counted
    def process(self, element: tuple[int, TopK | None]) -> Iterator[object]:
        part, neighbours = element
        tables = self._worker.tables(part, neighbours)
        for name, table in tables.items():
            self._rows[name].inc(len(table))
            yield TaggedOutput(name, (part, table))
        yield TaggedOutput("counts", counts_table({"rows": {name: len(table) for name, table in tables.items()}}))
        advance("similar", 1, self._sources.parts)


@dataclass
class SimilarParts(beam.PTransform):
    """Writes the three tables into folders of their names below ``out``, the counts to ``tally``.

    finder: what makes a part's tables, loaded once a process. neighbours: gives (part, its users' neighbours); without
    it the finder compares all users with all.
    """

    sources: SimilarInputs
    out: str
    tally: str
    finder: Finder = NeighbourFinder
    neighbours: beam.PTransform | None = None
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection[str]:
        if self.neighbours is None:
            alone = [(part, None) for part in range(self.sources.parts)]
            parts = pipeline | "Parts" >> beam.Create(alone, reshuffle=True)
        else:
            parts = pipeline | "Nearest" >> self.neighbours
        hints = dict.fromkeys(TABLES, tuple[int, pa.Table])
        similar = beam.ParDo(_Similar(self.sources, self.finder, self.shared)).with_output_types(
            int, counts=pa.Table, **hints
        )
        done = parts | "Similar" >> similar.with_outputs("counts", *TABLES)
        for name in TABLES:
            folder = storage.join(self.out, name)
            done[name] | f"Write {name}" >> WriteToParquetBatched(folder, self.sources.parts)
        return done.counts | "Tally" >> WriteTally(self.tally)
