"""The command ``topkin``. Nothing heavy is imported before a command runs.

Exit codes: 0 done; 1 anything not listed here; 2 usage or configuration; 3 bad input; 4 a quality gate
refused to publish; 5 another process is at work; 6 a disk, memory, time or a worker ran out; 130 interrupted; 143
ended by SIGTERM.
"""

import functools
import inspect
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from topkin.ending import shortage, signals
from topkin.errors import ConfigError
from topkin.pipelines.benchmarks.options import register as register_benchmark
from topkin.pipelines.cli import commands, errors
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.read import commands as read
from topkin.pipelines.cli.read.commands import OtherRun
from topkin.pipelines.cli.terminal import completion
from topkin.pipelines.cli.terminal.completion import run_names
from topkin.pipelines.cli.upkeep import commands as upkeep
from topkin.pipelines.engine.registry import COMMANDS
from topkin.telemetry.arrow import arrow_without_pandas
from topkin.telemetry.secrets import masked_screen

EXIT_CODES = {
    0: "done",
    1: "anything not listed here",
    2: "wrong usage or configuration",
    3: "bad input",
    4: "made, and refused by a quality gate",
    5: "another process is at work in the output folder",
    6: "a disk, the memory, the time or a worker ran out",
    130: "interrupted",
    143: "ended by SIGTERM",
}
_CODES = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

app = typer.Typer(
    name="topkin",
    help="Batch recommendations from purchase history: Parquet in, top-k tables and an index out.",
    epilog=f"{_CODES} Start with: topkin demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # which would take [train] for a style
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Anyway = Annotated[
    str | None,
    typer.Option("--publish-anyway", metavar="REASON", help="Publish though gates refuse it; the reason is kept."),
]

SHARED = inspect.signature(CommandOptions).parameters  # options of several commands
Older = Annotated[
    bool,
    typer.Option("--older", help="Publish the run though the live version is of a later date, as it never is else."),
]


class AnswersInWords(TyperCommand):
    """A command that answers an option's value of a wrong kind with the rule, what came and what the option means."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's, but that such a value raises ConfigError."""
        words = args[: args.index("--")] if "--" in args else list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as e:
            option = getattr(e, "param", None) if type(e).__name__ == "BadParameter" else None
            if answer := self._answer(option, words):
                raise ConfigError(answer) from e
            raise

    def _answer(self, option: Any, words: Sequence[str]) -> str:
        """The sentence, or the empty string for what click says well enough."""
        if option is None:
            return ""
        assert self.callback is not None, "every command has a function"
        kind, info = get_args(inspect.signature(self.callback).parameters[option.name].annotation)[:2]
        kinds = tuple(one for one in get_args(kind) or (kind,) if one is not type(None))
        numbers = float in kinds or int in kinds
        if not numbers and not all(isinstance(one, str) for one in kinds):
            return ""
        takes = "a number" if float in kinds else "a whole number" if int in kinds else f"one of {', '.join(kinds)}"
        takes += "" if info.min is None else f" of at least {info.min}"
        takes += "" if info.max is None else f"{' and' if info.min is not None else ''} of at most {info.max}"
        pairs = [(word, after) for word, after in zip(words, [*words[1:], ""], strict=True) if word in option.opts]
        pairs += [(o, word.removeprefix(f"{o}=")) for word in words for o in option.opts if word.startswith(f"{o}=")]
        if not pairs:
            return ""
        name, came = pairs[-1]
        return f"{name} takes {takes}, got {came!r}; it means: {info.help.rstrip('.')}"


class TakesFlags(AnswersInWords):
    """A command whose flags for Beam stand behind ``--``: who forgets it is told."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As click's, with a hint at ``--`` for an option that there is not."""
        try:
            return super().parse_args(ctx, args)
        except Exception as e:
            if type(e).__name__ == "NoSuchOption" and not e.possibilities:  # type: ignore[attr-defined]
                e.message += f"; flags for Beam go after --, as in -- {e.option_name}=…"  # type: ignore[attr-defined]
            raise


def command(
    example: str, *shared: str, name: str | None = None, ids_like_options: bool = False
) -> Callable[[Callable[..., None]], None]:
    """Register a command whose failures are printed as messages, with an example in its help.

    Args:
        example: For the help.
        shared: The fields of ``CommandOptions`` that it takes, which the function gets together, as its ``options``.
        name: By default the function's.
        ids_like_options: Whether a word such as -5 is an argument where no option has its name.
    """

    def register(function: Callable[..., None]) -> None:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            as_json = bool(values.get("json")) or values.get("log_format") == "json"
            if shared:
                values["options"] = CommandOptions(**{key: values.pop(key) for key in shared})
            arrow_without_pandas()
            with errors.exit_on_error(as_json=as_json):
                shortage.check_addresses()  # before what ends by a signal, or waits for ever, is imported
                function(**values)

        own = [p for p in inspect.signature(function).parameters.values() if p.name != "options"]
        own += [SHARED[key].replace(kind=inspect.Parameter.KEYWORD_ONLY) for key in shared]
        run.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in own}
        context = {"ignore_unknown_options": True} if ids_like_options else None
        short = " ".join((function.__doc__ or "").split())  # in the list of commands, where typer would cut it
        app.command(
            name,
            cls=TakesFlags if "beam" in shared else AnswersInWords,
            short_help=short,
            epilog=f"Example: {example}",
            context_settings=context,
        )(run)

    return register


