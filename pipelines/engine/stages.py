"""The stage engine: what is done already is not done again, what died goes on where it stopped.

A stage's key hashes its settings, the keys of the stages before it, the input files and topkin's own
source. A finished stage with the same key, in this run or an earlier one, is taken as it is. A stage
writes into a hidden folder of its own attempt, which is sealed and renamed when all of it is there.
"""

import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from types import ModuleType
from typing import Any

from topkin.artifacts import manifest, runs, storage
from topkin.config.sections import Settings
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.engine.job import Job, beam_options, machine_of
from topkin.planning.estimate import InputCounts, plan, refuse
from topkin.telemetry.profiling import Usage, measure_usage

ORDER = tuple(runs.FOLDERS)


def _module(stage: str) -> ModuleType:
    return import_module(f"topkin.pipelines.{stage}")


def needs(stage: str, settings: Settings) -> tuple[str, ...]:
    """The stages whose folders a stage reads, with these settings."""
    module = _module(stage)
    named: tuple[str, ...] = module.needs(settings) if hasattr(module, "needs") else module.NEEDS
    return named


def keys(settings: Settings, as_of: datetime) -> dict[str, str]:
    """The key of every stage for these settings, inputs and date."""
    values = settings.model_dump(mode="json")
    for name in ("output", "worker_memory"):  # where and how, not what
        values["run"].pop(name)
    made: dict[str, str] = {}
    for stage in ORDER:
        module = _module(stage)
        inputs = getattr(module, "inputs_fingerprint", None)  # of a stage that reads files of the user
        made[stage] = runs.stage_key(
            {
                "stage": stage,
                "as_of": as_of.isoformat(),
                "settings": {name: values[name] for name in module.SECTIONS},
                "before": {name: made[name] for name in needs(stage, settings)},
                "inputs": inputs(settings) if inputs else None,
            }
        )
    return made


@dataclass(frozen=True)
class Event:
    """What the engine tells while it works: ``state`` is started, finished or reused; with a finish its usage."""

    stage: str
    state: str
    seconds: float = 0.0
    summary: Mapping[str, Any] | None = None
    usage: Usage | None = None


def run_stages(
    settings: Settings,
    *,
    as_of: datetime,
    only: str | None = None,
    force: bool = False,
    beam: Sequence[str] = (),
    tell: Callable[[Event], None] = lambda event: None,
) -> runs.Run:
    """Do the stages that are not done yet, in order; ``only`` one of them, ``force`` them anew.

    Forced work goes into a new run, so that nothing published changes. Raises ConfigError where ``only``
    names a stage whose needs have not run.
    """
    root = settings.run.output
    if beam:
        beam_options(beam)  # wrong flags are told before any work
    _writable(root)
    wanted = keys(settings, as_of)
    name = runs.run_name(as_of, wanted)
    attempts = [i for i in runs.run_ids(root) if i == name or i.rpartition("+")[0] == name]
    run_id = max(attempts, key=_attempt, default=name)
    if force and only is None and attempts:
        run_id = f"{name}+{_attempt(run_id) + 1}"
    run = runs.Run(root, run_id, as_of)
    if storage.exists(storage.join(run.path, "run.json")):
        run = runs.read_run(root, run_id)
    stages = ORDER if only is None else (only,)
    if only is not None:
        run = _adopt(run, settings, wanted, needs(only, settings), tell)
        if force and only in run.folders:
            run = runs.Run(root, f"{name}+{_attempt(run_id) + 1}", as_of)
            run = _adopt(run, settings, wanted, needs(only, settings), tell)
    for number, stage in enumerate(stages):
        if not force:
            run = _adopt(run, settings, wanted, (stage,), tell)
        if stage not in run.folders:
            if "prepare" in run.folders:  # before hours of training, not after
                counts = InputCounts.of_prepared(run.folders["prepare"])
                refuse(plan(counts, settings, machine_of(settings, beam), stages=stages[number:]))
            run = _do(run, stage, settings, wanted[stage], beam, tell)
    return run


def _attempt(run_id: str) -> int:
    number = run_id.rpartition("+")[2]
    return int(number) if "+" in run_id and number.isdigit() else 1


