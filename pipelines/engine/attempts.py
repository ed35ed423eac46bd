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
from contextlib import suppress

from topkin.artifacts import lock, manifest, storage

SCRATCH = ".scratch-"
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
    found, here = [], re.compile(rf"-{re.escape(socket.gethostname())}-(\d+)-[0-9a-f]{{8}}$")
    for name in storage.folders(run_path):
        owner = here.search(name)
        unsealed = IN_PLACE.search(name) and storage.in_place(run_path) and _has_no_manifest(run_path, name)
        if not name.startswith(".") and not unsealed:
            continue
        dead = owner is not None and not name.startswith(SCRATCH) and not lock.alive(int(owner[1]))
        if dead or time.time() - storage.changed(storage.join(run_path, name)) > lock.EXPIRY:
            found.append(name)
    return found


def _has_no_manifest(run_path: str, name: str) -> bool:
    return not storage.exists(storage.join(run_path, name, manifest.NAME))
