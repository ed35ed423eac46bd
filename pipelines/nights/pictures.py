"""Small pictures of the items that a page shows, from a column of the items' files: ``report.image``."""

import base64
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topkin.artifacts import ids, storage
from topkin.artifacts.lookup import Id
from topkin.config.sections import ItemsSettings, Settings
from topkin.errors import ArtifactError, InputError, TopkinError, nearest_name
from topkin.ingest.files import ArrowFiles, find, opened

SIZE, ROOM, MOST = 64, 2_500_000, 2000
"""Pixels of the longer side, characters of all pictures of a page, and items that are looked for."""
FILE_BYTES = 16 << 20
"""A file with more is no picture of an item in a list."""
ROWS = 256
"""Rows whose pictures are in memory at a time."""
READERS = 16
"""Files that are read at once, and are in memory at a time."""


class Pictures:
    """The pictures of items by id, as addresses that hold them; those asked for before are not read again."""

    def __init__(self, items: ItemsSettings, column: str) -> None:
        self._items, self._column = items, column
        self._pictures: dict[Id, str | None] = {}
        self._fault = ""

    @classmethod
    def of(cls, settings: Settings) -> "Pictures | None":
        """None where none are asked for. Raises InputError for a column that the files have not."""
        if settings.report.image is None:
            return None
        if settings.items is None:
            raise InputError("report.image is a column of the items, and none are named: set items.path")
        pictures = cls(settings.items, settings.report.image)
        pictures.check()
        return pictures

    def __call__(self, items: pa.Array) -> Mapping[Id, str]:
        """Of as many items as there is room for, the first first."""
        wanted = items[:MOST].to_pylist()
        new = [i for i in wanted if i not in self._pictures]
        if new:
            self._pictures |= dict.fromkeys(new)
            try:
                self._pictures.update(self._read(pa.array(new, items.type)))
            except (TopkinError, OSError, pa.ArrowException) as e:  # the shop may write its files anew meanwhile
                self._fault = f"; others could not be read: {e}"
        room, kept = ROOM, {}
        for item in wanted:
            if (picture := self._pictures[item]) is not None and (room := room - len(picture)) >= 0:
                kept[item] = picture
        return kept

    @property
    def note(self) -> str:
        """How many have one, and why not all were looked at."""
        there = sum(picture is not None for picture in self._pictures.values())
        return (
            f"{there:,} of the {len(self._pictures):,} items that were looked for have a picture (report.image)"
            + self._fault
        )

    def _files(self) -> Iterator[tuple[str, pq.ParquetFile]]:
        files = ArrowFiles()
        for file in find("items.path", self._items.path, files).files:
            with opened("items", file.path, files) as table:
                yield file.path, table

    def check(self) -> None:
        """Raises InputError where the first file has no such column, or one of another type."""
        path, file = next(self._files())
        schema = file.schema_arrow
        for key, name in (("items.item_id", self._items.item_id), ("report.image", self._column)):
            if name not in schema.names:
                near = nearest_name(name, schema.names)
                raise InputError(
                    f"{key} must name a column of {path} for the page's pictures, got {name!r}"
                    + (f", did you mean {near!r}?" if near else "")
                )
        if not _may_hold(schema, self._column):
            raise InputError(
                f"report.image must name a column of files or of their paths, {self._column} is "
                f"{schema.field(self._column).type}: drop it, or name another"
            )

    def _read(self, wanted: pa.Array) -> Iterator[tuple[Id, str]]:
        """Items and their pictures; of several rows of an item that which ``items.duplicates`` names."""
        from topkin.models.encoders.thumbnails import thumbnail

        done: set[Id] = set()
        with ThreadPoolExecutor(READERS) as pool:
            for folder, own, values in self._rows(wanted):
                files = chain.from_iterable(
                    pool.map(partial(_bytes_of, folder), values[start : start + READERS])
                    for start in range(0, len(values), READERS)
                )
                for one, file in zip(own, files, strict=True):
                    if file is None or len(file) > FILE_BYTES or (one in done and self._items.duplicates == "first"):
                        continue
                    if (small := thumbnail(file, SIZE)) is not None:
                        done.add(one)
                        yield one, f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"

    def _rows(self, wanted: pa.Array) -> Iterator[tuple[str, list[Id], list[Any]]]:
        """The folder, ids and values of some rows at a time.

        Pictures are read of those row groups alone that hold such items; a file that lacks the column has none.
        """
        key = self._items.item_id

        def own(table: Any) -> pa.ChunkedArray:
            return ids.decoded(table[key]).cast(wanted.type)

        for path, file in self._files():
            if key not in file.schema_arrow.names or not _may_hold(file.schema_arrow, self._column):
                continue
            groups = range(file.num_row_groups)
            some = [g for g in groups if pc.any(pc.is_in(own(file.read_row_group(g, columns=[key])), wanted)).as_py()]
            for batch in file.iter_batches(ROWS, row_groups=some, columns=[key, self._column]):
                table = pa.Table.from_batches([batch])
                mine = own(table)
                at = pc.is_in(mine, value_set=wanted)
                values = ids.decoded(table[self._column]).filter(at)
                yield path.rpartition("/")[0], mine.filter(at).to_pylist(), values.to_pylist()


def faults(settings: Settings) -> list[TopkinError]:
    """What is wrong with ``report.image``, not raised."""
    try:
        Pictures.of(settings)
    except TopkinError as e:
        return [e]
    return []


def _may_hold(schema: pa.Schema, column: str) -> bool:
    """Whether a column is there, and of files or their paths."""
    return column in schema.names and ids.value_kind(schema.field(column).type) in ("binary", "text")


def _bytes_of(folder: str, value: bytes | str | None) -> bytes | None:
    """What a value of the column holds or names; None where that cannot be read, is too large, or is on the web."""
    from topkin.models.encoders.image_files import read_file

    if value is None or isinstance(value, bytes):
        return value
    if value.startswith("data:"):
        try:
            return base64.b64decode(value.partition(";base64,")[2], validate=True)
        except ValueError:
            return None
    if value.startswith(("http://", "https://")):
        return None
    path = value if "://" in value else storage.join(folder, value)
    return read_file(folder, value) if _is_small(path) else None


def _is_small(path: str) -> bool:
    """Whether a path is a file's, of no more than FILE_BYTES; a device or a pipe has no end."""
    try:
        fs, inner = storage.filesystem(path)
        info = fs.get_file_info(inner)
    except (ArtifactError, OSError, ValueError):
        return False
    return bool(info.is_file and info.size <= FILE_BYTES)
