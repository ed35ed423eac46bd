"""The folder that ``topkin embed --encoder`` fills: whose it is, and what of it an earlier call may have left."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from topkin.artifacts import manifest, storage
from topkin.artifacts.embeddings import ITEMS, REJECTS, SUMMARY, USERS
from topkin.encoding.signature import MODELS, SIGNATURE
from topkin.errors import ConfigError
from topkin.ingest.folders.file import glob_root
from topkin.pipelines.engine.job import SCRATCH

STAGE_NAME = "encode"
MARKER = ".topkin-vectors"
"""Written before all else: a folder without it is somebody's, though it has files of the same names."""

_NAMES = {
    "": [MARKER, manifest.NAME, SUMMARY],
    "encoder/": [*MODELS.values(), SIGNATURE],
    f"{SCRATCH}/": ["counts.json"],
}
_PART = r"part-\d{6,}-\d{6,}\.parquet"
_OURS = re.compile(
    "|".join(
        rf"{re.escape(folder)}(?:{names}|\.(?:{names})\.[0-9a-f]{{32}})"  # the second is left where a job was killed
        for folder, names in (
            *((folder, "|".join(map(re.escape, names))) for folder, names in _NAMES.items()),
            *((f"{folder}/", _PART) for folder in (*REJECTS, *REJECTS.values())),
            ("matches/", _PART),
        )
    )
)


def apart(output: str, side: str, table: str, files: Sequence[str], encoder: str) -> None:
    """Refuse an output that holds what is read, or lies among the items or users, which would be read with it.

    Args:
        output: The folder.
        side: ``items`` or ``users``, whom the table lists.
        table: Its path, folder or glob.
        files: What that means.
        encoder: The model's file or folder.

    Raises:
        ConfigError: Says which of them is in the way.
    """
    folder = _place(output)
    root = glob_root(table) if "**" in table else table  # other globs look no deeper than they say
    if _within(folder, _place(root)):
        raise ConfigError(f"{output} must lie outside of the {side}, {table}: --output names another folder")
    for what, path in ((side, table), ("encoder", encoder), *((side, file) for file in files)):
        if _within(_place(path), folder):
            raise ConfigError(f"{output} must not hold the {what}, {path}: --output names another folder")


def _place(path: str) -> str:
    local = path.removeprefix("file://")
    return path.rstrip("/") if "://" in local else os.path.realpath(local)


def _within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def make_room(output: str, side: str, encoder: str, *, force: bool) -> dict[str, Any]:
    """Mark a new folder as ours, or remove the files that an earlier call left of a side in one that is.

    Those of the other side stay where they are of the same encoder.

    Args:
        output: The folder.
        side: ``items`` or ``users``, which is to be made.
        encoder: The hash of that which makes it.
        force: Whether vectors that are there may go.

    Returns:
        What the summary says of the other side, where it is kept.

    Raises:
        ConfigError: The folder has a file that no earlier call wrote, which is then left as it is; or vectors of this
            side, or of another encoder.
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
    summary = {} if sealed is None else sealed["summary"]
    other, fits = ITEMS if side == USERS else USERS, summary.get("encoder") == encoder
    if not force and (side in summary or (other in summary and not fits)):
        there = f" of {other} by encoder {summary['encoder'][:12]}…" if side not in summary else ""
        there = there or (" of users" if side == USERS else "")
        raise ConfigError(
            f"{output} holds {summary[side if side in summary else other]:,} vectors{there} already: --force makes "
            "them again, --output names another folder"
        )
    if not marked:
        note = "topkin embed --encoder made this folder, and replaces its files when it runs again.\n"
        storage.write_bytes(note.encode(), storage.join(output, MARKER))
    kept = {key: summary[key] for key in (other, REJECTS[other])} if other in summary and fits else {}
    mine = tuple(f"{folder}/" for folder in (side, REJECTS[side], SCRATCH))
    gone = {name for name in held if name.startswith(mine)} if kept else set(held) - {MARKER}
    # The manifest goes first: without it what is left does not count.
    storage.remove_files(output, sorted(gone, key=lambda name: (name != manifest.NAME, name)))
    if kept and side in summary:
        seal(output, {"encoder": encoder, "dim": summary["dim"], **kept})
    return kept


def seal(output: str, summary: Mapping[str, Any]) -> None:
    """Write ``vectors.json``, then the manifest: the folder is whole."""
    storage.write_json(summary, storage.join(output, SUMMARY))
    manifest.seal(output, stage=STAGE_NAME, key=str(summary["encoder"]), summary=summary)
