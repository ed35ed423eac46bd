"""Runs and the pointer to the published one.

::

    <output>/current.json            {"run_id": …, "as_of": …, "history": [earlier run ids]}
    <output>/runs/<run_id>/run.json  which stages are finished, and in which folders

A run's tables never change once made; publishing moves the small pointer, and rollback moves it back.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from topkin.artifacts import manifest, sealing, storage
from topkin.errors import ArtifactError

POINTER = "current.json"
LIBRARIES = ("apache-beam", "duckdb", "keras", "nmslib", "numpy", "pyarrow", "scipy", "tensorflow")


@dataclass(frozen=True)
class Run:
    """A run as it stands: ``folders`` maps each finished stage to its folder, ``seals`` to the seal of its manifest."""

    root: str
    run_id: str
    as_of: datetime
    folders: Mapping[str, str] = field(default_factory=dict)
    seals: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The run's own folder."""
        return storage.join(self.root, "runs", self.run_id)

    def folder(self, stage: str) -> str:
        """The folder of a finished stage. Raises ArtifactError where the stage has not run, or it is another folder."""
        if stage not in self.folders:
            raise ArtifactError(f"run {self.run_id} has no folder of the stage {stage}: run topkin {stage} first")
        self.check_seal(stage, manifest.read(self.folders[stage]) if stage in self.seals else None)
        return self.folders[stage]

    def check_seal(self, stage: str, there: Mapping[str, Any] | None) -> None:
        """Raise ArtifactError where a manifest is not that which the run was recorded with."""
        if stage in self.seals and (there is None or there[sealing.SEAL] != self.seals[stage]):
            what = "has no manifest" if there is None else "is not the folder"
            raise ArtifactError(
                f"{self.folders[stage]} {what} that run {self.run_id} was recorded with: run topkin {stage} again with "
                "--force, or publish another run with topkin publish --run NAME"
            )

    def is_whole(self) -> bool:
        """Whether the folder of each finished stage is there: some lie in older runs, which may have been removed."""
        return all(storage.exists(storage.join(folder, manifest.NAME)) for folder in self.folders.values())


@cache
def code_version() -> str:
    """A hash of topkin's source and of the libraries that decide results: another version reuses no stage."""
    digest = hashlib.sha256()
    for name in LIBRARIES:
        digest.update(f"{name}=={metadata.version(name)}".encode())
    digest.update(source_hash(Path(__file__).parents[1]).encode())
    return digest.hexdigest()


