"""The job ``run``: every stage as of a date, then the pointer. What a schedule starts each night."""

from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic

from topkin.artifacts import runs
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.pipelines.engine import stages
from topkin.pipelines.publish import publish as publish_run


def run_all(
    settings: RunSettingsOfAnyKind,
    *,
    as_of: datetime,
    beam: Sequence[str] = (),
    force: bool = False,
    publish: bool = True,
    anyway: str | None = None,
    tell: Callable[[stages.Event], None] = lambda event: None,
    before_publishing: Callable[[runs.Run], None] = lambda run: None,
) -> runs.Run:
    """Do what is not done yet, as of a date, and publish it; ``before_publishing`` is called in between.

    ``anyway`` says why it is published though gates refuse it. What the gates found is told as a stage is.
    Raises QualityGateError where the tables are made and the gate refuses them.
    """
    run = stages.run_stages(settings, as_of=as_of, force=force, beam=beam, tell=tell)
    before_publishing(run)
    if publish:
        began = monotonic()
        judged = publish_run(run, settings, anyway)
        summary = {f"gates {verdict}": n for verdict, n in judged.counts.items()} | {"notes": judged.unasked}
        tell(stages.Event("publish", "finished", monotonic() - began, summary))
    return run
