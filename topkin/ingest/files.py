"""The user's Parquet files: found, opened, read in batches of bounded size."""

import glob
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from topkin.artifacts.ids import storage
from topkin.artifacts.objects import files as objects
from topkin.artifacts.storage import filesystem
from topkin.errors import InputError
from topkin.ingest.folders import hive
from topkin.ingest.folders.file import File, Files, FolderFiles, glob_pattern, glob_root
from topkin.ingest.folders.foreign import why_no_parquet, why_not_parquet
from topkin.ingest.folders.lake import live_files, table_at
from topkin.ingest.folders.listing import SUFFIXES, Listing, listing
from topkin.ingest.sql import nearest, plain
from topkin.ingest.values.baskets import file_columns, slices, unnest

FILE, ROW = "__file", "__row"
"""Columns that a reader adds: the file's path (dictionary), the row's number in it from 0 (int64)."""

READ_BYTES = 4 << 20
"""Bytes of a column that are read at a time: a row group of any size costs no more memory than its batches."""


class ArrowFiles:
    """Local paths and URIs; globs on local paths and in object stores."""

    def find(self, path: str) -> FolderFiles:
        """See :class:`Files`."""
        fs, inner = filesystem(path)
        if store := objects.of(fs):
            return _objects_of(store, inner, folder=path.endswith("/"))
        prefix = path[: len(path) - len(inner)] if path.endswith(inner) else ""
        entries, root = [fs.get_file_info(inner)], inner.rstrip("/") or "/"
        is_local = isinstance(fs, pafs.LocalFileSystem)
        if is_local and entries[0].type == pafs.FileType.NotFound and any(c in inner for c in "*?["):
            entries = [fs.get_file_info(n) for n in sorted(glob.glob(inner, recursive=True))]
            root = glob_root(inner)
        infos = {f.path: f for f in entries if f.is_file}
        for folder in (f for f in entries if f.type == pafs.FileType.Directory):
            below = fs.get_file_info(pafs.FileSelector(folder.path, recursive=True))
            infos.update({f.path: f for f in below if f.is_file})
        paths = _without_links(sorted(infos)) if is_local else sorted(infos)
        files = [
            File(prefix + f.path, f.size, None if f.mtime_ns is None else f.mtime_ns / 1e9)
            for f in map(infos.__getitem__, paths)
        ]
        return FolderFiles(prefix + root, files, len(infos) - len(paths))

    def open(self, path: str) -> Any:
        """See :class:`Files`."""
        fs, inner = filesystem(path)
        store = objects.of(fs)
        return fs.open_input_file(inner) if store is None else store.open_input(inner)


def _objects_of(store: objects.ObjectFiles, key: str, *, folder: bool) -> FolderFiles:
    """The objects that a key, a prefix of folders or a glob means; their paths can have names joined to them."""
    is_glob = any(c in key for c in "*?[")
    root = glob_root(key) if is_glob else key
    root = "" if root == "." else root
    listed = store.below(root) if is_glob or not key.lower().endswith(SUFFIXES) else []
    if is_glob:
        matches = glob_pattern(key).fullmatch
        listed = [o for o in listed if matches(o["path"])]
    if not listed and not folder and (one := store.meta(key)):
        listed, root = [one], key
    elif not listed:
        listed = store.below(root) if not is_glob else []
    there = sorted((o for o in listed if not o["path"].endswith("/")), key=lambda o: str(o["path"]))
    files = [File(f"{store.bucket.uri}/{o['path']}", o["size"], o["last_modified"].timestamp()) for o in there]
    return FolderFiles(f"{store.bucket.uri}/{root}", files)


def _without_links(paths: list[str]) -> list[str]:
    """Each file once, by a name that is no link where it has one, the least deep."""
    by_file: dict[str, list[str]] = {}
    folder = cache(os.path.realpath)
    for path in paths:
        above, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(folder(above), name)
        by_file.setdefault(real, []).append(path)
    return sorted(min(names, key=lambda n: (os.path.islink(n), n.count("/"), n)) for names in by_file.values())


def _short(path: str) -> str:
    """A path as a message can hold it."""
    shown = path if path.isprintable() else repr(path)
    return shown if len(shown) <= 300 else f"{shown[:100]}…{shown[-100:]}"


