"""A file of an input, and what finds and opens files."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

Constants = tuple[tuple[str, pa.Scalar], ...]
"""Columns by name that have one value in all rows of a file: what its folder's name or a table's log says."""


@dataclass(frozen=True)
class File:
    """A file of an input: its path, bytes, time of change in seconds where known, and rows once read.

    ``constants`` are columns beside those that it stores; a stored column of the same name wins, unless it is of
    the null type.
    """

    path: str
    bytes: int
    modified: float | None = None
    rows: int = 0
    constants: Constants = ()

    def missing_from(self, stored: pa.Schema) -> dict[str, pa.Scalar]:
        """The constants that a file with the columns ``stored`` does not have itself."""
        own = {f.name.lower() for f in stored if not pa.types.is_null(f.type)}
        return {name: value for name, value in self.constants if name.lower() not in own}

    def schema(self, stored: pa.Schema) -> pa.Schema:
        """The columns of the file's rows: those that it stores, then its constants."""
        added = self.missing_from(stored)
        fields = [f for f in stored if f.name not in added]
        return pa.schema([*fields, *(pa.field(name, value.type) for name, value in added.items())])


class FolderFiles(NamedTuple):
    """What a path means: its files of every kind, hidden ones too, and the folder below which they lie.

    ``root`` is the path itself where it is one file; of a glob it is what stands before the first sign. ``links``:
    links to files that are among them anyway.
    """

    root: str
    files: list[File]
    links: int = 0

    @property
    def is_file(self) -> bool:
        """Whether the path is one file."""
        return len(self.files) == 1 and self.files[0].path == self.root

    def below(self, file: File) -> str:
        """A file's path below the root."""
        return file.path.removeprefix(self.root.rstrip("/") + "/")


class Files(Protocol):
    """A filesystem as inputs need it."""

    def find(self, path: str) -> FolderFiles:
        """What a path means, files sorted by path; none where nothing is there."""

    def open(self, path: str) -> Any:
        """A seekable binary file."""


def glob_root(path: str) -> str:
    """The folder in which the first sign of a glob is looked for."""
    fixed = path[: min(path.find(c) for c in "*?[" if c in path)]
    return fixed.rpartition("/")[0] or ("/" if fixed.startswith("/") else ".")


_SIGNS = re.compile(r"\*+|\?|\[!?.[^\]]*\]|.", re.DOTALL)
_CHARACTERS = re.compile(r"(.)-(.)|(.)", re.DOTALL)


def _sign(sign: str) -> str:
    """A sign of a glob, or one character, as a regular expression."""
    if sign[0] == "*":
        return "[^/]*"
    if sign == "?":
        return "[^/]"
    if len(sign) == 1 or sign == "[!]":
        return re.escape(sign)
    inside, other = sign[1:-1].removeprefix("!"), sign[1] == "!"
    pairs = [(a or c, b or c) for a, b, c in _CHARACTERS.findall(inside)]
    several = "".join(f"{re.escape(first)}-{re.escape(last)}" for first, last in pairs if first <= last)
    if not several:
        return "[^/]" if other else "(?!)"
    return f"[{'^/' if other else ''}{several}]"


def glob_pattern(path: str) -> re.Pattern[str]:
    """What a glob matches among the paths of files: those that it names, and all below a folder that it names.

    As of :func:`glob.glob`: ``**`` between slashes is any number of folders, and no sign means a name's leading dot.
    """
    parts = []
    for part in path.split("/"):
        if part == "**":
            parts.append(r"(?:[^./][^/]*/)*")
        else:
            hidden = r"(?!\.)" if part[:1] in ("*", "?", "[") else ""
            parts.append(hidden + "".join(map(_sign, _SIGNS.findall(part))) + "/")
    text = "".join(parts)
    return re.compile((text[:-1] if text.endswith("/") else text + "[^/]+") + "(?:/.*)?", re.DOTALL)
