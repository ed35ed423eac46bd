"""``topkin check``: the configuration and the inputs looked at, nothing done."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.config.items_run import ItemsRunSettings
from topkin.config.sections import RecommendSettings, Settings
from topkin.config.shop.lists import in_words_of, of_list
from topkin.errors import ConfigError, InputError, TopkinError
from topkin.ingest.contract import Inspection
from topkin.ingest.joins.read import MeasuredJoin, list_joins
from topkin.ingest.judging.inputs import look_at_inputs, rejects_over_limits
from topkin.ingest.judging.judged import Judged
from topkin.ingest.judging.limits import cure_of_times, percent
from topkin.ingest.judging.listable import RULES, nothing_listable
from topkin.ingest.timestamps import zone_note
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.engine.job import input_files
from topkin.recommend.rules.eligibility import read_item_lists
from topkin.recommend.rules.shop import check_columns

if TYPE_CHECKING:
    from topkin.pipelines.cli.terminal.tables import Sheet


NO_ROWS = "no rows, which is no fault of events: none of this type"


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
    kind: str


@dataclass(frozen=True)
class CheckedReason:
    """A reason for which rows of the sample are rejected: how many, their share, a rejected value in words, the cure.

    The cure is that of texts that should be times; empty for others.
    """

    reason: str
    rows: int
    share: float
    example: str
    cure: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckedInput:
    """What one input holds, as its footers and a sample of the rows of all files show it."""

    name: str
    path: str
    files: int = 0
    rows: int = 0
    unnested: int = 0
    looked_at: int = 0
    passed_over: str = ""
    notes: Sequence[str] = ()
    columns: Sequence[CheckedColumn] = ()
    expressions: Sequence[CheckedExpression] = ()
    rejects: Sequence[CheckedReason] = ()
    findings: Sequence[str] = ()


def main(options: CommandOptions) -> None:
    """Check and print. Raises the first kind of TopkinError that is wrong, with the messages of all."""
    as_of, settings = options.date(), options.run_settings()
    logs.silence()
    joined: list[dict[str, Any]] = []
    lines: list[str] = []
    if isinstance(settings, ItemsRunSettings):
        inputs, findings = check_items(settings)
    else:
        inputs, joins, findings = check(settings, as_of)
        joined = [{**j.join.to_json(), "lines": j.lines(settings)} for j in joins]
        lines = [line for j in joins for line in j.lines(settings)]
    if options.json:
        value = {"ok": not findings, "as_of": as_of.isoformat(), "inputs": [asdict(i) for i in inputs]}
        print(json.dumps({**value, "joins": joined}))
    else:
        _print(inputs, lines, as_of, settings.run.output)
    if findings:
        raise type(findings[0])("\n".join(str(f) for f in findings))
    if not options.json:
        print(f"all is well: {options.command('run')} does the work")


def _output_findings(output: str) -> list[TopkinError]:
    """What is in the way of the output folder, as far as it can be told without a write."""
    if "://" in output:
        try:
            storage.folders(output)
        except OSError as e:
            return [ConfigError(f"run.output must be a folder that can be written, got {output}: {e}")]
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
    from topkin.pipelines.recommend import reads

    clock = datetime.now(UTC).replace(tzinfo=None)
    with storage.remembering():
        look = look_at_inputs(settings, as_of, clock, input_files)
    findings = [*look.findings, *rejects_over_limits(settings, look, clock), *_output_findings(settings.run.output)]
    inputs = [_shown(inspection, look.judged.get(name)) for name, inspection in look.inspections.items()]
    of_lists: list[MeasuredJoin] = []
    unlisted: list[TopkinError] = []
    with_rows = {name: inspection for name, inspection in look.inspections.items() if inspection.rows}
    try:
        reads(settings)
        for name in settings.list_names:
            own = settings.of_list(name).recommend
            with in_words_of(name):
                if look.plan is None:
                    continue
                check_columns(own, look.plan.item_features, look.plan.user_features)
                if not findings:
                    lists = read_item_lists(own, look.plan.item_type)
                    if not name or any(_own(settings, own, key) for key in RULES):
                        fault = nothing_listable(own, lists, with_rows, look.plan, input_files)
                        unlisted += [InputError(of_list(name, str(fault)))] if fault else []
                    if name:  # what a list has of [recommend] was looked at
                        own_keys = [
                            key for key in lists if _own(settings, own, key) or _own(settings, own, f"{key}_column")
                        ]
                        lists = {key: lists[key] for key in own_keys}
                    joins = list_joins(lists, look.inspections, input_files)
                    of_lists += [joined._replace(of=name) for joined in joins]
        unmet = [fault for joined in of_lists if (fault := joined.fault) is not None]
        findings += unmet or unlisted
    except TopkinError as e:
        findings.append(e)
    return inputs, [*look.joins, *of_lists], findings


def _own(settings: Settings, own: RecommendSettings, key: str) -> bool:
    """Whether a list of ``[lists]`` has a value of its own for a key."""
    return bool(getattr(own, key) != getattr(settings.recommend, key))


def check_items(settings: ItemsRunSettings) -> tuple[list[CheckedInput], list[TopkinError]]:
    """What each input of a run over items alone holds, and all that is wrong."""
    from topkin.ingest.judging.items import rejected_items_over_limits
    from topkin.ingest.judging.sample import ROWS
    from topkin.pipelines.items.prepare import learnable, look_at

    look = look_at(settings, ROWS)
    faults = rejected_items_over_limits(settings, look)
    untrainable, labels = ([], []) if look.findings else learnable(settings, look)
    inputs = [_shown(inspection, look.judged.get(name)) for name, inspection in look.inspections.items()]
    inputs = [replace(i, notes=[*i.notes, *labels]) if i.name == "items" else i for i in inputs]
    return inputs, [*look.findings, *faults, *untrainable, *_output_findings(settings.run.output)]


def _shown(inspection: Inspection, result: Judged | None) -> CheckedInput:
    source, types = inspection.source, {f.name: f.type for f in inspection.schema}
    normalised = {column for column, _ in source.rules.normalise}
    nulls = result.nulls if result else {}
    columns, time = [], source.column("timestamp")
    is_own = time in types and time not in normalised
    note = zone_note(types[time]) if time is not None and is_own else ""
    for role, c in source.columns.items():
        t = str(types[c]) if c in types else ("made by normalise" if c in normalised else "missing")
        columns.append(CheckedColumn(role, c, t, nulls.get(c)))
    mapped = {*source.columns.values()}
    columns += [CheckedColumn("", c, str(types.get(c, "")), None) for c in inspection.columns if c not in mapped]
    expressions = [CheckedExpression(column, e.text, None, "normalise") for column, e in source.rules.normalise]
    reasons = []
    if result:
        examples = result.examples
        reasons = [
            CheckedReason(r, n, n / result.rows, examples[r], cure_of_times(source, r, examples))
            for r, n in result.rejected.items()
        ]
    for reason, e in source.rules.rules:
        share = result.rejected.get(reason, 0) / result.rows if result else None
        expressions.append(CheckedExpression(reason, e.text, share, "rule"))
    return CheckedInput(
        name=source.name,
        path=source.path,
        files=len(inspection.files),
        rows=inspection.rows,
        unnested=inspection.unnested,
        looked_at=result.rows if result else 0,
        passed_over=inspection.passed_over,
        notes=[NO_ROWS] if not (inspection.rows or inspection.findings) else [f"{time}: {note}"] if note else [],
        columns=columns,
        expressions=expressions,
        rejects=reasons,
        findings=[str(f) for f in inspection.findings],
    )


def _print(inputs: Sequence[CheckedInput], lines: Sequence[str], as_of: datetime, output: str) -> None:
    from topkin.pipelines.cli.terminal.tables import screen

    console = screen()

    def write_line(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    for seen in inputs:
        console.print(_table(seen))
        for e in seen.expressions:
            rejected = f", rejects {e.rejects:.1%}" if e.rejects else ""
            write_line(f"{e.kind} {e.name}{rejected}: {e.expression}")
        for note in seen.notes:
            console.print(note, highlight=False, markup=False)
        if seen.passed_over:
            write_line(f"{seen.name}: {seen.passed_over}")
        if seen.rejects:
            total = sum(r.rows for r in seen.rejects)
            write_line(f"rejected {total:,} of {seen.looked_at:,} rows ({percent(total, seen.looked_at)}):")
        for r in seen.rejects:
            write_line(f"{r.rows:>11,}  {percent(r.rows, seen.looked_at):>8}  {r.reason}")
            write_line(f"{'':>23}{r.example}")
            if r.cure:
                write_line(f"{'':>23}{r.cure}")
        write_line("")
    for line in lines:
        console.print(line)
    write_line(f"as of {as_of.isoformat(sep=' ')}, into {output}")


def _table(seen: CheckedInput) -> "Sheet":
    from topkin.pipelines.cli.terminal.tables import Sheet

    title = f"{seen.name}: {seen.files:,} file{'' if seen.files == 1 else 's'}, {seen.rows:,} rows"
    title += f", {seen.rows + seen.unnested:,} with those that lists add" if seen.unnested else ""
    if 0 < seen.looked_at < seen.rows + seen.unnested:
        title += f", of which {seen.looked_at:,} of all files are looked at"
    table = Sheet(title, "key", "column", "type", "null" if seen.looked_at else "not looked at")
    for c in seen.columns:
        table.add(c.key or "(in a rule)", c.column, c.type, f"{c.null:.1%}" if c.null else "")
    return table
