"""Implicit-feedback matrix factorisation as a baseline, where the library ``implicit`` is installed."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy.sparse as sp

from topkin.baselines.popularity import Learned
from topkin.baselines.registry import BASELINES
from topkin.errors import ConfigError
from topkin.interactions import Interactions
from topkin.linalg.blas import one_blas_thread


@dataclass
class IALS(Learned):
    """Alternating least squares on purchases with a confidence (Hu, Koren & Volinsky 2008).

    A user's factors are solved from the history when it is scored, as the library solves them, so that users
    never fitted have some too. ``alpha``: confidence of a purchase, where that of all else is 1; without one .3
    times the root of (users x items / purchases), at least 1: the sparser, the more a purchase must weigh.
    """

    factors: int = 128
    regularisation: float = 1.0
    alpha: float | None = None
    iterations: int = 15
    seed: int = 0
    items: np.ndarray = field(init=False, repr=False)
    confidence: np.ndarray = field(init=False, repr=False)

    def fit(self, history: Interactions) -> Self:
        """Factorise. Raises ConfigError where the library is not installed."""
        if why := BASELINES["ials"].missing:
            raise ConfigError(f"evaluate.baselines: ials cannot be fitted, {why}, or take it off the list")
        known = history.binary()
        self.items = np.zeros((history.n_items, self.factors), np.float32)
        alpha = 0.3 * np.sqrt(np.prod(known.shape) / max(known.nnz, 1)) if self.alpha is None else self.alpha
        self.confidence = np.array([max(alpha, 1.0)])
        if not known.nnz:
            return self
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits  # which implicit depends on

        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularisation,
                alpha=float(self.confidence[0]),
                iterations=self.iterations,
                num_threads=1,
                random_state=self.seed,
            )
            model.fit(sp.csr_matrix(known), show_progress=False)
        self.items = np.asarray(model.item_factors, np.float32)
        return self

    def scores(self, history: Interactions) -> np.ndarray:
        """See :class:`topkin.baselines.registry.Baseline`."""
        known = history.binary()
        items, alpha = self.items.astype(np.float64), float(self.confidence[0])
        with one_blas_thread():
            base = items.T @ items + self.regularisation * np.eye(self.factors)
            users = np.zeros((history.n_users, self.factors))
            for row in np.flatnonzero(np.diff(known.indptr)):
                own = items[known.indices[known.indptr[row] : known.indptr[row + 1]]]
                users[row] = np.linalg.solve(base + (alpha - 1) * own.T @ own, alpha * own.sum(axis=0))
            return (users @ items.T).astype(np.float32)
