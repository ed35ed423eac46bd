"""The job ``prepare`` of items alone: the user's Parquet becomes what feeds the encoder, and the catalogue."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.config.items_run import ItemsRunSettings
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest.contract import Inspection
from topkin.ingest.files import find
from topkin.ingest.items import ItemsPlan, items_sources
from topkin.ingest.judging.items import ItemsLook, look_at_items
from topkin.ingest.judging.limits import faults_of_rejects
from topkin.ingest.readers import INPUT
from topkin.pipelines.engine.job import Job, input_files, run_pipeline
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.items.encoder import INPUTS, choices_of, encoder_files, feeds_of
from topkin.planning.estimate import too_many_parts

if TYPE_CHECKING:
    import apache_beam as beam

TRIED_ROWS = 8192
"""Rows of each input that are tried before the work starts: all of them are judged after it."""


def reads(settings: ItemsRunSettings) -> StageReads:
    """[path, bytes, time of change] of every input file, and the encoder's hash: it says what is read of them."""
    files = [
        [f.path, f.bytes, f.modified]
        for name, source in items_sources(settings).items()
        for f in find(f"{name}.path", source.path, input_files(source.path)).files
    ]
    return StageReads(files=[*files, *encoder_files(settings.encoder.path)])


def look_at(settings: ItemsRunSettings, rows: int = TRIED_ROWS) -> ItemsLook:
    """The inputs, and what of them does not fit; reads the footers of all files and some rows of each input."""
    clock = datetime.now(UTC).replace(tzinfo=None)
    return look_at_items(settings, partial(feeds_of, settings), clock, input_files, rows)


def learnable(settings: ItemsRunSettings, look: ItemsLook) -> tuple[list[TopkinError], list[str]]:
    """What of a sample of the items stands in the way of training, not raised, and what is to be told of their labels.

    A sample that is not all of the items only tells of labels.
    """
    rows, faults = look.good_items(), list[TopkinError]()
    if rows is None or not len(rows):
        return [], []
    if settings.train is not None and settings.encoder.path is None:
        from topkin.models.metric_training.inputs import specs_of

        named = [n.removeprefix(INPUT) for n in rows.column_names]
        try:
            specs_of(rows.rename_columns(named), choices_of(settings))
        except InputError as e:
            faults.append(e)
    if settings.train is not None:
        from topkin.models.metric_training.objective import check_parts

        try:
            check_parts(settings.train)
        except ConfigError as e:
            faults.append(e)
    column = settings.items.label
    labels = pc.unique(rows["label"].drop_null()) if column is not None else []
    if column is None or len(labels) > 1:
        return faults, []
    has = f"{column} has {len(labels)} label{'' if len(labels) == 1 else 's'}"
    whole = look.judged["items"].rows >= look.inspections["items"].rows
    if whole and settings.train is not None and settings.train.method == "labels":
        fault = f"method 'labels' needs two labels, items.label, {has}: name another column, or another train.method"
        return [*faults, InputError(fault)], []
    where = "" if whole else f" in the {look.judged['items'].rows:,} rows looked at"
    return faults, [f"{has}{where}: two are needed to judge by"]


def build(
    pipeline: "beam.Pipeline", job: Job[ItemsRunSettings], look: Mapping[str, Inspection], plan: ItemsPlan
) -> None:
    """Add the job to a Beam pipeline."""
    import apache_beam as beam

    from topkin.transforms.items.prepare import CleanItems, PrepareItemParts, WriteCatalogue, WriteItemsStatistics
    from topkin.transforms.parquet import ParquetSplits
    from topkin.transforms.prepare import Shuffle, WriteRejects

    out, scratch, parts = job.out, job.scratch, job.settings.run.n_parts
    counts, rejects, labels = [], [], []
    for name, inspection in look.items():
        splits = pipeline | f"Find {name}" >> ParquetSplits(name, inspection.files)
        clean = CleanItems(name, plan, inspection.columns, inspection.rows, scratch, parts)
        cleaned = splits | f"Clean {name}" >> clean
        part_tables = cleaned["accepted"] | f"Prepare {name}" >> PrepareItemParts(name, plan, out, scratch, parts)
        catalogue = storage.join(out, "catalogue.parquet" if name == "items" else f"{name}.parquet")
        labels.append(part_tables["catalogue"] | f"Catalogue {name}" >> WriteCatalogue(name, plan, catalogue))
        rejects += [cleaned["rejects"], part_tables["rejects"]]
        counts.append(part_tables["counts"])
    rejected = tuple(rejects) | "All rejects" >> beam.Flatten()
    counts.append(rejected | "WriteRejects" >> WriteRejects(storage.join(out, "rejects"), Shuffle(scratch, parts)))
    files = {name: (len(i.files), i.rows) for name, i in look.items()}
    tables = {
        "counts": tuple(counts) | "All counts" >> beam.Flatten(),
        "labels": tuple(labels) | "All labels" >> beam.Flatten(),
    }
    tables | "WriteStatistics" >> WriteItemsStatistics(plan, out, files)


def prepare(job: Job[ItemsRunSettings]) -> dict[str, Any]:
    """Prepare into ``job.out``; returns statistics.json.

    Raises InputError or ConfigError with all that is wrong with the inputs, and InputError where too many rows are
    rejected or none is left.
    """
    look = look_at(job.settings)
    if look.findings:
        raise type(look.findings[0])("\n".join(str(f) for f in look.findings))
    assert look.plan is not None
    plan = look.plan
    if parts := too_many_parts(job.settings.run.n_parts, sum(i.rows for i in look.inspections.values())):
        raise ConfigError(*parts)
    run_pipeline(lambda pipeline: build(pipeline, job, look.inspections, plan), job.beam)
    storage.write_json({f.name: f.column for f in look.feeds}, storage.join(job.out, INPUTS))
    statistics: dict[str, Any] = storage.read_json(storage.join(job.out, "statistics.json"))
    faults: list[str] = []
    for name, counts in statistics["sources"].items():
        source, rows = look.inspections[name].source, counts["rows"]
        faults += faults_of_rejects(source, counts["rejected"], rows, job.settings.prepare, {})
        if not counts["accepted"] and not faults:
            faults.append(f"{name}: all {rows:,} rows were rejected: look at {name}.rules and at the data")
    if faults:
        raise InputError("\n".join(faults))
    return {**statistics, "notes": _notes(job.settings, statistics)}


def _notes(settings: ItemsRunSettings, statistics: Mapping[str, Any]) -> Sequence[str]:
    """What a person must know: labels that tell nothing."""
    labels = statistics.get("labels")
    if labels is not None and labels < 2:
        return [f"{settings.items.label} has {labels} label{'' if labels == 1 else 's'}: two are needed to judge by"]
    return []


STAGE = Stage(
    name="prepare",
    folder="prepared",
    sections=("run", "items", "queries", "prepare", "rejects", "encoder"),
    reads=reads,
    dated=False,
    work=prepare,
)
