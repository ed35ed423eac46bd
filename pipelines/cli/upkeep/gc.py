"""``topkin gc``: delete what is not needed any more."""

import json
from dataclasses import asdict

from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.engine.stages import alone
from topkin.pipelines.upkeep.collect import Collected, collect
from topkin.planning.estimate import size


def main(options: CommandOptions, *, dry: bool) -> None:
    """Collect, or tell what would be collected, and print it."""
    logs.silence()
    settings = options.run_settings()
    with alone(settings, "topkin gc"):
        done = collect(settings.run.output, settings.run.keep, dry=dry)
    show(done, as_json=options.json, dry=dry)


def show(done: Collected, *, as_json: bool, dry: bool = False) -> None:
    """Print what was deleted, or would be."""
    if as_json:
        print(json.dumps({**asdict(done), "dry_run": dry}))
        return
    for name in (*done.runs, *done.folders):
        print(name)
    what = "would be deleted" if dry else "deleted"
    print(f"{what}: {len(done.runs):,} runs, {len(done.folders):,} folders, {size(done.bytes)}")
