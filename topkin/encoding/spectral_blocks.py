"""The decomposition of :mod:`topkin.encoding.svd` by blocks of rows, for workers that hold one block at a time.

What a pass needs of the tall arrays Q and Y beside their products with the purchases are inner products, which are
sums over blocks, and products with a small square array, which go block by block. So no process holds items x rank.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from topkin.encoding.svd import SHIFT, SpectralSettings
from topkin.linalg import gram
from topkin.linalg.blas import one_blas_thread

ROWS = 1 << 13
"""Items of a block, at most."""


def blocks_of(n_items: int) -> int:
    """How many blocks there are: an even number, so that two workers have as many each."""
    return 2 * -(-n_items // (2 * ROWS))


def rows_of_block(number: int, n_items: int) -> slice:
    """The items of a block; all blocks have as many, to one."""
    blocks = blocks_of(n_items)
    return slice(number * n_items // blocks, (number + 1) * n_items // blocks)


def cuts_of(items: np.ndarray, n_items: int) -> np.ndarray:
    """Where the items of each block begin among some, (blocks + 1,) int64. items: (m,) int, ascending."""
    blocks = blocks_of(n_items)
    return np.searchsorted(items, [*(rows_of_block(number, n_items).start for number in range(blocks)), n_items])


@dataclass(frozen=True)
class Grams:
    """Inner products of some rows of ``Y = C Q`` with themselves and with Q's, each (width, width) float64.

    QY is symmetric, as C is. Those of Q are not needed: its columns are orthonormal to rounding. along: (width,)
    float64, of Y with the fixed random vector by which ``gram.signs`` goes.
    """

    YY: np.ndarray
    QY: np.ndarray
    along: np.ndarray

    @classmethod
    def of(cls, Q: np.ndarray | None, Y: np.ndarray, first: int | None) -> Self:
        """Of rows from the ``first`` one on, (rows, width) float32 each.

        Zeros for QY where Q is not given, and for ``along`` without a first row: only the last pass needs it.
        """
        along, QY = np.zeros(Y.shape[1]), np.zeros((Y.shape[1],) * 2)
        if first is not None:
            against = np.random.default_rng(0).standard_normal(first + len(Y))[first:]
            with one_blas_thread():
                along = against @ Y.astype(np.float64)
        if Q is not None:
            QY = gram.inner_symmetric(Q, Y)
        return cls(gram.inner_symmetric(Y, Y), QY, along)

    @classmethod
    def sum_of(cls, blocks: Iterable[Self]) -> Self:
        """Of all rows, from those of every block in the order of blocks."""
        first, *others = blocks
        total = [values.copy() for values in vars(first).values()]
        for one in others:
            for held, values in zip(total, vars(one).values(), strict=True):
                held += values
        return cls(*total)


@dataclass(frozen=True)
class Turn:
    """What makes the next Q: ``(Y - shift Q) T``, T (width, r) float64."""

    T: np.ndarray
    shift: np.float32

    @staticmethod
    def shifts(done: int) -> bool:
        """Whether there may be a shift after so many passes: Q is orthonormal then, and ``Grams.QY`` needed."""
        return done > 1

    @classmethod
    def of(cls, grams: Grams, done: int) -> Self:
        """After so many passes, as :func:`topkin.encoding.svd.decompose` does it."""
        T = gram.root(grams.YY)
        if not cls.shifts(done) or T.shape[0] != T.shape[1]:
            return cls(T, np.float32(0))
        shift = np.float32(SHIFT * gram.least(T))
        left = grams.YY - 2 * float(shift) * grams.QY
        left[np.diag_indices_from(left)] += float(shift) ** 2
        return cls(gram.root(left), shift)

    def next(self, Q: np.ndarray | None, Y: np.ndarray) -> np.ndarray:
        """A block of the next Q, from those of both, (rows, r) float32; Q is read where there is a shift."""
        return gram.times_root(Y - self.shift * Q if self.shift and Q is not None else Y.copy(), self.T)


def leading(grams: Grams, settings: SpectralSettings) -> tuple[np.ndarray, np.ndarray]:
    """From the last pass the singular values s, (d,) float32, and M with ``V = Y M``, (width, d) float32."""
    T = gram.root(grams.QY)
    values, P = gram.eigh(T.T @ grams.YY @ T)
    r = min(settings.dim, gram.rank(values))
    M = T @ (P[:, :r] / np.sqrt(values[:r]))
    signs = np.where(grams.along @ M < 0, -1, 1)
    return np.sqrt(values[:r]).astype(np.float32), (M * signs).astype(np.float32)
