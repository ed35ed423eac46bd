"""The job ``backtest``: every stage that an evaluation needs at each of several cut dates, and one table of all.

Stages are keyed, so what is done already, by an earlier back-test or by a run, is taken as it is. Nothing is
published. Writes ``backtest.json`` and ``backtest.txt`` below ``<output>/backtests/``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from topkin.artifacts import runs, storage
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.evaluation import backtest
from topkin.pipelines.cli import commands
from topkin.pipelines.cli.asked import CommandOptions
from topkin.pipelines.engine import stages

if TYPE_CHECKING:
    from topkin.artifacts.runs import Run

JUDGES = "evaluate"
EVERY = "28d"
HOURS = {"h": 1, "d": 24, "": 24, "w": 168}


def stages_needed(stage: str = JUDGES) -> list[str]:
    """The stages that a stage needs, those before them and itself, in order."""
    needed = {stage}
    for name in reversed(stages.ORDER):
        if name in needed:
            needed |= set(stages._module(name).NEEDS)
    return [name for name in stages.ORDER if name in needed]


def days_of(text: str) -> timedelta:
    """A span such as 28d, 4w or 36h; a bare number counts days. Raises ConfigError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([hdw]?)\s*", text)
    hours = 0.0 if found is None else float(found[1]) * HOURS[found[2]]
    if not 1 <= hours <= 24 * 36_500:
        raise ConfigError(f"--every must be a span of an hour or more, such as 28d, 4w or 36h, got {text!r}")
    return timedelta(hours=hours)


def cuts_of(
    text: str, every: str | None, as_of: datetime | None, last: Callable[[], datetime]
) -> tuple[list[datetime], datetime | None]:
    """The cut dates that ``--cuts``, ``--every`` and ``--as-of`` ask for, and when the last period ends.

    last: when the purchases end. Raises ConfigError.
    """
    if text.strip().isdigit() and len(text.strip()) < 4:
        if not int(text):
            raise ConfigError("--cuts must be at least 1, got 0")
        end = as_of or last()
        return backtest.spaced_cuts(int(text), days_of(every or EVERY), end), end
    if every is not None:
        raise ConfigError("--every goes with a number of cuts, as in --cuts 4 --every 28d; here the dates are named")
    return [commands.parse_as_of(part, "--cuts") for part in text.split(",")], as_of


def run_backtest(
    settings: Settings,
    cuts: Sequence[datetime],
    end: datetime | None = None,
    *,
    beam: Sequence[str] = (),
    tell: Callable[[stages.Event], None] = lambda event: None,
) -> tuple[str, dict[str, Any]]:
    """Do what is not done yet at each cut; returns the folder of the table, and its content.

    Purchases after a cut are held out up to the next cut, those after the last up to ``end``, or each for
    ``evaluate.days`` where that is set.
    """
    found, told = [], set()
    for cut, days in zip(cuts, backtest.periods(cuts, settings.evaluate.days, end), strict=True):
        judged = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update={"days": days})})
        for stage in stages_needed():

            def say(event: stages.Event, cut: datetime = cut) -> None:
                if event.state != "reused" or (cut, event.stage) not in told:  # a need is adopted by each stage
                    tell(replace(event, stage=f"{cut:%Y-%m-%d} {event.stage}"))
                told.add((cut, event.stage))

            run = stages.run_stages(judged, as_of=cut, only=stage, beam=beam, tell=say)
        metrics = storage.read_json(storage.join(run.folder(JUDGES), "metrics.json"))
        found.append((run.run_id, days, metrics))
    made = backtest.gather(found)
    name = f"{cuts[0]:%Y-%m-%d}-{cuts[-1]:%Y-%m-%d}-{runs.stage_key({'runs': [run_id for run_id, *_ in found]})[:10]}"
    folder = storage.join(settings.run.output, "backtests", name)
    storage.write_json(made, storage.join(folder, "backtest.json"))
    storage.write_bytes(backtest.table(made).encode(), storage.join(folder, "backtest.txt"))
    return folder, made


def last_day(settings: Settings, beam: Sequence[str], tell: Callable[[stages.Event], None]) -> datetime:
    """The midnight after the last purchase that the input has, by preparing all of it."""
    today = commands.parse_as_of(None)
    run = stages.run_stages(settings, as_of=today, only="prepare", beam=beam, tell=tell)
    told = storage.read_json(storage.join(run.folder("prepare"), "statistics.json"))
    last = datetime.fromisoformat(told["last_sale"])
    return datetime.combine(last.date(), time()) + timedelta(days=1)


def main(asked: CommandOptions, cuts: str, every: str | None) -> None:
    """``topkin backtest``."""
    import json

    flags = commands.beam_flags(asked)
    settings = commands.settings_of(asked)
    end = None if asked.as_of is None else commands.parse_as_of(asked.as_of)
    made: list[tuple[str, dict[str, Any]]] = []

    def work(settings: Settings, options: dict[str, Any]) -> "Run":
        beam, tell = options["beam"], options["tell"]
        chosen, until = cuts_of(cuts, every, end, lambda: last_day(settings, beam, tell))
        made.append(run_backtest(settings, chosen, until, beam=beam, tell=tell))
        return runs.read_run(settings.run.output, made[0][1]["cuts"][-1]["run_id"])

    commands.start(asked, settings, end or datetime.max, flags, work)
    folder, found = made[0]
    print(json.dumps({"folder": folder, **found}) if asked.json else f"{backtest.table(found)}\n{folder}")
