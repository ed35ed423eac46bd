"""The hidden folders of an attempt at a stage: what it writes, and scratch that the next attempt inherits.

``.<folder>-<host>-<pid>-<random>`` becomes the stage's folder; ``.scratch-<folder>-<key>-<host>-<pid>-<random>`` is the
attempt's alone, and the next one at the same key takes it by renaming it, so that two never write to one.

Where nothing is renamed, in object stores, an attempt writes into ``<folder>-<random>``, which its manifest makes the
stage's folder, and the next attempt goes on in the scratch folder as it is: a worker of a killed process that writes
there still writes the same bytes.
"""

import os
import re
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from topkin.artifacts import lock, manifest, storage
from topkin.errors import ArtifactError

SCRATCH = ".scratch-"
JOB_DAYS = 30
"""No job works longer: what its note names is like any other folder then, so that a failed night does not stay."""
IN_PLACE = re.compile(r"-[0-9a-f]{8}$")


def paths(run_path: str, folder: str, key: str) -> tuple[str, str]:
    """Where a new attempt at a stage writes, and its scratch folder; nothing is made yet."""
    if storage.in_place(run_path):
        of_key = f"{SCRATCH}{folder}-{key[:10]}"
        return storage.join(run_path, f"{folder}-{uuid.uuid4().hex[:8]}"), storage.join(run_path, of_key)
    own = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    scratch = storage.join(run_path, f"{SCRATCH}{folder}-{key[:10]}-{own}")
    return storage.join(run_path, f".{folder}-{own}"), scratch


def begin(run_path: str, folder: str, key: str, attempt: str, scratch: str) -> None:
    """Make the folders that :func:`paths` named, the scratch folder with what an earlier attempt left there."""
    if storage.in_place(run_path):
        return
    of_key = f"{SCRATCH}{folder}-{key[:10]}-"
    storage.make_folder(attempt)
    left = [storage.join(run_path, name) for name in storage.folders(run_path) if name.startswith(of_key)]
    for number, path in enumerate(sorted(left, key=storage.changed, reverse=True)):
        if number:
            _remove(path)
        else:
            storage.move_folder(path, scratch, last="")
    storage.make_folder(scratch)


def end(run_path: str, folder: str, key: str) -> None:
    """Remove what attempts at a finished stage left in a run: scratch at its key, and what :func:`sweep` does."""
    if storage.in_place(run_path):
        name = f"{SCRATCH}{folder}-{key[:10]}"
        if name in storage.folders(run_path):
            _remove(storage.join(run_path, name))
        return
    for name in storage.folders(run_path):
        if name.startswith(f"{SCRATCH}{folder}-{key[:10]}-"):
            _remove(storage.join(run_path, name))
    sweep(run_path, folder)


def sweep(run_path: str, folder: str) -> None:
    """Remove what attempts at a stage left in a run, if their processes are no more; scratch stays for the next one."""
    for name in () if storage.in_place(run_path) else abandoned(run_path):
        if name.startswith(f".{folder}-"):
            _remove(storage.join(run_path, name))


def _remove(path: str) -> None:
    """Remove a folder, as far as a worker of a process that was killed does not write there still."""
    with suppress(OSError):
        storage.remove_folder(path)


def abandoned(run_path: str) -> list[str]:
    """The folders of attempts and of scratch in a run that belong to nobody any more.

    Of attempts: those of processes of this host that ended, and any that nothing was written to for as long as a lock
    lasts. Of scratch: the latter. In object stores those of attempts have no manifest.
    """
    names, here = [], re.compile(rf"-{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]{{8}}$")
    for name in storage.folders(run_path):
        owner = here.search(name)
        unsealed = IN_PLACE.search(name) and storage.in_place(run_path) and _has_no_manifest(run_path, name)
        if not name.startswith(".") and not unsealed:
            continue
        dead = owner is not None and not name.startswith(SCRATCH) and not lock.alive(int(owner[1]))
        if dead or time.time() - storage.changed(storage.join(run_path, name)) > lock.EXPIRY:
            names.append(name)
    at_work = in_jobs(run_path) if names else set()
    return [name for name in names if name not in at_work]


def note_name(folder: str) -> str:
    """The file in a run that names the job which is to make a stage's folder, and the folders where it works."""
    return f"job-{folder}.json"


def read_note(run_path: str, name: str) -> Mapping[str, Any] | None:
    """What a file by that name says; None where it is not there, as when its job has ended."""
    path = storage.join(run_path, name)
    try:
        return dict(storage.read_json(path)) if storage.exists(path) else None
    except ArtifactError:
        if storage.exists(path):
            raise
        return None  # removed in between


def remove_note(run_path: str, folder: str) -> None:
    """Remove the note of a stage's folder, if there is one."""
    with suppress(FileNotFoundError):
        storage.remove_files(run_path, [note_name(folder)])


def in_jobs(run_path: str) -> set[str]:
    """The folders of a run in which jobs may be at work that nobody waits for."""
    return {folder for note in notes(run_path).values() for folder in note["folders"]}


def notes(run_path: str) -> dict[str, Mapping[str, Any]]:
    """The notes of jobs in a run by the stage's folder, those of the last JOB_DAYS."""
    since = f"{datetime.now(UTC) - timedelta(days=JOB_DAYS):%Y-%m-%dT%H:%M:%SZ}"
    names = [name for name in storage.files(run_path) if name.startswith("job-") and "/" not in name]
    read = {name[len("job-") : -len(".json")]: read_note(run_path, name) for name in names}
    return {folder: note for folder, note in read.items() if note is not None and note["submitted"] >= since}


def _has_no_manifest(run_path: str, name: str) -> bool:
    return not storage.exists(storage.join(run_path, name, manifest.NAME))
