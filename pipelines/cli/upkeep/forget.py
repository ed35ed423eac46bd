"""``topkin forget``: no byte of the output folder names some users, from now on."""

import json
import sys

import pyarrow as pa

from topkin.artifacts import lookup, runs
from topkin.pipelines.cli import logs
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.engine.stages import alone
from topkin.pipelines.upkeep.forget import forget, of_summary, read_users
from topkin.report.wording import plural


def main(options: CommandOptions, users: str) -> None:
    """Forget and print what was done."""
    logs.silence()
    settings = options.run_settings()
    root = settings.run.output
    with alone(settings, "topkin forget"):
        live = runs.published(root)
        kind = None if live is None else lookup.id_types(live)[0]
        ids = read_users(users, kind or pa.string())  # an id is known by its text, whatever its type
        quiet = options.quiet or options.json
        done = forget(root, ids, lambda line: None if quiet else print(line, file=sys.stderr))
    if options.json:
        print(json.dumps(of_summary(done)))
        return
    published = "nothing is published" if done.run is None else f"{done.run.run_id} is published"
    print(f"forgotten: {plural(done.asked, 'user')}, {done.known:,} of them known; {published}, no file names them")
    if done.in_columns:
        what = "ids are" if done.in_columns > 1 else "id is"
        print(
            f"looked for in every column of users: {done.in_columns:,} {what} short, a word, a number or an "
            "item's too, whose bytes stand in other files for another reason"
        )
    print(f"deleted: {len(done.removed):,} other runs and folders; later runs pass these users over")
