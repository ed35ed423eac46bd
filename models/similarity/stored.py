"""What an index shows of its items: an array for each, such as its picture, kept beside the index."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from topkin.artifacts import storage
from topkin.models.similarity.index import Key

_ARROW = {int: pa.int64(), str: pa.string(), bytes: pa.binary()}


def arrays_of(data: object, n: int) -> list[np.ndarray]:
    """One array for each of n items, from an array (n, ...) or a list.

    They are copies. Raises ValueError for another number of them, TypeError for Python objects and records.
    """
    if isinstance(data, str | bytes) or not hasattr(data, "__iter__"):
        raise TypeError(f"data must be an array (n, ...) or a list of them, got {type(data).__name__}: give data=x")
    arrays = [np.array(one) for one in data]
    if len(arrays) != n:
        raise ValueError(f"data must be one array for each input, got {len(arrays)} for {n}: give data=x, or leave out")
    odd = next((a.dtype for a in arrays if a.dtype.hasobject or a.dtype.names), None)
    if odd is not None:
        raise TypeError(f"data must be numbers or text, got {odd}: give arrays without Python objects or named fields")
    return arrays


def save(data: Mapping[Key, np.ndarray], path: str) -> None:
    """Write arrays of any shapes and dtypes as Parquet, by id."""
    ids: Sequence[Key] = list(data)
    table = {
        "id": pa.array(ids, _ARROW[type(ids[0])]),
        "dtype": [a.dtype.str for a in data.values()],
        "shape": pa.array([a.shape for a in data.values()], pa.list_(pa.int64())),
        "data": pa.array([a.tobytes() for a in data.values()], pa.large_binary()),
    }
    storage.write_parquet(pa.table(table), path)


def load(path: str) -> dict[Key, np.ndarray]:
    """From :func:`save`."""
    rows = storage.read_parquet(path).to_pylist()
    return {r["id"]: np.frombuffer(r["data"], np.dtype(r["dtype"])).reshape(r["shape"]) for r in rows}
