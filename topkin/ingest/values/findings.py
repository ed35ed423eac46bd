"""What the values of an input's first rows tell that its types do not: ids made one, times that no sale can have."""

from datetime import datetime

import pyarrow as pa

from topkin.artifacts import ids
from topkin.errors import InputError
from topkin.ingest.contract import Inspection, time_unit_finding
from topkin.ingest.values.id_faults import FEW, above_int64, merged_by_expression, merged_floats
from topkin.ingest.values.time_faults import time_fault
from topkin.ingest.values.type_cures import setting


def value_findings(inspection: Inspection, rows: pa.Table, clock: datetime) -> list[InputError]:
    """What is wrong with most values of the columns of ids and times, each with its cure.

    rows: of an inspection without findings, their texts readable. clock: naive UTC, which divides past from future.
    """
    source = inspection.source
    normalised = source.rules.normalised(rows)
    findings = [_id_finding(inspection, rows, normalised, r) for r in ("user_id", "item_id") if source.column(r)]
    if source.column("timestamp"):
        unit = time_unit_finding(inspection, rows, clock)
        findings.append(unit or _time_finding(inspection, len(rows), normalised, clock))
    return [f for f in findings if f is not None]


def _id_finding(inspection: Inspection, rows: pa.Table, normalised: pa.Table, role: str) -> InputError | None:
    source, column = inspection.source, inspection.source.columns[role]
    begin = f"{inspection.files[0].path}: column {column!r} ({source.name}.{role}) must hold ids, got"
    if column in rows.column_names:
        raw = rows[column]
        if (why := merged_floats(ids.decoded(raw))) is not None:
            return InputError(f"{begin} {why}")
        if raw is not normalised[column] and merged_by_expression(raw, normalised[column]):
            cure = setting(source.name, column, "CAST({} AS VARCHAR)")
            return InputError(
                f"{begin} numbers with a fraction, of which an expression makes one id of several: set {cure}"
            )
    if (share := above_int64(normalised[column])) > FEW:
        cure = setting(source.name, column, "CAST({} AS VARCHAR)")
        return InputError(f"{begin} integers above the largest int64 in {share:.0%} of the rows: set {cure}")
    return None


def _time_finding(inspection: Inspection, looked_at: int, normalised: pa.Table, clock: datetime) -> InputError | None:
    source, column = inspection.source, inspection.source.columns["timestamp"]
    if inspection.earliest is not None and inspection.earliest > clock:
        return None  # all files say so, which is more than the first rows can
    by_intent = any(c == column and not e.names() for c, e in source.rules.normalise)  # a time for all, as written
    whole = looked_at >= inspection.rows or inspection.earliest == inspection.latest is not None
    constant = whole and not by_intent and source.name == "purchases"
    fault = time_fault(normalised[column], source.time_unit, clock, constant=constant)
    if fault is None:
        return None
    cures = [(f"where {when}, " if when else "") + setting(source.name, column, form) for when, form in fault.cures]
    how = f"set {'; or, '.join(cures)}" if cures else ""
    normalise = f"{source.name}.normalise.{column}"
    advice = "; or ".join(part for part in (how, fault.advice.replace("{normalise}", normalise)) if part)
    return InputError(
        f"{inspection.files[0].path}: column {column!r} ({source.name}.timestamp) must hold the times of sales, got "
        f"{fault.problem}: {advice}"
    )
