"""What a stage is: its needs, what its key depends on, what it costs, and its work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from topkin.artifacts import storage
from topkin.pipelines.engine.job import SCRATCH, Job
from topkin.planning.estimate import StageCost, Workload

WHERE = ("output", "worker_memory", "keep", "wait", "timeout", "mode", "webhook")
"""Keys of ``[run]`` that say where and how a run is made, not what: no stage's key has them."""


@dataclass(frozen=True, kw_only=True)
class StageReads:
    """What a stage reads beside its sections and the folders of the stages before it; all of it is part of its key.

    Args:
        files: [path, …] of each file of the user, with what differs where its content does: its size and time of
            change, or its hash.
        settings: Single keys of other sections, by their dotted names.
        today: The date, where the result is another one each day.
    """

    files: Sequence[Sequence[Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    today: date | None = None


@dataclass(frozen=True, kw_only=True)
class EarlierVersions:
    """The published runs that a stage reads: of about so many days before its date, and which stages' folders."""

    days: Sequence[int] = ()
    stages: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a run, defined by the module in ``topkin.pipelines`` that has its name.

    Args:
        name: As the command line and the registry know it.
        folder: Where its results lie in a run.
        sections: The sections of the settings that its results depend on.
        needs: The stages whose folders it reads, with some settings; it can read no others.
        reads: What else it reads. Raises TopkinError where that cannot be used.
        earlier: The stages whose folders in the run that was published before this one's date it reads, with some
            settings; their keys are part of its key.
        versions: Likewise of the runs that were published several days before it.
        dated: Whether its results depend on the run's date.
        work: Fills ``job.out``; returns the summary that is kept in the manifest.
        cost: Work, bytes and memory of the stage for a workload; None where none is told.
    """

    name: str
    folder: str
    sections: Sequence[str]
    work: Callable[[Job[Any]], dict[str, Any]]
    cost: Callable[[Workload], StageCost] | None = None
    needs: Callable[[Any], tuple[str, ...]] = lambda settings: ()
    reads: Callable[[Any], StageReads] = lambda settings: StageReads()
    earlier: Callable[[Any], tuple[str, ...]] = lambda settings: ()
    versions: Callable[[Any], EarlierVersions] = lambda settings: EarlierVersions()
    dated: bool = True

    def execute(self, job: Job[Any]) -> dict[str, Any]:
        """Do the work of a job; returns its summary. Scratch files are left only outside ``job.out``."""
        summary = self.work(job)
        storage.remove_folder(storage.join(job.out, SCRATCH))
        return summary
