"""Runs and the pointer to the published one.

::

    <output>/current.json            {"run_id": …, "as_of": …, "version": 7, "history": [earlier run ids]}
    <output>/runs/<run_id>/run.json  which stages are finished, and in which folders

A run's tables never change once made; publishing moves the small pointer, and rollback moves it back. The pointer is
replaced only where it still is what was read, so that of two who publish neither loses the other's version.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from topkin.artifacts import lock, manifest, storage
from topkin.errors import ArtifactError, BusyError, ConfigError

POINTER = "current.json"
log = logging.getLogger(__name__)
LIBRARIES = ("apache-beam", "duckdb", "keras", "nmslib", "numpy", "pyarrow", "scipy", "tensorflow")


@dataclass(frozen=True)
class Run:
    """A run as it stands: ``folders`` maps each finished stage to its folder."""

    root: str
    run_id: str
    as_of: datetime
    folders: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The run's own folder."""
        return storage.join(self.root, "runs", self.run_id)

    def folder(self, stage: str) -> str:
        """The folder of a finished stage. Raises ArtifactError where the stage has not run."""
        if stage not in self.folders:
            raise ArtifactError(f"run {self.run_id} has no folder of the stage {stage}: run topkin {stage} first")
        return self.folders[stage]

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
    state = storage.read_json(path)
    folders = {stage: storage.join(root, entry["folder"]) for stage, entry in state["stages"].items()}
    return Run(root, run_id, datetime.fromisoformat(state["as_of"]), folders)


def run_ids(root: str) -> list[str]:
    """The runs below an output folder, sorted by name."""
    runs = storage.join(root, "runs")
    return [n for n in storage.folders(runs) if storage.exists(storage.join(runs, n, "run.json"))]


