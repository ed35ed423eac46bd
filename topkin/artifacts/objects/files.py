"""Object stores as a filesystem of pyarrow: one request for what one request does.

An object appears whole when all of it was written. There are no folders: a folder is there while an object is below
it. A client is made once a process for each bucket; what :mod:`topkin.artifacts.objects.memory` has is not asked for.
"""

import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from topkin.artifacts.objects import digests, uri
from topkin.artifacts.objects.blocks import Blocks
from topkin.artifacts.objects.digests import BLOCK
from topkin.artifacts.objects.faults import RefusedError, explained
from topkin.artifacts.objects.memory import MEMORY, SMALL, Children, Meta
from topkin.artifacts.objects.uri import Bucket
from topkin.errors import ConfigError

EMPTY = b"\n"
"""What stands for no content in an object that is swapped: no store deletes on a condition."""

DIGESTS, LONGEST = "topkindigests", 1800
"""The attribute of an object that holds its digests, and its bytes; stores allow two thousand."""


def library(bucket: Bucket) -> Any:
    """The package obstore. Raises ConfigError where the extra that brings it is not installed."""
    extra = uri.EXTRAS[bucket.scheme]
    try:
        import obstore.store
    except ImportError as e:
        raise ConfigError(f"{bucket.scheme}:// needs topkin's extra {extra}: pip install 'topkin[{extra}]'") from e
    return obstore


