"""Judging the users of each partition: files in, files out, one partition at a time."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsList, PBegin, PCollection
from apache_beam.utils.shared import Shared

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import SUMMARY, StoredItems, vectors_of
from topkin.artifacts.partition import in_sample
from topkin.baselines import fitted, registry
from topkin.baselines.registry import Baseline
from topkin.config.sections import EvaluateSettings, RecommendSettings
from topkin.encoding.blocks import Block, preferences_of
from topkin.errors import ArtifactError
from topkin.evaluation.protocol import (
    EvaluationCatalogue,
    EvaluationPart,
    cold_items,
    evaluate_part,
    sales_deciles,
)
from topkin.evaluation.results import EvaluationContext, EvaluationResults
from topkin.evaluation.segments import quartiles
from topkin.ingest.splits import refuse_leaks
from topkin.interactions import concatenate
from topkin.recommend.bought import weights_of
from topkin.recommend.repurchase.blend import Repurchase, Weights
from topkin.recommend.repurchase.rates import FILE, RepurchaseRates
from topkin.recommend.rules.eligibility import allowed_of, cooldown_days
from topkin.recommend.second.candidates import ENCODER
from topkin.recommend.second.stage import SecondStage
from topkin.telemetry.progress import advance
from topkin.transforms.counters import counted

FITTED = "fitted.json"


@dataclass(frozen=True, kw_only=True)
class EvaluateInputs:
    """Where the evaluation reads. folders: of the finished stages. parts: of the tables by user.

    fitted: where :func:`fit` writes the baselines, once, and every worker reads them. by_time: all that is held
    out comes from the as-of date on, as it does but for ``prepare.split = "last"``. timed: purchases have times.
    encoder: that made the vectors. results_of: the encoder that the results are of, where that one stands in for it.
    lists: whether published lists are judged too. seed: draws users where there are more than are asked for.
    by_vectors: whether there are no purchases before ``as_of``.
    """

    folders: Mapping[str, str]
    fitted: str
    by_time: bool
    timed: bool = True
    parts: int
    as_of: datetime
    encoder: str
    evaluate: EvaluateSettings
    recommend: RecommendSettings
    seed: int = 0
    results_of: str = ""
    lists: bool = True
    by_vectors: bool = False

    @property
    def until(self) -> datetime | None:
        """When the days that are judged end; None where all that is held out counts."""
        days = self.evaluate.days
        return None if days is None or not self.by_time else self.as_of + timedelta(days=days)

    def in_period(self, heldout: pa.Table) -> pa.Table:
        """The purchases held out that count."""
        if self.until is None:
            return heldout
        return heldout.filter(pc.less(heldout["timestamp"], pa.scalar(self.until, pa.timestamp("us"))))

    @property
    def listed(self) -> int:
        """Items of a published list, 0 where none are judged."""
        return self.recommend.k if self.lists else 0

    def histories(self, part: int) -> pa.Table:
        """The histories of a part."""
        return storage.read_parquet(self.path("prepare", "histories", part))

    def path(self, stage: str, name: str, part: int) -> str:
        """The file of a part of a table."""
        return storage.join(self.folders[stage], name, storage.part_name(part, self.parts))

    def vectors(self, table: pa.Table, where: str) -> np.ndarray:
        """The vectors of a table, (n, dim) float32. Raises ArtifactError where another encoder made them."""
        encoder = schemas.encoder_of(table.schema)
        if encoder != self.encoder:
            raise ArtifactError(
                f"{where} must come from the run's encoder {self.encoder}, got {encoder}: run topkin run --force"
            )
        return vectors_of(table)

    @property
    def ks(self) -> tuple[int, ...]:
        """The cut-offs, ascending."""
        return tuple(sorted(set(self.evaluate.k)))

    @property
    def fitted_names(self) -> tuple[str, ...]:
        """The baselines to be fitted: to measure against, and what made the lists alone or beside the encoder."""
        own = self.recommend.baseline
        of_second = tuple(self.second or ()) if own is None else (own,)
        return *self.evaluate.baselines, *(name for name in of_second if name != ENCODER)

    @property
    def second(self) -> dict[str, float] | None:
        """The weights of the second stage that made the lists; None where there was none."""
        path = storage.join(self.folders["recommend"], "lists.json")
        weights: dict[str, float] | None = storage.read_json(path).get("second_stage") if storage.exists(path) else None
        return weights


def look(sources: EvaluateInputs, part: int) -> dict[str, Any]:
    """What is to be known of a part before anything is fitted: counts, and the times that would tell the future.

    users: how many; buying: of each number of purchases above 0, how many users have it; judged: users who bought
    before the as-of date, if anybody did, and in the days held out; latest: the last purchase before it; heldout: the
    first held out.
    """
    histories = storage.read_parquet(sources.path("prepare", "histories", part), ["user_id", "times"])
    heldout = storage.read_parquet(sources.path("prepare", "heldout", part), ["user_id", "timestamp"])
    purchases = np.asarray(pc.list_value_length(histories["times"]))
    numbers, users = np.unique(purchases[purchases > 0], return_counts=True)
    known = histories["user_id"].filter(pa.array((purchases > 0) | sources.by_vectors))
    return {
        "users": len(histories),
        "buying": dict(zip(numbers.tolist(), users.tolist(), strict=True)),
        "judged": int(pc.sum(pc.is_in(sources.in_period(heldout)["user_id"].unique(), value_set=known)).as_py() or 0),
        "latest": pc.max(pc.list_flatten(histories["times"])).as_py(),
        "heldout": pc.min(heldout["timestamp"]).as_py(),
        "part": part,
    }


def fit(sources: EvaluateInputs, looks: Iterable[Mapping[str, Any]] | None = None) -> str:
    """Fit the baselines on the histories of all users and write them down, unless that is done; gives a file's path.

    Here at most about ``evaluate.purchases`` purchases are in memory at once, as item numbers: 16 bytes each, and what
    the baselines work with. looks: of :func:`look` for each part. Raises InputError where something that the model
    could know comes after the as-of date.
    """
    marker = storage.join(sources.fitted, FITTED)
    if storage.exists(marker):
        return marker
    looks = sorted(looks or (look(sources, part) for part in range(sources.parts)), key=lambda one: one["part"])
    path = storage.join(sources.folders["prepare"], "catalogue.parquet")
    catalogue = storage.read_parquet(path, ["item_id", "last_sale"])
    latest = max((one["latest"] for one in looks if one["latest"] is not None), default=None)
    refuse_leaks(
        sources.as_of,
        prepared_as_of=storage.read_json(storage.join(sources.folders["prepare"], "statistics.json"))["as_of"],
        youngest=float("inf") if latest is None else (sources.as_of - latest) / timedelta(days=1),
        last_sale=pc.max(catalogue["last_sale"]).as_py(),
        heldout=(one["heldout"] for one in looks),
        by_time=sources.by_time,
    )
    buying: Counter[int] = Counter()
    for one in looks:
        buying.update(one["buying"])
    purchases, judged = sum(n * users for n, users in buying.items()), sum(one["judged"] for one in looks)
    learned = min(1.0, sources.evaluate.purchases / max(purchases, 1))
    history = concatenate(
        fitted.known_purchases(
            sources.folders["prepare"],
            sources.parts,
            catalogue["item_id"],
            sources.as_of,
            share=learned,
            seed=sources.seed,
        )
    )
    fitted.save_baselines(
        fitted.fit_baselines(history, sources.fitted_names, sources.evaluate.neighbours), sources.fitted
    )
    summary = {
        "users": [one["users"] for one in looks],
        "buying_users": sum(buying.values()),
        "quartiles": quartiles(buying),
        "could_judge": judged,
        "judged_share": min(1.0, sources.evaluate.users / max(judged, 1)),
        "learned_share": learned,
    }
    storage.write_json(summary, marker)
    return marker


def samples(sources: EvaluateInputs) -> tuple[dict[str, Any] | None, list[str]]:
    """What was drawn in place of all, None for nothing, and in words, after :func:`fit`."""
    summary = storage.read_json(storage.join(sources.fitted, FITTED))
    shares = {name: summary[name] for name in ("could_judge", "judged_share", "learned_share")}
    words = []
    if shares["judged_share"] < 1:
        words.append(
            f"a sample of {shares['judged_share']:.2%} of {shares['could_judge']:,} users judges (evaluate.users)"
        )
    if shares["learned_share"] < 1:
        words.append(f"baselines learned from {shares['learned_share']:.2%} of the users (evaluate.purchases)")
    return shares if words else None, words


def load_shop(sources: EvaluateInputs) -> EvaluationCatalogue:
    """All that is the same for every part, with the baselines of :func:`fit`."""
    catalogue = storage.read_parquet(
        storage.join(sources.folders["prepare"], "catalogue.parquet"), schemas.CATALOGUE_COLUMNS
    )
    stored = StoredItems(sources.folders["embed"], sources.encoder)
    if not catalogue["item_id"].equals(pa.chunked_array([stored.ids()])):
        where = storage.join(sources.folders["embed"], "items")
        raise ArtifactError(f"{where} must have the catalogue's items in its order: run topkin run --force")
    vectors = stored.read("vector", np.arange(len(stored)))
    embedded = storage.read_json(storage.join(sources.folders["embed"], SUMMARY))
    rule = sources.recommend
    baselines = fitted.load_baselines(sources.fitted, sources.fitted_names, sources.evaluate.neighbours)
    sales = np.asarray(catalogue["events"])
    return EvaluationCatalogue(
        item_ids=catalogue["item_id"].combine_chunks(),
        sales=sales,
        cold=_cold(sources, catalogue),
        vectors=vectors,
        preferences=partial(preferences_of, vectors, [Block.from_json(b) for b in embedded["blocks"]]),
        baselines={name: one for name, one in baselines.items() if name in sources.evaluate.baselines},
        model=baselines.get(rule.model),
        as_of=sources.as_of,
        ks=sources.ks,
        until=sources.until,
        bought=rule.bought,
        cooldown=cooldown_days(catalogue["category"], rule.cooldown_days, rule.cooldown_by_category),
        listed=sources.listed,
        repurchase=repurchase_of(sources, catalogue["category"]),
        second=second_of(sources, baselines),
        unruled=allowed_of(rule, catalogue).mask if rule.ruled and sources.lists else None,
        by_vectors=sources.by_vectors,
    )


def _cold(sources: EvaluateInputs, catalogue: pa.Table) -> np.ndarray:
    """The cold items of a catalogue, by their sales alone where there are no times."""
    first = catalogue["first_sale"] if sources.timed else pa.nulls(len(catalogue), schemas.TIME)
    return cold_items(np.asarray(catalogue["events"]), first, sources.as_of)


def second_of(sources: EvaluateInputs, baselines: Mapping[str, Baseline]) -> SecondStage | None:
    """The second stage of the published lists. baselines: fitted, its sources among them, in the registry's order."""
    weights = sources.second
    if weights is None:
        return None
    return SecondStage(weights, {name: baseline for name, baseline in baselines.items() if name in weights})


