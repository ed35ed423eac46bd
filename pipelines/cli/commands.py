"""What the commands share and what those that start stages do: settings in, stages run, the result printed."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from topkin.config.as_of import parse_as_of
from topkin.errors import ConfigError
from topkin.pipelines.cli import errors, logs, progress
from topkin.pipelines.cli.terminal import chat, completion, lines
from topkin.pipelines.engine.registry import ORDER
from topkin.telemetry.progress import hear, listen

if TYPE_CHECKING:
    from topkin.artifacts.runs import Run
    from topkin.config.items_run import RunSettingsOfAnyKind
    from topkin.config.sections import Settings
    from topkin.pipelines.engine.stages import Event
    from topkin.telemetry.profiling import Usage

CONFIG = "topkin.toml"


@dataclass(frozen=True)
class CommandOptions:
    """The options that several commands have, as they were typed."""

    config: Annotated[str, typer.Option("--config", "-c", metavar="FILE", help="The configuration.")] = CONFIG
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="DATE",
            help="YYYY-MM-DD, or with a time, in UTC: purchases before it are known, later ones held out. "
            "Default: today.",
        ),
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a key, as in --set train.epochs=3; may be repeated.",
            autocompletion=completion.sets,
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Do the work again though it is done already.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            "--log-format", metavar="NAME", help="text, or json: what goes on, one JSON object a line, with --json too."
        ),
    ] = "text"
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Wait for another process that is at work there. Default: run.wait, of an export 0.",
        ),
    ] = None
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait",
            help="Submit the next stage that is one pipeline as a job that finishes it, and end; Dataflow alone.",
        ),
    ] = False
    beam: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- BEAM_FLAGS", help="Flags for Beam, after --, as in -- --direct_num_workers=2."),
    ] = None

    def settings(self) -> "Settings":
        """The settings with what the command line changes. Raises ConfigError with all that is wrong."""
        from topkin.config.load import load_settings

        return load_settings(self.config, self._sets())

    def run_settings(self) -> "RunSettingsOfAnyKind":
        """As :meth:`settings`, of a run over purchases or over items alone."""
        from topkin.config.load import load_run

        return load_run(self.config, self._sets())

    def _sets(self) -> list[str]:
        return [*(self.sets or ()), *([] if self.wait is None else [f"run.wait={self.wait}"])]

    def command(self, name: str) -> str:
        """Another command with the same configuration, date and settings, as it is typed."""
        words = ["topkin", name]
        words += [] if self.config == CONFIG else ["--config", self.config]
        words += [] if self.as_of is None else ["--as-of", self.as_of]
        words += [word for text in self.sets or () for word in ("--set", text)]
        return shlex.join(words)

    def date(self) -> datetime:
        """The as-of date, see :func:`parse_as_of`."""
        return parse_as_of(self.as_of)

    def beam_flags(self) -> list[str]:
        """The flags for Beam. Raises ConfigError where a stray word came before ``--``."""
        flags = list(self.beam or ())
        if flags and not flags[0].startswith("-"):
            cut = next((text for text in self.sets or () if "=" not in text), None)
            if cut is not None and flags[0].startswith("="):
                raise ConfigError(f"--set takes KEY=VALUE without spaces, got {cut!r}, then {flags[0]!r}")
            raise ConfigError(
                f"unexpected argument {flags[0]!r}; flags for Beam go after --, as in -- --runner=DirectRunner"
            )
        return flags

    @contextmanager
    def progress(self) -> "Iterator[Reports]":
        """Show the progress of what is done inside; gives what the engine calls with its events."""
        logs.silence()
        if self.log_format == "json" and not self.quiet:
            lines.log_as_json()
            with listen(lines.Steps(lines.emit_progress)), hear(lambda line: lines.emit("note", message=line.strip())):
                yield Reports(lines.emit_event)
            return
        begins = not (self.quiet or self.json or sys.stderr.isatty())
        with progress.shown(quiet=self.quiet or self.json) as show, hear(lambda line: show(f"{'':<10} {line}")):

            def tell(event: "Event") -> None:
                if line := event_line(event) or (lines.started(event) if begins else ""):
                    show(line)

            yield Reports(tell)


@dataclass
class Reports:
    """What the engine has reported: shown as it comes, and kept for the result."""

    show: "Callable[[Event], None]"
    stages: "dict[str, Event]" = field(default_factory=dict)

    def __call__(self, event: "Event") -> None:
        """One report."""
        self.show(event)
        if event.state != "started":
            self.stages[event.stage] = event

    @property
    def summaries(self) -> dict[str, dict[str, Any]]:
        """What each stage counted."""
        return {name: dict(event.summary or {}) for name, event in self.stages.items()}

    def to_json(self) -> dict[str, Any]:
        """Each stage's seconds, whether it was done before, and what it counted."""
        events = self.stages.items()
        return {
            n: {"seconds": round(e.seconds, 3), "reused": e.state == "reused", **dict(e.summary or {})}
            for n, e in events
        }


