"""What the vectors say already, while a block is trained beside it: so that it learns what the others lack."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LogitOffset:
    """A finished block, its scores as the vectors count them: in standard deviations over the items sold.

    in_vectors: (n_items, d) float32, each with the weight that its item has in a history. out_vectors:
    (n_items, d) float32. covariance: (d, d) float32 of the out-vectors of the items sold.
    """

    in_vectors: np.ndarray
    out_vectors: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, out: np.ndarray, pooled: np.ndarray, buyers: np.ndarray, *, inverse_popularity: float) -> "LogitOffset":
        """A block from its out-vectors and in-vectors. buyers: (n_items,) distinct buyers of each item."""
        weights = np.maximum(buyers, 1).astype(np.float32) ** np.float32(-inverse_popularity)
        covariance = np.cov(out[buyers > 0].T.astype(np.float64), bias=True) if (buyers > 0).any() else np.eye(1)
        return cls(pooled * weights[:, None], out, np.atleast_2d(covariance).astype(np.float32))
