"""``topkin check``: the configuration and the inputs looked at, nothing done."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from topkin.config.sections import Settings
from topkin.errors import ConfigError, TopkinError
from topkin.ingest.contract import InputSource, inspect, sample, sources
from topkin.ingest.joins.read import MeasuredJoin, input_joins, list_joins
from topkin.ingest.timestamps import zone_note
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.engine.job import input_files
from topkin.recommend.eligibility import read_item_lists


@dataclass(frozen=True)
class CheckedColumn:
    """A column: what topkin calls it, the file's name, its type, the share of null in the rows looked at."""

    key: str
    column: str
    type: str
    null: float | None


@dataclass(frozen=True)
class CheckedExpression:
    """An expression by its reason or column; rejects: the share of rows that it rejects, None where it makes one."""

    name: str
    expression: str
    rejects: float | None


@dataclass(frozen=True, kw_only=True)
class CheckedInput:
    """What one input holds, as a look at its footers and first rows shows it."""

    name: str
    path: str
    files: int = 0
    rows: int = 0
    looked_at: int = 0
    passed_over: str = ""
    columns: Sequence[CheckedColumn] = ()
    expressions: Sequence[CheckedExpression] = ()
    findings: Sequence[str] = ()


def main(options: CommandOptions) -> None:
    """Check and print. Raises the first kind of TopkinError that is wrong, with the messages of all."""
    as_of, settings = options.date(), options.settings()
    logs.silence()
    inputs, joins, findings = check(settings, as_of)
    if options.json:
        value = {"ok": not findings, "as_of": as_of.isoformat(), "inputs": [asdict(i) for i in inputs]}
        print(json.dumps({**value, "joins": [{**j.join.to_json(), "lines": j.lines(settings)} for j in joins]}))
    else:
        _print(inputs, [line for j in joins for line in j.lines(settings)], as_of, settings.run.output)
    if findings:
        raise type(findings[0])("\n".join(str(f) for f in findings))
    if not options.json:
        print("all is well: topkin run does the work")


def _output_findings(output: str) -> list[TopkinError]:
    """What is in the way of the output folder on a local disk; nothing is made there."""
    if "://" in output:
        return []
    there = Path(output).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return []
    why = "cannot be written" if there.is_dir() else "is not a folder"
    return [ConfigError(f"run.output must be a folder that can be written, got {output}: {there} {why}")]


def check(settings: Settings, as_of: datetime) -> tuple[list[CheckedInput], list[MeasuredJoin], list[TopkinError]]:
    """What each input holds, how they meet where they can be read, and all that is wrong."""
    from topkin.pipelines.prepare import check_inputs
    from topkin.pipelines.recommend import reads

    inputs = [_look(source) for source in sources(settings).values()]
    findings = [*check_inputs(settings, as_of), *_output_findings(settings.run.output)]
    try:
        reads(settings)
    except TopkinError as e:
        findings.append(e)
    joins: list[MeasuredJoin] = []
    try:
        inspections = {s.name: inspect(s, input_files(s.path)) for s in sources(settings).values()}
        if not any(inspection.findings for inspection in inspections.values()):
            joins = input_joins(inspections, input_files)
        if not findings:
            lists = read_item_lists(settings.recommend, inspections["purchases"].types["item_id"])
            of_lists = list_joins(lists, inspections, input_files)
            joins += of_lists
            findings += [fault for joined in of_lists if (fault := joined.fault) is not None]
    except TopkinError as e:
        findings.append(e)
    return inputs, joins, findings


def _look(source: InputSource) -> CheckedInput:
    files = input_files(source.path)
    inspection = inspect(source, files)
    findings = [str(f) for f in inspection.findings]
    if not inspection.files:
        return CheckedInput(name=source.name, path=source.path, findings=findings)
    types = {f.name: str(f.type) for f in inspection.schema}
    time = source.column("timestamp")
    if time in types and time not in dict(source.rules.normalise):
        types[time] = ", ".join(t for t in (types[time], zone_note(inspection.schema.field(time).type)) if t)
    rows = None if findings else sample(inspection, files)
    looked_at, shares, nulls = _shares(source, rows)
    expressions = [CheckedExpression(column, e.text, None) for column, e in source.rules.normalise]
    expressions += [
        CheckedExpression(reason, e.text, share) for (reason, e), share in zip(source.rules.rules, shares, strict=True)
    ]
    made = {c for c, _ in source.rules.normalise}
    columns = [
        CheckedColumn(role, c, types.get(c, "made by normalise" if c in made else "missing"), nulls.get(c))
        for role, c in source.columns.items()
    ]
    mapped = set(source.columns.values())
    columns += [CheckedColumn("", c, types.get(c, ""), None) for c in inspection.columns if c not in mapped]
    return CheckedInput(
        name=source.name,
        path=source.path,
        files=len(inspection.files),
        rows=inspection.rows,
        looked_at=looked_at,
        passed_over=inspection.passed_over,
        columns=columns,
        expressions=expressions,
        findings=findings,
    )


def _shares(source: InputSource, rows: pa.Table | None) -> tuple[int, list[float | None], dict[str, float]]:
    """How many rows were looked at, the share of them that each rule rejects first, and each column's nulls."""
    unknown: list[float | None] = [None] * len(source.rules.rules)
    if rows is None:
        return 0, unknown, {}
    try:
        rows = source.rules.normalised(rows)
        broken = source.rules.broken(rows)
    except TopkinError:
        return len(rows), unknown, {}  # check_inputs says what is wrong
    shares = np.bincount(broken[broken >= 0], minlength=len(unknown)) / len(rows)
    return len(rows), shares.tolist(), {c: rows[c].null_count / len(rows) for c in rows.column_names}


def _print(inputs: Sequence[CheckedInput], lines: Sequence[str], as_of: datetime, output: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for seen in inputs:
        title = f"{seen.name}: {seen.files:,} file{'' if seen.files == 1 else 's'}, {seen.rows:,} rows"
        table = Table(title=Text(title, style="bold"), title_justify="left")
        for name in ("key", "column or expression", "type", f"first {seen.looked_at:,} rows"):
            table.add_column(name)
        for c in seen.columns:
            null = f"{c.null:.1%} null" if c.null else ""
            table.add_row(c.key or "(in a rule)", Text(c.column), Text(c.type), null)
        for e in seen.expressions:
            what = "normalise" if e.rejects is None else "rule"
            rejected = "" if e.rejects is None else f"{e.rejects:.1%} rejected"
            table.add_row(Text(f"{what} {e.name}"), Text(e.expression), "SQL", rejected)
        console.print(table)
        if seen.passed_over:
            console.print(f"{seen.name}: {seen.passed_over}", highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"as of {as_of.isoformat(sep=' ')}, into {output}", highlight=False, markup=False, soft_wrap=True)
