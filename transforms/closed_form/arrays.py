"""Arrays that workers leave for each other in the scratch folder: a file each, read whole or an array at a time.

A file is the bytes of its arrays, each at a multiple of 64, a JSON of their names, types, shapes and places, and the
length of that JSON.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage

_LENGTH = 8  # bytes of the length at a file's end
_ALIGNED = 64


class ArrayFile:
    """The arrays of an open file, by name: each is read when it is asked for, and cannot be written to."""

    def __init__(self, source: pa.NativeFile) -> None:
        self._source, end = source, source.size() - _LENGTH
        length = int.from_bytes(source.read_at(_LENGTH, end), "little")
        self.places: dict[str, tuple[str, Sequence[int], int]] = json.loads(source.read_at(length, end - length))

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def __getitem__(self, name: str) -> np.ndarray:
        kind, shape, first = self.places[name]
        self._source.seek(first)
        data = self._source.read_buffer(int(np.prod(shape)) * np.dtype(kind).itemsize)
        return np.frombuffer(data, kind).reshape(shape)


def write_arrays(path: str, **arrays: np.ndarray | Sequence[np.ndarray]) -> None:
    """Write arrays by name into a file that appears whole; written again it replaces itself.

    Several arrays of one type under a name are one of a single axis when they are read, one behind the other.
    """
    places, first = {}, 0
    with storage.atomic_write(path, durable=False) as stream:
        for name, given in arrays.items():
            some = [given] if isinstance(given, np.ndarray) else given
            stream.write(bytes(-first % _ALIGNED))
            first += -first % _ALIGNED
            shape = given.shape if isinstance(given, np.ndarray) else (sum(one.size for one in some),)
            places[name] = (some[0].dtype.str, shape, first)
            for array in some:
                stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
                first += array.nbytes
        header = json.dumps(places).encode()
        stream.write(header + len(header).to_bytes(_LENGTH, "little"))


@contextmanager
def open_arrays(path: str) -> Iterator[ArrayFile]:
    """The arrays of a file."""
    fs, inner = storage.filesystem(path)
    with fs.open_input_file(inner) as source:
        yield ArrayFile(source)


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """All arrays of a file, which is read at once."""
    fs, inner = storage.filesystem(path)
    with fs.open_input_file(inner) as source:
        arrays = ArrayFile(pa.BufferReader(source.read_buffer()))
    return {name: arrays[name] for name in arrays.places}
