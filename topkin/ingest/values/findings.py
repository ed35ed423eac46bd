"""What the values of an input's first rows tell that its types do not: ids made one, times that no sale can have."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from topkin.artifacts import ids
from topkin.errors import InputError
from topkin.ingest import readers, timestamps
from topkin.ingest.contract import Inspection
from topkin.ingest.values.id_faults import FEW, above_int64, merged_by_expression, merged_floats
from topkin.ingest.values.time_faults import time_fault
from topkin.ingest.values.type_cures import normalise_key, setting


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
    if source.column("latest_by"):
        findings.append(_order_finding(inspection, normalised))
    return [f for f in findings if f is not None]


def time_unit_finding(inspection: Inspection, rows: pa.Table, clock: datetime) -> InputError | None:
    """What is wrong where epoch numbers are not in the configured unit; None where all is well, or no times are."""
    source = inspection.source
    if not source.timed:
        return None
    column = source.columns["timestamp"]
    values = source.rules.normalised(rows)[column]
    seems = timestamps.unit_mistake(values, source.time_unit, clock)
    if seems is None:
        return None
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
    example = values.drop_null()[0]
    return InputError(
        f"{inspection.files[0].path}: column {column!r} ({source.name}.timestamp) must be epoch "
        f"{words[source.time_unit]}, as {source.name}.time_unit says, got {words[seems]} such as {example}: "
        f"set {source.name}.time_unit = {seems!r} or 'auto'"
    )


def _order_finding(inspection: Inspection, normalised: pa.Table) -> InputError | None:
    """What is wrong where most values that say which row is the latest cannot be ordered."""
    source, column = inspection.source, inspection.source.columns["latest_by"]
    values = normalised[column].drop_null()
    unread = np.asarray(readers.order_keys(values)) == -np.inf
    if not len(values) or unread.mean() <= 0.5:
        return None
    example = values[int(np.flatnonzero(unread)[0])].as_py()
    return InputError(
        f"{inspection.files[0].path}: column {column!r} ({source.name}.latest_by) must hold times or numbers, got "
        f"{'texts' if isinstance(example, str) else 'values'} such as {example!r}, which are none: name a column that "
        f"grows with each version of a row, or set {normalise_key(source.name, column)} to an SQL "
        "expression that gives such values"
    )


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
    whole = looked_at >= inspection.rows_judged or inspection.earliest == inspection.latest is not None
    constant = whole and not by_intent and source.name == "purchases"
    fault = time_fault(normalised[column], source.time_unit, clock, constant=constant)
    if fault is None:
        return None
    cures = []
    for when, form in fault.cures:
        text = setting(source.name, column, form)
        cures.append(f"{text}, {when}" if when.startswith("with ") else f"where {when}, {text}" if when else text)
    how = f"set {'; or, '.join(cures)}" if cures else ""
    normalise = normalise_key(source.name, column)
    advice = "; or ".join(part for part in (how, fault.advice.replace("{normalise}", normalise)) if part)
    return InputError(
        f"{inspection.files[0].path}: column {column!r} ({source.name}.timestamp) must hold the times of sales, got "
        f"{fault.problem}: {advice}"
    )
