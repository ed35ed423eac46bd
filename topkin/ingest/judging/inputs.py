"""All inputs of a configuration looked at before any work: the contract of their files, and a sample of their rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from topkin.artifacts import ids
from topkin.config.sections import Settings
from topkin.config.shop.events import event_types
from topkin.errors import InputError, TopkinError
from topkin.ingest.contract import Inspection, inspect, readable_rows, sources, vector_dim
from topkin.ingest.files import FILE, ROW, batches
from topkin.ingest.folders.file import Files
from topkin.ingest.joins.read import MeasuredJoin, faults_of_types, measured_joins
from topkin.ingest.judging.judged import Judged, judged, merged
from topkin.ingest.judging.limits import check_limited_reasons, faults_of_rejects
from topkin.ingest.judging.lookups import ID, lookup_rows, lookups_of
from topkin.ingest.judging.sample import ROWS, sample_rows
from topkin.ingest.prepare import PreparePlan
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.values.features import struct_of
from topkin.ingest.values.findings import value_findings
from topkin.privacy.forgotten import Forgotten

FilesOf = Callable[[str], Files]


@dataclass(frozen=True, kw_only=True)
class InputsLook:
    """The inputs by name, the plan where nothing is wrong with them, and what a sample of each would become.

    Of the inputs the plan and the samples lack events without a row. The plan's ``clock`` (naive UTC, now) divides past
    from future. ``findings``: errors not raised, each with its message. ``joins``: how the inputs meet, where they can
    be read.
    """

    inspections: Mapping[str, Inspection]
    plan: PreparePlan | None
    judged: Mapping[str, Judged]
    joins: Sequence[MeasuredJoin]
    findings: Sequence[TopkinError]


def look_at_inputs(
    settings: Settings, as_of: datetime | None, clock: datetime, files_of: FilesOf, rows: int = ROWS
) -> InputsLook:
    """Hold all files to the contract, and at most ``rows`` rows of each input to the rules.

    as_of and clock: naive UTC, now for the latter. files_of: what finds and opens the files of a path.
    """
    gone = Forgotten.read(settings.run.output)
    asked = {name: replace(source, forgotten=gone) for name, source in sources(settings).items()}
    inputs = {name: inspect(source, files_of(source.path)) for name, source in asked.items()}
    findings = [finding for inspection in inputs.values() for finding in inspection.findings]
    plan: PreparePlan | None = None
    results: dict[str, Judged] = {}
    every, inputs = inputs, {name: i for name, i in inputs.items() if i.rows or i.findings}
    findings += faults_of_types(inputs, files_of)
    if not findings:
        try:
            dims: dict[str, int | None] = {
                name: vector_dim(inputs[name], readable_rows(inputs[name], files_of(inputs[name].source.path)))
                for name in ("items", "users")
                if name in inputs
            }
            dim, user_dim = vectors_of_one_length(dims, inputs)
            plan = plan_of(settings, inputs, as_of or clock, clock, dim, user_dim)
        except TopkinError as e:
            findings.append(e)
    if plan is not None:
        results, findings = _tried(inputs, plan, files_of, rows)
    if not findings and "purchases" in inputs:
        findings = _nothing_known(inputs["purchases"], as_of, clock)
    joins: list[MeasuredJoin] = []
    if plan is not None and not findings:
        joins, findings = measured_joins(inputs, files_of)
    return InputsLook(inspections=every, plan=plan, judged=results, joins=joins, findings=findings)


def vectors_of_one_length(
    dims: Mapping[str, int | None], inputs: Mapping[str, Inspection]
) -> tuple[int | None, int | None]:
    """How many numbers the vectors of the items and of the users have; None where these bring none.

    dims: as ``contract.vector_dim`` gives them, by input. Raises InputError where items' and users' differ.
    """
    items, users = dims.get("items"), dims.get("users")
    if users is not None and items is not None and users != items:
        item, user = (inputs[name].source.column("vector") for name in ("items", "users"))
        raise InputError(
            f"vectors of users and items must have one length, to have a cosine: items.vector, {item!r}, has {items} "
            f"numbers, users.vector, {user!r}, {users}: take both from one model"
        )
    return items, users


def rejects_over_limits(settings: Settings, look: InputsLook, clock: datetime) -> list[TopkinError]:
    """What is wrong where more of a sample's rows would be rejected than ``[prepare]`` allows."""
    faults = []
    for name, result in look.judged.items():
        inspection = look.inspections[name]
        if inspection.earliest is None or inspection.earliest <= clock:  # else all are in the future, and that is said
            faults += faults_of_rejects(
                inspection.source, result.rejected, result.rows, settings.prepare, result.examples
            )
    return [InputError(fault) for fault in faults]


