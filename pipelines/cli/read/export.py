"""``topkin export``: a run's tables in a database, a vector store, a lake or plain files."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.terminal import completion

TARGET = (
    "csv:FOLDER, jsonl:FOLDER, sqlite:FILE, postgresql://HOST/DATABASE, redis://HOST/0 (rediss:// by TLS), "
    "qdrant://HOST:6333, delta:FOLDER or iceberg:FOLDER."
)


def export(
    *,
    target: Annotated[str, typer.Argument(metavar="TARGET", help=TARGET)],
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", metavar="NAME", help="A table, such as item_embeddings; may be repeated. Default: all lists."
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            metavar="ID",
            help="Another run than the published one, or its folder.",
            autocompletion=completion.live_or_run,
        ),
    ] = None,
    options: CommandOptions,
) -> None:
    """Write the tables of the published run where services read them: each whole, and once for each version."""
    from topkin.exports import sink
    from topkin.exports.tables import chosen
    from topkin.pipelines.cli.read.runs import run_of
    from topkin.telemetry.secrets import masked

    logs.silence()
    version = run_of(options, run or "live")
    done = []
    for one in sink.export(chosen(version, table or ()), target, wait=options.wait or 0.0):
        done.append(one)
        if not (options.json or options.quiet):
            rows = "is there already" if one.rows is None else f"{one.rows:,} rows"
            print(f"  {one.table:<20} {rows:>16}   {one.version}")
    if options.json:
        print(json.dumps({"run_id": version.run_id, "target": masked(target), "tables": [asdict(one) for one in done]}))
