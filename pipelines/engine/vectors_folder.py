"""The folder that ``topkin embed --encoder`` fills: whose it is, and what of it an earlier call may have left."""

import os
import re
from collections.abc import Sequence

from topkin.artifacts import manifest, storage
from topkin.artifacts.embeddings import ITEMS, SUMMARY
from topkin.encoding.signature import MODEL, SIGNATURE
from topkin.errors import ConfigError
from topkin.ingest.folders.file import glob_root
from topkin.pipelines.engine.job import SCRATCH

STAGE_NAME = "encode"
MARKER = ".topkin-vectors"
"""Written before all else: a folder without it is somebody's, though it has files of the same names."""

_NAMES = {
    "": [MARKER, manifest.NAME, SUMMARY],
    "encoder/": [MODEL, SIGNATURE],
    f"{SCRATCH}/": ["counts.json"],
}
_PART = r"part-\d{6,}-\d{6,}\.parquet"
_OURS = re.compile(
    "|".join(
        rf"{re.escape(folder)}(?:{names}|\.(?:{names})\.[0-9a-f]{{32}})"  # the second is left where a job was killed
        for folder, names in (
            *((folder, "|".join(map(re.escape, names))) for folder, names in _NAMES.items()),
            ("items/", _PART),
            ("rejects/", _PART),
            ("matches/", _PART),
        )
    )
)


def apart(output: str, items: str, files: Sequence[str], encoder: str) -> None:
    """Refuse an output that holds what is read, or lies among the items, which would then be read with it.

    Args:
        output: The folder.
        items: Path, folder or glob of the items.
        files: What that means.
        encoder: The model's file or folder.

    Raises:
        ConfigError: Says which of them is in the way.
    """
    folder = _place(output)
    root = glob_root(items) if "**" in items else items  # other globs look no deeper than they say
    if _within(folder, _place(root)):
        raise ConfigError(f"{output} must lie outside of the items, {items}: --output names another folder")
    for what, path in (("items", items), ("encoder", encoder), *(("items", file) for file in files)):
        if _within(_place(path), folder):
            raise ConfigError(f"{output} must not hold the {what}, {path}: --output names another folder")


def _place(path: str) -> str:
    local = path.removeprefix("file://")
    return path.rstrip("/") if "://" in local else os.path.realpath(local)


def _within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def make_room(output: str, *, force: bool) -> None:
    """Mark a new folder as ours, or remove the files that an earlier call left in one that is.

    Args:
        output: The folder.
        force: Whether vectors that are there may go.

    Raises:
        ConfigError: The folder has a file that no earlier call wrote, which is then left as it is; or vectors.
    """
    try:
        held = storage.files(output, hidden=True)
    except NotADirectoryError as e:
        raise ConfigError(f"{output} must be a folder, it is a file: name another by --output") from e
    marked = MARKER in held
    others = [name for name in held if not marked or not _OURS.fullmatch(name)]
    if others:
        raise ConfigError(
            f"{output} must be empty or new, it has {len(others):,} files of others, such as {others[0]}: name another "
            "by --output"
        )
    sealed = manifest.read(output)
    if sealed is not None and not force:
        raise ConfigError(
            f"{output} holds {sealed['summary'][ITEMS]:,} vectors already: --force makes them again, --output names "
            "another folder"
        )
    if not marked:
        note = "topkin embed --encoder made this folder, and replaces its files when it runs again.\n"
        storage.write_bytes(note.encode(), storage.join(output, MARKER))
    # The manifest goes first: without it what is left does not count.
    storage.remove_files(output, sorted(set(held) - {MARKER}, key=lambda name: (name != manifest.NAME, name)))