def find(key: str, path: str, files: Files) -> Listing:
    """The files of an input whose path is configured as ``key``, with what their folders' names say.

    Raises InputError where there is none, or where a log says what is a row and is not read.
    """
    try:
        folder = files.find(path)
        table = table_at(path, folder, files) if folder.files else None
    except (OSError, ValueError) as e:  # a name that no filesystem takes, or a scheme that none is installed for
        raise InputError(f"{key}: {_short(path)} cannot be looked for: {str(e).replace(path, _short(path))}") from e
    if table is not None:
        live = live_files(key, path, table)
        return Listing(tuple(live.files), schema=live.schema)
    listed = listing(folder, lambda unsure: _start_like_parquet(unsure, files))
    if not listed.files:
        raise InputError(_nothing(key, path, folder, listed))
    constants = hive.constants([hive.keys_of(f.path, folder.root) for f in listed.files])
    of_files = zip(listed.files, constants, strict=True)
    return replace(listed, files=tuple(replace(file, constants=c) if c else file for file, c in of_files))


def _start_like_parquet(unsure: Sequence[File], files: Files) -> list[bool]:
    def is_parquet(file: File) -> bool:
        with files.open(file.path) as handle:
            return bool(handle.read(4) == b"PAR1")

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(is_parquet, unsure))


def _nothing(key: str, path: str, folder: FolderFiles, listed: Listing) -> str:
    """Why an input has no file."""
    if listed.foreign:
        return why_no_parquet(key, path, folder.root, listed.foreign)
    hidden = f" but {listed.hidden:,} hidden" if listed.hidden else ""
    if any(c in path for c in "*?["):
        return f"{key}: no file matches {path}{hidden}"
    if "://" not in path:
        info = pafs.LocalFileSystem().get_file_info(path)
        if info.type == pafs.FileType.Directory:
            return f"{key}: the folder {path} holds no file that ends in {', '.join(SUFFIXES)}{hidden}"
        if info.type != pafs.FileType.NotFound:
            return f"{key}: {path} is neither a file nor a folder: write the rows to a file first"
        beside = pafs.FileSelector(posixpath.dirname(path) or ".", allow_not_found=True)
        names = [f.base_name for f in pafs.LocalFileSystem().get_file_info(beside)]
        return f"{key}: there is no file {path}{nearest(posixpath.basename(path), names)}"
    return f"{key}: there is no file {path}{hidden}"


@contextmanager
def opened(source: str, path: str, files: Files) -> Iterator[pq.ParquetFile]:
    """A Parquet file, its page checksums verified where it has them.

    Raises InputError where it is empty, cut off, damaged or something else; ``source`` names the input.
    """
    try:
        with files.open(path) as handle:
            try:
                how = {"page_checksum_verification": True, "pre_buffer": False, "buffer_size": READ_BYTES}
                file = pq.ParquetFile(handle, coerce_int96_timestamp_unit="us", **how)
            except (OSError, pa.ArrowInvalid) as e:
                handle.seek(0)
                start = handle.read(16)
                if not start:
                    raise InputError(f"{source}: {path} is empty (0 bytes): write it again, or leave it out") from e
                handle.seek(0, 2)
                handle.seek(max(handle.tell() - 4, 0))
                if start[:4] == b"PAR1" == handle.read(4) and handle.tell() > 4:
                    raise InputError(f"{source}: {path} is damaged ({e}): copy or write it again") from e
                if start[:4] == b"PAR1":
                    raise InputError(
                        f"{source}: {path} is Parquet cut off before its end: copy or write it again"
                    ) from e
                raise InputError(why_not_parquet(source, path, start)) from e
            with file:
                yield file
    except FileNotFoundError as e:
        raise InputError(f"{source}: {path} is not there: it was removed, or a log names it that is out of date") from e
    except PermissionError as e:
        raise InputError(f"{source}: {path} may not be read: {e.strerror or e}") from e


Look = TypeVar("Look")


@dataclass(frozen=True)
class Footer(Generic[Look]):
    """A file with its rows counted and its constants complete, its columns (constants too), and what was looked at."""

    file: File
    schema: pa.Schema
    look: Look


