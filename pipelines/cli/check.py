"""``topkin check``: the configuration and the inputs looked at, nothing done."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from topkin.config.sections import Settings
from topkin.errors import ConfigError, TopkinError
from topkin.ingest.contract import InputSource, inspect, sample, sources
from topkin.ingest.files import opened
from topkin.pipelines.cli.asked import CommandOptions
from topkin.pipelines.engine.job import input_files
from topkin.recommend.eligibility import check_item_lists


@dataclass(frozen=True)
class Seen:
    """What was seen of one input. ``columns``: (what topkin calls it, the file's name, its type, share of null).

    ``rules``: (reason or column, expression, share of the rows looked at that it rejects, None for normalise).
    """

    name: str
    path: str
    files: int = 0
    rows: int = 0
    looked_at: int = 0
    columns: tuple[tuple[str, str, str, float | None], ...] = ()
    rules: tuple[tuple[str, str, float | None], ...] = ()
    findings: tuple[str, ...] = field(default=())


def main(asked: CommandOptions) -> None:
    """Check and tell. Raises the first kind of TopkinError found, with the messages of all."""
    from topkin.pipelines.cli import commands, logs

    as_of = commands.parse_as_of(asked.as_of)
    settings = commands.settings_of(asked)
    logs.silence()
    seen, findings = check(settings, as_of)
    if asked.json:
        print(json.dumps({"ok": not findings, "as_of": as_of.isoformat(), "inputs": [_as_value(s) for s in seen]}))
    else:
        _tell(seen, as_of, settings.run.output)
    if findings:
        raise type(findings[0])("\n".join(str(f) for f in findings))
    if not asked.json:
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


def check(settings: Settings, as_of: datetime) -> tuple[list[Seen], list[TopkinError]]:
    """What each input holds, and all that is wrong with it."""
    from topkin.pipelines.prepare import check_inputs
    from topkin.pipelines.recommend import inputs_fingerprint

    seen = [_look(source) for source in sources(settings).values()]
    findings = [*check_inputs(settings, as_of), *_output_findings(settings.run.output)]
    try:
        inputs_fingerprint(settings)
        if not findings:
            purchases = sources(settings)["purchases"]
            check_item_lists(settings.recommend, inspect(purchases, input_files(purchases.path)).types["item_id"])
    except TopkinError as e:
        findings.append(e)
    return seen, findings


def _look(source: InputSource) -> Seen:
    files = input_files(source.path)
    found = inspect(source, files)
    if not found.files:
        return Seen(source.name, source.path, findings=tuple(str(f) for f in found.findings))
    with opened(source.name, found.files[0].path, files) as file:
        types = {f.name: str(f.type) for f in file.schema_arrow}
    rules: list[tuple[str, str, float | None]] = [(c, e.text, None) for c, e in source.rules.normalise]
    rows = None if found.findings else sample(found, files)
    looked_at, shares, nulls = _asked(source, rows)
    rules += [(reason, e.text, share) for (reason, e), share in zip(source.rules.rules, shares, strict=True)]
    columns = [(role, c, types.get(c, "made by normalise"), nulls.get(c)) for role, c in source.columns.items()]
    mapped = set(source.columns.values())
    columns += [("", c, types.get(c, ""), None) for c in found.columns if c not in mapped]
    return Seen(
        source.name,
        source.path,
        len(found.files),
        found.rows,
        looked_at,
        tuple(columns),
        tuple(rules),
        tuple(str(f) for f in found.findings),
    )


def _asked(source: InputSource, rows: pa.Table | None) -> tuple[int, list[float | None], dict[str, float]]:
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


def _as_value(seen: Seen) -> dict[str, Any]:
    return {
        "name": seen.name,
        "path": seen.path,
        "files": seen.files,
        "rows": seen.rows,
        "looked_at": seen.looked_at,
        "columns": [{"key": k, "column": c, "type": t, "null": null} for k, c, t, null in seen.columns],
        "expressions": [{"name": n, "expression": e, "rejects": share} for n, e, share in seen.rules],
        "findings": list(seen.findings),
    }


def _tell(inputs: Sequence[Seen], as_of: datetime, output: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for seen in inputs:
        title = f"{seen.name}: {seen.files:,} file{'' if seen.files == 1 else 's'}, {seen.rows:,} rows"
        table = Table(title=Text(title, style="bold"), title_justify="left")
        for name in ("key", "column or expression", "type", f"first {seen.looked_at:,} rows"):
            table.add_column(name)
        for key, column, kind, null in seen.columns:
            table.add_row(key or "(in a rule)", Text(column), Text(kind), f"{null:.1%} null" if null else "")
        for name, expression, share in seen.rules:
            what = "normalise" if share is None else "rule"
            told = "" if share is None else f"{share:.1%} rejected"
            table.add_row(Text(f"{what} {name}"), Text(expression), "SQL", told)
        console.print(table)
    console.print(f"as of {as_of.isoformat(sep=' ')}, into {output}", highlight=False, markup=False, soft_wrap=True)
