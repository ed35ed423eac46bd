"""The user's Parquet files: found, opened, read in batches of bounded size."""

import glob
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from topkin.artifacts.storage import filesystem
from topkin.errors import InputError
from topkin.ingest.sql import nearest
from topkin.ingest.values.baskets import file_columns, unnest

FILE, ROW = "__file", "__row"
"""Columns that a reader adds: the file's path (dictionary), the row's number in it from 0 (int64)."""

READ_BYTES = 4 << 20
"""Bytes of a column that are read at a time: a row group of any size costs no more memory than its batches."""

SUFFIXES = (".parquet", ".parq", ".pq")


@dataclass(frozen=True)
class File:
    """A file of an input: its path, bytes, time of change in seconds where known, and rows once read."""

    path: str
    bytes: int
    modified: float | None = None
    rows: int = 0


class Files(Protocol):
    """A filesystem as inputs need it."""

    def find(self, path: str) -> list[File]:
        """The files that a path, folder or glob means, sorted by path; none where nothing is there."""

    def open(self, path: str) -> Any:
        """A seekable binary file."""


def in_folder(names: Sequence[str], folder: str) -> list[str]:
    """Those of a folder's files that are its data: Parquet by name, nothing hidden (._ at a name's start)."""
    inner = [(n, posixpath.relpath(n, folder).split("/")) for n in names]
    return sorted(n for n, parts in inner if n.endswith(SUFFIXES) and not any(p[0] in "._" for p in parts))


class ArrowFiles:
    """Local paths, and the URIs that pyarrow knows; globs on local paths only."""

    def find(self, path: str) -> list[File]:
        """See :class:`Files`."""
        fs, inner = filesystem(path)
        prefix = path[: len(path) - len(inner)] if path.endswith(inner) else ""
        if not isinstance(fs, pafs.LocalFileSystem):
            entries = [fs.get_file_info(inner)]
        else:
            names = [inner]
            if any(c in inner for c in "*?[") and fs.get_file_info(inner).type == pafs.FileType.NotFound:
                names = sorted(glob.glob(inner, recursive=True))
            entries = [fs.get_file_info(n) for n in names]
        infos = {f.path: f for f in entries if f.type == pafs.FileType.File}
        for folder in (f for f in entries if f.type == pafs.FileType.Directory):
            below = {f.path: f for f in fs.get_file_info(pafs.FileSelector(folder.path, recursive=True)) if f.is_file}
            infos.update({n: below[n] for n in in_folder(list(below), folder.path)})
        return [
            File(prefix + f.path, f.size, None if f.mtime_ns is None else f.mtime_ns / 1e9)
            for _, f in sorted(infos.items())
        ]

    def open(self, path: str) -> Any:
        """See :class:`Files`."""
        fs, inner = filesystem(path)
        return fs.open_input_file(inner)


def _short(path: str) -> str:
    """A path as a message can hold it."""
    shown = path if path.isprintable() else repr(path)
    return shown if len(shown) <= 300 else f"{shown[:100]}…{shown[-100:]}"


def find(key: str, path: str, files: Files) -> list[File]:
    """The files of an input whose path is configured as ``key``. Raises InputError where there is none."""
    try:
        matches = files.find(path)
    except (OSError, ValueError) as e:  # a name that no filesystem takes, or a scheme that none is installed for
        raise InputError(f"{key}: {_short(path)} cannot be looked for: {str(e).replace(path, _short(path))}") from e
    if matches:
        return matches
    if any(c in path for c in "*?["):
        raise InputError(f"{key}: no file matches {path}")
    if "://" not in path:
        info = pafs.LocalFileSystem().get_file_info(path)
        if info.type == pafs.FileType.Directory:
            raise InputError(f"{key}: the folder {path} holds no file that ends in {', '.join(SUFFIXES)}")
        if info.type != pafs.FileType.NotFound:
            raise InputError(f"{key}: {path} is neither a file nor a folder: write the rows to a file first")
        beside = pafs.FileSelector(posixpath.dirname(path) or ".", allow_not_found=True)
        names = [f.base_name for f in pafs.LocalFileSystem().get_file_info(beside)]
        raise InputError(f"{key}: there is no file {path}{nearest(posixpath.basename(path), names)}")
    raise InputError(f"{key}: there is no file {path}")


@contextmanager
def opened(source: str, path: str, files: Files) -> Iterator[pq.ParquetFile]:
    """A Parquet file, its page checksums verified where it has them.

    Raises InputError where it is empty, cut off, damaged or something else; ``source`` names the input.
    """
    try:
        with files.open(path) as handle:
            try:
                how = {"page_checksum_verification": True, "pre_buffer": False, "buffer_size": READ_BYTES}
                file = pq.ParquetFile(handle, **how)
            except (OSError, pa.ArrowInvalid) as e:
                handle.seek(0)
                start = handle.read(4)
                if not start:
                    raise InputError(f"{source}: {path} is empty (0 bytes): write it again, or leave it out") from e
                handle.seek(0, 2)
                handle.seek(max(handle.tell() - 4, 0))
                if start == b"PAR1" == handle.read(4) and handle.tell() > 4:
                    raise InputError(f"{source}: {path} is damaged ({e}): copy or write it again") from e
                if start == b"PAR1":
                    raise InputError(
                        f"{source}: {path} is Parquet cut off before its end: copy or write it again"
                    ) from e
                raise InputError(f"{source}: {path} is not Parquet: it starts with {start!r}, not b'PAR1'") from e
            with file:
                yield file
    except PermissionError as e:
        raise InputError(f"{source}: {path} may not be read: {e.strerror or e}") from e


def batches(
    source: str, path: str, files: Files, columns: Sequence[str], *, groups: Sequence[int] | None = None, rows: int
) -> Iterator[pa.Table]:
    """The rows of a file (or of some of its row groups) as tables of at most ``rows``, in order.

    Each has ``columns``, then FILE and ROW, and PLACE where some are elements of a list, each a row. Raises InputError
    where a page is damaged.
    """
    with opened(source, path, files) as file:
        meta = file.metadata
        groups = list(range(meta.num_row_groups)) if groups is None else list(groups)
        wanted = file_columns(columns, file.schema_arrow.names)
        starts = np.concatenate([[0], np.cumsum([meta.row_group(g).num_rows for g in range(meta.num_row_groups)])])
        for group in groups:
            at = int(starts[group])
            try:
                for batch in file.iter_batches(rows, [group], wanted, use_threads=False):
                    table = pa.Table.from_batches([batch]).select(wanted)
                    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(table), np.int32)), pa.array([path]))
                    numbers = pa.array(np.arange(at, at + len(table)))
                    at += len(table)
                    table = table.append_column(FILE, name).append_column(ROW, numbers)
                    yield unnest(table, columns, keep=(FILE, ROW))
            except (OSError, pa.ArrowInvalid, pa.ArrowException) as e:
                if "Expected all lists to be of size" in str(e):
                    raise InputError(
                        f"{source}: {path} has a null in a list column of fixed size near row {at}, which Parquet "
                        "readers take for a list of size 0: write lists of any size, or zeros in place of the null"
                    ) from e
                raise InputError(f"{source}: {path} is damaged near row {at} ({e}): copy or write it again") from e


def find_files(path: str, key: str = "path") -> list[str]:
    """The paths of the Parquet files that a path, folder or glob means, sorted. Raises InputError for none."""
    return [f.path for f in find(key, path, ArrowFiles())]
