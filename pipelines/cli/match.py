"""``topkin match``: which known item each row of a table is."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from topkin.config.items_run import ItemsRunSettings
from topkin.errors import ConfigError
from topkin.pipelines.cli import logs, progress
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.read.runs import shown_run
from topkin.pipelines.items.match import match


def main(
    options: CommandOptions,
    queries: str,
    output: Path,
    *,
    query_id: str | None,
    threshold: float | None,
    run_id: str | None,
) -> None:
    """Match and print. Raises ConfigError for a configuration that is not of items alone."""
    settings = options.run_settings()
    if not isinstance(settings, ItemsRunSettings):
        raise ConfigError(
            f"{options.config} must be of items alone, it has [purchases]: topkin match asks the index of a run over "
            "[items] and [encoder]"
        )
    beam = options.beam_flags()
    logs.silence()
    run = shown_run(settings.run.output, run_id)
    with progress.shown(quiet=options.quiet or options.json) as tell:
        folder = str(output) if "://" in str(output) else os.path.abspath(output)
        matched = match(
            settings,
            run,
            queries,
            folder,
            query_id=query_id,
            threshold=threshold,
            force=options.force,
            beam=beam,
            tell=tell,
        )
    if options.json:
        print(json.dumps(asdict(matched)))
        return
    print(f"run {matched.run_id}, a match from a cosine of {matched.threshold:.4f}")
    print(f"  {'matches':<10} {matched.folder}/matches   {matched.matched:,} of {matched.queries:,} are a known item")
    if matched.zero:
        print(f"  {'':<10} {matched.zero:>7,}  have a zero vector, which is near to nothing")
    if matched.rejects:
        print(f"  {'rejects':<10} {matched.folder}/rejects   {matched.read - matched.queries:,} rows")
        for reason, rows in matched.rejects.items():
            print(f"  {'':<10} {rows:>7,}  {reason}")
