"""The job ``run``: every stage as of a date, then the pointer. What a schedule starts each night."""

from collections.abc import Callable, Sequence
from datetime import datetime

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
    tell: Callable[[stages.Event], None] = lambda event: None,
    before_publishing: Callable[[runs.Run], None] = lambda run: None,
) -> runs.Run:
    """Do what is not done yet, as of a date, and publish it; ``before_publishing`` is called in between.

    Raises QualityGateError where the tables are made and the gate refuses them.
    """
    run = stages.run_stages(settings, as_of=as_of, force=force, beam=beam, tell=tell)
    before_publishing(run)
    if publish:
        publish_run(run, settings)
    return run
