"""The job ``backtest``: every stage that an evaluation needs at each of several cut dates, and one table of all.

Stages are keyed, so what is done already, by an earlier back-test or by a run, is taken as it is. Nothing is
published. Writes ``backtest.json`` and ``backtest.txt`` below ``<output>/backtests/``.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

from topkin.artifacts import runs, storage
from topkin.config.as_of import parse_as_of
from topkin.config.sections import Settings
from topkin.errors import ConfigError
from topkin.evaluation import backtest
from topkin.pipelines.cli.commands import CommandOptions
from topkin.pipelines.engine import stages

JUDGES = "evaluate"
EVERY = "28d"
HOURS = {"h": 1, "d": 24, "": 24, "w": 168}


def days_of(text: str) -> timedelta:
    """A span such as 28d, 4w or 36h; a bare number counts days. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([hdw]?)\s*", text)
    hours = 0.0 if match is None else float(match[1]) * HOURS[match[2]]
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
    return [parse_as_of(part, "--cuts") for part in text.split(",")], as_of


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
    results, reported = [], set()
    trained = settings.train.model_copy(update={"every_days": 0})  # at each cut, not on a night published before it
    for cut, days in zip(cuts, backtest.periods(cuts, settings.evaluate.days, end), strict=True):
        # What was published is no matter of a back-test, and a period without purchases judges nothing.
        asked = {"days": days, "hindsight": (), "nightly": "off"}
        evaluated = settings.evaluate.model_copy(update=asked)
        judged = settings.model_copy(update={"evaluate": evaluated, "train": trained})
        for stage in stages.needed(JUDGES, judged):

            def report(event: stages.Event, cut: datetime = cut) -> None:
                if event.state != "reused" or (cut, event.stage) not in reported:  # a need is adopted by each stage
                    tell(replace(event, stage=f"{cut:%Y-%m-%d} {event.stage}"))
                reported.add((cut, event.stage))

            run = stages.run_stages(judged, as_of=cut, only=stage, beam=beam, tell=report)
        metrics = storage.read_json(storage.join(run.folder(JUDGES), "metrics.json"))
        results.append((run.run_id, days, metrics))
    summary = backtest.gather(results)
    name = f"{cuts[0]:%Y-%m-%d}-{cuts[-1]:%Y-%m-%d}-{runs.stage_key({'runs': [run_id for run_id, *_ in results]})[:10]}"
    folder = storage.join(settings.run.output, "backtests", name)
    storage.write_json(summary, storage.join(folder, "backtest.json"))
    storage.write_bytes(backtest.table(summary).encode(), storage.join(folder, "backtest.txt"))
    return folder, summary


def last_day(settings: Settings, beam: Sequence[str], tell: Callable[[stages.Event], None]) -> datetime:
    """The midnight after the last purchase that the input has, by preparing all of it."""
    today = parse_as_of(None)
    run = stages.run_stages(settings, as_of=today, only="prepare", beam=beam, tell=tell)
    statistics = storage.read_json(storage.join(run.folder("prepare"), "statistics.json"))
    last = datetime.fromisoformat(statistics["last_sale"])
    return datetime.combine(last.date(), time()) + timedelta(days=1)


def main(options: CommandOptions, cuts: str, every: str | None) -> None:
    """``topkin backtest``."""
    flags, settings = options.beam_flags(), options.settings()
    if not settings.timed:
        raise ConfigError(
            f"a back-test cuts purchases at several dates, got some without times (purchases.order = "
            f"{settings.purchases.order!r}): topkin run holds out each user's last position and measures there"
        )
    if settings.vectors_given:
        raise ConfigError(
            "a back-test makes a model of the purchases before each cut, users.vector brings one for all of them: "
            "topkin run judges the vectors by the purchases after their day"
        )
    end = None if options.as_of is None else options.date()
    with options.progress() as tell:
        chosen, until = cuts_of(cuts, every, end, lambda: last_day(settings, flags, tell))
        folder, summary = run_backtest(settings, chosen, until, beam=flags, tell=tell)
    if options.json:
        print(json.dumps({"folder": folder, **summary}))
        return
    from topkin.pipelines.cli.terminal.tables import Sheet, screen

    console = screen()
    for block in backtest.tables(summary):
        console.print(block if isinstance(block, str) else Sheet.of_figures(block), "")
    print(folder)