def repurchase_of(sources: EvaluateInputs, categories: pa.ChunkedArray) -> Repurchase | None:
    """How the published lists rank bought items, as the recommend stage wrote it down; None where they do not."""
    if weights_of(sources.recommend, {}) is None:
        return None
    folder = sources.folders["recommend"]
    weights = storage.read_json(storage.join(folder, "lists.json"))["repurchase"]
    counts = storage.read_parquet(storage.join(folder, FILE))
    return Repurchase(Weights(**weights), RepurchaseRates.of(counts, len(categories), categories))


def facts_of(sources: EvaluateInputs) -> EvaluationContext:
    """What the scoreboard knows beside the judged users."""
    name = storage.join(sources.folders["prepare"], "catalogue.parquet")
    catalogue = storage.read_parquet(name, ["events", "users", "first_sale"])
    summary = storage.read_json(storage.join(sources.fitted, FITTED))
    names, sales = sources.evaluate.baselines, np.asarray(catalogue["events"])
    embedded = storage.read_json(storage.join(sources.folders["embed"], SUMMARY)) if sources.by_vectors else {}
    return EvaluationContext(
        as_of=sources.as_of,
        ks=sources.ks,
        models=("model", *registry.make_baselines(names, sources.evaluate.neighbours)),
        made_by=sources.recommend.model,
        left_out=registry.left_out(names),
        sales=sales,
        buyers=np.asarray(catalogue["users"]),
        cold=_cold(sources, catalogue),
        deciles=sales_deciles(sales),
        buying_users=summary["buying_users"],
        known_items=embedded["items"] - embedded["items_without_vector"] if embedded else None,
        quartiles=tuple(summary["quartiles"]),
        listed=sources.listed,
        bought=sources.recommend.bought,
        ruled=sources.recommend.ruled and sources.lists,
    )


