"""The command ``topkin``. Nothing heavy is imported before a command runs.

Exit codes: 0 done; 1 anything not listed here; 2 usage or configuration; 3 bad input; 4 the quality gate
refused to publish; 130 interrupted.
"""

import functools
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from topkin.pipelines.cli import errors
from topkin.pipelines.cli.asked import CommandOptions

EXIT_CODES = {
    0: "done",
    1: "anything not listed here",
    2: "wrong usage or configuration",
    3: "bad input",
    4: "made, and refused by the quality gate",
    130: "interrupted",
}
_CODES = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

app = typer.Typer(
    name="topkin",
    help="Batch recommendations from purchase history: Parquet in, top-k tables and an index out.",
    epilog=f"{_CODES} Start with: topkin demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="DATE",
        help="YYYY-MM-DD, or with a time, in UTC: purchases before it are known, later ones held out. Default: today.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in --set train.epochs=3; may be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Do the work again though it is done already.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
Beam = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- BEAM_FLAGS", help="Flags for Beam, after --, as in -- --direct_num_workers=2."),
]
DEFAULT = Path("topkin.toml")


def command(example: str, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose failures are told as messages, with an example in its help."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            with errors.exit_on_error(as_json=bool(kwargs.get("json"))):
                function(*args, **kwargs)

        app.command(name, epilog=f"Example: {example}")(run)
        return function

    return register


def _asked(
    config: Path,
    sets: Sequence[str] | None,
    json: bool,
    as_of: str | None = None,
    force: bool = False,
    quiet: bool = False,
    beam: Sequence[str] | None = None,
) -> CommandOptions:
    return CommandOptions(
        config=config, as_of=as_of, sets=sets or (), force=force, json=json, quiet=quiet, beam=beam or ()
    )


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"topkin {version('topkin')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _stage(name: str, meaning: str, example: str) -> None:
    def stage(
        config: ConfigFile = DEFAULT,
        as_of: AsOf = None,
        set_: Sets = None,
        force: Force = False,
        json: Json = False,
        quiet: Quiet = False,
        beam: Beam = None,
    ) -> None:
        from topkin.pipelines.cli import commands

        commands.stage(name, _asked(config, set_, json, as_of, force, quiet, beam))

    stage.__doc__ = meaning
    command(f"topkin {name} {example}".rstrip(), name)(stage)


@command("topkin demo --output /tmp/demo")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where all of it goes.")] = Path(
        "topkin-demo"
    ),
    users: Annotated[int, typer.Option(min=2, help="Customers of the generated shop.")] = 2000,
    items: Annotated[int, typer.Option(min=2, help="Items of the generated shop.")] = 1000,
    purchases: Annotated[int, typer.Option(min=2, help="Purchases to generate.")] = 60_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated shop.")] = 42,
    set_: Sets = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    beam: Beam = None,
) -> None:
    """Generate a shop, run every job on it, and show the first user's recommendations."""
    from topkin.pipelines.cli.demo import demo as made

    asked = _asked(output / "topkin.toml", set_, json, None, force, quiet, beam)
    made(output, users=users, items=items, purchases=purchases, seed=seed, asked=asked)


@command("topkin init purchases.parquet --items items.parquet")
def init(
    purchases: Annotated[str, typer.Argument(metavar="PURCHASES", help="Your purchases: a file, a folder or a glob.")],
    items: Annotated[
        str | None, typer.Option("--items", metavar="PATH", help="Your catalogue, if there is one.")
    ] = None,
    users: Annotated[
        str | None, typer.Option("--users", metavar="PATH", help="Your users, if they have a table.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The configuration to write.")
    ] = DEFAULT,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="KEY=NAME", help="Say which column is which, as in --column user_id=cust."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a configuration that is there.")] = False,
    json: Json = False,
) -> None:
    """Look at your Parquet and write a commented configuration for it."""
    from topkin.pipelines.cli import init as looked

    looked.main(purchases, items=items, users=users, output=output, columns=column or (), force=force, as_json=json)


@command("topkin check --as-of 2011-11-09")
def check(
    config: ConfigFile = DEFAULT,
    as_of: AsOf = None,
    set_: Sets = None,
    json: Json = False,
) -> None:
    """Validate the configuration and look at the inputs; no work is done."""
    from topkin.pipelines.cli import check as checked

    checked.main(_asked(config, set_, json, as_of))


_stage("prepare", "Clean the purchases and make histories, the catalogue, vocabularies and statistics.", "")
_stage("train", "Train the encoder on the prepared purchases.", "--set train.epochs=3")
_stage("embed", "Run the encoder over all users and items.", "-- --direct_num_workers=2")
_stage("index", "Build the NMSLIB index over the item vectors and measure its recall.", "--set index.ef_search=200")
_stage("recommend", "Make every user's top-k list, by the rules.", "--set recommend.k=50")
_stage("similar", "Make the neighbours of items and of users, and what people alike bought.", "--force")
_stage("evaluate", "Measure the model and the baselines over the held-out purchases.", "--as-of 2011-11-09")


