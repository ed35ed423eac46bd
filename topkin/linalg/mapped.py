"""Tall arrays on this machine's disk, which the system may put back there where memory is short."""

import tempfile

import numpy as np


def mapped(shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array of zeros in a file that nobody else sees, and that is gone with the array."""
    if not np.prod(shape):
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # the map keeps it
        return np.asarray(np.memmap(file, np.float32, "w+", shape=shape))
