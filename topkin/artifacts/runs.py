"""Runs and the pointer to the published one.

::

    <output>/current.json            {"run_id": …, "as_of": …, "version": 7, "history": [earlier run ids], …};
                                     "anyway" too where gates refused it
    <output>/runs/<run_id>/run.json  which stages are finished, and in which folders

A run's tables never change once made; publishing moves the small pointer, and rollback moves it back. The pointer is
replaced only where it still is what was read, so that of two who publish neither loses the other's version.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from topkin.artifacts import lock, manifest, sealing, storage
from topkin.errors import ArtifactError, BusyError, ConfigError

POINTER = "current.json"
ANYWAY = "anyway.json"
"""In the folder of a run that was published though gates refused it: why, and what they said."""
log = logging.getLogger(__name__)
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

    def is_whole(self, stages: Sequence[str] | None = None) -> bool:
        """Whether the folders of these stages, or of all finished ones, are there.

        Some lie in older runs, which may have been removed.
        """
        folders = [self.folders.get(stage) for stage in (self.folders if stages is None else stages)]
        return all(folder and storage.exists(storage.join(folder, manifest.NAME)) for folder in folders)


@cache
def code_version() -> str:
    """A hash of topkin's source and of the libraries that decide results: another version reuses no stage."""
    digest = hashlib.sha256()
    for name in LIBRARIES:
        digest.update(f"{name}=={metadata.version(name)}".encode())
    digest.update(source_hash(Path(__file__).parents[1]).encode())
    return digest.hexdigest()


def source_hash(package: Path) -> str:
    """A hash of the modules, templates and scripts of a package, those of its sub-packages at any depth among them.

    In a checkout some sub-packages are links to folders elsewhere; they count as if they lay in the package.
    """
    digest = hashlib.sha256()
    for folder, below, names in os.walk(package, followlinks=True):
        below[:] = sorted(name for name in below if name != "__pycache__")
        for name in sorted(names):
            if name.endswith((".py", ".j2", ".js")):
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