def load_part(sources: EvaluateInputs, number: int, share: float = 1.0) -> EvaluationPart:
    """The users of one partition, with what they were given, their vectors, and what a share of them bought later."""
    histories = sources.histories(number)
    where = sources.path("embed", "users", number)
    users = storage.read_parquet(where)
    if not users["user_id"].equals(histories["user_id"]):
        raise ArtifactError(f"{where} must have the users of the histories in their order: run topkin run --force")
    heldout = storage.read_parquet(sources.path("prepare", "heldout", number), ["user_id", "item_id", "timestamp"])
    if share < 1:
        heldout = heldout.filter(pa.array(in_sample(heldout["user_id"], share, sources.seed)))
    return EvaluationPart(
        histories=histories,
        vectors=sources.vectors(users, where),
        heldout=heldout,
        recommendations=_lists(sources, number) if sources.lists else None,
    )


def _lists(sources: EvaluateInputs, number: int) -> pa.Table:
    """The published rows of a part."""
    lists = storage.join(sources.folders["recommend"], "recommendations")
    name = storage.part_name(number, sources.parts)
    names = [n for n in storage.files(lists) if n.rpartition("/")[2] == name]
    if len(names) != 1:
        raise ArtifactError(f"{lists} must hold {name} once, found {len(names)}: run topkin run --force")
    return storage.read_parquet(storage.join(lists, names[0]), ["user_id", "rank", "item_id", "source"])


