"""What every job shares: what it is given, and how its Beam pipeline is started."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from topkin.artifacts import storage
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.ending.watch import never_idle
from topkin.errors import ConfigError, TopkinError
from topkin.pipelines.engine.runner import LOCAL, beam_options, target_of, wrong_flags
from topkin.planning.estimate import Machine
from topkin.telemetry import profiling
from topkin.telemetry.profiling import machine_cores, machine_memory

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.metrics.execution import MetricResult
    from apache_beam.metrics.metric import MetricResults

    from topkin.ingest.files import Files

SCRATCH = ".scratch"


S = TypeVar("S", bound=RunSettingsOfAnyKind)


@dataclass(frozen=True, kw_only=True)
class EarlierVersion:
    """A run that was published about ``days`` days before a job's date: folders of its stages, by stage."""

    days: int
    run_id: str
    as_of: datetime
    folders: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Job(Generic[S]):
    """One stage of one run.

    Args:
        settings: The whole configuration.
        as_of: Naive UTC: purchases before it are known, later ones are held out.
        out: The empty folder that this stage fills.
        scratch: A folder that outlives a killed attempt at this stage and is removed when it finishes: checkpoints
            go there. By default one in ``out``.
        folders: The folder of each finished stage that this one needs.
        earlier: Folders of the run that was published before this one's date, by stage, as far as this stage reads
            them and they are there.
        versions: The runs published about so many days before that this stage reads, the youngest first.
        recipe: The hash of the code and settings that make the stage, whatever the data.
        beam: Flags for Beam.
    """

    settings: S
    as_of: datetime
    out: str
    scratch: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, str] = field(default_factory=dict)
    versions: Sequence[EarlierVersion] = ()
    recipe: str = ""
    beam: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scratch", self.scratch or storage.join(self.out, SCRATCH))

    def folder(self, stage: str) -> str:
        """The folder of a finished stage."""
        if stage not in self.folders:
            raise ConfigError(f"stage {stage!r} has not run yet: topkin {stage} first, or topkin run for all of them")
        return self.folders[stage]


def input_files(path: str) -> "Files":
    """What finds and opens the files of an input."""
    from topkin.ingest.files import ArrowFiles

    return ArrowFiles()


def machine_of(settings: RunSettingsOfAnyKind, flags: Sequence[str]) -> Machine:
    """The workers that the settings and the flags for Beam name; those of this machine share its cores and memory."""
    workers, local = 1, True
    if flags:
        options = beam_options(flags).get_all_options()
        local = options["runner"] == LOCAL
        if not local:
            workers = options.get("max_num_workers") or options.get("num_workers") or 1
        elif options["direct_running_mode"] == "multi_processing":
            workers = options["direct_num_workers"] or machine_cores()
    memory = machine_memory() / workers if local else machine_memory()
    if settings.run.worker_memory is not None:
        memory = settings.run.worker_memory * 1e9
    return Machine(memory=memory, cores=max(1, machine_cores() // workers) if local else 1, workers=workers)


def engine_shuffles(flags: Sequence[str]) -> bool:
    """Whether rows go through the engine's own shuffle, which spills: where not all workers are of this machine.

    Elsewhere the engine holds in memory what it moves, and rows go through files.
    """
    return bool(flags) and not target_of(beam_options(flags)).own


def run_pipeline(work: "beam.PTransform | Callable[[beam.Pipeline], object]", flags: Sequence[str]) -> "MetricResults":
    """Apply a transform or a function to a pipeline, run it where the flags say, and wait; returns its metrics.

    What its steps counted is noted for ``topkin run --profile``.
    Raises TopkinError where the runner ends in another state than DONE, a cancelled job for one.
    """
    import apache_beam as beam

    from topkin.pipelines.engine import launch

    options = beam_options(flags)
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as e:  # a runner that is not there
        raise wrong_flags(str(e), flags) from e
    if isinstance(work, beam.PTransform):
        pipeline | work
    else:
        work(pipeline)
    named = options.get_all_options()
    if local := named["runner"] == LOCAL:
        with never_idle("a Beam pipeline"):
            result = pipeline.run()
            state = result.wait_until_finish()
    else:
        result, state = launch.run_elsewhere(pipeline, flags)
    if not local or named["direct_running_mode"] != "in_memory":
        storage.forget_seen()
    if state != "DONE":
        raise TopkinError(f"a Beam job must end DONE, this one ended {state}: see the runner's own log, then run again")
    metrics = result.metrics()
    profiling.record_steps(_steps(metrics.query()["counters"]))
    return metrics


@dataclass(frozen=True, kw_only=True)
class OnePipeline:
    """A stage as one pipeline, and what is left to do once that has ended.

    Args:
        transform: What is applied to a pipeline, or a function of one.
        finish: Reads back what the pipeline wrote and writes the stage's last files; returns its summary. It is
            pickled, for the pipeline's last step may do it on a worker.
        only_attached: Why the launcher has to wait for it all the same; empty where it need not.
    """

    transform: "beam.PTransform | Callable[[beam.Pipeline], object]"
    finish: Callable[[], dict[str, Any]]
    only_attached: str = ""


@dataclass(frozen=True)
class InOnePipeline:
    """The work of a stage that is one pipeline. begin: gives it, or the summary where nothing is left to do."""

    begin: Callable[[Job[Any]], OnePipeline | dict[str, Any]]

    def __call__(self, job: Job[Any]) -> dict[str, Any]:
        """Run it where the flags say, wait, and finish here."""
        return self.done(self.begin(job), job)

    def done(self, begun: OnePipeline | dict[str, Any], job: Job[Any]) -> dict[str, Any]:
        """The same of what begin gave."""
        if isinstance(begun, dict):
            return begun
        run_pipeline(begun.transform, job.beam)
        return begun.finish()


def _steps(counters: "Sequence[MetricResult]") -> list[dict[str, Any]]:
    """What each step counted, in the order of their names: step, rows, bytes, milliseconds."""
    steps: dict[str, dict[str, Any]] = {}
    for counter in counters:
        if counter.key.metric.namespace == "topkin" and counter.key.metric.name in profiling.COUNTED:
            step = steps.setdefault(counter.key.step, {"step": counter.key.step, **dict.fromkeys(profiling.COUNTED, 0)})
            step[counter.key.metric.name] += int(counter.committed or 0)
    return [steps[name] for name in sorted(steps)]
