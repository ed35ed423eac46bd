"""Ids and labels, however they are given: a list, one alone, NumPy, pandas or Arrow; checked here for all."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pyarrow as pa

_ALONE = str | bytes | bytearray | int | float | np.generic | pa.Scalar


def values_of(values: Any, what: str = "labels", *, ordered: bool = True) -> list[Any]:
    """Ids or labels as Python values, in order. A text, bytes or a number alone is one value, never its letters.

    Args:
        values: a list or another iterable, an array (n,) or (n, 1) of NumPy, TensorFlow or Arrow, a column of pandas
            or polars, or one value alone.
        what: they are, for messages.
        ordered: they stand beside rows: a set is refused.

    Raises:
        TypeError: nothing of the kind.
        ValueError: an array of more than one column, or NaN.
    """
    if isinstance(values, np.ndarray):
        values = _flat(values, what).tolist()
    elif isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_pylist()
    elif isinstance(values, _ALONE):
        values = [values]
    elif values is None or isinstance(values, Mapping) or (ordered and isinstance(values, Set)):
        raise TypeError(f"{what} must be a list or an array, in order, got {type(values).__name__}: give list(…)")
    elif hasattr(values, "numpy"):
        values = _flat(np.asarray(values.numpy()), what).tolist()
    elif getattr(values, "ndim", 1) > 1 and hasattr(values, "to_numpy"):
        values = _flat(values.to_numpy(), what).tolist()
    elif hasattr(values, "__iter__"):
        values = list(values)
    else:
        raise TypeError(f"{what} must be a list or an array, got {type(values).__name__}")
    plain = [_plain(value) for value in values]
    bad = sum(isinstance(value, float) and value != value for value in plain)
    if bad:
        raise ValueError(f"{what} must not be NaN, got {bad} that are: leave those rows out, or give them a name")
    return plain


def label_array(labels: object, what: str = "labels") -> np.ndarray:
    """Labels of one kind as an array (n,): numbers as they are, text as ``str``, anything else as objects.

    Raises TypeError where one is missing or they are of several kinds, and as :func:`values_of`.
    """
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biu":
        return _flat(labels, what)
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "f":
        labels = _flat(labels, what)
        bad = int(np.isnan(labels).sum())
        if bad:
            raise ValueError(f"{what} must not be NaN, got {bad} that are: leave those rows out")
        return labels
    values = values_of(labels, what)
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1 or kinds & {"NoneType", "list", "dict"}:
        raise TypeError(f"{what} must be of one kind, one for each row, got {', '.join(sorted(kinds))}: cast them")
    if kinds == {"int"} or kinds == {"str"}:
        return np.array(values)
    out = np.empty(len(values), object)
    out[:] = values
    return out.astype(np.float64) if kinds == {"float"} else out


def _kind(value: object) -> str:
    return type(value).__name__


def _plain(value: object) -> Any:
    if isinstance(value, list | tuple | np.ndarray) and len(value) == 1:
        value = value[0]
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, bytearray):
        value = bytes(value)
    return value.item() if isinstance(value, np.generic) else value


def _flat(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim == 0 or (values.ndim == 2 and values.shape[1] == 1):
        return values.reshape(-1)
    if values.ndim != 1:
        raise ValueError(
            f"{what} must be one for each row, (n,) or (n, 1), got shape {values.shape}: of one-hot rows take the "
            "argmax"
        )
    return values