def source_hash(package: Path) -> str:
    """A hash of the modules and templates of a package, those of its sub-packages at any depth among them.

    In a checkout some sub-packages are links to folders elsewhere; they count as if they lay in the package.
    """
    digest = hashlib.sha256()
    for folder, below, names in os.walk(package, followlinks=True):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            if name.endswith((".py", ".j2")):
                path = Path(folder, name)
                digest.update(f"{path.relative_to(package)}\0".encode())
                digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def stage_key(value: Mapping[str, object]) -> str:
    """The hash of all that a stage's result depends on; equal keys mean the work is done already."""
    text = json.dumps({**value, "code": code_version()}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def run_name(as_of: datetime, keys: Mapping[str, str]) -> str:
    """``2011-11-09-3f9a0c1b2d``: the as-of date, and a hash of the stages' keys."""
    stamp = as_of.strftime("%Y-%m-%d" if as_of.time() == datetime.min.time() else "%Y-%m-%dT%H%M%S")
    return f"{stamp}-{stage_key(dict(keys))[:10]}"


def read_run(root: str, run_id: str) -> Run:
    """A run from its ``run.json``. Raises ArtifactError where there is none."""
    path = storage.join(root, "runs", run_id, "run.json")
    if not storage.exists(path):
        raise ArtifactError(
            f"the run {run_id} is gone: {path} is missing; topkin run makes it anew, topkin publish --rollback goes "
            f"back to an earlier one, topkin publish --run NAME to one of {', '.join(run_ids(root)) or 'none left'}"
        )
    again = "topkin run makes the run anew, with another name where this one is removed"
    state = sealing.unsealed(storage.read_json(path), path, again)
    if state["run_id"] != run_id:
        raise ArtifactError(f"{path} is of the run {state['run_id']}: the folder was renamed or replaced; {again}")
    folders = {stage: storage.join(root, entry["folder"]) for stage, entry in state["stages"].items()}
    seals = {stage: entry[sealing.SEAL] for stage, entry in state["stages"].items() if entry[sealing.SEAL]}
    return Run(root, run_id, datetime.fromisoformat(state["as_of"]), folders, seals)


def run_ids(root: str) -> list[str]:
    """The runs below an output folder, sorted by name."""
    runs = storage.join(root, "runs")
    return [n for n in storage.folders(runs) if storage.exists(storage.join(runs, n, "run.json"))]


def find_stage(root: str, folder: str, key: str) -> str | None:
    """The path, relative to ``root``, of a stage's folder in any run in which it finished with this key.

    The manifests are asked, not ``run.json``: a run may have died between the two.
    """
    for run_id in reversed(storage.folders(storage.join(root, "runs"))):
        path = storage.join("runs", run_id, folder)
        with suppress(ArtifactError):  # a damaged one is done again
            sealed = manifest.read(storage.join(root, path))
            if sealed is not None and sealed["key"] == key:
                return path
    return None


def record_stage(run: Run, stage: str, entry: Mapping[str, object], settings: Mapping[str, object]) -> Run:
    """Note a finished stage in ``run.json``; ``entry["folder"]`` is relative to the root."""
    path = storage.join(run.path, "run.json")
    state = storage.read_json(path) if storage.exists(path) else {"stages": {}}
    state.update(run_id=run.run_id, as_of=run.as_of.isoformat(), settings=settings, code=code_version())
    made = manifest.read(storage.join(run.root, str(entry["folder"]))) or {}
    state["stages"][stage] = {**entry, sealing.SEAL: made.get(sealing.SEAL, "")}
    storage.write_json(sealing.sealed(state), path)
    return read_run(run.root, run.run_id)


def pointer(root: str) -> dict[str, Any] | None:
    """The content of the pointer file, or None where nothing is published."""
    path = storage.join(root, POINTER)
    if not storage.exists(path):
        return None
    try:
        value = sealing.unsealed(sealing.parse(storage.read_bytes(path), path), path, "remove it")
        return {**value, "run_id": str(value["run_id"]), "history": [str(run) for run in value["history"]]}
    except (ArtifactError, ValueError, KeyError, TypeError) as e:
        raise ArtifactError(
            f"{path} is damaged ({e}): remove it, then topkin publish writes it anew; runs/ holds every run"
        ) from e


def published(root: str) -> Run | None:
    """The published run, or None."""
    current = pointer(root)
    if current is None:
        return None
    run = read_run(root, current["run_id"])
    if current["manifests"] != sealing.digest(run.seals):
        raise ArtifactError(
            f"{run.path} is not as it was published, its stages were made again or replaced: topkin publish --run "
            f"{run.run_id} checks and publishes it again"
        )
    return run


def published_before(root: str, as_of: datetime) -> Run | None:
    """The newest published run as of an earlier date whose stages' folders are all there; None where there is none."""
    current = pointer(root) or {"run_id": "", "history": []}
    for run_id in (current["run_id"], *reversed(current["history"])):
        if run_id and storage.exists(storage.join(root, "runs", run_id, "run.json")):
            run = read_run(root, run_id)
            if run.as_of < as_of and run.is_whole():
                return run
    return None


def publish_run(run: Run) -> dict[str, Any]:
    """Move the pointer to a run. The one write that publishes; returns the pointer's new content."""
    before = pointer(run.root)
    if before and before["run_id"] == run.run_id and before["manifests"] == sealing.digest(run.seals):
        return before
    history = [*before["history"], before["run_id"]] if before else []
    return _write_pointer(run, [h for h in history if h != run.run_id])


def before_published(root: str) -> tuple[Run, list[str]]:
    """The newest run of those published before that is still there, and the names of those passed over.

    A run is there where each of its stages' folders is; some may lie in an older run, which somebody may have removed.
    Raises ArtifactError where there is none.
    """
    history = (pointer(root) or {"history": []})["history"]
    gone: list[str] = []
    for run_id in reversed(history):
        if storage.exists(storage.join(root, "runs", run_id, "run.json")):
            run = read_run(root, run_id)
            if run.is_whole():
                return run, gone
        gone.append(run_id)
    if gone:
        raise ArtifactError(
            f"every run that was published in {root} before is gone ({', '.join(gone)}): publish another with "
            f"topkin publish --run NAME, of {', '.join(run_ids(root)) or 'none left: topkin run makes one'}"
        )
    raise ArtifactError(f"{root} has no earlier published run to go back to")


def roll_back(root: str) -> tuple[Run, list[str]]:
    """Move the pointer to :func:`before_published`, whose history ends where it was published; see there."""
    run, gone = before_published(root)
    history = (pointer(root) or {"history": []})["history"]
    _write_pointer(run, history[: len(history) - len(gone) - 1])
    return run, gone


def _write_pointer(run: Run, history: list[str]) -> dict[str, Any]:
    value = {
        "run_id": run.run_id,
        "as_of": run.as_of.isoformat(),
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "folders": {stage: folder.removeprefix(run.root).lstrip("/") for stage, folder in run.folders.items()},
        "manifests": sealing.digest(run.seals),
        "history": history,
    }
    storage.write_json(sealing.sealed(value), storage.join(run.root, POINTER))
    return value