def stage(name: str, options: CommandOptions) -> None:
    """``topkin <stage>``."""
    from topkin.pipelines.engine.stages import run_stages

    flags, as_of, settings = options.beam_flags(), options.date(), options.run_settings()
    with options.progress() as tell:
        wait = not options.no_wait
        run = run_stages(settings, as_of=as_of, only=name, force=options.force, beam=flags, tell=tell, wait=wait)
    print_run(run, [name], as_json=options.json, reports=tell)


def run(options: CommandOptions, publish: bool, profile: bool, anyway: str | None, older: bool) -> None:
    """``topkin run``; with ``profile`` what each stage cost is written and printed before the run is published.

    A run of an earlier date than the live version is made and not published, unless ``older``; that is said, and done.
    anyway: why it is published though gates refuse it.
    """
    from topkin.pipelines.cli import profile as profile_table
    from topkin.pipelines.run import is_older, run_all

    usages: dict[str, Usage] = {}

    def write_profile(run: "Run") -> None:
        if profile:
            profile_table.write(run, usages)
            if not options.json:
                profile_table.show(usages)

    if anyway is not None and not publish:
        raise ConfigError("--publish-anyway and --no-publish exclude each other")
    flags, as_of, settings = options.beam_flags(), options.date(), options.run_settings()
    webhook, began = settings.run.webhook, time.monotonic()
    hook = None if webhook is None else webhook.get_secret_value()
    with options.progress() as tell, _failure_told(hook, as_of):

        def record(event: "Event") -> None:
            tell(event)
            if event.usage is not None:
                usages[event.stage] = event.usage

        done = run_all(
            settings,
            as_of=as_of,
            force=options.force,
            beam=flags,
            publish=publish,
            anyway=anyway,
            older=older,
            tell=record,
            before_publishing=write_profile,
            wait=not options.no_wait,
        )
    if any(event.state == "submitted" for event in tell.stages.values()):
        print_run(done, as_json=options.json, reports=tell)
        return
    why = is_older(done) if publish and not older else ""
    cure = f"{why}: topkin publish --run {done.run_id} --older publishes it all the same" if why else ""
    message = chat.of_run(done, tell.summaries, time.monotonic() - began, published=_is_live(done), why=why)
    if options.log_format == "json" and not options.quiet:
        lines.emit("run_finished", **asdict(message))
    print_run(done, as_json=options.json, not_published=cure, reports=tell, line=message.text)
    chat.send(hook, message)


@contextmanager
def _failure_told(hook: str | None, as_of: datetime) -> "Iterator[None]":
    """Have the webhook told where a run fails; not where it is interrupted, which has to end soon."""
    try:
        yield
    except Exception as e:
        known = errors.explained(e) or e
        code = getattr(known, "exit_code", 1)
        chat.send(hook, chat.of_failure(as_of.isoformat(), known, code))
        raise


def _is_live(run: "Run") -> bool:
    from topkin.artifacts import runs

    current = runs.pointer(run.root)
    return current is not None and bool(current["run_id"] == run.run_id)