class InputFooters(NamedTuple):
    """The files of an input and the footer of each, all of which could be read."""

    listing: Listing
    footers: Sequence[Footer[pq.FileMetaData]]


def read_footers(
    source: str, listing: Listing, files: Files, look: Callable[[pq.ParquetFile, File], Look]
) -> list[Footer[Look] | InputError]:
    """The footer of each file, or what is wrong with it; ``look`` reads more of one.

    A column of the null type takes its type from the other files, and one that a table's log declares and a file
    lacks is null there. Files without rows have no say.
    """

    def read(file: File) -> Footer[Look] | InputError:
        try:
            with opened(source, file.path, files) as parquet:
                file = replace(file, rows=parquet.metadata.num_rows)
                return Footer(file, file.schema(parquet.schema_arrow), look(parquet, file))
        except InputError as e:
            return e

    with ThreadPoolExecutor(8) as pool:
        footers = list(pool.map(read, listing.files))
    types = {} if listing.schema is None else {f.name: storage(f.type) for f in listing.schema}
    declared = set(types)
    for footer in footers:
        if isinstance(footer, Footer) and footer.file.rows:
            for field in footer.schema:
                if not pa.types.is_null(field.type):
                    types.setdefault(field.name, storage(field.type))
    return [_filled(f, types, declared) if isinstance(f, Footer) else f for f in footers]


def _filled(footer: Footer[Look], types: Mapping[str, pa.DataType], declared: set[str]) -> Footer[Look]:
    """A file, with constants of null for columns that are of the null type, or ``declared`` and not there."""
    known = {f.name for f in footer.schema if not pa.types.is_null(f.type)}
    lacking = ({*footer.schema.names, *declared} - known) & types.keys()
    if not lacking:
        return footer
    nulls = tuple((name, pa.scalar(None, types[name])) for name in sorted(lacking))
    file = replace(footer.file, constants=(*footer.file.constants, *nulls))
    return Footer(file, file.schema(footer.schema), footer.look)


def batches(
    source: str, file: File, files: Files, columns: Sequence[str], *, groups: Sequence[int] | None = None, rows: int
) -> Iterator[pa.Table]:
    """The rows of a file (or of some of its row groups) as tables of at most ``rows``, in order.

    Each has ``columns``, stored ones, the file's constants and elements of a list, each a row; then FILE and ROW, and
    PLACE where there is such a list. A list is in one table, which has more rows where it alone has more elements.
    Raises InputError where a page is damaged.
    """
    with opened(source, file.path, files) as parquet:
        meta, constants = parquet.metadata, file.missing_from(parquet.schema_arrow)
        wanted = file_columns(columns, [*constants, *parquet.schema_arrow.names])
        stored = [c for c in wanted if c not in constants]
        groups = list(range(meta.num_row_groups)) if groups is None else list(groups)
        starts = np.concatenate([[0], np.cumsum([meta.row_group(g).num_rows for g in range(meta.num_row_groups)])])
        for group in (g for g in groups if starts[g] < starts[g + 1]):
            at = int(starts[group])
            try:
                for batch in parquet.iter_batches(rows, [group], stored, use_threads=False):
                    n = batch.num_rows
                    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([file.path]))
                    read = {c: pa.repeat(constants[c], n) if c in constants else batch[c] for c in wanted}
                    fields = [*read.items(), (FILE, name), (ROW, pa.array(np.arange(at, at + n)))]
                    table = pa.table([array for _, array in fields], [name for name, _ in fields])
                    for some in slices(plain(table), columns, rows):
                        yield unnest(some, columns, keep=(FILE, ROW))
                    at += n
            except (OSError, pa.ArrowInvalid, pa.ArrowException) as e:
                if "Expected all lists to be of size" in str(e):
                    raise InputError(
                        f"{source}: {file.path} has a null in a list column of fixed size near row {at}, which Parquet "
                        "readers take for a list of size 0: write lists of any size, or zeros in place of the null"
                    ) from e
                raise InputError(f"{source}: {file.path} is damaged near row {at} ({e}): copy or write it again") from e


def find_files(path: str, key: str = "path") -> list[str]:
    """The paths of the Parquet files that a path, folder or glob means, sorted. Raises InputError for none."""
    return [f.path for f in find(key, path, ArrowFiles()).files]