def _writable(root: str) -> None:
    try:
        storage.make_folder(root)
        probe = storage.join(root, f".write-{uuid.uuid4().hex}")
        storage.write_bytes(b"", probe)
        fs, inner = storage.filesystem(probe)
        fs.delete_file(inner)
    except OSError as e:
        raise ConfigError(f"run.output must be a folder that can be written, got {root}: {e}") from e


def _adopt(
    run: runs.Run,
    settings: Settings,
    wanted: Mapping[str, str],
    stages: Sequence[str],
    tell: Callable[[Event], None],
) -> runs.Run:
    """Take finished stages with the wanted keys from this run or earlier ones, if they are whole."""
    for stage in stages:
        folder = runs.find_stage(run.root, stage, wanted[stage]) if stage not in run.folders else None
        if stage in run.folders:
            folder = run.folders[stage].removeprefix(run.root).lstrip("/")
        if folder is None:
            continue
        try:
            sealed = manifest.verify(storage.join(run.root, folder), contents=False)
        except ArtifactError:
            run = runs.Run(run.root, run.run_id, run.as_of, {s: f for s, f in run.folders.items() if s != stage})
            continue
        if stage not in run.folders:
            entry = {"key": wanted[stage], "folder": folder, "seconds": 0.0, "reused": True}
            run = runs.record_stage(run, stage, entry, settings.model_dump(mode="json"))
        tell(Event(stage, "reused", 0.0, sealed["summary"]))
    return run


def _do(
    run: runs.Run,
    stage: str,
    settings: Settings,
    key: str,
    beam: Sequence[str],
    tell: Callable[[Event], None],
) -> runs.Run:
    name = runs.FOLDERS[stage]
    _sweep(run.path, name)
    attempt = storage.join(run.path, f".{name}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    scratch = storage.join(run.path, f".scratch-{name}-{key[:10]}")
    storage.make_folder(attempt)
    storage.make_folder(scratch)
    tell(Event(stage, "started"))
    # No other folder than those whose keys are part of this stage's key.
    before = {s: folder for s, folder in run.folders.items() if s in needs(stage, settings)}
    job = Job(settings=settings, as_of=run.as_of, out=attempt, scratch=scratch, folders=before, beam=beam)
    try:
        with measure_usage() as usage:
            summary = _module(stage).execute(job)
        manifest.seal(attempt, stage=stage, key=key, summary=summary)
        summary = _put(attempt, storage.join(run.path, name), key)["summary"]
    except BaseException:
        storage.remove_folder(attempt)
        raise
    storage.remove_folder(scratch)
    entry = {"key": key, "folder": f"runs/{run.run_id}/{name}", "seconds": usage.seconds, "reused": False}
    run = runs.record_stage(run, stage, entry, settings.model_dump(mode="json"))
    tell(Event(stage, "finished", usage.seconds, summary, usage))
    return run


def _put(attempt: str, target: str, key: str) -> dict[str, Any]:
    """Move a sealed attempt to its place, and return the manifest there.

    Another process may have finished the same work meanwhile, read it on, even published it: what is whole stays.
    """
    if (first := _whole(target, key)) is None:
        storage.remove_folder(target)  # damaged, or not finished
        try:
            storage.move_folder(attempt, target, last=manifest.NAME)
        except OSError:
            if (first := _whole(target, key)) is None:
                raise
    storage.remove_folder(attempt)
    return first or manifest.verify(target, contents=False)


def _whole(folder: str, key: str) -> dict[str, Any] | None:
    """The manifest of a folder whose files are all there and were made with this key, or None."""
    try:
        sealed = manifest.verify(folder, contents=False)
    except ArtifactError:
        return None
    return sealed if sealed["key"] == key else None


def _sweep(run_path: str, name: str) -> None:
    """Remove attempts at a stage left by processes of this machine that are no more."""
    for folder in storage.folders(run_path):
        prefix, _, rest = folder.partition(f".{name}-{socket.gethostname()}-")
        pid = rest.partition("-")[0]
        if prefix == "" and pid.isdigit() and not _alive(int(pid)):
            storage.remove_folder(storage.join(run_path, folder))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
