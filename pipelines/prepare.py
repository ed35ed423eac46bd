"""The prepare job: the user's Parquet, held to its contract, becomes events, histories and the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts import storage
from topkin.config import undated
from topkin.config.sections import Settings
from topkin.config.shop import vectors
from topkin.errors import InputError, TopkinError
from topkin.ingest.contract import InputSource, Inspection, inspect, sources
from topkin.ingest.files import find
from topkin.ingest.judging.inputs import look_at_inputs
from topkin.ingest.judging.limits import examples_of, faults_of_rejects, rows_judged
from topkin.ingest.prepare import PreparePlan
from topkin.ingest.splits import refuse_overlap
from topkin.ingest.typed.counts import STATISTICS, lines_of_types, nothing_known
from topkin.pipelines.encode.catalogue import add_vectors, faults
from topkin.pipelines.engine.job import InOnePipeline, Job, OnePipeline, engine_shuffles, input_files, machine_of
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.pipelines.items.encoder import encoder_files
from topkin.pipelines.nights import pictures
from topkin.planning.estimate import (
    ROW,
    InputCounts,
    Machine,
    StageCost,
    Workload,
    empty_parts,
    idle_workers,
    plan,
    refuse,
)
from topkin.privacy import forgotten

if TYPE_CHECKING:
    import apache_beam as beam


def cost(load: Workload) -> StageCost:
    """A part of all purchases on a core, and the catalogue; rows are read, shuffled through files and written.

    What rules over purchases ask of the items and users is read once more, and is whole in every worker.
    """
    c = load.counts
    purchase = 2 * c.id_bytes + 40  # as a row of a table: user, item, time, quantity, price, segment
    asked = _asked(load)
    looked_up = sum(rows for rows, _ in asked)
    return load.cost(
        "prepare",
        rows=c.purchases,
        bytes_read=c.input_bytes + 2.0 * ROW * c.purchases + sum(rows * (ROW + FIELD * n) for rows, n in asked),
        bytes_written=4.0 * ROW * c.purchases + load.catalogue_file + 2 * load.own_vectors,
        cpu_seconds=((1 + len(asked)) * c.purchases + 2 * looked_up) * load.costs.purchase,
        cores=load.cores_by_part,
        memory=4 * load.share * c.purchases * purchase
        + 3 * load.catalogue
        + 4 * load.own_vectors
        + 3 * sum(rows * (c.id_bytes + PLACE + FIELD * n) for rows, n in asked),
    )


FIELD, PLACE = 24, 120
"""Bytes of a column of an item or user that rules ask for, and of where its row stood, while they are merged."""


def _asked(load: Workload) -> list[tuple[int, int]]:
    """Of the items, and of the users, that rules over purchases ask: how many there are, and how many columns."""
    named = sources(load.settings)
    fields: dict[str, set[str]] = {}
    for source in (named[name] for name in ("purchases", "heldout") if name in named):
        for side, columns in source.rules.asked(pa.schema([])).items():
            fields.setdefault(side, set()).update(map(str.lower, columns))
    rows = {"item": load.counts.items, "user": load.counts.users}
    return [(rows[side], len(columns)) for side, columns in fields.items()]


TRIED_ROWS = 8192
"""Rows of each input that are tried before the work starts: all of them are judged after it."""


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def reads(settings: Settings) -> StageReads:
    """[path, bytes, time of change] of every input file, in order: what tells that an input is another.

    Where purchases lie in the future, as the files' statistics say, today's date too: they are rejected today, and not
    for ever. Raises InputError where an input has no file.
    """
    files = [
        [f.path, f.bytes, f.modified]
        for name, source in sources(settings).items()
        for f in find(f"{name}.path", source.path, input_files(source.path)).files
    ]
    purchases, clock = sources(settings).get("purchases"), _now()
    latest = None if purchases is None else inspect(purchases, input_files(purchases.path)).latest
    model = encoder_files(None if settings.encoder is None else settings.encoder.path)
    gone = storage.join(settings.run.output, forgotten.FILE)
    files += [[forgotten.FILE, storage.sha256(gone)]] if storage.exists(gone) else []
    today = None if latest is None or latest <= clock else clock.date()
    # A setting and no data: what was learned of the items' vectors holds for this model's alone.
    return StageReads(files=files, settings={"encoder.path": [digest for _, digest in model]}, today=today)


@dataclass(frozen=True, kw_only=True)
class PrepareInputs:
    """What the workers read: the plan, and the files and columns of each input."""

    plan: PreparePlan
    inspections: Mapping[str, Inspection]


def check_inputs(settings: Settings, as_of: datetime | None = None) -> list[TopkinError]:
    """What stands in the way of reading the inputs: errors not raised, each with its message.

    Reads the footers of all files and some rows of each input.
    """
    look = look_at_inputs(settings, as_of, _now(), input_files, rows=TRIED_ROWS)
    return [*look.findings, *faults(settings, look.plan), *([] if look.findings else pictures.faults(settings))]


def inputs_of(job: Job[Settings]) -> PrepareInputs:
    """What the workers read. Raises InputError or ConfigError with all that is wrong with the inputs."""
    look = look_at_inputs(job.settings, job.as_of, _now(), input_files, rows=TRIED_ROWS)
    if look.findings:
        raise type(look.findings[0])("\n".join(str(f) for f in look.findings))
    assert look.plan is not None
    return PrepareInputs(plan=look.plan, inspections={name: look.inspections[name] for name in look.plan.sources})


def build(pipeline: "beam.Pipeline", job: Job[Settings], inputs: PrepareInputs, *, by_engine: bool) -> None:
    """Add the job to a Beam pipeline. by_engine: whether the engine moves rows to their parts, or files do."""
    import apache_beam as beam

    from topkin.transforms.parquet import ParquetSplits
    from topkin.transforms.prepare import (
        Clean,
        MakeShop,
        PrepareParts,
        ReadLookup,
        Shuffle,
        WriteRejects,
        WriteStatistics,
    )

    plan, out, shuffle = inputs.plan, job.out, Shuffle(job.scratch, job.settings.run.n_parts, by_engine)
    splits = {
        name: pipeline | f"Find {name}" >> ParquetSplits(name, inspection.files)
        for name, inspection in inputs.inspections.items()
    }
    lookups = {
        side: splits[lookup.source.name] | f"Look up {side}" >> ReadLookup(lookup)
        for side, lookup in plan.lookups.items()
    }
    accepted, rejects, unnested = {}, [], []
    for name, inspection in inputs.inspections.items():
        asked = lookups if name in ("purchases", "heldout") else {}
        clean = Clean(name, plan, inspection.columns, inspection.rows, shuffle)
        cleaned = {"splits": splits[name], **asked} | f"Clean {name}" >> clean
        accepted[name] = cleaned["accepted"]
        rejects.append(cleaned["rejects"])
        unnested.append(cleaned["counts"])
    if plan.events:
        names = ["purchases", *plan.events]
        accepted["purchases"] = [accepted.pop(name) for name in names] | "All events" >> beam.Flatten()
    for name in {"purchases", "items", "users", "heldout"} - accepted.keys():
        accepted[name] = pipeline | f"No {name}" >> beam.Create([]).with_output_types(shuffle.element)
    items = accepted.pop("items")
    part_tables = accepted | "PrepareParts" >> PrepareParts(plan, out, shuffle)
    tables = {name: part_tables[name] for name in ("sales", "segments", "held_items")}
    shop = {**tables, "items": items} | "MakeShop" >> MakeShop(plan, out, shuffle)
    counts = (
        (*rejects, part_tables["rejects"], shop["rejects"])
        | "All rejects" >> beam.Flatten()
        | "WriteRejects" >> WriteRejects(storage.join(out, "rejects"), shuffle)
    )
    every = (*unnested, part_tables["counts"], shop["counts"], counts) | "All counts" >> beam.Flatten()
    files = {name: (len(i.files), i.rows) for name, i in inputs.inspections.items()}
    {"counts": every, "span": shop["span"]} | "WriteStatistics" >> WriteStatistics(plan, out, files)


def begin(job: Job[Settings]) -> OnePipeline:
    """What prepares into ``job.out``. Raises InputError or ConfigError with all that is wrong with the inputs."""
    inputs = inputs_of(job)
    rows = sum(i.rows_judged for name, i in inputs.inspections.items() if name in ("purchases", *inputs.plan.events))
    listed = {name: inputs.inspections[name].rows if name in inputs.inspections else 0 for name in ("users", "items")}
    counts = InputCounts(purchases=rows, known=rows, **listed)
    machine = machine_of(job.settings, job.beam)
    refuse(plan(Workload(counts=counts, settings=job.settings, machine=machine), [cost]))
    by_engine = engine_shuffles(job.beam)
    own = "the vectors of [encoder] take a job of their own" if job.settings.encoder is not None else ""
    return OnePipeline(
        transform=partial(build, job=job, inputs=inputs, by_engine=by_engine),
        finish=partial(finish, job, inputs, machine),
        only_attached=own,
    )


def finish(job: Job[Settings], inputs: PrepareInputs, machine: Machine) -> dict[str, Any]:
    """Judge what was prepared; returns statistics.json, and how the inputs meet as notes.

    Raises InputError where no purchase before the as-of date is left, with the counts of reasons, and where files
    given to learn from and to judge by overlap in time.
    """
    statistics: dict[str, Any] = storage.read_json(storage.join(job.out, "statistics.json"))
    if faults := _too_many_rejects(job, inputs, statistics):
        raise InputError("\n".join(faults))
    if not statistics["events"] and job.settings.has_purchases:
        raise InputError(_nothing_left(statistics, job.as_of))
    if fault := nothing_known(statistics):
        raise InputError(fault)
    if overlap := statistics.get("leaks"):
        refuse_overlap(overlap["late_rows"], overlap["early_rows"], job.as_of)
    own = add_vectors(job, inputs.plan, statistics)
    events = lines_of_types(statistics.get(STATISTICS, {}))
    notes = [
        *undated.notes(job.settings, "prepare"),
        *vectors.notes(job.settings, "prepare"),
        *idle_workers(job.settings.run.n_parts, machine),
        *empty_parts(job.settings.run.n_parts, statistics["users"]),
        *events,
        *own,
        *(join["line"] for join in statistics["joins"]),
    ]
    return {**statistics, "notes": notes}


def _too_many_rejects(job: Job[Settings], inputs: PrepareInputs, statistics: Mapping[str, Any]) -> list[str]:
    """What is wrong where more rows were rejected than ``[prepare]`` allows; the rejects are read only then."""
    faults = []
    for name, counts in statistics["sources"].items():
        source, limits = inputs.inspections[name].source, job.settings.prepare
        judge = partial(faults_of_rejects, source, counts["rejected"], rows_judged(counts), limits)
        if judge({}):
            faults += judge(_examples(storage.join(job.out, "rejects"), source, set(counts["rejected"])))
    return faults


def _examples(folder: str, source: InputSource, reasons: set[str]) -> dict[str, str]:
    """A rejected value for each reason, from the files of rejects, read no further than needed."""
    examples: dict[str, str] = {}
    for name in storage.files(folder):
        fs, inner = storage.filesystem(storage.join(folder, name))
        with pq.ParquetFile(inner, filesystem=fs) as file:
            for batch in file.iter_batches(1 << 14):
                rejects = pa.Table.from_batches([batch])
                mine = rejects.filter(pc.equal(rejects["source"], source.name))
                examples = {**examples_of(mine, source), **examples}
                if examples.keys() >= reasons:
                    return examples
    return examples


def _nothing_left(statistics: Mapping[str, Any], as_of: datetime) -> str:
    purchases = statistics["sources"]["purchases"]
    reasons = sorted(purchases["rejected"].items(), key=lambda r: (-r[1], r[0]))
    counts = ", ".join(f"{reason}: {n:,}" for reason, n in reasons)
    rejected = f"rejected ({counts})"
    rows = rows_judged(purchases)
    if not purchases["accepted"]:
        return f"all {rows:,} rows of purchases were {rejected}: look at purchases.rules and at the data"
    return (
        f"there is no purchase before the as-of date {as_of.isoformat()}: {purchases['accepted']:,} of "
        f"{rows:,} rows were accepted, all of them later{', the others ' + rejected if counts else ''}; "
        "choose a later --as-of"
    )


STAGE = Stage(
    name="prepare",
    folder="prepared",
    sections=("run", "purchases", "events", "items", "users", "heldout", "prepare", "rejects", "encoder"),
    reads=reads,
    cost=cost,
    work=InOnePipeline(begin),
)