def _version(wanted: bool) -> None:
    if wanted:
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
    def stage(options: CommandOptions) -> None:
        commands.stage(name, options)

    stage.__doc__ = meaning
    command(f"topkin {name} {example}".rstrip(), *SHARED, name=name)(stage)


@command("topkin demo --output /tmp/demo", "sets", "force", "json", "quiet", "log_format", "beam")
def demo(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where all of it goes.")] = Path(
        "topkin-demo"
    ),
    users: Annotated[int, typer.Option(min=2, help="Customers of the generated shop.")] = 2000,
    items: Annotated[int, typer.Option(min=2, help="Items of the generated shop.")] = 1000,
    purchases: Annotated[int, typer.Option(min=2, help="Purchases to generate.")] = 60_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated shop.")] = 42,
    options: CommandOptions,
) -> None:
    """Generate a shop, run every job on it, and show the first user's recommendations."""
    from topkin.pipelines.cli.demo import demo

    demo(output, users=users, items=items, purchases=purchases, seed=seed, options=options)


@command("topkin init purchases.parquet --items items.parquet", "json")
def init(
    *,
    purchases: Annotated[
        str | None,
        typer.Argument(
            metavar="[PURCHASES]",
            help="Your purchases: a file, a folder or a glob. Without them items and users need a column of vectors.",
        ),
    ] = None,
    items: Annotated[
        str | None, typer.Option("--items", metavar="PATH", help="Your catalogue, if there is one.")
    ] = None,
    users: Annotated[
        str | None, typer.Option("--users", metavar="PATH", help="Your users, if they have a table.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The configuration to write.")] = Path(
        "topkin.toml"
    ),
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="KEY=NAME", help="Say which column is which, as in --column user_id=cust."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a configuration that is there.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Tell each column passed over, and write each key with its default.")
    ] = False,
    options: CommandOptions,
) -> None:
    """Look at your Parquet and write a commented configuration for it."""
    from topkin.pipelines.cli.init import main

    main(
        purchases,
        items=items,
        users=users,
        output=output,
        columns=column or (),
        force=force,
        everything=everything,
        as_json=options.json,
    )


@command("topkin check --as-of 2011-11-09", "config", "as_of", "sets", "json")
def check(options: CommandOptions) -> None:
    """Validate the configuration and look at the inputs; no work is done."""
    from topkin.pipelines.cli.check import main

    main(options)


@command("topkin doctor -- --runner=PrismRunner", "config", "sets", "json", "quiet", "log_format", "beam")
def doctor(options: CommandOptions) -> None:
    """Run a job of one element on a runner, and compare what its worker has and sees with what is here."""
    from topkin.pipelines.doctor import main

    main(options)


@command("topkin embed --encoder my_model.keras --items items.parquet --id sku --input image=photo", *SHARED)
def embed(
    *,
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="PATH", help="A .keras file, or a folder of save_encoder.")
    ] = None,
    items: Annotated[
        str | None,
        typer.Option("--items", metavar="PATH", help="Their table: a file, a folder or a glob."),
    ] = None,
    item_id: Annotated[str | None, typer.Option("--id", metavar="COLUMN", help="Column with the items' ids.")] = None,
    users: Annotated[
        str | None,
        typer.Option("--users", metavar="PATH", help="A table of users, for the encoder's model of users."),
    ] = None,
    user_id: Annotated[
        str | None, typer.Option("--user-id", metavar="COLUMN", help="Column with the users' ids.")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=COLUMN",
            help="Column, or SQL over the row, that feeds an input of the model; may be repeated. An input not named "
            "takes the column of its name. Of the model of users with --users alone, else of that of items.",
        ),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="NAME=KIND", help="What the column is, such as image; inferred without it."),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="NAME=HxW", help="Height and width of images, as in image=64x64."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the vectors of a trained model go. Default: topkin-vectors.",
        ),
    ] = None,
    options: CommandOptions,
) -> None:
    """The stage of a run; or, with any option of its own, a trained Keras model over a table, without a run."""
    from topkin.pipelines.cli.embed import main

    main(
        options,
        output,
        encoder=encoder,
        items=items,
        item_id=item_id,
        users=users,
        user_id=user_id,
        inputs=inputs or (),
        kinds=kinds or (),
        sizes=sizes or (),
    )


