"""Rows of the generated shop as arrays of equal length, and the random numbers that several of its parts share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Columns:
    """Rows held by column: every field of a subclass is an array with one entry a row."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __len__(self) -> int:
        return len(next(iter(self.arrays().values())))

    def take(self, rows: np.ndarray) -> Self:
        """Some of the rows, by number or by mask."""
        return type(self)(**{name: values[rows] for name, values in self.arrays().items()})

    def replaced(self, **columns: np.ndarray | float) -> Self:
        """The rows with other values in some columns, each of its own type; one value counts for all rows."""
        arrays = self.arrays()
        for name, values in columns.items():
            arrays[name] = np.broadcast_to(np.asarray(values, arrays[name].dtype), len(self)).copy()
        return type(self)(**arrays)

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """All rows of some parts, in their order."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def is_repeated(*keys: np.ndarray) -> np.ndarray:
    """Whether each row equals the one before it in all (n,) keys, (n,) bool."""
    repeated = np.zeros(len(keys[0]), bool)
    repeated[1:] = np.logical_and.reduce([key[1:] == key[:-1] for key in keys])
    return repeated


def arrival_days(
    ends: tuple[float, float, float], cut: int, last: int, draws: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """When each of (n,) uniform draws arrives, in days: 0 up to the first of ``ends``, which are shares of all.

    Up to the second end it arrives during the year, up to the third in the three weeks before ``cut``, and the rest
    from then to ``last``.
    """
    arrival, near = np.zeros(len(draws)), max(cut - 21, 0)
    for low, high, start, end in ((0, 1, 0, near), (1, 2, near, cut), (2, 3, cut, last)):
        chosen = (draws > ends[low]) & (draws <= (*ends, 1.0)[high])
        arrival[chosen] = rng.uniform(start, end, chosen.sum())
    return arrival
