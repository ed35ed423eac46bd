"""``topkin doctor``: a job of one element on a runner, and what its worker has beside what is here."""

import json
import platform
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topkin.artifacts import storage
from topkin.config.items_run import RunSettingsOfAnyKind
from topkin.ending.watch import watched
from topkin.errors import ConfigError, TopkinError
from topkin.pipelines.engine import package
from topkin.pipelines.engine.job import run_pipeline
from topkin.pipelines.engine.runner import beam_options, refuse_local_paths, target_of
from topkin.telemetry.profiling import machine_cores, machine_memory

if TYPE_CHECKING:
    import apache_beam as beam

    from topkin.pipelines.cli.commands import CommandOptions

PROBE = ".doctor-"
_NAMESPACE = "topkin.doctor"
_SAME = ("Python", "apache-beam", "topkin", "tensorflow", "pyarrow", "numpy")
"""What must be the same on both sides; of Python the first two numbers."""


@dataclass(frozen=True)
class Finding:
    """One thing on both sides; ``fault``: what is wrong with it and the cure, or empty."""

    what: str
    here: str
    worker: str
    fault: str = ""


def facts() -> dict[str, str]:
    """What this process has: versions, GPUs, cores, memory."""
    versions = {"Python": platform.python_version(), "topkin": package.version()}
    for name in _SAME[1:]:
        if name != "topkin":
            with suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
    versions["GPU"] = _gpus() or "none"
    versions["memory"] = f"{machine_memory() / 1e9:.1f} GB"
    versions["cores"] = str(machine_cores())
    return versions


def _gpus() -> str:
    """The names of the GPUs as the driver tells them; TensorFlow need not be loaded for that."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
        return "; ".join(listed.stdout.split("\n")).strip("; ")
    return ""


def look(probe: str, token: str) -> dict[str, str]:
    """On a worker: its facts, and whether it reads what the launcher wrote to the output folder, and writes there."""
    values = facts()
    try:
        read = storage.read_bytes(probe).decode()
        storage.write_bytes(token.encode(), f"{probe}.worker")
        values["output folder"] = "read and written" if read == token else "another file is there"
    except (OSError, TopkinError) as e:
        values["output folder"] = f"not seen: {' '.join(str(e).split())[:300]}"
    return values


def count_facts(probe: str, token: str) -> None:
    """As :func:`look`; what was found goes back as names of counters, which every runner brings back."""
    from apache_beam.metrics import Metrics

    for what, value in look(probe, token).items():
        Metrics.counter(_NAMESPACE, json.dumps([what, value])).inc()


def _build(pipeline: "beam.Pipeline", probe: str, token: str) -> None:
    import apache_beam as beam

    pipeline | "Element" >> beam.Create([probe]) | "Look" >> beam.Map(partial(count_facts, token=token))


def examine(settings: RunSettingsOfAnyKind, flags: Sequence[str]) -> list[Finding]:
    """Run the job and compare. Raises TopkinError where it cannot run, with what the worker says."""
    refuse_local_paths(settings, flags)
    token = uuid.uuid4().hex
    output = Path(storage.filesystem(settings.run.output)[1])
    created = [folder for folder in (output, *output.parents) if not folder.exists()]  # object stores have no folders
    probe = storage.join(settings.run.output, f"{PROBE}{token}")
    try:
        storage.write_bytes(token.encode(), probe)
    except OSError as e:
        raise ConfigError(f"run.output must be a folder that can be written, got {settings.run.output}: {e}") from e
    try:
        with watched("doctor", settings.run.output, settings.run.timeout_seconds):
            counters = run_pipeline(partial(_build, probe=probe, token=token), flags).query()["counters"]
        storage.forget_seen()
        back = storage.exists(f"{probe}.worker")
    finally:
        for path in (probe, f"{probe}.worker"):
            with suppress(OSError):
                storage.remove_files(settings.run.output, [path.rpartition("/")[2]])
        for folder in created:
            with suppress(OSError):
                folder.rmdir()
    theirs = dict(json.loads(c.key.metric.name) for c in counters if c.key.metric.namespace == _NAMESPACE)
    if theirs.get("output folder") == "read and written" and not back:
        theirs["output folder"] = "written, and not seen here"
    return compare(facts(), theirs)


def compare(here: Mapping[str, str], worker: Mapping[str, str]) -> list[Finding]:
    """Both sides, and what is wrong."""
    findings = []
    for what in (*_SAME, "GPU", "cores", "memory"):
        ours, theirs = here.get(what, "none"), worker.get(what, "none")
        fault = ""
        if what in _SAME and _kin(what, ours) != _kin(what, theirs):
            cure = "send it with --package=wheel" if what == "topkin" else "give the workers the image of deploy/"
            fault = f"{what} must be the same on both sides, it is {ours} here and {theirs} there: {cure}"
        findings.append(Finding(what, ours, theirs, fault))
    seen = worker.get("output folder", "not seen")
    fault = "" if seen == "read and written" else f"run.output must be where workers see it, it is {seen}"
    return [*findings, Finding("output folder", "read and written", seen, fault)]


def _kin(what: str, version: str) -> str:
    return ".".join(version.split(".")[:2]) if what == "Python" else version


def main(options: "CommandOptions") -> None:
    """Examine and print. Raises ConfigError with all that is wrong."""
    flags, settings = options.beam_flags(), options.run_settings()
    with options.progress():
        findings = examine(settings, flags)
    runner = target_of(beam_options(flags)).runner
    if options.json:
        value: dict[str, Any] = {"runner": runner, "findings": [asdict(f) for f in findings]}
        print(json.dumps({"ok": not any(f.fault for f in findings), **value}))
    else:
        from topkin.pipelines.cli.terminal.tables import Sheet, screen

        sheet = Sheet(runner, "", "here", "worker")
        for f in findings:
            sheet.add(f.what, f.here, f.worker)
        screen().print(sheet)
    if faults := [f.fault for f in findings if f.fault]:
        raise ConfigError("\n".join(faults))
    if not options.json:
        print("all is well")
