"""The seal of a finished stage: ``manifest.json`` with the size and SHA-256 of every file in its folder, and its own.

A folder without a manifest is not finished. The manifest is written last.
"""

from collections.abc import Mapping
from typing import Any

from topkin.artifacts import sealing, storage
from topkin.errors import ArtifactError

NAME = sealing.MANIFEST


def seal(folder: str, *, stage: str, key: str, summary: Mapping[str, object], recipe: str = "") -> dict[str, Any]:
    """Write the manifest of a folder that will not change any more, and return it.

    recipe: the hash of the code and settings that made it, whatever the data; a folder without one is like no other.
    """
    listed: dict[str, dict[str, Any]] = {}
    for name in sorted(set(storage.files(folder)) - {NAME}):
        path = storage.join(folder, name)
        listed[name] = storage.digests(path)
        storage.fsync(*storage.filesystem(path))
    below = {storage.join(folder, *name.split("/")[:depth]) for name in listed for depth in range(name.count("/") + 1)}
    for path in sorted(below, reverse=True):  # what is in a folder before the folder
        storage.fsync(*storage.filesystem(path))
    manifest = sealing.sealed({"stage": stage, "key": key, "recipe": recipe, "summary": dict(summary), "files": listed})
    storage.write_json(manifest, storage.join(folder, NAME))
    return manifest


def read(folder: str) -> dict[str, Any] | None:
    """The manifest of a finished folder, or None where there is none. Raises ArtifactError where it is damaged."""
    path = storage.join(folder, NAME)
    if storage.in_place(path):
        data = storage.read_if_there(path)
        return None if data is None else sealing.unsealed(sealing.parse(data, path), path, sealing.CURE)
    return sealing.unsealed(storage.read_json(path), path, sealing.CURE) if storage.exists(path) else None


def verify(folder: str, *, contents: bool = True) -> dict[str, Any]:
    """Check a folder against its manifest; ``contents=False`` looks at names and sizes only.

    In an object store, where each change of an object has its time, those that are younger than the manifest are read
    all the same.

    Raises ArtifactError that names the first file which is missing, changed or was added.
    """
    manifest = read(folder)
    if manifest is None:
        raise ArtifactError(f"{folder} has no {NAME}: its stage did not finish; run it again")
    stored = storage.sizes(folder)
    late = storage.younger(folder, NAME)
    names = set(stored) - {NAME}
    for name in sorted(names ^ set(manifest["files"])):
        what = "is not in the manifest" if name in names else "is missing"
        raise ArtifactError(f"{storage.join(folder, name)} {what}: run the stage again with --force")
    for name, want in manifest["files"].items():
        path = storage.join(folder, name)
        size = stored[name]
        looked_into = contents or name in late
        if size != want["bytes"] or (looked_into and storage.sha256(path) != want["sha256"]):
            raise ArtifactError(
                f"{path} changed after its stage finished (manifest: {want['bytes']} bytes, sha256 "
                f"{want['sha256'][:12]}…; found {size} bytes): run the stage again with --force"
            )
    return manifest
