"""A Beam job outside of this process: what it is given, what is told while it runs, why it failed, and its end.

The launcher owns the job: however it ends, by Ctrl-C, SIGTERM, a limit of time or a failure of its own, one request
cancels a job that still runs. The lines that workers log are kept from the screen and searched for a reason.
"""

import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from topkin.ending import signals
from topkin.ending.watch import never_idle
from topkin.ending.workers import descendants, end_workers
from topkin.errors import ConfigError, ResourceError, TopkinError, chain
from topkin.pipelines.engine import package
from topkin.pipelines.engine.runner import (
    DATAFLOW,
    Target,
    beam_options,
    package_of,
    refuse_template,
    target_of,
    wrong_flags,
)
from topkin.telemetry import progress

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult

LOOK_SECONDS = 2.0
IDLE_SECONDS = 20.0
"""How long a job in processes below this one may do nothing at all."""
LOOKS = 3
"""As often in turn a worker must be seen to be gone."""
KEPT_LINES = 2000
ENDED = ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED", "STOPPED")
_SERVERS = ("PrismJobServer", "apache_beam.utils.subprocess_server")
"""The loggers of what job servers print that Beam starts, and their workers; a job's messages go to the root's."""

_MODULE = re.compile(r"No module named \\?['\"]([\w.]+)")
_IMPORT = re.compile(r"ImportError: ([^\n\\]+)")
_PIP = re.compile(r"ERROR: ((?:No matching|Could not|Cannot|Failed|Package)[^\n\\]+)")
_NO_BEAM = "Apache Beam is not installed in the runtime environment"
_NO_SERVER = re.compile(r"failed to connect to all addresses|FutureTimeoutError|StatusCode\.UNAVAILABLE")
_NO_WORKER = "didn't get control connection"
_NO_PRISM = "Unable to fetch remote prism binary"
_RAISED = re.compile(r"sdk_worker\.py|\[while running ")
"""Of an exception that a worker raised, in what its runner raises."""
_PROCESS = re.compile(r"process failed (?:to start|while running).*?error\W+([^\"\n)}]+)")


def reason(lines: Iterable[str], flags: Sequence[str], errors: Sequence[str] = ()) -> TopkinError | None:
    """What workers or a job server give as the cause, as an error with the cure; None where none is known.

    Args:
        lines: What they said, the first first; a line may be a whole traceback.
        flags: The flags for Beam.
        errors: What was raised here; where a worker's own exception is in it, no line is the cause.
    """
    text = "\n".join(errors if any(map(_RAISED.search, errors)) else [*lines, *errors])
    if _NO_BEAM in text:
        return ConfigError("no Beam on the worker: give the workers an image or environment with topkin's libraries")
    if match := _PIP.search(text):
        return ConfigError(
            f"the worker could not install what was sent: {match[1].strip()}; give it an image that has topkin's "
            "libraries, see deploy/"
        )
    if match := _MODULE.search(text):
        ours = match[1].partition(".")[0] == "topkin"
        unsent = ours and package_of(flags) in ("none", None)
        cure = "--package=wheel sends it" if unsent else "its image or environment must have it"
        return ConfigError(f"no module named {match[1]} on the worker: {cure}; topkin doctor compares both sides")
    if match := _IMPORT.search(text):
        return ConfigError(
            f"the worker cannot import what it needs, {match[1].strip()}: topkin doctor compares versions"
        )
    if _NO_WORKER in text:
        return ResourceError(
            "the worker did not connect in the minute that Prism gives it, in which it installs what is sent: give it "
            "an environment that has topkin, with --package=none, or a quieter machine"
        )
    if _NO_PRISM in text:
        return wrong_flags("Prism is not here and cannot be fetched: name its program by --prism_location", flags)
    if match := _PROCESS.search(text):
        return ResourceError(f"a worker's process ended, {match[1].strip()}: see its command in --environment_config")
    return None


def run_elsewhere(pipeline: "beam.Pipeline", flags: Sequence[str]) -> tuple["PipelineResult", str]:
    """Run a pipeline on another runner than the in-process one, and wait for its end; returns its result and state.

    Raises:
        ConfigError: Workers lack something, or no job server answers.
        ResourceError: The job server is lost while the job runs, or all of the job's processes, which are below this
            one, have come to rest before its end.
    """
    refuse_template(flags)
    options = pipeline.options
    target = target_of(options)
    _stage(options, flags, target)
    result = None
    with _worker_lines() as lines:
        try:
            result = pipeline.run()
            cancelled = threading.Event()

            def cancel() -> None:
                if not cancelled.is_set():
                    cancelled.set()
                    _cancel(result, target)

            rest = never_idle("a Beam job", IDLE_SECONDS) if target.own else nullcontext()
            with signals.half_made(cancel), _watched(result, options, target, lines), rest:
                return result, result.wait_until_finish()
        except Exception as e:
            errors = [f"{type(link).__name__}: {link}" for link in chain(e)]
            calls = [str(link) for link in chain(e) if type(link).__module__.startswith("grpc.")]
            where = options.get_all_options()["job_endpoint"] or f"the address of {target.runner}"
            if result is None and any(map(_NO_SERVER.search, errors)):
                raise wrong_flags(f"no job server answers at {where}: start one there, or name another", flags) from e
            if any(map(_NO_SERVER.search, calls)):  # a worker's trouble with a server of its own is told in words
                raise ResourceError(f"the job server was lost, at {where}: start it, then run again") from e
            shown = [line for line in lines if "signal: killed" not in line]  # so Prism ends its own workers
            if (why := reason(shown if result else (), flags, errors)) is not None:
                raise why from e
            raise
        except KeyboardInterrupt:
            if signals.asked() and (why := reason(lines, flags)) is not None:
                signals.because(why)
            raise


