"""What the commands that start jobs do: settings in, stages run, the result told."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from topkin.errors import ConfigError
from topkin.pipelines.cli import logs, progress
from topkin.pipelines.cli.asked import CommandOptions

if TYPE_CHECKING:
    from topkin.artifacts.runs import Run
    from topkin.config.sections import Settings
    from topkin.pipelines.engine.stages import Event
    from topkin.telemetry.profiling import Usage


def parse_as_of(text: str | None, flag: str = "--as-of") -> datetime:
    """An as-of date: naive UTC; today's midnight without one. Raises ConfigError that names the flag."""
    if text is None:
        return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError) as e:
        raise ConfigError(
            f"{flag} must be a date such as 2011-11-09 or a time such as 2011-11-09T06:00, got {text!r}"
        ) from e


def settings_of(asked: CommandOptions) -> "Settings":
    """The settings that a command line asks for."""
    from topkin.config.load import load_settings

    return load_settings(asked.config, asked.sets)


def beam_flags(asked: CommandOptions) -> list[str]:
    """The flags for Beam. Raises ConfigError where a stray word came before ``--``."""
    flags = list(asked.beam)
    if flags and not flags[0].startswith("-"):
        raise ConfigError(
            f"unexpected argument {flags[0]!r}; flags for Beam go after --, as in -- --runner=DirectRunner"
        )
    return flags


def stage(name: str, asked: CommandOptions) -> None:
    """``topkin <stage>``."""
    from topkin.pipelines.engine.stages import run_stages

    _work(asked, lambda settings, options: run_stages(settings, only=name, **options), [name])


def run(asked: CommandOptions, publish: bool, profile: bool) -> None:
    """``topkin run``; with ``profile`` it tells what each stage cost."""
    from topkin.pipelines.cli import profile as profile_table
    from topkin.pipelines.run import run_all

    usages: dict[str, Usage] = {}

    def work(settings: "Settings", options: dict[str, Any]) -> "Run":
        if not profile:
            return run_all(settings, publish=publish, **options)
        tell = options.pop("tell")

        def seen(event: "Event") -> None:
            tell(event)
            if event.usage is not None:
                usages[event.stage] = event.usage

        return run_all(settings, publish=publish, tell=seen, made=lambda run: write(run, usages), **options)

    def write(done: "Run", usages: dict[str, "Usage"]) -> None:
        profile_table.write(done, usages)
        if not asked.json:
            profile_table.tell(usages)

    _work(asked, work, None)


def _work(asked: CommandOptions, work: Callable[["Settings", dict[str, Any]], "Run"], stages: list[str] | None) -> None:
    flags = beam_flags(asked)
    as_of = parse_as_of(asked.as_of)
    settings = settings_of(asked)
    done = start(asked, settings, as_of, flags, work)
    tell_run(done, stages, as_json=asked.json)


def start(
    asked: CommandOptions,
    settings: "Settings",
    as_of: datetime,
    flags: list[str],
    work: Callable[["Settings", dict[str, Any]], "Run"],
) -> "Run":
    """Call ``work`` with the engine's options while its progress is shown."""
    logs.silence()
    with progress.shown(quiet=asked.quiet or asked.json) as say:

        def tell(event: "Event") -> None:
            if line := event_line(event):
                say(line)

        return work(settings, {"as_of": as_of, "force": asked.force, "beam": flags, "tell": tell})


def event_line(event: "Event") -> str:
    """One line for a stage that is done: its seconds and counts."""
    if event.state == "started":
        return ""
    took = "as before" if event.state == "reused" else f"{event.seconds:.1f} s"
    counts = [
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in (event.summary or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return f"{event.stage:<10} {took:>9}   {', '.join(counts[:6])}".rstrip()


def tell_run(run: "Run", stages: list[str] | None, *, as_json: bool) -> None:
    """Print where a run's results are."""
    from topkin.artifacts import runs

    current = runs.pointer(run.root)
    is_published = current is not None and current["run_id"] == run.run_id
    folders = {s: run.folders[s] for s in (stages or runs.FOLDERS) if s in run.folders}
    if as_json:
        value = {
            "run_id": run.run_id,
            "as_of": run.as_of.isoformat(),
            "output": run.root,
            "published": is_published,
            "folders": folders,
        }
        print(json.dumps(value))
        return
    print(f"run {run.run_id}{' (published)' if is_published else ''}")
    for stage_name, folder in folders.items():
        print(f"  {stage_name:<10} {folder}{'/report.html' if stage_name == 'evaluate' else ''}")


def publish(asked: CommandOptions, run_id: str | None, rollback: bool) -> None:
    """``topkin publish``: by name, else the run of these settings and this date."""
    from topkin.artifacts import runs
    from topkin.pipelines import publish as job

    logs.silence()
    if rollback and (run_id or asked.as_of):
        raise ConfigError("--rollback goes to the run published before: it takes neither --run nor --as-of")
    settings = settings_of(asked)
    root = settings.run.output
    if rollback:
        done = job.rollback(root)
    else:
        done = runs.read_run(root, run_id or _run_of(settings, parse_as_of(asked.as_of)))
        job.publish(done, settings)
    tell_run(done, None, as_json=asked.json)


def _run_of(settings: "Settings", as_of: datetime) -> str:
    """The name of the newest run of these settings and this date. Raises ConfigError where there is none."""
    from topkin.artifacts import runs
    from topkin.pipelines.engine import stages

    name = runs.run_name(as_of, stages.keys(settings, as_of))
    known = runs.run_ids(settings.run.output)
    mine = [run for run in known if run == name or run.rpartition("+")[0] == name]
    if not mine:
        listed = ", ".join(known) or "no run at all"
        raise ConfigError(
            f"there is no run of this configuration as of {as_of:%Y-%m-%d} in {settings.run.output}; it has {listed}: "
            "topkin run makes one, --as-of and --run name another"
        )
    return max(mine, key=lambda run: int(run.rpartition("+")[2]) if "+" in run else 1)
