"""The command: which run, its page, and the server until Ctrl-C."""

from typing import TYPE_CHECKING, Annotated

import typer

from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.cli.terminal import completion

if TYPE_CHECKING:
    from topkin.artifacts.runs import Run

PORT = 8321


def serve(
    *,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A run by the beginning of its name, live, or the folder of a run or of runs. Default: the published "
            "one of the configuration.",
            autocompletion=completion.live_or_run,
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = PORT,
    options: CommandOptions,
) -> None:
    """Show the page of a run in a browser, on this machine alone, with every user and item to look up."""
    from topkin.pipelines.cli import logs
    from topkin.pipelines.cli.read.runs import run_of
    from topkin.pipelines.cli.serve.server import PageServer

    logs.silence()
    shown = run_of(options, run)
    page = _page(shown)
    try:
        server = PageServer(shown, page, port)
    except OSError as e:
        raise ConfigError(f"--port must be free on 127.0.0.1, {port} is not ({e.strerror}): name another, or 0") from e
    try:
        print(f"run {shown.run_id} is shown until Ctrl-C at {server.address}", flush=True)
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()


def _page(run: "Run") -> str:
    from topkin.artifacts import storage
    from topkin.pipelines.cli.serve.server import API
    from topkin.pipelines.nights.report import PAGE
    from topkin.report.browse.served import served

    path = storage.join(run.folder("report"), PAGE)
    page = served(storage.read_bytes(path).decode(), API)
    if page is None:
        raise ArtifactError(f"{path} was written by an earlier topkin: topkin report writes it anew")
    return page