for _name, _command in COMMANDS.items():
    if _name != "embed":
        _stage(_name, _command.meaning, _command.example)


@command("topkin publish --rollback", "config", "as_of", "sets", "json", "wait")
def publish(
    *,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="ID", help="The run to publish, by its name.", autocompletion=run_names),
    ] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Move back to the run published before.")] = False,
    publish_anyway: Anyway = None,
    older: Older = False,
    options: CommandOptions,
) -> None:
    """Check a finished run and move the pointer to it; or move the pointer back."""
    commands.publish(options, run, rollback, publish_anyway, older)


@command("topkin run --as-of 2011-11-09 -- --direct_num_workers=2", *SHARED, name="run")
def run_(
    *,
    publish: Annotated[bool, typer.Option(help="Publish the run if the gates let it pass.")] = True,
    publish_anyway: Anyway = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan: rows, bytes, memory, shards, time. Do nothing.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Tell what each stage and step cost; into profile.json too.")
    ] = False,
    older: Older = False,
    options: CommandOptions,
) -> None:
    """Do every job that is not done yet, as of a date, and publish the result."""
    if dry_run:
        from topkin.pipelines.cli.dry_run import main

        main(options)
    else:
        commands.run(options, publish, profile, publish_anyway, older)


@command(
    "topkin backtest --cuts 2011-08-09,2011-09-09,2011-10-09,2011-11-09",
    *("config", "sets", "json", "quiet", "log_format", "wait", "beam"),
)
def backtest(
    *,
    cuts: Annotated[
        str, typer.Option("--cuts", metavar="DATES", help="Dates with commas between, or how many of them.")
    ] = "4",
    every: Annotated[
        str | None, typer.Option("--every", metavar="SPAN", help="From one of them to the next. Default: 28d.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="End of the last period. Default: the last purchase.")
    ] = None,
    options: CommandOptions,
) -> None:
    """Measure the model and the baselines at several dates, each blind to what came after it."""
    from topkin.pipelines.backtest import main

    main(replace(options, as_of=as_of), cuts, every)


@command(
    "topkin tune --trials 20 --as-of 2011-11-09",
    "config",
    "as_of",
    "sets",
    "json",
    "quiet",
    "log_format",
    "wait",
    "beam",
)
def tune(
    *,
    trials: Annotated[
        int, typer.Option("--trials", help="How many settings are tried, the configured ones first.")
    ] = 12,
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="KEY", help="Search this key of [train] only; may be repeated.")
    ] = None,
    options: CommandOptions,
) -> None:
    """Search the settings of [train] on the validation periods alone; goes on where it stopped."""
    from topkin.pipelines.tune import main

    main(options, trials, key or ())


register_benchmark(command)


@command("topkin match new_items.parquet --id sku -o matches", "config", "sets", "force", "json", "quiet", "beam")
def match(
    *,
    queries: Annotated[str, typer.Argument(metavar="QUERIES", help="The new rows: a file, a folder or a glob.")],
    query_id: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="Column with their ids. Default: the items'.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=-1, max=1, help="The least cosine of a match. Default: as evaluate found it."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the matches go.")] = Path(
        "topkin-matches"
    ),
    run: OtherRun = None,
    options: CommandOptions,
) -> None:
    """Tell which known item each row of a table is, or that it is none, by a run over items alone."""
    from topkin.pipelines.cli.match import main

    main(options, queries, output, query_id=query_id, threshold=threshold, run_id=run)


upkeep.register(command)
read.register(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character shows its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if argv is not None:
        return _call(argv)
    with signals.by_signals():  # this process is ours alone
        code = _call(sys.argv[1:])
        if signals.asked():  # threads of libraries may go on for ever
            signals.leave("", code)
    signals.end_of_command(code)
    return code


def _call(argv: Sequence[str]) -> int:
    with masked_screen():
        return _run(argv)


def _is_text(word: str) -> bool:
    """Whether a word of the command line is text; bytes that are none come as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in word)


def _run(argv: Sequence[str]) -> int:
    if wrong := next((word for word in argv if not _is_text(word)), None):
        print(
            f"topkin: {os.fsencode(wrong)!r} must be text in UTF-8: set the terminal, or what wrote it, to UTF-8",
            file=sys.stderr,
        )
        return ConfigError.exit_code
    try:
        with errors.exit_on_error(as_json="--json" in argv):
            completion.answering(typer.main.get_command(app))(list(argv), prog_name="topkin")
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else (0 if e.code is None else 2)
    return 0
