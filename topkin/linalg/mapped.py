"""Tall arrays on this machine's disk, which the system may put back there where memory is short."""

import tempfile

import numpy as np
import numpy.typing as npt

MAPPED_FROM = 1 << 28
"""Bytes from which what is read a few rows at a time lies on the disk."""


def mapped(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> np.ndarray:
    """An array of zeros in a file that nobody else sees, and that is gone with the array."""
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the map keeps it
        return np.asarray(np.memmap(file, dtype, "w+", shape=shape))
