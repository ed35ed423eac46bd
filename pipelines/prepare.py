"""The prepare job: the user's Parquet, held to its contract, becomes events, histories and the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.config.sections import Settings
from topkin.errors import InputError, TopkinError
from topkin.ingest.cleaning import clean_items, clean_purchases, clean_users
from topkin.ingest.contract import Inspection, inspect, sample, sources, vector_dim
from topkin.ingest.files import find
from topkin.ingest.joins.read import faults_of_joins, faults_of_types
from topkin.ingest.prepare import PreparePlan
from topkin.ingest.splits import refuse_overlap
from topkin.ingest.values.findings import value_findings
from topkin.pipelines.engine.job import Job, input_files, machine_of, run_pipeline
from topkin.pipelines.engine.stage import Stage, StageReads
from topkin.planning.estimate import ROW, InputCounts, StageCost, Workload, plan, refuse

if TYPE_CHECKING:
    import apache_beam as beam


def cost(load: Workload) -> StageCost:
    """A part of all purchases on a core, and the catalogue; rows are read, shuffled through files and written."""
    c = load.counts
    purchase = 2 * c.id_bytes + 40  # as a row of a table: user, item, time, quantity, price, segment
    return load.cost(
        "prepare",
        rows=c.purchases,
        bytes_read=c.input_bytes + 2.0 * ROW * c.purchases,
        bytes_written=4.0 * ROW * c.purchases + load.catalogue_file + 2 * load.own_vectors,
        cpu_seconds=c.purchases * load.costs.purchase,
        cores=load.cores_by_part,
        memory=4 * load.share * c.purchases * purchase + 3 * load.catalogue + 4 * load.own_vectors,
    )


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
    purchases, clock = sources(settings)["purchases"], _now()
    latest = inspect(purchases, input_files(purchases.path)).latest
    return StageReads(files=files, today=None if latest is None or latest <= clock else clock.date())


@dataclass(frozen=True, kw_only=True)
class PrepareInputs:
    """The plan, whose ``clock`` (naive UTC, now) divides past from future, and the files and columns of each input."""

    plan: PreparePlan
    inspections: Mapping[str, Inspection]


def check_inputs(settings: Settings, as_of: datetime | None = None) -> list[TopkinError]:
    """What is wrong with the inputs: errors not raised, each with its message; none where all is well.

    Reads the footers of all files, the first rows of one of each input, and the ids of inputs that are joined.
    """
    return _checked(settings, as_of, _now())[1]


def _checked(
    settings: Settings, as_of: datetime | None, clock: datetime
) -> tuple[dict[str, Inspection], list[TopkinError]]:
    inputs = {name: inspect(source, input_files(source.path)) for name, source in sources(settings).items()}
    findings = [finding for inspection in inputs.values() for finding in inspection.findings]
    purchases = inputs["purchases"]
    findings += faults_of_types(inputs, input_files)
    if not findings:
        findings = _tried(inputs, clock)
    if not findings:
        findings = faults_of_joins(inputs, input_files)
    first = purchases.earliest
    if not findings and first is not None:
        column = purchases.source.columns["timestamp"]
        if first > clock:
            findings.append(
                InputError(f"every purchase is in the future: the first {column!r} is {first}, now is {clock}")
            )
        elif as_of is not None and first >= as_of:
            findings.append(
                InputError(
                    f"there is no purchase before the as-of date {as_of.isoformat()}: "
                    f"the first {column!r} is {first.isoformat()}; choose a later --as-of"
                )
            )
    return inputs, findings


def _tried(inputs: Mapping[str, Inspection], clock: datetime) -> list[TopkinError]:
    """What goes wrong with the first rows of each input."""
    findings: list[TopkinError] = []
    for name, inspection in inputs.items():
        files = input_files(inspection.source.path)
        try:
            rows = sample(inspection, files)
            if rows is None:
                continue
            findings += value_findings(inspection, rows, clock)
            if name in ("purchases", "heldout"):
                clean_purchases(rows, inspection.source, clock)
            elif name == "items":
                clean_items(rows, inspection.source, vector_dim(inspection, files))
            else:
                clean_users(rows, inspection.source)
        except TopkinError as e:
            findings.append(e)
    return findings


def inputs_of(job: Job) -> PrepareInputs:
    """What the workers read. Raises InputError or ConfigError with all that is wrong with the inputs."""
    settings, clock = job.settings, _now()
    inputs, findings = _checked(settings, job.as_of, clock)
    if findings:
        raise type(findings[0])("\n".join(str(f) for f in findings))
    purchases = inputs["purchases"]
    by_name = {name: inspection.source for name, inspection in inputs.items()}
    plan = PreparePlan(
        purchases=by_name["purchases"],
        items=by_name.get("items"),
        users=by_name.get("users"),
        heldout=by_name.get("heldout"),
        user_type=purchases.types["user_id"],
        item_type=purchases.types["item_id"],
        as_of=job.as_of,
        clock=clock,
        recent_days=settings.prepare.recent_days,
        drop_duplicates=settings.purchases.duplicates == "drop",
        split=settings.prepare.split,
        missing=settings.items.missing if settings.items else "list",
        vector_dim=vector_dim(inputs["items"], input_files(by_name["items"].path)) if "items" in inputs else None,
    )
    return PrepareInputs(plan=plan, inspections=inputs)


def build(pipeline: "beam.Pipeline", job: Job, inputs: PrepareInputs) -> None:
    """Add the job to a Beam pipeline."""
    import apache_beam as beam

    from topkin.transforms.parquet import ParquetSplits
    from topkin.transforms.prepare import Clean, MakeShop, PrepareParts, WriteRejects, WriteStatistics

    plan, out, scratch, parts = inputs.plan, job.out, job.scratch, job.settings.run.parts
    accepted, rejects, unnested = {}, [], []
    for name, inspection in inputs.inspections.items():
        cleaned = (
            pipeline
            | f"Find {name}" >> ParquetSplits(name, inspection.files)
            | f"Clean {name}" >> Clean(name, plan, inspection.columns, inspection.rows, scratch, parts)
        )
        accepted[name] = cleaned["accepted"]
        rejects.append(cleaned["rejects"])
        unnested.append(cleaned["counts"])
    for name in {"items", "users", "heldout"} - accepted.keys():
        accepted[name] = pipeline | f"No {name}" >> beam.Create([]).with_output_types(str)
    items = accepted.pop("items")
    made = accepted | "PrepareParts" >> PrepareParts(plan, out, scratch, parts)
    tables = {name: made[name] for name in ("sales", "segments", "held_items")}
    shop = {**tables, "items": items} | "MakeShop" >> MakeShop(plan, out, scratch, parts)
    counts = (
        (*rejects, made["rejects"], shop["rejects"])
        | "All rejects" >> beam.Flatten()
        | "WriteRejects" >> WriteRejects(storage.join(out, "rejects"), parts)
    )
    every = (*unnested, made["counts"], shop["counts"], counts) | "All counts" >> beam.Flatten()
    files = {name: (len(i.files), i.rows) for name, i in inputs.inspections.items()}
    {"counts": every, "span": shop["span"]} | "WriteStatistics" >> WriteStatistics(plan, out, files)


def prepare(job: Job) -> dict[str, Any]:
    """Prepare into ``job.out``; returns statistics.json, and how the inputs meet as notes.

    Raises InputError where no purchase before the as-of date is left, with the counts of reasons, and where files
    given to learn from and to judge by overlap in time.
    """
    inputs = inputs_of(job)
    rows = inputs.inspections["purchases"].rows
    counts = InputCounts(purchases=rows, known=rows, users=rows, items=0)
    machine = machine_of(job.settings, job.beam)
    refuse(plan(Workload(counts=counts, settings=job.settings, machine=machine), [cost]))
    run_pipeline(lambda pipeline: build(pipeline, job, inputs), job.beam)
    statistics: dict[str, Any] = storage.read_json(storage.join(job.out, "statistics.json"))
    if not statistics["events"]:
        raise InputError(_nothing_left(statistics, job.as_of))
    if overlap := statistics.get("leaks"):
        refuse_overlap(overlap["late_rows"], overlap["early_rows"], job.as_of)
    return {**statistics, "notes": [join["line"] for join in statistics["joins"]]}


def _nothing_left(statistics: Mapping[str, Any], as_of: datetime) -> str:
    purchases = statistics["sources"]["purchases"]
    reasons = sorted(purchases["rejected"].items(), key=lambda r: (-r[1], r[0]))
    counts = ", ".join(f"{reason}: {n:,}" for reason, n in reasons)
    rejected = f"rejected ({counts})"
    if not purchases["accepted"]:
        return f"all {purchases['rows']:,} rows of purchases were {rejected}: look at purchases.rules and at the data"
    return (
        f"there is no purchase before the as-of date {as_of.isoformat()}: {purchases['accepted']:,} of "
        f"{purchases['rows']:,} rows were accepted, all of them later{', the others ' + rejected if counts else ''}; "
        "choose a later --as-of"
    )


STAGE = Stage(
    name="prepare",
    folder="prepared",
    sections=("run", "purchases", "items", "users", "heldout", "prepare"),
    reads=reads,
    cost=cost,
    work=prepare,
)
