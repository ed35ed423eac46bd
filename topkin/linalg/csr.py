"""The one form of "some columns of each row": what users bought, may not get, or bought later.

SciPy's matrices, which hold values too, are made from it where there is something to multiply.
"""

from typing import NamedTuple

import numpy as np


class Csr(NamedTuple):
    """Column numbers by row: those of row r are ``indices[indptr[r]:indptr[r + 1]]``.

    indptr: (n_rows + 1,) int64. indices: (n,) int32.
    """

    indptr: np.ndarray
    indices: np.ndarray

    @classmethod
    def empty(cls, n_rows: int) -> "Csr":
        """Rows without columns."""
        return cls(np.zeros(n_rows + 1, np.int64), np.zeros(0, np.int32))

    @classmethod
    def of_pairs(cls, rows: np.ndarray, columns: np.ndarray, n_rows: int, n_columns: int) -> "Csr":
        """The distinct pairs of two arrays of equal length, columns ascending within a row."""
        width = max(n_columns, 1)
        rows, columns = np.divmod(_distinct(rows.astype(np.int64) * width + columns), width)
        return cls(indptr_of(np.bincount(rows, minlength=n_rows)), columns.astype(np.int32))

    @classmethod
    def single(cls, columns: np.ndarray) -> "Csr":
        """At most one column a row, (n_rows,) int: -1 for none."""
        some = columns >= 0
        return cls(indptr_of(some), columns[some].astype(np.int32))

    @property
    def n_rows(self) -> int:
        """How many rows there are, empty ones too."""
        return len(self.indptr) - 1

    @property
    def lengths(self) -> np.ndarray:
        """How many columns each row has, (n_rows,) int64."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> np.ndarray:
        """The row of each entry, (n,) int64."""
        return np.repeat(np.arange(self.n_rows, dtype=np.int64), self.lengths)

    def take(self, rows: np.ndarray) -> "Csr":
        """Some rows, in the order of ``rows``, (m,) int."""
        indptr, entries = entries_of(self.indptr, rows)
        return Csr(indptr, self.indices[entries])

    def slice(self, start: int, stop: int) -> "Csr":
        """The rows from ``start`` up to ``stop``."""
        indptr = self.indptr[start : stop + 1]
        return Csr(indptr - indptr[0], self.indices[indptr[0] : indptr[-1]])

    def keep(self, entries: np.ndarray) -> "Csr":
        """The entries of a mask, (n,) bool."""
        return Csr(np.concatenate([[0], np.cumsum(entries)])[self.indptr], self.indices[entries])

    def without(self, other: "Csr", n_columns: int) -> "Csr":
        """The entries that the same row of ``other`` lacks, distinct and ascending."""
        width = max(n_columns, 1)
        rows = self.rows
        left = ~np.isin(rows * width + self.indices, other.rows * width + other.indices)
        return Csr.of_pairs(rows[left], self.indices[left], self.n_rows, n_columns)

    def union(self, other: "Csr", n_columns: int) -> "Csr":
        """The entries of each row of either, distinct and ascending."""
        rows, columns = np.concatenate([self.rows, other.rows]), np.concatenate([self.indices, other.indices])
        return Csr.of_pairs(rows, columns, self.n_rows, n_columns)

    def renumbered(self, numbers: np.ndarray) -> "Csr":
        """With other column numbers, (n_columns,) int32; entries whose column has -1 are left out."""
        kept = self.keep(numbers[self.indices] >= 0)
        return Csr(kept.indptr, numbers[kept.indices])

    def count_in(self, mask: np.ndarray) -> np.ndarray:
        """How many entries of each row are of the columns in ``mask``, (n_columns,) bool: (n_rows,) int64."""
        sums = np.concatenate([[0], np.cumsum(mask[self.indices], dtype=np.int64)])
        return np.asarray(sums[self.indptr[1:]] - sums[self.indptr[:-1]])


def indptr_of(lengths: np.ndarray) -> np.ndarray:
    """Where each row starts, and the last one ends, by the rows' lengths: (n_rows + 1,) int64."""
    indptr = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    return indptr


def entries_of(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ``indptr`` of some rows, (m,) int, and the places of their entries, one row after the other."""
    lengths = np.diff(indptr)[rows]
    new = indptr_of(lengths)
    return new, np.arange(new[-1]) + np.repeat(indptr[:-1][rows] - new[:-1], lengths)


def _distinct(keys: np.ndarray) -> np.ndarray:
    """The distinct integers, ascending: sorting nearly sorted keys beats NumPy's hashing ``unique``."""
    keys = np.sort(keys, kind="stable")
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]]