def record_stage(run: Run, stage: str, entry: Mapping[str, object], settings: Mapping[str, object]) -> Run:
    """Note a finished stage in ``run.json``; ``entry["folder"]`` is relative to the root."""
    lock.check(run.root)
    path = storage.join(run.path, "run.json")
    state = {"stages": {}} if read_if_there(run.root, run.run_id) is None else storage.read_json(path)
    state.update(run_id=run.run_id, as_of=run.as_of.isoformat(), settings=settings, code=code_version())
    content = manifest.read(storage.join(run.root, str(entry["folder"]))) or {}
    state["made_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    state["stages"][stage] = {**entry, sealing.SEAL: content.get(sealing.SEAL, "")}
    storage.write_json(sealing.sealed(state), path)
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
        value = sealing.unsealed(sealing.parse(seen, path), path, "remove it")
        datetime.fromisoformat(value["as_of"])
        texts = {"run_id": str(value["run_id"]), "history": [str(run) for run in value["history"]]}
        return seen, {**value, **texts, "version": int(value["version"]), "folders": dict(value["folders"])}
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


def run_at(path: str) -> Run:
    """The run of its own folder, ``runs/<run id>``, or the published one of an output folder; local or a URI.

    Raises ArtifactError where there is neither.
    """
    path = path.rstrip("/")
    is_file = "://" not in path and os.path.isfile(path)
    if not is_file and storage.exists(storage.join(path, "run.json")):
        above, run_id = os.path.split(path if "://" in path else os.path.abspath(path))
        return read_run(os.path.dirname(above), run_id)
    run = None if is_file else published(path)
    if run is None:
        raise ArtifactError(
            f"{path} must be a folder with a published run ({POINTER}) or a run's own (run.json), it has neither: "
            "topkin run makes one, Recommender.save another"
        )
    return run


def published_runs(root: str, before: datetime) -> Iterator[Run]:
    """Every run as of an earlier date that was published and can be read, the one published last first."""
    current = pointer(root) or {"run_id": "", "history": []}
    for run_id in (current["run_id"], *reversed(current["history"])):
        if run_id and _may_be_before(run_id, before) and (run := read_if_there(root, run_id)) and run.as_of < before:
            yield run


def published_before(root: str, as_of: datetime) -> Run | None:
    """The newest published run as of an earlier date whose stages' folders are all there; None where there is none."""
    return next((run for run in published_runs(root, before=as_of) if run.is_whole()), None)


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


def published_by_age(root: str, as_of: datetime, days: Sequence[int], stages: Sequence[str]) -> dict[int, Run]:
    """The published runs of about so many days before a date: days to the newest run as of then or before.

    Runs without the folders of ``stages`` are passed over. A run is given once, for the most days that it is old
    enough for; days for which no run is left are not among the keys, which ascend.
    """
    newest = as_of - timedelta(days=min(days, default=0), microseconds=-1)
    earlier = list(published_runs(root, before=newest)) if days else []
    earlier.sort(key=lambda run: run.as_of, reverse=True)  # of one date, the one published last stays first
    runs: dict[int, Run] = {}
    for n in sorted(set(days), reverse=True):
        old = (run for run in earlier if run.as_of <= as_of - timedelta(days=n) and run.is_whole(stages))
        run = next(old, None)
        if run is not None and run not in runs.values():
            runs[n] = run
    return dict(sorted(runs.items()))


def publish_run(run: Run, anyway: Mapping[str, object] | None = None, *, older: bool = False) -> dict[str, Any]:
    """Move the pointer to a run. The one write that publishes; returns the pointer's new content.

    Args:
        run: The run.
        anyway: Why it is published though gates refused it, kept in the pointer.
        older: Whether it may take the place of one of a later date.

    Raises:
        ConfigError: The live version is of a later date.
        BusyError: The lock that this process held was lost.
    """
    while True:
        lock.check(run.root)
        seen, before = _read_pointer(run.root)
        if before and before["run_id"] == run.run_id and before["manifests"] == sealing.digest(run.seals):
            return before
        if before and not older and (later := later_than(run, before)):
            raise ConfigError(f"{later}: topkin publish --run {run.run_id} --older publishes it all the same")
        history = [*before["history"], before["run_id"]] if before else []
        if anyway is not None:
            storage.write_json(dict(anyway), storage.join(run.path, ANYWAY))
        value = _swap_pointer(run, [h for h in history if h != run.run_id], seen, before, anyway)
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
        paths = ", ".join(storage.join(root, "runs", run_id) for run_id in gone)
        raise ArtifactError(
            f"every run that was published before is gone, or not as it was published: {paths}; publish another with "
            f"topkin publish --run NAME, of {', '.join(run_ids(root)) or 'none left: topkin run makes one'}"
        )
    raise ArtifactError(
        f"{root} has no earlier published run to go back to: topkin runs lists what is there, and "
        "topkin publish --run NAME publishes one of them"
    )


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
    run: Run,
    history: list[str],
    seen: bytes | None,
    before: Mapping[str, Any] | None,
    anyway: Mapping[str, object] | None = None,
) -> dict[str, Any] | None:
    """Write the pointer if it still is what was seen; returns its content, or None where it is not."""
    value: dict[str, Any] = {
        "run_id": run.run_id,
        "as_of": run.as_of.isoformat(),
        "version": before["version"] + 1 if before else 1,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "folders": {stage: folder.removeprefix(run.root).lstrip("/") for stage, folder in run.folders.items()},
        "manifests": sealing.digest(run.seals),
        "history": history,
    }
    if anyway is not None:
        value["anyway"] = dict(anyway)
    content = storage.json_bytes(sealing.sealed(value))
    return value if storage.swap(storage.join(run.root, POINTER), seen, content) else None


LISTS = "lists"
"""In the folder of the stage recommend, the folder of lists beside that of ``[recommend]``."""


def list_folder(recommend: str, name: str) -> str:
    """The folder of a list's tables in that of the stage; the stage's own for the list of ``[recommend]``, ``""``."""
    return storage.join(recommend, LISTS, name) if name else recommend


def list_names(recommend: str) -> list[str]:
    """The lists beside that of ``[recommend]`` in a stage's folder, by name."""
    return sorted(storage.folders(storage.join(recommend, LISTS)))
