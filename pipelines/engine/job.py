"""What every job shares: what it is given, and how its Beam pipeline is started."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from topkin.artifacts import storage
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.ending.watch import never_idle
from topkin.errors import ConfigError, TopkinError, nearest_name
from topkin.planning.estimate import Machine
from topkin.telemetry import profiling
from topkin.telemetry.profiling import machine_cores, machine_memory

if TYPE_CHECKING:
    from argparse import ArgumentParser

    import apache_beam as beam
    from apache_beam.metrics.execution import MetricResult
    from apache_beam.options.pipeline_options import PipelineOptions

    from topkin.ingest.files import Files

SCRATCH = ".scratch"


S = TypeVar("S", bound=RunSettingsOfAnyKind)


@dataclass(frozen=True, kw_only=True)
class Version:
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
    versions: Sequence[Version] = ()
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


def beam_options(flags: Sequence[str]) -> "PipelineOptions":
    """Pipeline options from Beam flags; the in-process FnApiRunner unless a runner is named.

    ``DirectRunner`` means the FnApiRunner too: Beam 2.77 would first try to download another engine.
    Raises ConfigError for a flag that Beam does not know, which it would leave out in silence, or a wrong value.
    """
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

    def refuse_unknown(parser: "ArgumentParser") -> None:
        options, unknown = parser.parse_known_args(list(flags))
        if unknown and (options.runner or "").lower() not in _JOB_SERVERS:  # only a job server knows its own flags
            name = str(unknown[0]).partition("=")[0]
            near = nearest_name(name, (option for action in parser._actions for option in action.option_strings))
            raise ValueError(f"there is no {name}" + (f", did you mean {near}?" if near else ""))

    usage = io.StringIO()
    try:
        with redirect_stderr(usage):  # of a wrong flag argparse tells the usage of all others
            options = PipelineOptions(list(flags))
            options.get_all_options(add_extra_args_fn=refuse_unknown)
    except (SystemExit, ValueError) as e:
        why = str(e) if isinstance(e, ValueError) else usage.getvalue().rpartition("error: ")[2].strip()
        raise _wrong_flags(why, flags) from e
    if options.get_all_options()["direct_running_mode"] == "multi_threading":  # its timed flush cuts elements apart
        raise _wrong_flags("multi_threading loses data in Beam 2.77, leave it out or take multi_processing", flags)
    standard = options.view_as(StandardOptions)
    if (standard.runner or "DirectRunner").lower() == "directrunner":  # in whatever way the flag was written
        standard.runner = "FnApiRunner"
    return options


_JOB_SERVERS = ("portablerunner", "flinkrunner", "sparkrunner", "prismrunner")


def _wrong_flags(why: str, flags: Sequence[str]) -> ConfigError:
    return ConfigError(f"flags for Beam, after --: {why}; got {' '.join(flags)}")


def machine_of(settings: RunSettingsOfAnyKind, flags: Sequence[str]) -> Machine:
    """The workers that the settings and the flags for Beam name; those of this machine share its cores and memory."""
    workers, local = 1, True
    if flags:
        options = beam_options(flags).get_all_options()
        local = options["runner"] == "FnApiRunner"
        if not local:
            workers = options.get("max_num_workers") or options.get("num_workers") or 1
        elif options["direct_running_mode"] == "multi_processing":
            workers = options["direct_num_workers"] or machine_cores()
    memory = machine_memory() / workers if local else machine_memory()
    if settings.run.worker_memory is not None:
        memory = settings.run.worker_memory * 1e9
    return Machine(memory=memory, cores=max(1, machine_cores() // workers) if local else 1, workers=workers)


def run_pipeline(work: "beam.PTransform | Callable[[beam.Pipeline], object]", flags: Sequence[str]) -> None:
    """Apply a transform or a function to a pipeline, run it and wait.

    What its steps counted is noted for ``topkin run --profile``.
    Raises TopkinError where the runner ends in another state than DONE, a cancelled job for one.
    """
    import apache_beam as beam

    options = beam_options(flags)
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as e:  # a runner that is not there
        raise _wrong_flags(str(e), flags) from e
    if isinstance(work, beam.PTransform):
        pipeline | work
    else:
        work(pipeline)
    named = options.get_all_options()
    local = named["runner"] == "FnApiRunner"
    with never_idle("a Beam pipeline") if local else nullcontext():
        result = pipeline.run()
        state = result.wait_until_finish()
    if not local or named["direct_running_mode"] != "in_memory":
        storage.forget_seen()
    if state != "DONE":
        raise TopkinError(f"a Beam job must end DONE, this one ended {state}: see the runner's own log, then run again")
    profiling.record_steps(_steps(result.metrics().query()["counters"]))


def _steps(counters: "Sequence[MetricResult]") -> list[dict[str, Any]]:
    """What each step counted, in the order of their names: step, rows, bytes, milliseconds."""
    steps: dict[str, dict[str, Any]] = {}
    for counter in counters:
        if counter.key.metric.namespace == "topkin" and counter.key.metric.name in profiling.COUNTED:
            step = steps.setdefault(counter.key.step, {"step": counter.key.step, **dict.fromkeys(profiling.COUNTED, 0)})
            step[counter.key.metric.name] += int(counter.committed or 0)
    return [steps[name] for name in sorted(steps)]
