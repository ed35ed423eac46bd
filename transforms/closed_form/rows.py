"""Rows of items between workers: those that a part asks for, of files by block, and what parts add to a block."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from topkin.encoding.spectral_blocks import cuts_of, rows_of_block
from topkin.encoding.strips import split
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


def strips_of_items(
    items: np.ndarray, n_items: int, block: Callable[[int], np.ndarray], room: Callable[[int], np.ndarray]
) -> list[np.ndarray]:
    """As :func:`rows_of` of blocks whose strips lie one behind the other, as strips in room for so many values."""
    cuts = cuts_of(items, n_items)
    strips: list[np.ndarray] = []
    for number in np.flatnonzero(np.diff(cuts)).tolist():
        mine, rows = slice(*cuts[number : number + 2]), rows_of_block(number, n_items)
        theirs = split(block(number), rows.stop - rows.start)
        if not strips:
            width = sum(strip.shape[1] for strip in theirs)
            strips = split(room(len(items) * width), len(items))
        for strip, values in zip(strips, theirs, strict=True):
            np.take(values, items[mine] - rows.start, axis=0, out=strip[mine], mode="clip")  # no copy between
    return strips


def by_block(
    items: np.ndarray, n_items: int, **values: np.ndarray | Sequence[np.ndarray]
) -> dict[str, np.ndarray | Sequence[np.ndarray]]:
    """What a part has to add to each block, as arrays of a file for :func:`add_block`.

    values: (m, …) each, or strips of m rows.
    """
    cuts = cuts_of(items, n_items)
    blocks = np.flatnonzero(np.diff(cuts))
    arrays: dict[str, np.ndarray | Sequence[np.ndarray]] = {"blocks": blocks}
    for number in blocks.tolist():
        mine = slice(*cuts[number : number + 2])
        arrays[f"rows{number}"] = items[mine] - rows_of_block(number, n_items).start
        for name, one in values.items():
            arrays[f"{name}{number}"] = one[mine] if isinstance(one, np.ndarray) else [strip[mine] for strip in one]
    return arrays


def add_block(paths: Iterable[str], number: int, into: Mapping[str, np.ndarray | Sequence[np.ndarray]]) -> None:
    """Add what the files of parts have for a block to arrays or strips by name, in place, in the order of paths."""
    for path in sorted(paths):
        with open_arrays(path) as arrays:
            if f"rows{number}" in arrays:
                rows = arrays[f"rows{number}"]
                for name, total in into.items():
                    values = arrays[f"{name}{number}"]
                    if isinstance(total, np.ndarray):
                        _add(total, rows, values)
                        continue
                    for strip, some in zip(total, split(values, len(rows)), strict=True):
                        _add(strip, rows, some)


def _add(total: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
    if len(rows) == len(total):  # all of them, in order
        total += values
    else:
        total[rows] += values