@command("topkin publish --rollback")
def publish(
    config: ConfigFile = DEFAULT,
    as_of: AsOf = None,
    set_: Sets = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="The run to publish, by its name.")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Move back to the run published before.")] = False,
    json: Json = False,
) -> None:
    """Check a finished run and move the pointer to it; or move the pointer back."""
    from topkin.pipelines.cli import commands

    commands.publish(_asked(config, set_, json, as_of), run, rollback)


@command("topkin run --as-of 2011-11-09 -- --direct_num_workers=2", name="run")
def run_(
    config: ConfigFile = DEFAULT,
    as_of: AsOf = None,
    set_: Sets = None,
    force: Force = False,
    publish: Annotated[bool, typer.Option(help="Publish the run if the gate lets it pass.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan: rows, bytes, memory, shards, time. Do nothing.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Tell what each stage and step cost; into profile.json too.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    beam: Beam = None,
) -> None:
    """Do every job that is not done yet, as of a date, and publish the result."""
    from topkin.pipelines.cli import commands
    from topkin.pipelines.cli import dry_run as planned

    asked = _asked(config, set_, json, as_of, force, quiet, beam)
    if dry_run:
        planned.main(asked)
    else:
        commands.run(asked, publish, profile)


@command("topkin backtest --cuts 2011-08-09,2011-09-09,2011-10-09,2011-11-09")
def backtest(
    config: ConfigFile = DEFAULT,
    cuts: Annotated[
        str, typer.Option("--cuts", metavar="DATES", help="Dates with commas between, or how many of them.")
    ] = "4",
    every: Annotated[
        str | None, typer.Option("--every", metavar="SPAN", help="From one of them to the next. Default: 28d.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="End of the last period. Default: the last purchase.")
    ] = None,
    set_: Sets = None,
    json: Json = False,
    quiet: Quiet = False,
    beam: Beam = None,
) -> None:
    """Measure the model and the baselines at several dates, each blind to what came after it."""
    from topkin.pipelines import backtest as job

    job.main(_asked(config, set_, json, as_of, False, quiet, beam), cuts, every)


@command("topkin tune --trials 20 --as-of 2011-11-09")
def tune(
    config: ConfigFile = DEFAULT,
    as_of: AsOf = None,
    trials: Annotated[
        int, typer.Option("--trials", help="How many settings are tried, the configured ones first.")
    ] = 12,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="KEY", help="Search this key of [train] only; may be repeated.")
    ] = None,
    set_: Sets = None,
    json: Json = False,
    quiet: Quiet = False,
    beam: Beam = None,
) -> None:
    """Search the settings of [train] on the validation periods alone; goes on where it stopped."""
    from topkin.pipelines import tune as job

    job.main(_asked(config, set_, json, as_of, False, quiet, beam), trials, key or ())


@command("topkin benchmark gowalla --data gowalla --preset standard")
def benchmark(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="gowalla: split files; retail: purchases with times.")
    ] = "gowalla",
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FOLDER", help="gowalla: the folder of train.parquet and test.parquet."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="The sizes: small, standard or large.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything drawn at random.")] = 0,
    index: Annotated[
        bool, typer.Option("--index", help="gowalla: measure the NMSLIB index too, over all users.")
    ] = False,
    config: ConfigFile = DEFAULT,
    cut: Annotated[
        str | None,
        typer.Option("--cut", metavar="DATE", help="retail: purchases before it are known, later ones judge."),
    ] = None,
    set_: Sets = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an encoder by a preset and judge it as published models are, with time and memory."""
    from topkin.pipelines import benchmark as job

    sets = [f"run.seed={seed}", *([f'train.preset="{preset}"'] if preset else []), *(set_ or [])]
    job.main(name, _asked(config, sets, json, cut, quiet=quiet), data, index=index)


@command("topkin show 17850")
def show(
    words: Annotated[list[str], typer.Argument(metavar="ID OR WORDS", help="A user, an item, or words of a title.")],
    config: ConfigFile = DEFAULT,
    set_: Sets = None,
    user: Annotated[bool, typer.Option("--user", help="The id is a user's.")] = False,
    item: Annotated[bool, typer.Option("--item", help="The id is an item's.")] = False,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Another run than the published one.")] = None,
    json: Json = False,
) -> None:
    """Show a user's history and recommendations, or an item's neighbours."""
    from topkin.pipelines.cli import show as shown

    shown.main(_asked(config, set_, json), words, user=user, item=item, run_id=run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character shows its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        typer.main.get_command(app)(list(sys.argv[1:] if argv is None else argv), prog_name="topkin")
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else (0 if e.code is None else 2)
    return 0