def event_line(event: "Event") -> str:
    """A stage that is done: a line with its seconds and counts; below it each input's rejects, and its ``notes``."""
    if event.state == "started":
        return ""
    if event.state == "submitted":
        about = event.summary or {}
        what = about["at"] if "at" in about else f"the template {about['template']}"
        return f"{event.stage:<10} submitted: {what} finishes it; the same command goes on then"
    took = "as before" if event.state == "reused" else f"{event.seconds:.1f} s"
    counts = [
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in (event.summary or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    line = f"{event.stage:<10} {took:>9}   {', '.join(counts[:6])}".rstrip()
    below = list((event.summary or {}).get("notes", ()))
    if sources := (event.summary or {}).get("sources"):
        from topkin.ingest.judging.limits import rejects_of_inputs

        below = [*rejects_of_inputs(sources), *below]
    return "\n".join([line, *(f"{'':<10} {text}" for text in below)])


def print_run(
    run: "Run",
    stages: Sequence[str] = ORDER,
    *,
    as_json: bool,
    not_published: str = "",
    reports: Reports | None = None,
    line: str = "",
    gates: Mapping[str, int] | None = None,
) -> None:
    """Print where a run's results are, why it was ``not_published`` where it was to be, and the ``line`` on it."""
    is_published = _is_live(run)
    folders = {name: run.folders[name] for name in stages if name in run.folders}
    if as_json:
        value = {
            "run_id": run.run_id,
            "as_of": run.as_of.isoformat(),
            "output": run.root,
            "published": is_published,
            "folders": folders,
            **({} if reports is None else {"stages": reports.to_json()}),
            **({"line": line} if line else {}),
            **({} if gates is None else {"gates": gates}),
            **({"not_published": not_published} if not_published else {}),
        }
        print(json.dumps(value, default=str))
        return
    print(f"run {run.run_id}{' (published)' if is_published else ''}")
    for name, folder in folders.items():
        print(f"  {name:<10} {folder}{'/report.html' if name == 'report' else ''}")
    if not_published:
        print(f"not published: {not_published}")
    if line:
        print(line)


def publish(options: CommandOptions, run_id: str | None, rollback: bool, anyway: str | None, older: bool) -> None:
    """``topkin publish``: by name, else the run of these settings and this date.

    anyway: why it is published though gates refuse it.
    """
    from topkin.artifacts import runs
    from topkin.pipelines import publish as job
    from topkin.pipelines.engine.stages import alone

    logs.silence()
    if rollback and (run_id or options.as_of):
        raise ConfigError("--rollback goes to the run published before: it takes neither --run nor --as-of")
    if rollback and anyway is not None:
        raise ConfigError("--rollback asks no gate: it takes no --publish-anyway")
    settings = options.run_settings()
    if rollback:
        with alone(settings, "topkin publish --rollback"):
            run, gone = job.rollback(settings.run.output)
        if gone and not options.json:
            print(f"passed over, for they are gone: {', '.join(gone)}")
    else:
        with alone(settings, f"topkin publish{f' of {run_id}' if run_id else ''}"):
            run = runs.read_run(settings.run.output, run_id or _newest_run(settings, options.date()))
            judged = job.publish(run, settings, anyway=anyway, older=older)
        if not options.json:
            for line in judged.unasked:
                print(line, file=sys.stderr)
    print_run(run, as_json=options.json, gates=None if rollback else judged.counts)


def _newest_run(settings: "RunSettingsOfAnyKind", as_of: datetime) -> str:
    """The name of the newest run of these settings and this date. Raises ConfigError where there is none."""
    from topkin.artifacts import runs
    from topkin.pipelines.engine import stages

    root = settings.run.output
    newest = stages.find_run(root, runs.run_name(as_of, stages.keys(settings, as_of)))
    if newest is None:
        listed = ", ".join(runs.run_ids(root)) or "no run at all"
        raise ConfigError(
            f"there is no run of this configuration as of {as_of:%Y-%m-%d} in {root}; it has {listed}: "
            "topkin run makes one, --as-of and --run name another"
        )
    return newest
