"""What makes a changed byte of a run known to whoever reads it: digests of files, of blocks within them, of JSON.

A manifest lists the SHA-256 of each file and, of a long one, of each block; whoever reads a file whose folder has a
manifest is given no byte of a block that is not as listed. Manifests, ``run.json`` and the pointer carry a digest of
themselves, and each names the digests of those below: a folder put in the place of another is seen.
"""

import hashlib
import io
import json
import posixpath
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.fs as pafs

from topkin.artifacts.objects import digests as of_files
from topkin.artifacts.objects import files as objects
from topkin.artifacts.objects.memory import MEMORY
from topkin.errors import ArtifactError
from topkin.telemetry.secrets import masked_values

MANIFEST, SEAL = "manifest.json", "seal"
DEPTH = 3
"""Folders above a file, its own among them, in which its manifest may lie."""
CURE = "run the stage that makes it again with --force"


def digest(value: object) -> str:
    """The SHA-256 of a value as JSON, its keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object, credentials masked, with the digest of its own content, as ``seal``."""
    content = {key: item for key, item in masked_values(value).items() if key != SEAL}
    return {**content, SEAL: digest(content)}


def unsealed(value: object, path: str, cure: str) -> dict[str, Any]:
    """A JSON object whose seal is right. Raises ArtifactError with the path and the cure for anything else."""
    if not isinstance(value, dict) or value.get(SEAL) != sealed(value)[SEAL]:
        what = "carries no digest" if isinstance(value, dict) and SEAL not in value else "is not what its digest says"
        what = what if isinstance(value, dict) else f"must be a JSON object, it is a {type(value).__name__} and"
        raise ArtifactError(f"{path} {what}: it is damaged, or of another version of topkin; {cure}")
    return value


class Stored(dict[str, Any]):
    """An object of a JSON file; a key that it lacks is an ArtifactError that names the file."""

    path: str

    def __missing__(self, key: str) -> NoReturn:
        raise ArtifactError(f"{self.path} has no {key!r}: it is damaged, or of another version of topkin; {CURE}")


def parse(data: bytes, path: str) -> Any:
    """The value of a JSON file. Raises ArtifactError for whatever is no JSON that topkin writes."""

    def stored(value: dict[str, Any]) -> Stored:
        held = Stored(value)
        held.path = path
        return held

    try:
        return json.loads(data.decode(), object_hook=stored, parse_constant=_no_number)
    except (ValueError, RecursionError) as e:
        why = str(e) if isinstance(e, ValueError) else "it is nested too deep"
        raise ArtifactError(f"{path} is not JSON ({why}): {CURE}") from e


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def entry(fs: pafs.FileSystem, inner: str) -> dict[str, Any] | None:
    """What the manifest above a file says of it; None where none does, as before a stage is finished.

    Raises ArtifactError where the manifest does not list the file, or is damaged.
    """
    manifest, name = _above(fs, posixpath.dirname(inner), [posixpath.basename(inner)])
    if manifest is None or name == MANIFEST:
        return None
    path, listed = manifest
    if name not in listed and not any(part.startswith(".") for part in name.split("/")):
        raise ArtifactError(f"{inner} is not in {path}: run the stage again with --force")
    return listed.get(name)


def listed(fs: pafs.FileSystem, inner: str) -> set[str] | None:
    """The files that a folder holds, relative to it, by the manifest in it or above; None where none is."""
    manifest, name = _above(fs, inner, [])
    if manifest is None:
        return None
    start = f"{name}/" if name else ""
    return {file.removeprefix(start) for file in manifest[1] if file.startswith(start)}


def _above(fs: pafs.FileSystem, folder: str, names: list[str]) -> tuple[tuple[str, dict[str, Any]] | None, str]:
    """The manifest in a folder, or in one of those above: its path and files; and the place relative to its folder."""
    candidates = []
    for _ in range(DEPTH):
        candidates.append((posixpath.join(folder, MANIFEST), "/".join(reversed(names))))
        if not posixpath.basename(folder):
            break
        names.append(posixpath.basename(folder))
        folder = posixpath.dirname(folder)
    if store := objects.of(fs):
        for path, name in _of_stage(candidates):
            files = MEMORY.derived((store.bucket, path), partial(_files_in, store, path))
            if files is not None:
                return (path, files), name
        return None, ""
    for info, (path, name) in zip(fs.get_file_info([path for path, _ in candidates]), candidates, strict=True):
        if info.type == pafs.FileType.File:
            files = _files(fs, path, (info.mtime_ns, info.size))
            if files is not None:
                return (path, files), name
    return None, ""


def _of_stage(candidates: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that may be there, where a path says what it is of a run: ``…/runs/<run_id>/<stage>/manifest.json``."""
    for path, name in candidates:
        parts = path.split("/")
        if parts[-4:-3] == ["runs"]:
            return [] if parts[-2].startswith(".") else [(path, name)]
        if "runs" in parts[-3:-1]:
            return []
    return candidates


_known: dict[str, tuple[object, dict[str, Any] | None]] = {}


def _files(fs: pafs.FileSystem, path: str, state: object) -> dict[str, Any] | None:
    """The files that a manifest lists; None where a file of that name is somebody else's."""
    if _known.get(path, (None,))[0] != state:
        with fs.open_input_stream(path, compression=None) as source:
            data = source.read()
        _known[path] = (state, _files_of(data, path))
        if len(_known) > 1000:
            del _known[next(iter(_known))]
    return _known[path][1]


def _files_in(store: objects.ObjectFiles, path: str) -> dict[str, Any] | None:
    return _files_of(store.read(path), path)


def _files_of(data: bytes | None, path: str) -> dict[str, Any] | None:
    try:
        value = None if data is None else json.loads(data)
    except (ValueError, RecursionError):
        value = None
    ours = isinstance(value, dict) and {"stage", "key", "files", SEAL} <= set(value)
    return unsealed(value, path, CURE)["files"] if ours else None


class Verified(io.RawIOBase):
    """A file that gives no byte of a block which is not as its manifest says, but raises ArtifactError."""

    def __init__(self, source: pa.NativeFile, path: str, want: Mapping[str, Any]) -> None:
        self._source, self._path, self._want, self._at = source, path, want, 0
        self._block: tuple[int, bytes] = (-1, b"")
        if source.size() != want["bytes"]:
            self._damaged()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = offset + (0, self._at, self._want["bytes"])[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, all that are left without a number."""
        end = self._want["bytes"] if size is None or size < 0 else min(self._at + size, self._want["bytes"])
        parts = []
        while self._at < end:
            number, start = divmod(self._at, of_files.BLOCK)
            part = self._verified(number)[start : start + end - self._at]
            parts.append(part)
            self._at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: Any) -> int:
        """As :meth:`read`, into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file below too."""
        if not self.closed:
            self._source.close()
        super().close()

    def _verified(self, number: int) -> bytes:
        if self._block[0] != number:
            self._source.seek(number * of_files.BLOCK)
            block = self._source.read(min(of_files.BLOCK, self._want["bytes"] - number * of_files.BLOCK))
            blocks = self._want.get("blocks")
            right = of_files.of_block(block) == blocks[number] if blocks else _sha256(block) == self._want["sha256"]
            if not right:
                self._damaged()
            self._block = (number, block)
        return self._block[1]

    def _damaged(self) -> NoReturn:
        raise ArtifactError(
            f"{self._path} changed after its stage finished (manifest: {self._want['bytes']} bytes, sha256 "
            f"{self._want['sha256'][:12]}…; found {self._source.size()} bytes): run the stage again with --force"
        )


def _sha256(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()
