"""How far vectors spread: over how many directions, and how many are no vectors at all."""

from dataclasses import dataclass

import numpy as np

from topkin.linalg.blas import one_blas_thread


@dataclass(frozen=True)
class Spread:
    """Of a sample of vectors.

    Attributes:
        vectors: How many there are that are finite and not zero.
        not_finite: Share of all with a NaN or an infinity.
        rank: Their effective rank; 0 without any.
    """

    vectors: int
    not_finite: float
    rank: float


def spread(vectors: np.ndarray) -> Spread:
    """How far (n, dim) float vectors spread, by their directions; zero rows are no vectors."""
    finite = np.isfinite(vectors).all(axis=1)
    usable = vectors[finite].astype(np.float64)
    lengths = np.linalg.norm(usable, axis=1)
    usable = usable[lengths > 0] / lengths[lengths > 0, None]
    bad = float(1 - finite.mean()) if len(vectors) else 0.0
    return Spread(len(usable), round(bad, 6), round(effective_rank(usable), 3))


def effective_rank(rows: np.ndarray) -> float:
    """The exponential of the entropy of the squared singular values' shares: 1 where rows lie on a line, 0 for none.

    Roy and Vetterli, The effective rank, EUSIPCO 2007, with squared values, the energy of each direction; rows (n, dim)
    are not centred.
    """
    if not rows.any():
        return 0.0
    small = rows if rows.shape[0] >= rows.shape[1] else rows.T
    with one_blas_thread():  # its sums then run in one order
        energy = np.clip(np.linalg.eigvalsh(small.T @ small), 0.0, None)
    shares = energy[energy > 0] / energy.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
