"""Files of a run: Parquet, JSON and checksums, on a local disk, in an object store, or on what else pyarrow knows.

A file appears whole or not at all: it is written beside its place and moved there; an object store holds an object
when all of it has come. Written twice from the same table it has the same bytes.
"""

import fcntl
import json
import os
import posixpath
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache, partialmethod
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from topkin.artifacts import sealing
from topkin.artifacts.objects import files as objects
from topkin.artifacts.objects import uri
from topkin.artifacts.objects.digests import digests as digests_of
from topkin.artifacts.objects.memory import MEMORY
from topkin.artifacts.schemas import text_columns
from topkin.ending.shortage import full_disk
from topkin.errors import ArtifactError, BusyError
from topkin.telemetry.secrets import masked_values

ROW_GROUP_ROWS = 131_072
GUARD_SECONDS = 30
"""How long a swap waits for the one before it, which takes milliseconds unless its process is stopped."""
FRESH = 3
"""Folders above one that is moved to its place that may be new too: of the run, of all runs, the output."""


@contextmanager
def files_of_mode(mode: str) -> Iterator[None]:
    """Give what is made inside, on a local disk, the rights of ``run.mode``; who may read a folder may enter it.

    The process's own creation mask is changed meanwhile, and that of the workers that it starts.
    """
    rights = int(mode, 8)
    before = os.umask(0o777 & ~(rights | (rights & 0o444) >> 2))
    try:
        yield
    finally:
        os.umask(before)