@cache
def client(bucket: Bucket) -> Any:
    """The client of a bucket. Raises ConfigError where there is none, or no credentials."""
    obstore, extra = library(bucket), uri.EXTRAS[bucket.scheme]
    how: dict[str, Any] = {
        "client_options": {"timeout": "120s", "connect_timeout": "10s", "allow_http": True},
        "retry_config": {"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
    }
    options = dict(bucket.options)
    with explained(bucket, ""):
        if extra == "aws":
            config = uri.s3_configuration(options, os.environ)
            if "access_key_id" in config and "session_token" not in config:  # else it takes that of the environment
                names = {"access_key_id", "secret_access_key"} & config.keys()
                keys = {**{name: config[name] for name in names}, "token": None, "expires_at": None}
                how["credential_provider"] = lambda: keys
            return obstore.store.S3Store(bucket.name, config=config, **how)
        config = {"skip_signature": "true"} if options.get("anonymous") == "true" else {}
        return obstore.store.from_url(f"{bucket.scheme}://{bucket.name}", config=config, **how)


class ObjectFiles(pafs.FileSystemHandler):
    """The objects of one bucket by their keys."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectFiles) and self.bucket == other.bucket

    def __hash__(self) -> int:
        return hash(self.bucket)

    @property
    def _client(self) -> Any:
        return client(self.bucket)

    def get_type_name(self) -> str:
        """The scheme."""
        return self.bucket.scheme

    def normalize_path(self, path: str) -> str:
        """Keys are taken literally."""
        return path

    # What is there

    def get_file_info(self, paths: Sequence[str]) -> list[pafs.FileInfo]:
        """Of objects by one request each, of what is none by one more."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> pafs.FileInfo:
        key = path.strip("/")
        if (entry := MEMORY.own((self.bucket, key))) is not None:
            return pafs.FileInfo(path, pafs.FileType.File, size=entry["bytes"])
        if key and (meta := self._head(key)) is not None:
            return _info_of(meta)
        there = any(self.children(key))
        return pafs.FileInfo(path, pafs.FileType.Directory if there else pafs.FileType.NotFound)

    def _head(self, key: str) -> Meta | None:
        obstore = library(self.bucket)

        try:
            with explained(self.bucket, key):
                return dict(obstore.head(self._client, key))
        except FileNotFoundError:
            return None

    def meta(self, key: str) -> Meta | None:
        """What the store says of an input; None where there is none."""
        return MEMORY.meta((self.bucket, key), lambda: self._head(key)) if key else None

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        """What is in a folder; with ``recursive`` all objects below and no folder between."""
        key = selector.base_dir.strip("/")
        if selector.recursive:
            infos = [_info_of(meta) for meta in self.below(key)]
        else:
            objects, folders = self.children(key)
            infos = [pafs.FileInfo(name.rstrip("/"), pafs.FileType.Directory) for name in folders]
            infos += [_info_of(meta) for meta in objects]
        if not infos and not selector.allow_not_found:
            raise FileNotFoundError(f"there is no object below {self.bucket.uri}/{key}")
        return infos

    def below(self, key: str) -> list[Meta]:
        """What the store says of every object below a key."""
        obstore = library(self.bucket)

        def ask() -> list[Meta]:
            with explained(self.bucket, key):
                return [meta for some in obstore.list(self._client, key or None, chunk_size=1000) for meta in some]

        return MEMORY.below(self.bucket, key, ask)

    def children(self, key: str) -> Children:
        """The objects directly below a key, and the keys of its folders."""
        obstore = library(self.bucket)

        def ask() -> Children:
            with explained(self.bucket, key):
                listed = obstore.list_with_delimiter(self._client, key or None)
            return list(listed["objects"]), list(listed["common_prefixes"])

        return MEMORY.children(self.bucket, key, ask)

    # What is made and removed

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: no markers."""

    def delete_dir(self, path: str) -> None:
        """Delete every object below."""
        self.delete([meta["path"] for meta in self.below(path.strip("/"))])

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        """As :meth:`delete_dir`."""
        self.delete_dir(path)

    def delete_root_dir_contents(self) -> None:
        """Refused."""
        raise NotImplementedError("a bucket is not emptied")

    def delete_file(self, path: str) -> None:
        """Delete an object."""
        self.delete([path])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, a thousand by a request where the store can."""
        obstore = library(self.bucket)

        if keys:
            with explained(self.bucket, keys[0]):
                obstore.delete(self._client, list(keys))
            MEMORY.forget(self.bucket, keys)

    def move(self, src: str, dest: str) -> None:
        """Copy, then delete."""
        self.copy_file(src, dest)
        self.delete([src])

    def copy_file(self, src: str, dest: str) -> None:
        """Within the store: no byte comes here."""
        obstore = library(self.bucket)

        with explained(self.bucket, src):
            obstore.copy(self._client, src, dest)
        MEMORY.forget(self.bucket, [dest])

    # What is read

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """As :meth:`open_input_file`."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """An object to read, its first block fetched."""
        return self.open_listed(path, None)

    def open_listed(self, path: str, entry: Mapping[str, Any] | None) -> pa.NativeFile:
        """An object to read; without a request where bytes of the digest in a manifest's entry are at hand."""
        data = MEMORY.content(entry or MEMORY.own((self.bucket, path)))
        if data is not None:
            return pa.BufferReader(data)
        first, size, tag = self.head_of(path)
        if entry is not None and len(first) == size == entry["bytes"]:
            actual = digests.digests(io.BytesIO(first))
            if actual["sha256"] == entry["sha256"]:
                MEMORY.keep(actual["sha256"], first)
        return self._reader(path, first, size, tag)

    def open_input(self, path: str) -> pa.NativeFile:
        """A file of an input to read; a small one is fetched once in a job."""
        place = (self.bucket, path)
        data = MEMORY.input(place)
        if data is not None:
            return pa.BufferReader(data)
        first, size, tag = self.head_of(path)
        if len(first) == size:
            MEMORY.keep_input(place, first)
        return self._reader(path, first, size, tag)

    def _reader(self, path: str, first: bytes, size: int, tag: str | None) -> pa.NativeFile:
        if len(first) == size:
            return pa.BufferReader(first)
        return pa.PythonFile(Blocks(lambda start, end: self._range(path, start, end, tag), first, size), "r")

    def head_of(self, path: str) -> tuple[bytes, int, str | None]:
        """The first block of an object, its size and its tag."""
        obstore = library(self.bucket)

        try:
            with explained(self.bucket, path):
                got = obstore.get(self._client, path, options={"range": (0, BLOCK)})
                return bytes(got.bytes()), got.meta["size"], got.meta["e_tag"]
        except OSError as e:
            if "InvalidRange" not in str(e):
                raise
        meta = self._head(path)  # an object without a byte
        if meta is None:
            raise FileNotFoundError(f"there is no object {self.bucket.uri}/{path}")
        return b"", meta["size"], meta["e_tag"]

    def _range(self, path: str, start: int, end: int, tag: str | None) -> bytes:
        """Some bytes of an object, if it still is the one that was opened."""
        obstore = library(self.bucket)

        with explained(self.bucket, path):
            got = obstore.get(self._client, path, options={"range": (start, end), "if_match": tag})
            return bytes(got.bytes())

    def read(self, path: str, *, fresh: bool = False) -> bytes | None:
        """A small object whole, None where there is none; ``fresh``: as it is now."""

        def ask() -> bytes | None:
            data = None if fresh else MEMORY.content(MEMORY.own((self.bucket, path)))
            return _content(self._read_with_tag(path)) if data is None else data

        return ask() if fresh else MEMORY.state((self.bucket, path), ask)

    def _read_with_tag(self, path: str) -> tuple[bytes, str | None] | None:
        try:
            first, size, tag = self.head_of(path)
        except FileNotFoundError:
            MEMORY.saw((self.bucket, path), None, None)
            return None
        if len(first) < size:
            return first + self._range(path, len(first), size, tag), tag
        MEMORY.saw((self.bucket, path), first, tag)
        return first, tag

    # What is written

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:
        """An object that is written when it is closed."""
        return pa.PythonFile(_Upload(self, path), "w")

    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        """Refused."""
        raise NotImplementedError("an object is not appended to")

    @contextmanager
    def writing(self, path: str) -> Iterator[pa.NativeFile]:
        """A stream into an object that appears at the end; what was written is dropped where it ends by an error."""
        with _spool() as held:
            stream = pa.PythonFile(held, "w")
            yield stream
            stream.flush()
            self.put_whole(path, held)

    def put_whole(self, path: str, held: Any) -> None:
        """Write an object from a local file that is at its end, and remember its digests."""
        size = held.tell()
        held.seek(0)
        entry = digests.digests(held)
        held.seek(0)
        data = held.read() if size <= SMALL else None
        self._put(path, held if data is None else data, attributes=_attributes(entry))
        MEMORY.wrote((self.bucket, path), entry, data)

    def written(self, path: str) -> dict[str, Any] | None:
        """The entry of a manifest for an object as whoever wrote it saw it; None where that is not known."""
        obstore = library(self.bucket)

        entry = MEMORY.written((self.bucket, path))
        if entry is None:
            with explained(self.bucket, path):
                got = obstore.get(self._client, path, options={"head": True})
            entry = digests.from_text(got.attributes.get(DIGESTS, ""), got.meta["size"])
        return entry

    def _put(
        self, path: str, data: object, mode: object = None, attributes: Mapping[str, str] | None = None
    ) -> str | None:
        """Write an object and return its tag. ``mode``: as of obstore, else it raises RefusedError."""
        obstore = library(self.bucket)

        with explained(self.bucket, path):
            several = not isinstance(data, bytes)
            how = {"mode": mode, "attributes": attributes, "use_multipart": several, "chunk_size": SMALL}
            done = obstore.put(self._client, path, data, **how)
        MEMORY.forget(self.bucket, [path])
        tag: str | None = done["e_tag"]
        return tag

    def swap(self, path: str, before: bytes | None, after: bytes | None) -> bool:
        """Write an object if it holds ``before``; None is no object, or EMPTY in it. See ``storage.swap``."""
        new = EMPTY if after is None else after
        known = MEMORY.tags.get((self.bucket, path))
        if known is None or _content(known) != before:
            known = self._read_with_tag(path)
            if _content(known) != before:
                return False
        try:
            tag = self._put(path, new, "create" if known is None else {"e_tag": known[1]})
        except (RefusedError, FileNotFoundError):  # the second where it was deleted, of S3
            seen = self._read_with_tag(path)  # a request that was sent twice is refused though it was done
            return seen is not None and seen[0] == new
        MEMORY.saw((self.bucket, path), new, tag)
        return True


def _attributes(entry: Mapping[str, Any]) -> dict[str, str] | None:
    text = digests.as_text(entry)
    return {DIGESTS: text} if len(text) <= LONGEST else None


def _content(read: tuple[bytes, str | None] | None) -> bytes | None:
    return None if read is None or read[0] == EMPTY else read[0]


def _info_of(meta: Meta) -> pafs.FileInfo:
    changed = int(meta["last_modified"].timestamp() * 1e9)
    return pafs.FileInfo(meta["path"], pafs.FileType.File, size=meta["size"], mtime_ns=changed)


def _spool() -> Any:
    """Held in memory while it is small, else on the local disk."""
    return tempfile.SpooledTemporaryFile(max_size=SMALL, prefix="topkin-")


class _Upload(io.RawIOBase):
    """What becomes an object when it is closed."""

    def __init__(self, files: ObjectFiles, path: str) -> None:
        self._files, self._path, self._held = files, path, _spool()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: object) -> int:
        """Take some bytes."""
        return int(self._held.write(data))

    def close(self) -> None:
        """Write the object."""
        if not self.closed:
            with self._held:
                self._files.put_whole(self._path, self._held)
        super().close()


def of(fs: pafs.FileSystem) -> ObjectFiles | None:
    """The objects behind a filesystem; None for one with folders."""
    handler = fs.handler if isinstance(fs, pafs.PyFileSystem) else None
    return handler if isinstance(handler, ObjectFiles) else None


@cache
def filesystem(bucket: Bucket) -> pafs.PyFileSystem:
    """The filesystem of a bucket."""
    return pafs.PyFileSystem(ObjectFiles(bucket))
