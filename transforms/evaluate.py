"""Judging the users of each partition: files in, files out, one partition at a time."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin import schemas, storage
from topkin.config import Evaluate, Recommend
from topkin.errors import ArtifactError
from topkin.evaluation import Part, Shop, evaluate_part, fit_baselines
from topkin.interactions import Interactions, joined
from topkin.policy import cooldown_days
from topkin.progress import advance
from topkin.transforms.counted import counted

USERS, LISTED = "users", "listed"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the evaluation reads. folders: of the finished stages. parts: of the tables by user."""

    folders: Mapping[str, str]
    parts: int
    as_of: datetime
    encoder: str
    evaluate: Evaluate
    recommend: Recommend

    def histories(self, part: int) -> pa.Table:
        """The histories of a part."""
        return storage.read_parquet(self._path("prepare", "histories", part))

    def _path(self, stage: str, name: str, part: int) -> str:
        return storage.join(self.folders[stage], name, storage.part_name(part, self.parts))

    def vectors(self, table: pa.Table, where: str) -> np.ndarray:
        """The vectors of a table, (n, dim) float32. Raises ArtifactError where another encoder made them."""
        found = schemas.encoder_of(table.schema)
        if found != self.encoder:
            raise ArtifactError(
                f"{where} must come from the run's encoder {self.encoder}, got {found}: run topkin run --force"
            )
        column, dim = table["vector"].combine_chunks(), table.schema.field("vector").type.list_size
        return np.asarray(column.flatten()).reshape(len(table), dim).astype(np.float32, copy=False)


def load_shop(sources: Sources) -> tuple[Shop, list[int]]:
    """All that is the same for every part, and the number of the first user of each part."""
    catalogue = storage.read_parquet(storage.join(sources.folders["prepare"], "catalogue.parquet"))
    where = storage.join(sources.folders["embed"], "items")
    items = storage.read_parts(where, ["item_id", "vector"])
    if not items["item_id"].equals(catalogue["item_id"]):
        raise ArtifactError(f"{where} must have the catalogue's items in its order: run topkin run --force")
    days = sources.evaluate.days
    columns = ["items", "times", "weights"]
    name = storage.join(sources.folders["prepare"], "histories")
    # A part at a time, as item numbers: the ids of all purchases need not fit in memory, nor in one Arrow array.
    parts = [
        Interactions.from_histories(
            storage.read_parquet(storage.join(name, storage.part_name(part, sources.parts)), columns),
            catalogue["item_id"],
            sources.as_of,
        )
        for part in range(sources.parts)
    ]
    history = joined(parts)
    rule = sources.recommend
    shop = Shop(
        item_ids=catalogue["item_id"].combine_chunks(),
        sold=np.asarray(catalogue["events"]) > 0,
        vectors=sources.vectors(items, where),
        baselines=fit_baselines(history, sources.evaluate.neighbours),
        as_of=sources.as_of,
        ks=tuple(sorted(set(sources.evaluate.k))),
        until=None if days is None else sources.as_of + timedelta(days=days),
        bought=rule.bought,
        cooldown=cooldown_days(catalogue["category"], rule.cooldown_days, rule.cooldown_by_category),
        listed=rule.k,
    )
    return shop, [0, *np.cumsum([part.n_users for part in parts]).tolist()]


def load_part(sources: Sources, number: int, first: int) -> Part:
    """The users of one partition, with what they bought, what they were given and their vectors."""
    histories = sources.histories(number)
    where = sources._path("embed", "users", number)
    users = storage.read_parquet(where)
    if not users["user_id"].equals(histories["user_id"]):
        raise ArtifactError(f"{where} must have the users of the histories in their order: run topkin run --force")
    lists = storage.join(sources.folders["recommend"], "recommendations")
    name = storage.part_name(number, sources.parts)
    found = [n for n in storage.files(lists) if n.rpartition("/")[2] == name]
    if len(found) != 1:
        raise ArtifactError(f"{lists} must hold {name} once, found {len(found)}: run topkin run --force")
    return Part(
        first=first,
        histories=histories,
        vectors=sources.vectors(users, where),
        heldout=storage.read_parquet(sources._path("prepare", "heldout", number), ["user_id", "item_id", "timestamp"]),
        recommendations=storage.read_parquet(storage.join(lists, found[0]), ["user_id", "rank", "item_id"]),
    )


class _Loaded:
    """A holder that Beam can share: a tuple has no weak references."""

    def __init__(self, sources: Sources):
        self.shop, self.firsts = load_shop(sources)


class _EvaluatePart(beam.DoFn):
    """Writes the two tables of a part to its files; a bundle done again writes the same bytes."""

    def __init__(self, sources: Sources, out: str, shared: Shared):
        self._sources, self._out, self._shared = sources, out, shared
        self._users = Metrics.counter("topkin", "users_evaluated")

    def setup(self) -> None:
        self._loaded = self._shared.acquire(lambda: _Loaded(self._sources), tag=self._out)

    @counted
    def process(self, part: int) -> Iterator[int]:
        shop, firsts = self._loaded.shop, self._loaded.firsts
        users, listed = evaluate_part(shop, load_part(self._sources, part, firsts[part]))
        name = storage.part_name(part, self._sources.parts)
        table = users.replace_schema_metadata({**users.schema.metadata, schemas.ENCODER_KEY: self._sources.encoder})
        storage.write_parquet(table, storage.join(self._out, USERS, name))
        storage.write_parquet(listed, storage.join(self._out, LISTED, name))
        self._users.inc(len(users))
        advance("evaluate", firsts[part + 1] - firsts[part], firsts[-1])
        yield part


@dataclass
class EvaluateParts(beam.PTransform):
    """Judges every part into ``out``/users and ``out``/listed; gives the numbers of the parts done."""

    sources: Sources
    out: str
    shared: Shared = field(default_factory=Shared)

    def expand(self, pipeline: PBegin) -> PCollection[int]:
        return (
            pipeline
            | "Parts" >> beam.Create(range(self.sources.parts), reshuffle=True)
            | "EvaluatePart" >> beam.ParDo(_EvaluatePart(self.sources, self.out, self.shared))
        )


def evaluate_parts(sources: Sources, parts: Iterable[int]) -> list[tuple[pa.Table, pa.Table]]:
    """What :class:`EvaluateParts` writes, in memory."""
    shop, firsts = load_shop(sources)
    return [evaluate_part(shop, load_part(sources, part, firsts[part])) for part in parts]


def read_parts(sources: Sources, out: str) -> list[tuple[Any, Any]]:
    """What :class:`EvaluateParts` wrote, in the order of the parts."""
    names = [storage.part_name(part, sources.parts) for part in range(sources.parts)]
    return [
        (storage.read_parquet(storage.join(out, USERS, n)), storage.read_parquet(storage.join(out, LISTED, n)))
        for n in names
    ]
