"""The index of finished stages: one tiny file for each key, so that finding a stage reads none of the other runs.

::

    <output>/runs/stages/<key>       the stage's folder, relative to the output
    <output>/runs/stages/complete    what is not here is nowhere

An entry is written before the folder gets its name, and counts only if the manifest in that folder has the key. Without
``complete`` all manifests are read once and the index is written; so it may be removed at any time.
"""

import logging
import posixpath
from collections.abc import Iterator
from contextlib import suppress

from topkin.artifacts import manifest, storage
from topkin.errors import ArtifactError

FOLDER = "stages"
COMPLETE = "complete"

log = logging.getLogger(__name__)


def find(root: str, key: str) -> str | None:
    """The folder, relative to ``root``, of a stage that finished with this key in any run; None where there is none."""
    if storage.read_if_there(_place(root, COMPLETE)) is None:
        return _rebuild(root).get(key)
    entry = storage.read_if_there(_place(root, key))
    if entry is None:
        return None
    folder = entry.decode(errors="replace").strip()
    if key_of(root, folder) == key:
        return folder
    again = next((place for place, finished in _finished(root) if finished == key), None)  # another run may have it too
    with suppress(OSError):  # by somebody who may only read
        if again is None:
            forget(root, key)
        else:
            note(root, key, again)
    return again


def note(root: str, key: str, folder: str) -> None:
    """Say that a stage with this key is, or is about to be, in a folder relative to ``root``."""
    with storage.atomic_write(_place(root, key), durable=False) as stream:
        stream.write(f"{folder}\n".encode())


def forget(root: str, key: str, folder: str | None = None) -> None:
    """Take an entry away; with ``folder`` only if it is the one named.

    Another run that made the same stage is not looked for: who needs the stage makes it again.
    """
    path = _place(root, key)
    entry = storage.read_if_there(path)
    if entry is not None and folder in (None, entry.decode(errors="replace").strip()):
        storage.remove_files(posixpath.dirname(path), [posixpath.basename(path)])


def _rebuild(root: str) -> dict[str, str]:
    """Write the index from the manifests of all runs; of several with one key that of the last run by name counts."""
    places = {key: folder for folder, key in reversed(list(_finished(root)))}
    if storage.exists(storage.join(root, "runs")):
        with suppress(OSError):
            for key, folder in places.items():
                note(root, key, folder)
            note(root, COMPLETE, COMPLETE)
    return places


def _place(root: str, key: str) -> str:
    return storage.join(root, "runs", FOLDER, key)


def key_of(root: str, folder: str) -> str | None:
    """The key in the manifest of a folder relative to ``root``; None, and a warning, where that is damaged."""
    path = storage.join(root, folder)
    try:
        sealed = manifest.read(path)
        return None if sealed is None else str(sealed["key"])
    except (ArtifactError, KeyError, TypeError, ValueError, OSError) as e:
        log.warning("%s/%s cannot be read, what it vouches for is passed over (%s)", path, manifest.NAME, e)
        return None


def _finished(root: str) -> Iterator[tuple[str, str]]:
    """Each stage's folder that has a manifest, and its key; the last runs by name first."""
    for run_id in reversed(storage.folders(storage.join(root, "runs"))):
        if run_id == FOLDER:
            continue
        for name in storage.folders(storage.join(root, "runs", run_id)):
            folder = storage.join("runs", run_id, name)
            if not name.startswith(".") and (key := key_of(root, folder)) is not None:
                yield folder, key
