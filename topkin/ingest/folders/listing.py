"""Which files of a folder are its data, and which are passed over."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from topkin.ingest.folders.file import File, FolderFiles
from topkin.ingest.folders.foreign import FORMATS
from topkin.ingest.folders.hive import is_key

SUFFIXES = (".parquet", ".parq", ".pq")
UNFINISHED = (".tmp", ".temp", ".inprogress", "._copying_", ".part", ".partial", ".crc", ".bak", ".old", "~")
COMPRESSED = tuple(f"{s}{c}" for s in SUFFIXES for c in (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".snappy"))
_NAMED = 3


@dataclass(frozen=True)
class Listing:
    """The data files of an input, sorted by path; other files by name below the folder; how many are hidden, or links.

    ``schema``: the columns that a table's log declares, of which a file may lack some.
    """

    files: tuple[File, ...] = ()
    foreign: tuple[str, ...] = ()
    hidden: int = 0
    links: int = 0
    schema: pa.Schema | None = None

    @property
    def passed_over(self) -> str:
        """What is not read, in words; empty where all is."""
        parts = []
        if n := len(self.foreign):
            names = ", ".join([*self.foreign[:_NAMED], *["…"][: n - _NAMED if n > _NAMED else 0]])
            parts.append(f"{n:,} {'file that is' if n == 1 else 'files that are'} not Parquet ({names})")
        if self.hidden:
            parts.append(f"{self.hidden:,} hidden")
        if n := self.links:
            parts.append(f"{n:,} {'link to a file' if n == 1 else 'links to files'} read anyway")
        return f"passed over: {', '.join(parts)}" if parts else ""


def is_hidden(parts: Iterable[str]) -> bool:
    """Whether a file's path below its folder is hidden: a part that starts with ``.``, or with ``_`` and is no key."""
    return any(p.startswith(".") or (p.startswith("_") and not is_key(p)) for p in parts)


def listing(folder: FolderFiles, is_parquet: Callable[[Sequence[File]], Sequence[bool]]) -> Listing:
    """Divide what a folder or a glob means; one file is data whatever its name.

    Files are data by the name's end in any case; ``is_parquet`` looks into those whose names say nothing.
    """
    if folder.is_file:
        return Listing(tuple(folder.files))
    hidden, data, unsure, foreign = 0, [], [], []
    for file in folder.files:
        name = file.path.lower()
        if is_hidden(folder.below(file).split("/")):
            hidden += 1
        elif name.endswith((*SUFFIXES, *COMPRESSED)):
            data.append(file)
        elif name.endswith((*FORMATS, *UNFINISHED)):
            foreign.append(file)
        else:
            unsure.append(file)
    for file, is_data in zip(unsure, is_parquet(unsure), strict=True):
        (data if is_data else foreign).append(file)
    names = tuple(sorted(map(folder.below, foreign)))
    return Listing(tuple(sorted(data, key=lambda f: f.path)), names, hidden, folder.links)
