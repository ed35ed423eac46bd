"""Rows of items between workers: those that a part asks for, of files by block, and what parts add to a block."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from topkin.encoding.spectral_blocks import cuts_of, rows_of_block
from topkin.transforms.closed_form.arrays import open_arrays


def rows_of(items: np.ndarray, n_items: int, block: Callable[[int], np.ndarray]) -> np.ndarray:
    """The rows of some items, of the blocks that hold them. items: (m,) int, ascending, at least one."""
    cuts = cuts_of(items, n_items)
    rows = np.zeros(0)
    for number in np.flatnonzero(np.diff(cuts)).tolist():
        mine, values = slice(*cuts[number : number + 2]), block(number)
        if not rows.size:
            rows = np.empty((len(items), *values.shape[1:]), values.dtype)
        rows[mine] = values[items[mine] - rows_of_block(number, n_items).start]
    return rows


def by_block(items: np.ndarray, n_items: int, **values: np.ndarray) -> dict[str, np.ndarray]:
    """What a part has to add to each block, as arrays of a file for :func:`add_block`. values: (m, …) each."""
    cuts = cuts_of(items, n_items)
    arrays = {"blocks": np.flatnonzero(np.diff(cuts))}
    for number in arrays["blocks"].tolist():
        mine = slice(*cuts[number : number + 2])
        arrays[f"rows{number}"] = items[mine] - rows_of_block(number, n_items).start
        arrays |= {f"{name}{number}": one[mine] for name, one in values.items()}
    return arrays


def add_block(paths: Iterable[str], number: int, into: Mapping[str, np.ndarray]) -> None:
    """Add what the files of parts have for a block to arrays by name, in place, in the order of paths."""
    for path in sorted(paths):
        with open_arrays(path) as arrays:
            if f"rows{number}" in arrays:
                rows = arrays[f"rows{number}"]
                for name, total in into.items():
                    total[rows] += arrays[f"{name}{number}"]
