"""The collection of runs that nobody needs any more. Called by who holds the lock of the output folder.

A run goes in three steps, each of which may be the last one of a process that is killed: ``deleted.json`` says that it
is to go, ``run.json`` is removed, then each stage's folder that no other run uses, its manifest first. A folder that
another run uses stays where it is until that run goes too.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow.fs as pafs

from topkin.artifacts import lock, manifest, runs, stage_index, storage
from topkin.errors import ArtifactError, ConfigError
from topkin.pipelines.engine import attempts
from topkin.pipelines.upkeep import versions
from topkin.pipelines.upkeep.versions import LIVE, OLD, PINNED, Version

DELETED = "deleted.json"
_HALF = re.compile(r"^\.(.+\.|write-)[0-9a-f]{32}$")  # what a process that was killed had not renamed yet


@dataclass
class Collected:
    """What was deleted, or would be: runs by name, folders relative to the output, and bytes."""

    runs: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    bytes: int = 0

    def __bool__(self) -> bool:
        return bool(self.runs or self.folders)


def collect(root: str, keep: int, *, dry: bool = False) -> Collected:
    """Delete what is neither live, nor pinned, nor one of the last ``keep`` published, nor used by one of these.

    Attempts and scratch of processes that are no more go too. Runs that were never published stay as long as a version
    that was made before them.

    Args:
        root: The output folder.
        keep: How many versions stay, the live one among them.
        dry: Only tell.
    """
    entries, done = versions.versions(root, keep), Collected()
    doomed = [v.run_id for v in entries if v.state == OLD]
    stay = [v for v in entries if v.state != OLD]
    if (used := used_folders(root, stay)) is not None:
        for run_id in doomed:
            _delete(root, run_id, used, done, dry=dry)
        _delete_rest(root, {v.run_id for v in entries}, used, done, dry=dry)
    for version in stay:
        for name in attempts.abandoned(storage.join(root, "runs", version.run_id)):
            _remove(root, f"runs/{version.run_id}/{name}", done, dry=dry)
    if not dry:
        for folder in (root, *(storage.join(root, "runs", v.run_id) for v in stay)):
            _remove_half_files(folder)
    return done


def delete(root: str, names: Sequence[str], keep: int) -> Collected:
    """Delete runs by name; stages that other runs use stay.

    Raises ConfigError for the live run and for a pinned one, ArtifactError where it cannot be told what others use.
    """
    entries = {v.run_id: v for v in versions.versions(root, keep)}
    for name in names:
        if entries[name].state == LIVE:
            raise ConfigError(f"the live run is not deleted, {name} is live: publish another one first")
        if entries[name].state == PINNED:
            raise ConfigError(f"a pinned run is not deleted, {name} is pinned: topkin runs unpin {name} first")
    used = used_folders(root, [v for v in entries.values() if v.run_id not in names])
    if used is None:
        raise ArtifactError(
            f"stages that other runs use must stay, and a run.json of {root} cannot be read (see above): name that run "
            "too"
        )
    done = Collected()
    for name in names:
        _delete(root, name, used, done)
    _delete_rest(root, set(entries), used, done)
    return done


def used_folders(root: str, stay: Sequence[Version]) -> set[str] | None:
    """The folders, relative to ``root``, of the stages of some runs and the pointer; None where one is damaged."""
    pointer = runs.pointer(root)
    used = set(pointer["folders"].values()) if pointer else set()
    for version in stay:
        if version.run is None:
            runs.log.warning(
                "nothing is deleted while %s cannot be read: topkin runs delete %s deletes that run",
                storage.join(root, "runs", version.run_id, "run.json"),
                version.run_id,
            )
            return None
        used |= {folder.removeprefix(root.rstrip("/")).lstrip("/") for folder in version.run.folders.values()}
    return used


def _delete(root: str, run_id: str, used: set[str], done: Collected, *, dry: bool = False) -> None:
    path = storage.join(root, "runs", run_id)
    done.runs.append(run_id)
    done.bytes += storage.size(storage.join(path, "run.json"))
    if not dry:
        storage.write_json({"run_id": run_id}, storage.join(path, DELETED))
        storage.remove_files(path, ["run.json"])
    _delete_unused(root, run_id, used, done, dry=dry)


def _delete_unused(root: str, run_id: str, used: set[str], done: Collected, *, dry: bool = False) -> None:
    """Remove the folders of a run that is deleted but for those that others use, and its own when it is empty."""
    path = storage.join(root, "runs", run_id)
    names = storage.folders(path)
    for name in names:
        if f"runs/{run_id}/{name}" not in used:
            _remove(root, f"runs/{run_id}/{name}", done, dry=dry)
    if not dry and not any(f"runs/{run_id}/{name}" in used for name in names):
        storage.remove_folder(path)


def _delete_rest(root: str, known: set[str], used: set[str], done: Collected, *, dry: bool = False) -> None:
    """What is left of runs that went before, and of attempts at a run that recorded no stage."""
    for run_id in storage.folders(storage.join(root, "runs")):
        path = storage.join(root, "runs", run_id)
        if run_id in known or run_id == stage_index.FOLDER:
            continue
        if not storage.exists(storage.join(path, DELETED)):
            for name in attempts.abandoned(path):
                _remove(root, f"runs/{run_id}/{name}", done, dry=dry)
            if attempts.in_jobs(path):
                continue
            if storage.folders(path) and time.time() - storage.changed(path) < lock.EXPIRY:
                continue
        _delete_unused(root, run_id, used, done, dry=dry)


def _remove(root: str, folder: str, done: Collected, *, dry: bool) -> None:
    path = storage.join(root, folder)
    done.folders.append(folder)
    done.bytes += storage.folder_size(path)
    if dry:
        return
    key = stage_index.key_of(root, folder)
    if key is not None:
        stage_index.forget(root, key, folder)
        storage.remove_files(path, [manifest.NAME])
    storage.remove_folder(path)


def _remove_half_files(folder: str) -> None:
    """Remove hidden files that a killed process was writing in a folder."""
    fs, inner = storage.filesystem(folder)
    for info in fs.get_file_info(pafs.FileSelector(inner)):
        if info.is_file and _HALF.match(info.base_name) and time.time() - info.mtime.timestamp() > lock.EXPIRY:
            fs.delete_file(info.path)
