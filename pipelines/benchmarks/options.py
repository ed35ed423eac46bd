"""The options of ``topkin benchmark``; ``app`` registers it with its own commands."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from topkin.pipelines.cli.commands import CommandOptions


def register(command: Callable[..., Callable[[Callable[..., None]], None]]) -> None:
    """Register it. command: as ``app.command``."""

    @command(
        "topkin benchmark gowalla --data gowalla --preset standard", "config", "sets", "json", "quiet", "log_format"
    )
    def benchmark(
        *,
        name: Annotated[
            str,
            typer.Argument(
                metavar="NAME",
                help="sequence: each user's last position is held out; retail: purchases with times, at a date; any "
                "other name is that of split files.",
            ),
        ] = "gowalla",
        data: Annotated[
            str | None,
            typer.Option(
                "--data",
                metavar="FOLDER",
                help="A split: the folder of train.parquet and test.parquet. sequence: that of purchases.parquet, or a "
                "configuration by --config.",
            ),
        ] = None,
        preset: Annotated[
            str | None, typer.Option("--preset", metavar="NAME", help="The sizes: small, standard or large.")
        ] = None,
        seed: Annotated[int, typer.Option(min=0, help="Seed of everything drawn at random.")] = 0,
        keep_bought: Annotated[
            bool, typer.Option("--keep-bought", help="Rank what a user bought before, too; it is left out otherwise.")
        ] = False,
        index: Annotated[
            bool, typer.Option("--index", help="A split of pairs: measure the NMSLIB index too, over all users.")
        ] = False,
        cut: Annotated[
            str | None,
            typer.Option("--cut", metavar="DATE", help="retail: purchases before it are known, later ones judge."),
        ] = None,
        options: CommandOptions,
    ) -> None:
        """Make an encoder and judge it as published models are, beside all baselines, with time and memory."""
        from topkin.pipelines.benchmarks.command import main

        sets = [f"run.seed={seed}", *([f'train.preset="{preset}"'] if preset else []), *(options.sets or [])]
        main(name, replace(options, sets=sets, as_of=cut), data, index=index, keep_bought=keep_bought)