def filesystem(path: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a path or URI, and the path within it."""
    if "://" not in path:
        return pafs.LocalFileSystem(), path
    if uri.is_object(path):
        bucket, key = uri.parse(path)
        return objects.filesystem(bucket), key
    if path.startswith("file:"):
        fs, inner = pafs.FileSystem.from_uri(path)
        return fs, inner
    scheme, _, rest = path.partition("://")
    host, slash, inner = rest.partition("/")
    return _client(f"{scheme}://{host}/"), slash + inner


@cache
def _client(host: str) -> pafs.FileSystem:
    """One a process."""
    return pafs.FileSystem.from_uri(host)[0]


def in_place(path: str) -> bool:
    """Whether files are written where they stay, since nothing is renamed there: in object stores."""
    return uri.is_object(path)


def remembering() -> AbstractContextManager[None]:
    """Inside, this process works alone in the output folder: what it saw in an object store is not asked for again."""
    return MEMORY.job()


def forget_seen() -> None:
    """Ask an object store again: other processes, such as Beam's workers, wrote meanwhile."""
    MEMORY.forget_seen()


def canonical(path: str) -> str:
    """A path to which names can be joined; see :func:`topkin.artifacts.objects.uri.canonical`."""
    return uri.canonical(path)


def join(*parts: str) -> str:
    """Paths and URIs joined with a slash; the options of a URI go before its bucket, see :func:`canonical`."""
    return posixpath.join(canonical(parts[0]), *parts[1:])


def exists(path: str) -> bool:
    """Whether there is a file or a folder; what ends in ``.json`` is no folder."""
    fs, inner = filesystem(path)
    if (store := objects.of(fs)) and inner.endswith(".json"):
        return store.read(inner) is not None
    return bool(fs.get_file_info(inner).type != pafs.FileType.NotFound)


def make_folder(path: str) -> None:
    """Make a folder and those above it."""
    fs, inner = filesystem(path)
    fs.create_dir(inner, recursive=True)


def remove_folder(path: str) -> None:
    """Remove a folder with all in it, if it is there."""
    fs, inner = filesystem(path)
    if objects.of(fs) or fs.get_file_info(inner).type == pafs.FileType.Directory:
        fs.delete_dir(inner)


def remove_files(folder: str, names: Sequence[str]) -> None:
    """Remove files of a folder in this order, and the folders within it that they leave empty.

    In an object store the first one goes first, then all others.
    """
    fs, inner = filesystem(folder)
    if store := objects.of(fs):
        for some in (names[:1], names[1:]):
            store.delete([posixpath.join(inner, name) for name in some])
        return
    for name in names:
        fs.delete_file(posixpath.join(inner, name))
    for below in sorted({posixpath.dirname(name) for name in names} - {""}):
        path = posixpath.join(inner, below)
        if not fs.get_file_info(pafs.FileSelector(path, allow_not_found=True)):
            fs.delete_dir(path)


def move_folder(source: str, target: str, *, last: str) -> None:
    """Rename a folder; where the filesystem cannot do that in one step, move file by file, ``last`` last.

    On a local disk it is there to stay, as are the folders above it: the disk holds their entries.
    ``last`` is the file that vouches for the others: without it the folder does not count.
    """
    fs, inner = filesystem(source)
    if isinstance(fs, pafs.LocalFileSystem):
        target_inner = filesystem(target)[1]
        fs.move(inner, target_inner)
        above = target_inner
        for _ in range(FRESH):
            above = posixpath.dirname(above.rstrip("/")) or "."
            fsync(fs, above)
    else:
        copy_folder(source, target, last=last)
        remove_folder(source)


def copy_folder(source: str, target: str, *, last: str) -> None:
    """Copy every file below a folder within one filesystem, the file named ``last`` after all others."""
    fs, inner = filesystem(source)
    target_inner = filesystem(target)[1]
    for name in sorted(files(source), key=lambda n: (n == last, n)):
        fs.create_dir(posixpath.dirname(posixpath.join(target_inner, name)), recursive=True)
        fs.copy_file(posixpath.join(inner, name), posixpath.join(target_inner, name))


def take_file(source: str, target: str) -> None:
    """Have a file that never changes in a second place: a hard link where the disk can, else a copy."""
    fs, inner = filesystem(source)
    if isinstance(fs, pafs.LocalFileSystem):
        second = filesystem(target)[1]
        if os.path.exists(second):
            if os.path.samefile(inner, second):  # a copy onto itself would be empty
                return
            os.unlink(second)
        with suppress(OSError):
            os.link(inner, second)
            return
    fs.copy_file(inner, filesystem(target)[1])


def files(folder: str, *, hidden: bool = False) -> list[str]:
    """Every file below a folder, as sorted paths relative to it; hidden files are left out, unless asked for."""
    return list(sizes(folder, hidden=hidden))


def sizes(folder: str, *, hidden: bool = False) -> dict[str, int]:
    """The bytes of every file below a folder, by paths as of :func:`files`."""
    fs, inner = filesystem(folder)
    entries = fs.get_file_info(pafs.FileSelector(inner, recursive=True, allow_not_found=True))
    bytes_of = {posixpath.relpath(f.path, inner or "."): f.size for f in entries if f.type == pafs.FileType.File}
    return {
        n: bytes_of[n] for n in sorted(bytes_of) if hidden or not any(part.startswith(".") for part in n.split("/"))
    }


def younger(folder: str, than: str) -> set[str]:
    """The files of a folder in an object store that were written after one of them; none in other folders."""
    fs, inner = filesystem(folder)
    if (store := objects.of(fs)) is None:
        return set()
    times = {o["path"].removeprefix(f"{inner}/"): o["last_modified"] for o in store.below(inner)}
    return {name for name, time in times.items() if than in times and time > times[than]}


def folders(folder: str) -> list[str]:
    """The names of the folders directly in a folder, sorted."""
    fs, inner = filesystem(folder)
    entries = fs.get_file_info(pafs.FileSelector(inner, allow_not_found=True))
    return sorted(f.base_name for f in entries if f.type == pafs.FileType.Directory)


def size(path: str) -> int:
    """The bytes of a file."""
    fs, inner = filesystem(path)
    return int(fs.get_file_info(inner).size)


def changed(folder: str) -> float:
    """When a folder or anything below it changed last, in seconds since 1970; 0 where there is nothing."""
    fs, inner = filesystem(folder)
    below = fs.get_file_info(pafs.FileSelector(inner, recursive=True, allow_not_found=True))
    own = [] if objects.of(fs) else [fs.get_file_info(inner)]
    return max((info.mtime.timestamp() for info in (*own, *below) if info.mtime), default=0.0)


def folder_size(folder: str) -> int:
    """The bytes of all files below a folder, hidden ones too."""
    fs, inner = filesystem(folder)
    below = fs.get_file_info(pafs.FileSelector(inner, recursive=True, allow_not_found=True))
    return sum(info.size or 0 for info in below)


def part_name(part: int, parts: int) -> str:
    """The file name of a partition: ``part-00003-of-00008.parquet``."""
    return f"part-{part:05d}-of-{parts:05d}.parquet"


def fsync(fs: pafs.FileSystem, inner: str) -> None:
    """Ask a local disk to hold a file or a folder before anything vouches for it."""
    if isinstance(fs, pafs.LocalFileSystem):
        descriptor = os.open(inner, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def atomic_write(path: str, *, durable: bool = True) -> Iterator[pa.NativeFile]:
    """A stream into a file that appears whole at its end, or not at all; ``durable``: and is on the disk by then."""
    fs, inner = filesystem(path)
    if store := objects.of(fs):
        with store.writing(inner) as stream:
            yield stream
        return
    folder = posixpath.dirname(inner)
    if folder:
        fs.create_dir(folder, recursive=True)
    beside = posixpath.join(folder, f".{posixpath.basename(inner)}.{uuid.uuid4().hex}")
    try:
        with fs.open_output_stream(beside) as stream:
            yield stream
        if durable:
            fsync(fs, beside)
        fs.move(beside, inner)
        if durable:
            fsync(fs, folder or ".")
    except BaseException as e:
        left = fs.get_file_info(beside)
        full = full_disk(path, left.size or 0, e) if isinstance(e, OSError) else None  # before there is room again
        if left.type != pafs.FileType.NotFound:
            fs.delete_file(beside)
        if full is not None:
            raise full from e
        raise


def write_parquet(table: pa.Table, path: str, *, row_group_rows: int = ROW_GROUP_ROWS) -> None:
    """Write a table with zstd and page checksums; the same table gives the same bytes."""
    with parquet_writer(path, table.schema) as writer:
        writer.write_table(table, row_group_size=row_group_rows)


@contextmanager
def parquet_writer(path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet file written table by table, as :func:`write_parquet` does; it appears whole."""
    how = {"compression": "zstd", "write_page_checksum": True, "store_schema": True}
    texts = text_columns(schema)
    with atomic_write(path) as stream, pq.ParquetWriter(stream, schema, use_dictionary=texts, **how) as writer:
        yield writer


def open_verified(path: str) -> Any:
    """A file open for reading, of which no byte is given that is not as the manifest above it says, if there is one.

    Raises FileNotFoundError, and ArtifactError where the file is not as listed, here and when it is read.
    """
    fs, inner = filesystem(path)
    if store := objects.of(fs):
        entry = sealing.entry(fs, inner)
        source = store.open_listed(inner, entry)
        return source if entry is None else sealing.Verified(source, path, entry)
    source = fs.open_input_file(inner)
    try:
        want = sealing.entry(fs, inner)
        return source if want is None else sealing.Verified(source, path, want)
    except BaseException:
        source.close()
        raise


class _OneThread(pq.ParquetFile):  # type: ignore[misc]
    """Read by the thread that asks: one of Arrow's that has a Python file while Python ends aborts the process."""

    read = partialmethod(pq.ParquetFile.read, use_threads=False)
    read_row_group = partialmethod(pq.ParquetFile.read_row_group, use_threads=False)
    read_row_groups = partialmethod(pq.ParquetFile.read_row_groups, use_threads=False)
    iter_batches = partialmethod(pq.ParquetFile.iter_batches, use_threads=False)


@contextmanager
def open_parquet(path: str, *, made_by: str = "the stage that makes it") -> Iterator[pq.ParquetFile]:
    """A file that topkin wrote, its page checksums verified when they are read.

    Args:
        path: a path or URI.
        made_by: what makes the file, for messages.

    Raises:
        ArtifactError: where the file is missing or damaged, when it is read inside too.
    """
    try:
        how = {"page_checksum_verification": True, "pre_buffer": False}
        with open_verified(path) as source, _OneThread(source, **how) as file:
            yield file
    except FileNotFoundError as e:
        raise ArtifactError(f"{path} is missing: run {made_by} again with --force") from e
    except (OSError, pa.ArrowException) as e:
        raise ArtifactError(f"{path} is damaged ({e}): run {made_by} again with --force") from e


def read_parquet(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One whole file that topkin wrote. Raises as :func:`open_parquet`."""
    with open_parquet(path) as file:
        return file.read(columns=None if columns is None else list(columns))


def parquet_files(folder: str, *, made_by: str = "the stage that makes it") -> list[str]:
    """The paths of the Parquet files below a folder, in name order.

    Raises ArtifactError where there is none, or they are not those that the manifest above them lists.
    """
    listed = sealing.listed(*filesystem(folder))
    names = files(folder) if listed is None or not in_place(folder) else sorted(listed)
    for name in sorted(set(names) ^ listed) if listed is not None else ():
        if name.endswith(".parquet"):
            what = "is missing" if name not in names else "is not in the manifest"
            raise ArtifactError(f"{join(folder, name)} {what}: run {made_by} again with --force")
    paths = [join(folder, n) for n in names if n.endswith(".parquet")]
    if not paths:
        raise ArtifactError(f"{folder} holds no Parquet file: run {made_by} again with --force")
    return paths


def read_parts(folder: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read every Parquet file below a folder, in name order, as one table."""
    return pa.concat_tables([read_parquet(path, columns) for path in parquet_files(folder)])


def write_bytes(data: bytes, path: str) -> None:
    """Write a file that appears whole."""
    with atomic_write(path) as stream:
        stream.write(data)


def read_bytes(path: str) -> bytes:
    """Read a whole file. Raises ArtifactError where it is missing, or not as the manifest above it says."""
    try:
        with open_verified(path) as source:
            return bytes(source.read())
    except FileNotFoundError as e:
        raise ArtifactError(f"{path} is missing: run the stage that makes it first") from e


def read_if_there(path: str, *, fresh: bool = False) -> bytes | None:
    """A whole file, or None where there is none; ``fresh``: as it is now, not as :func:`remembering` may have it."""
    fs, inner = filesystem(path)
    if store := objects.of(fs):
        return store.read(inner, fresh=fresh)
    try:
        return read_bytes(path)
    except ArtifactError:
        return None


def swap(path: str, before: bytes | None, after: bytes | None) -> bool:
    """Replace a file if it still is what was read: the write by which processes come to terms.

    On a local disk one of many who expect the same succeeds: compared and replaced under ``flock`` of a file beside
    it, ``.<name>.guard``, which the kernel gives back when a process dies. In an object store one succeeds too: the put
    names the tag of what was read, or that there is nothing; what is removed becomes an empty line, since no store
    deletes on a condition. Elsewhere, on HDFS, the file is read, written and read back, so that of two in the same
    instant the later one wins and the other is told so only if it reads late enough. ``after`` should hold something
    that no other writer writes.

    Args:
        path: a path or URI.
        before: what the file must hold, None for no file.
        after: what it is to hold, None to remove it.

    Returns:
        Whether it was done.

    Raises:
        BusyError: another process stands still in the middle of its own swap.
    """
    fs, inner = filesystem(path)
    if store := objects.of(fs):
        return store.swap(inner, before, after)
    if not isinstance(fs, pafs.LocalFileSystem):
        return read_if_there(path) == before and _replace(path, after) and read_if_there(path) == after
    fs.create_dir(posixpath.dirname(inner) or ".", recursive=True)
    with _guard(inner):
        return read_if_there(path) == before and _replace(path, after)


def _replace(path: str, data: bytes | None) -> bool:
    if data is None:
        fs, inner = filesystem(path)
        fs.delete_file(inner)
    else:
        write_bytes(data, path)
    return True


@contextmanager
def _guard(inner: str) -> Iterator[None]:
    """Alone among the processes of all machines that share a disk, as far as the disk knows ``flock``."""
    name = f".{posixpath.basename(inner)}.guard"
    descriptor = os.open(posixpath.join(posixpath.dirname(inner), name), os.O_RDWR | os.O_CREAT, 0o666)
    until = time.monotonic() + GUARD_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as e:
                if time.monotonic() > until:
                    raise BusyError(
                        f"{inner} is written by one process at a time, one has been at it for {GUARD_SECONDS} s: end "
                        "the stopped process that has it open (fuser), then run again"
                    ) from e
                time.sleep(0.005)
            except OSError:  # a disk without flock
                break
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def json_bytes(value: object) -> bytes:
    """JSON with sorted keys and an ending newline, the credentials of URIs in it masked."""
    return (json.dumps(masked_values(value), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def write_json(value: object, path: str) -> None:
    """Write JSON, see :func:`json_bytes`."""
    write_bytes(json_bytes(value), path)


def read_json(path: str) -> Any:
    """Read JSON. Raises ArtifactError where the file is missing or is not JSON, or a key is asked that it lacks."""
    return sealing.parse(read_bytes(path), path)


def sha256(path: str) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    return str(_read_digests(path)["sha256"])


def digests(path: str) -> dict[str, Any]:
    """What a manifest lists of a file, see :func:`topkin.artifacts.objects.digests.digests`.

    Of an object it is what whoever wrote it saw, and kept with it.
    """
    fs, inner = filesystem(path)
    if (store := objects.of(fs)) and (known := store.written(inner)):
        return known
    return _read_digests(path)


def _read_digests(path: str) -> dict[str, Any]:
    fs, inner = filesystem(path)
    with fs.open_input_stream(inner, compression=None) as source:
        return digests_of(source)