class _Loaded:
    """A holder that Beam can share."""

    def __init__(self, sources: EvaluateInputs):
        self.shop = load_shop(sources)
        summary = storage.read_json(storage.join(sources.fitted, FITTED))
        self.users, self.share = summary["users"], summary["judged_share"]


class _EvaluatePart(beam.DoFn):
    """Writes the tables of a part to its files; a bundle done again writes the same bytes."""

    def __init__(self, sources: EvaluateInputs, out: str, shared: Shared):
        self._sources, self._out, self._shared = sources, out, shared
        self._users = Metrics.counter("topkin", "users_evaluated")
        self._loaded: _Loaded | None = None

    @counted
    def process(self, part: int, fitted: Sequence[str]) -> Iterator[int]:
        # Not in setup, which may come before the fit; kept, for Beam's holder keeps only what was acquired last.
        loaded = self._loaded = self._shared.acquire(lambda: _Loaded(self._sources), tag=self._out)
        judged = evaluate_part(loaded.shop, load_part(self._sources, part, loaded.share))
        key = {schemas.ENCODER_KEY: self._sources.results_of or self._sources.encoder}
        users = judged.users.replace_schema_metadata({**judged.users.schema.metadata, **key})
        for name, table in judged._replace(users=users)._asdict().items():
            storage.write_parquet(table, storage.join(self._out, name, storage.part_name(part, self._sources.parts)))
        self._users.inc(len(users))
        advance("evaluate", loaded.users[part], sum(loaded.users))
        yield part


@dataclass
class EvaluateParts(beam.PTransform):
    """Judges every part into ``out``, a folder for each table of ``JudgedUsers``; gives the numbers of the parts.

    Parts are looked at by all workers, the baselines fitted by one; all read what it wrote.
    """

    sources: EvaluateInputs
    out: str
    shared: Shared = field(default_factory=Shared)

    @counted
    def _look(self, part: int) -> dict[str, Any]:
        return look(self.sources, part)

    @counted
    def _fit(self, _: None, looks: Sequence[Mapping[str, Any]]) -> str:
        return fit(self.sources, looks)

    def expand(self, pipeline: PBegin) -> PCollection[int]:
        parts = pipeline | "Parts" >> beam.Create(range(self.sources.parts), reshuffle=True)
        looks = parts | "Look" >> beam.Map(self._look).with_output_types(Any)
        fit_once = beam.Map(self._fit, AsList(looks)).with_output_types(str)
        fitted = pipeline | "Once" >> beam.Create([None]) | "Fit" >> fit_once
        judge = beam.ParDo(_EvaluatePart(self.sources, self.out, self.shared), AsList(fitted))
        return parts | "EvaluatePart" >> judge


def read_results(sources: EvaluateInputs, out: str) -> EvaluationResults:
    """What :class:`EvaluateParts` wrote."""

    def read(part: int, name: str, columns: Sequence[str] | None) -> pa.Table:
        return storage.read_parquet(storage.join(out, name, storage.part_name(part, sources.parts)), columns)

    return EvaluationResults(sources.parts, read)