def record_stage(run: Run, stage: str, entry: Mapping[str, object], settings: Mapping[str, object]) -> Run:
    """Note a finished stage in ``run.json``; ``entry["folder"]`` is relative to the root."""
    lock.check(run.root)
    path = storage.join(run.path, "run.json")
    state = {"stages": {}} if read_if_there(run.root, run.run_id) is None else storage.read_json(path)
    state.update(run_id=run.run_id, as_of=run.as_of.isoformat(), settings=settings, code=code_version())
    state["made_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    state["stages"][stage] = dict(entry)
    storage.write_json(state, path)
    return read_run(run.root, run.run_id)


def pointer(root: str) -> dict[str, Any] | None:
    """The content of the pointer file, or None where nothing is published."""
    return _read_pointer(root)[1]


def _read_pointer(root: str) -> tuple[bytes | None, dict[str, Any] | None]:
    path = storage.join(root, POINTER)
    seen = storage.read_if_there(path)
    if seen is None:
        return None, None
    try:
        value = json.loads(seen)
        datetime.fromisoformat(value["as_of"])
        texts = {"run_id": str(value["run_id"]), "history": [str(run) for run in value["history"]]}
        return seen, {**value, **texts, "version": int(value["version"]), "folders": dict(value["folders"])}
    except (ValueError, KeyError, TypeError) as e:
        raise ArtifactError(
            f"{path} is damaged ({e}): remove it, then topkin publish writes it anew; runs/ holds every run"
        ) from e


def published(root: str) -> Run | None:
    """The published run, or None."""
    current = pointer(root)
    return None if current is None else read_run(root, current["run_id"])


def published_before(root: str, as_of: datetime) -> Run | None:
    """The newest published run as of an earlier date whose stages' folders are all there; None where there is none."""
    current = pointer(root) or {"run_id": "", "history": []}
    for run_id in (current["run_id"], *reversed(current["history"])):
        if run_id and _may_be_before(run_id, as_of) and (run := read_if_whole(root, run_id)) and run.as_of < as_of:
            return run
    return None


def _may_be_before(run_id: str, as_of: datetime) -> bool:
    """Whether the run of a name may be of an earlier date, as far as the name that :func:`run_name` gives tells."""
    match = re.match(r"(\d{4}-\d\d-\d\d(?:T\d{6})?)-", run_id)
    try:
        return match is None or datetime.fromisoformat(match[1]) < as_of
    except ValueError:
        return True


def read_if_there(root: str, run_id: str) -> Run | None:
    """A run; None where its ``run.json`` is gone or, with a warning, cannot be read."""
    if not storage.exists(storage.join(root, "runs", run_id, "run.json")):
        return None
    try:
        return read_run(root, run_id)
    except (ArtifactError, ValueError, KeyError, TypeError, AttributeError) as e:
        log.warning("the run %s is passed over: its run.json cannot be read (%s)", run_id, e)
        return None


def read_if_whole(root: str, run_id: str) -> Run | None:
    """As :func:`read_if_there`, with the folders of all its finished stages; None where some are gone."""
    run = read_if_there(root, run_id)
    return run if run is not None and run.is_whole() else None


def publish_run(run: Run, *, older: bool = False) -> dict[str, Any]:
    """Move the pointer to a run. The one write that publishes; returns the pointer's new content.

    Args:
        run: The run.
        older: Whether it may take the place of one of a later date.

    Raises:
        ConfigError: The live version is of a later date.
        BusyError: The lock that this process held was lost.
    """
    while True:
        lock.check(run.root)
        seen, before = _read_pointer(run.root)
        if before and before["run_id"] == run.run_id:
            return before
        if before and not older and (later := later_than(run, before)):
            raise ConfigError(f"{later}: topkin publish --run {run.run_id} --older publishes it all the same")
        history = [*before["history"], before["run_id"]] if before else []
        value = _swap_pointer(run, [h for h in history if h != run.run_id], seen, before)
        if value is not None:
            return value


def later_than(run: Run, live: Mapping[str, Any]) -> str:
    """That the live version is of a later date than a run, in words; empty where it is not."""
    date = datetime.fromisoformat(live["as_of"])
    if date <= run.as_of:
        return ""
    return (
        f"the live version never goes back to an earlier date unasked: {live['run_id']} is live, as of "
        f"{_day(date)}, and {run.run_id} is as of {_day(run.as_of)}"
    )


def _day(date: datetime) -> str:
    return date.isoformat(sep=" ").removesuffix(" 00:00:00")


def before_published(root: str) -> tuple[Run, list[str]]:
    """The newest run of those published before that is still there, and the names of those passed over.

    A run is there where each of its stages' folders is; some may lie in an older run, which somebody may have removed.
    Raises ArtifactError where there is none.
    """
    history = (pointer(root) or {"history": []})["history"]
    gone: list[str] = []
    for run_id in reversed(history):
        if (run := read_if_whole(root, run_id)) is not None:
            return run, gone
        gone.append(run_id)
    if gone:
        raise ArtifactError(
            f"every run that was published in {root} before is gone ({', '.join(gone)}): publish another with "
            f"topkin publish --run NAME, of {', '.join(run_ids(root)) or 'none left: topkin run makes one'}"
        )
    raise ArtifactError(f"{root} has no earlier published run to go back to")


def roll_back(root: str) -> tuple[Run, list[str]]:
    """Move the pointer to :func:`before_published`, whose history ends where it was published; see there.

    Raises BusyError where somebody else moved it meanwhile.
    """
    lock.check(root)
    seen, before = _read_pointer(root)
    run, gone = before_published(root)
    history = (before or {"history": []})["history"]
    if _swap_pointer(run, history[: len(history) - len(gone) - 1], seen, before) is None:
        raise BusyError(f"{storage.join(root, POINTER)} was moved by another process meanwhile: look at it, run again")
    return run, gone


def _swap_pointer(
    run: Run, history: list[str], seen: bytes | None, before: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Write the pointer if it still is what was seen; returns its content, or None where it is not."""
    value = {
        "run_id": run.run_id,
        "as_of": run.as_of.isoformat(),
        "version": before["version"] + 1 if before else 1,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "folders": {stage: folder.removeprefix(run.root).lstrip("/") for stage, folder in run.folders.items()},
        "history": history,
    }
    return value if storage.swap(storage.join(run.root, POINTER), seen, storage.json_bytes(value)) else None