def submit(work: "Callable[[beam.Pipeline], object]", flags: Sequence[str]) -> "PipelineResult":
    """Submit a pipeline, and do not wait for it; what workers need is sent with it."""
    import apache_beam as beam

    options = beam_options(flags)
    pipeline = beam.Pipeline(options=options)
    work(pipeline)
    _stage(options, flags, target_of(options))
    with _worker_lines():
        return pipeline.run()


def _stage(options: "PipelineOptions", flags: Sequence[str], target: Target) -> None:
    """Have topkin sent to the workers, where they need it."""
    from apache_beam.options.pipeline_options import SetupOptions

    kind = package_of(flags) or ("wheel" if target.remote else "none")
    if kind == "none":
        return
    path = package.build(kind)
    setup = options.view_as(SetupOptions)
    setup.extra_packages = [*(setup.extra_packages or ()), path]


def _cancel(result: "PipelineResult", target: Target) -> None:
    """One request, where the job has not ended; the processes that it leaves below this one are ended too."""
    with suppress(Exception):  # whatever a runner raises of a job that is gone: there is nobody to tell
        if _state(result) not in ENDED:
            progress.note("cancelling the job")
            result.cancel()
    if target.own:
        end_workers()


def _state(result: "PipelineResult") -> str:
    with suppress(Exception):
        return str(result.state)
    return ""


def place(result: "PipelineResult", values: Mapping[str, Any]) -> str:
    """A job's id and where to look at it, as far as its runner tells."""
    job = getattr(result, "_job_id", "") or (result.job_id() if getattr(result, "has_job", False) else "")
    console = ""
    if values["runner"] == DATAFLOW:
        console = "https://console.cloud.google.com/dataflow/jobs/{region}/{job}?project={project}".format(
            job=job, region=values["region"], project=values["project"]
        )
    elif values["runner"] == "FlinkRunner" and not values["flink_master"].startswith("["):
        console = f"http://{values['flink_master'].removeprefix('http://')}"
    return f"job {job}{f', {console}' if console else ''}"


def _lost(lines: Sequence[str]) -> bool:
    """Whether a server below this process says that a worker's process ended, and has none below it.

    At the end of each job Prism kills its workers, and says so in the same words, maybe when the next one runs.
    """
    return any(_PROCESS.search(line) for line in list(lines)) and not any(descendants(pid) for pid in descendants())


@contextmanager
def _watched(
    result: "PipelineResult", options: "PipelineOptions", target: Target, lines: Sequence[str]
) -> Iterator[None]:
    """Tell of the job, and of each state that it comes to, while it is waited for; end it where a server lost a worker.

    Prism waits for ever for a worker's process that is gone, and says so in its log alone.
    """
    over = threading.Event()
    name = place(result, {**options.get_all_options(), "runner": target.runner})
    progress.note(f"{target.runner}: {name}")

    def watch() -> None:
        last, gone = "", 0
        while not over.is_set():
            if (state := _state(result)) and state != last:
                last = state
                progress.note(f"{name.partition(',')[0]} is {state}")
            gone = gone + 1 if state not in ENDED and target.own and _lost(lines) else 0
            if gone == LOOKS:
                signals.end(ResourceError("a worker's process ended"))  # the reason is told with it
            if state in ENDED or over.wait(LOOK_SECONDS):
                return

    thread = threading.Thread(target=watch, name="topkin-job", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LOOK_SECONDS)


class _Kept(logging.Filter):
    """Keeps the last lines, and lets none through but where TOPKIN_TRACEBACK asks for all."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep it."""
        with suppress(Exception):  # a message whose arguments do not fit
            self.lines.append(record.getMessage())
        del self.lines[:-KEPT_LINES]
        return bool(os.environ.get("TOPKIN_TRACEBACK"))


_kept = _Kept()


@contextmanager
def _worker_lines() -> Iterator[list[str]]:
    """What workers and job servers log inside, in place of the screen; a server goes on to be silent afterwards."""
    for name in _SERVERS:
        logging.getLogger(name).addFilter(_kept)
    messages = logging.getLogger()
    messages.addFilter(_kept)
    _kept.lines.clear()
    try:
        yield _kept.lines
    finally:
        messages.removeFilter(_kept)