def plan_of(
    settings: Settings,
    inputs: Mapping[str, Inspection],
    as_of: datetime,
    clock: datetime,
    vector_dim: int | None,
    user_dim: int | None = None,
) -> PreparePlan:
    """What preparing the inputs depends on, whether they are files or tables in memory.

    vector_dim, user_dim: how many numbers the vectors of items and of users have; None where they have none. Raises
    ConfigError where a limit names a reason that there is not.
    """
    users, items = (
        (inputs["purchases"], inputs["purchases"]) if settings.has_purchases else (inputs["users"], inputs["items"])
    )
    asking = [inputs[name] for name in ("purchases", "heldout") if name in inputs]
    by_name = {name: inspection.source for name, inspection in inputs.items()}
    check_limited_reasons(settings.prepare, by_name)
    return PreparePlan(
        purchases=by_name.get("purchases"),
        items=by_name.get("items"),
        users=by_name.get("users"),
        heldout=by_name.get("heldout"),
        user_type=users.types["user_id"],
        item_type=items.types["item_id"],
        as_of=as_of,
        clock=clock,
        recent_days=settings.prepare.recent_days,
        drop_duplicates=settings.purchases.duplicates == "drop",
        split=settings.prepare.split,
        missing=settings.items.missing if settings.items else "list",
        vector_dim=vector_dim,
        lookups=lookups_of(asking, inputs),
        item_features=_features(inputs.get("items")),
        user_features=_features(inputs.get("users")),
        purchase_features=_features(inputs.get("purchases")),
        user_dim=user_dim,
        types=event_types(settings),
        events={name: source for name, source in by_name.items() if name.startswith("events.")},
    )


def _features(inspection: Inspection | None) -> pa.StructType | None:
    """The type of the column ``features`` of items or users, where they have some."""
    return None if inspection is None else struct_of(inspection.types, inspection.source.unlearned)


def _tried(
    inputs: Mapping[str, Inspection], plan: PreparePlan, files_of: FilesOf, rows: int
) -> tuple[dict[str, Judged], list[TopkinError]]:
    """What would become of a sample of each input, and what goes wrong with it."""
    results: dict[str, Judged] = {}
    findings: list[TopkinError] = []
    for name, inspection in inputs.items():
        try:
            tables = sample_rows(inspection, files_of(inspection.source.path), rows)
            tried = (value_findings(inspection, escape_invalid_utf8(t).rows, plan.clock) for t in tables)
            findings += next((findings_of for findings_of in tried if findings_of), [])
            lookups = _looked_up(inputs, plan, name, tables, files_of)
            results[name] = merged([judged(name, table, plan, lookups) for table in tables])
        except TopkinError as e:
            findings.append(e)
    return results, findings


def _looked_up(
    inputs: Mapping[str, Inspection], plan: PreparePlan, name: str, rows: Sequence[pa.Table], files_of: FilesOf
) -> dict[str, pa.Table]:
    """What the rules over some purchases ask of their items and users: no more rows than those have ids."""
    source, tables = plan.sources[name], {}
    for side, lookup in plan.lookups.items() if name in ("purchases", "heldout") else ():
        readable = (escape_invalid_utf8(table.drop_columns([FILE, ROW])).rows for table in rows)
        column = source.columns[lookup.role]
        own = [ids.canonical(source.rules.normalised(table)[column]).unique() for table in readable]
        only = pa.chunked_array(own, lookup.schema.field(ID).type)
        other, files = inputs[lookup.source.name], files_of(lookup.source.path)
        some = (t for f in other.files for t in batches(other.source.name, f, files, lookup.read, rows=1 << 17))
        tables[side] = lookup.merged([lookup.schema.empty_table(), *(lookup_rows(t, lookup, only) for t in some)])
    return tables


def _nothing_known(purchases: Inspection, as_of: datetime | None, clock: datetime) -> list[TopkinError]:
    """What is wrong where the files' statistics say that no purchase is of use."""
    first = purchases.earliest
    column = purchases.source.column("timestamp")
    if first is not None and first > clock:
        return [
            InputError(
                f"every purchase is in the future: the first {column!r} is {first}, now is {clock}; ask where the "
                "times come from, or name the column with the time of the sale, purchases.timestamp"
            )
        ]
    if first is not None and as_of is not None and first >= as_of:
        return [
            InputError(
                f"there is no purchase before the as-of date {as_of.isoformat()}: "
                f"the first {column!r} is {first.isoformat()}; choose a later --as-of"
            )
        ]
    return []
