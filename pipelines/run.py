"""The job ``run``: every stage as of a date, then the pointer. What a schedule starts each night."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime

from topkin.artifacts import runs
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.pipelines.engine import stages
from topkin.pipelines.engine.observed import observe
from topkin.pipelines.publish import publish as publish_run
from topkin.pipelines.upkeep.collect import collect


def run_all(
    settings: RunSettingsOfAnyKind,
    *,
    as_of: datetime,
    beam: Sequence[str] = (),
    force: bool = False,
    publish: bool = True,
    anyway: str | None = None,
    older: bool = False,
    tell: Callable[[stages.Event], None] = lambda event: None,
    before_publishing: Callable[[runs.Run], None] = lambda run: None,
    wait: bool = True,
) -> runs.Run:
    """Do what is not done yet, as of a date, publish it and delete what is not needed any more.

    Args:
        settings: The configuration.
        as_of: The date.
        beam: Flags for Beam.
        force: Do finished stages again.
        publish: Whether to publish.
        anyway: Why it is published though gates refuse it.
        older: Whether a run may take the place of one of a later date; without it such a run is made, not published.
        tell: Called with what happens; what the gates found is told as a stage is.
        before_publishing: Called with the finished run.
        wait: False submits the next stage that is one pipeline as a job that finishes it; nothing is published then.

    Raises:
        QualityGateError: The tables are made and a gate refuses them.
        BusyError: Another process works in the output folder.
    """
    with stages.alone(settings, f"topkin run as of {as_of.isoformat()}"):
        did, submitted = list[str](), list[str]()

        def heard(event: stages.Event) -> None:
            did.extend([event.stage] * (event.state == "finished"))
            submitted.extend([event.stage] * (event.state == "submitted"))
            tell(event)

        run = stages.run_stages(settings, as_of=as_of, force=force, beam=beam, tell=heard, wait=wait)
        if submitted:
            return run
        before_publishing(run)
        write_observed = observe(run, settings) if did else None  # what was told of a run that stands is told
        if publish and (older or not is_older(run)):
            began = time.monotonic()
            judged = publish_run(run, settings, anyway=anyway, older=older)
            summary = {f"gates {verdict}": n for verdict, n in judged.counts.items()} | {"notes": judged.unasked}
            tell(stages.Event("publish", "finished", time.monotonic() - began, summary))
            if write_observed is not None:
                write_observed(True)
            _collect(settings, tell)
    return run


def is_older(run: runs.Run) -> str:
    """That the live version is of a later date than a run, in words; empty where it is not."""
    live = runs.pointer(run.root)
    return runs.later_than(run, live) if live else ""


def _collect(settings: RunSettingsOfAnyKind, tell: Callable[[stages.Event], None]) -> None:
    """A published night stays one whatever comes of the collection."""
    began = time.monotonic()
    try:
        done = collect(settings.run.output, settings.run.keep)
    except OSError as e:
        runs.log.warning("old runs were not deleted (%s): topkin gc tries again", e)
        return
    if done:
        counts = {name: value if isinstance(value, int) else len(value) for name, value in asdict(done).items()}
        tell(stages.Event("gc", "finished", time.monotonic() - began, counts))
