"""The options of the commands that read a run; ``app`` registers them with its own."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.read.export import export
from topkin.pipelines.cli.serve.command import serve
from topkin.pipelines.cli.terminal.completion import run_names

OtherRun = Annotated[
    str | None,
    typer.Option("--run", metavar="ID", help="Another run than the published one.", autocompletion=run_names),
]


def register(command: Callable[..., Callable[[Callable[..., None]], None]]) -> None:
    """Register them. command: as ``app.command``."""
    options: Any = ("config", "sets", "json")

    @command("topkin show 17850", *options, ids_like_options=True)
    def show(
        *,
        words: Annotated[
            list[str], typer.Argument(metavar="ID OR WORDS", help="A user, an item, or words of a title.")
        ],
        user: Annotated[bool, typer.Option("--user", help="The id is a user's.")] = False,
        item: Annotated[bool, typer.Option("--item", help="The id is an item's.")] = False,
        run: OtherRun = None,
        options: CommandOptions,
    ) -> None:
        """Show a user's history and recommendations, or an item's neighbours."""
        from topkin.pipelines.cli.show import main

        main(options, words, user=user, item=item, run_id=run)

    @command('topkin query "SELECT item_id, count(*) FROM recommendations GROUP BY 1"', *options)
    def query(
        *,
        sql: Annotated[
            list[str],
            typer.Argument(metavar="SQL", help="One SELECT of DuckDB over the tables; SHOW TABLES lists them."),
        ],
        form: Annotated[str, typer.Option("--format", metavar="NAME", help="table, csv or json.")] = "table",
        run: OtherRun = None,
        options: CommandOptions,
    ) -> None:
        """Ask the published tables by SQL: recommendations, similar_items, catalogue, histories and the others."""
        from topkin.pipelines.cli.read.query import main

        main(options, sql, form, run)

    @command("topkin explain 17850 22423", *options, ids_like_options=True)
    def explain(
        *,
        user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.")],
        item: Annotated[str, typer.Argument(metavar="ITEM", help="The item's id.")],
        run: OtherRun = None,
        options: CommandOptions,
    ) -> None:
        """Tell why an item is in a user's list, at which rank and from which purchases, or every reason why not."""
        from topkin.pipelines.cli.read.explain import main

        main(options, user, item, run)

    command("topkin serve live --port 0", "config", "sets")(serve)
    command("topkin export sqlite:lists.db --table recommendations", *options, "quiet", "wait")(export)
