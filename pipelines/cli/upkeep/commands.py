"""The options of the commands that keep the runs in order; ``app`` registers them with its own."""

from collections.abc import Callable
from typing import Annotated

import typer

from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.terminal.completion import run_words


def register(command: Callable[..., Callable[[Callable[..., None]], None]]) -> None:
    """Register them. command: as ``app.command``."""

    @command("topkin runs diff 2011-11-08 live", "config", "sets", "json", "wait", name="runs")
    def runs_(
        *,
        words: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[list | diff A B | verify [RUN …] | delete RUN … | pin RUN … | unpin RUN …]",
                help="list, the default: all runs, why they are there, their sizes and figures. diff: rows, users and "
                "items of two runs, and whose lists changed how. verify: every file of a run by its hash, of the live "
                "one by default. delete: runs, but for stages that others use. pin: keep runs until unpin. A run is "
                "named by the beginning of its name, or as live.",
                autocompletion=run_words,
            ),
        ] = None,
        html: Annotated[
            str | None, typer.Option("--html", metavar="FILE", help="diff: write it as a page, too.")
        ] = None,
        options: CommandOptions,
    ) -> None:
        """List the runs of the output folder, compare, verify, pin or delete them."""
        from topkin.pipelines.cli.upkeep.runs import main

        main(options, words or (), html)

    @command("topkin gc --dry-run", "config", "sets", "json", "wait")
    def gc(
        *,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be deleted. Do nothing.")] = False,
        options: CommandOptions,
    ) -> None:
        """Delete runs that are not live, pinned or one of the last run.keep published, and what dead processes left."""
        from topkin.pipelines.cli.upkeep.gc import main

        main(options, dry=dry_run)

    @command("topkin forget --users gone.txt", "config", "sets", "json", "quiet", "wait")
    def forget(
        *,
        users: Annotated[
            str,
            typer.Option(
                "--users",
                metavar="FILE",
                help="The users: a text with an id on each line, or Parquet with a column user_id.",
            ),
        ],
        options: CommandOptions,
    ) -> None:
        """Publish the live version anew without some users, delete every other run, and never take them in again."""
        from topkin.pipelines.cli.upkeep.forget import main

        main(options, users)
