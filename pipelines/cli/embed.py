"""``topkin embed``: the stage of a run, or a trained Keras model over a table of items or of users."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from topkin.artifacts import storage
from topkin.artifacts.embeddings import REJECTS
from topkin.config.encoder_run import EncoderRunSettings
from topkin.config.reference import as_toml
from topkin.errors import ConfigError
from topkin.pipelines.cli import commands, logs, progress
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.encode.table import TableVectors, embed_table, pace

OUTPUT = "topkin-vectors"
Flag = tuple[str, tuple[str, ...], str]


def main(
    options: CommandOptions,
    output: Path | None,
    *,
    encoder: str | None,
    items: str | None,
    item_id: str | None,
    users: str | None,
    user_id: str | None,
    inputs: Sequence[str],
    kinds: Sequence[str],
    sizes: Sequence[str],
) -> None:
    """Run the model that the flags and the configuration name over a table; without a flag, the stage of a run."""
    named = [side for side, table in (("items", items), ("users", users)) if table is not None]
    section = "user_inputs" if named == ["users"] else "inputs"
    flags = [*_flags(encoder, items, item_id, users, user_id), *_input_flags(section, inputs, kinds, sizes)]
    if not flags and output is None:
        commands.stage("embed", options)
        return
    settings = _settings(options, flags, alone=encoder is not None and bool(named))
    if settings is None:
        flag = flags[0][0] if flags else "--output"
        raise ConfigError(
            f"{flag} is for a trained model: name it by --encoder MODEL.keras, or by [encoder] in {options.config}"
        )
    if options.as_of is not None:
        raise ConfigError("--as-of is for the stages of a run: a trained model knows no date, leave it out")
    if options.wait is not None:
        raise ConfigError("--wait is for the stages of a run: a trained model waits for nobody, leave it out")
    beam = options.beam_flags()
    logs.silence()
    with progress.shown(quiet=options.quiet or options.json) as tell:
        folder = str(output or OUTPUT)
        folder = folder if "://" in folder else os.path.abspath(folder)
        tables = [
            embed_table(settings, folder, side=side, force=options.force, beam=beam, tell=tell)
            for side in named or settings.sides
        ]
    if options.json:
        summaries = {side.side: _json(side) for side in tables}
        print(json.dumps(summaries if len(summaries) > 1 else _json(tables[0])))
        return
    for side in tables:
        _print(side)


def _settings(options: CommandOptions, flags: Sequence[Flag], *, alone: bool) -> EncoderRunSettings | None:
    from topkin.config.load import load_encoder_run

    path = None if alone else options.config
    if path is not None and flags and not storage.exists(str(path)):
        raise ConfigError(
            f"there is no configuration {path}: give --encoder MODEL.keras, --items ITEMS.parquet and --id COLUMN, or "
            "--config FILE; of users --users and --user-id"
        )
    return load_encoder_run(path, flags, options.sets or ())


def _flags(
    encoder: str | None, items: str | None, item_id: str | None, users: str | None, user_id: str | None
) -> Iterator[Flag]:
    for flag, place, value in (
        ("--encoder", ("encoder", "path"), encoder),
        ("--items", ("items", "path"), items),
        ("--id", ("items", "item_id"), item_id),
        ("--users", ("users", "path"), users),
        ("--user-id", ("users", "user_id"), user_id),
    ):
        if value is not None:
            yield flag, place, as_toml(value)


def _input_flags(section: str, inputs: Sequence[str], kinds: Sequence[str], sizes: Sequence[str]) -> Iterator[Flag]:
    for flag, key, values in (("--input", "column", inputs), ("--kind", "kind", kinds), ("--size", "size", sizes)):
        for text in values:
            name, equals, value = (part.strip() for part in text.partition("="))
            if not (name and equals and value):
                example = {"column": "image=photo", "kind": "image=image", "size": "image=64x64"}[key]
                raise ConfigError(f"{flag} must be NAME=VALUE, as in {flag} {example}, got {text!r}")
            toml = as_toml(value)
            if key == "size":
                parts = value.lower().split("x")
                if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
                    raise ConfigError(f"--size must be NAME=HEIGHTxWIDTH, as in --size image=64x64, got {text!r}")
                toml = as_toml([int(part) for part in parts])
            yield f"{flag} {text}", ("encoder", section, name, key), toml


def _json(table: TableVectors) -> dict[str, object]:
    rate, padding = table.read / max(table.seconds, 1e-9), table.padded / max(table.worked, 1)
    return {**asdict(table), "rows_per_second": round(rate, 1), "padding": round(padding, 4)}


def _print(table: TableVectors) -> None:
    print(f"encoder {table.encoder[:12]}…, {table.dim} coordinates")
    print(f"  {'encoder':<10} {table.folder}/encoder")
    print(f"  {'vectors':<10} {table.folder}/{table.side}   {table.embedded:,} of {table.read:,} rows")
    if table.rejects:
        print(f"  {'rejects':<10} {table.folder}/{REJECTS[table.side]}   {table.read - table.embedded:,} rows")
        for reason, rows in table.rejects.items():
            print(f"  {'':<10} {rows:>7,}  {reason}")
    print(pace(table.read, table.seconds, table.padded, table.worked, table.device))
