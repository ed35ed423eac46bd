"""The next-item block: what users with such a history bought next, lately; a ridge regression in closed form.

For windows p = 0, 1, … of ``days`` before the cut, let x be a user's history before the window, pooled to a unit
vector by in-vectors E, and y the items bought in the window and not before, divided by the root of their number.
With ``G = sum_p decay^p x'x`` and ``C = sum_p decay^p x'y`` the out-vectors are ``(G + ridge * mean(diag G))^-1 C``.
They carry what sells now, and to whom; the pass over the purchases keeps d x items numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from topkin.encoding.blocks import NEXT_ITEM, Block, user_vectors
from topkin.interactions import Interactions
from topkin.models.data.histories import before_cut, fresh


@dataclass(frozen=True, kw_only=True)
class NextItemSettings:
    """windows of ``days``, each weighing ``decay`` of the one after it; ridge beside the mean of the diagonal."""

    windows: int = 4
    days: float = 14.0
    decay: float = 0.6
    ridge: float = 1.0
    inverse_popularity: float = 0.5
    half_life_days: float | None = 83.0


def next_item_ridge(
    parts: Callable[[], Iterable[Interactions]],
    in_vectors: np.ndarray,
    buyers: np.ndarray,
    settings: NextItemSettings | None = None,
) -> np.ndarray:
    """The out-vectors, (n_items, d) float32; zero for items that nobody took up in the windows.

    parts: gives the purchases before the cut, aged at it. in_vectors: (n_items, d) float32. buyers: (n_items,).
    """
    settings = settings or NextItemSettings()
    G, C = np.zeros((in_vectors.shape[1],) * 2), np.zeros(in_vectors.shape)
    for part in parts():
        add_part(part, in_vectors, buyers, settings, G, C)
    return solved(G, C, settings)


def add_part(
    part: Interactions,
    in_vectors: np.ndarray,
    buyers: np.ndarray,
    settings: NextItemSettings,
    G: np.ndarray,
    C: np.ndarray,
) -> None:
    """Add to G (d, d) and to the transpose of C, (n_items, d), what some users say, in place; both float64."""
    n_items, dim = in_vectors.shape
    block = Block.unscaled(NEXT_ITEM, dim, settings.inverse_popularity, settings.half_life_days)
    known, taken = [np.zeros((0, dim))], [sp.csr_array((0, n_items))]
    for window in range(settings.windows):
        until = before_cut(part, settings.days * window) if window else part
        before, after = before_cut(until, settings.days), fresh(until, settings.days)
        users = np.flatnonzero((np.diff(before.pooled.indptr) > 0) & (np.diff(after.indptr) > 0))
        if not len(users):
            continue
        x = user_vectors(before.take(users), in_vectors, buyers, [block]).astype(np.float64)
        took = after.take(users)
        shares = np.repeat(np.maximum(np.diff(took.indptr), 1) ** -0.5, np.diff(took.indptr))
        share = settings.decay**window
        G += share * (x.T @ x)
        known.append(x)
        taken.append(sp.csr_array((share * shares, took.items, took.indptr), (len(users), n_items)))
    C += sp.vstack(taken, format="csr").T @ np.concatenate(known)  # at once: the result is wide


def solved(G: np.ndarray, C: np.ndarray, settings: NextItemSettings) -> np.ndarray:
    """The out-vectors of some items, (n, d) float32, from G (d, d) and their rows of C's transpose, (n, d)."""
    dim = len(G)
    level = np.trace(G) / dim
    if level == 0:
        return np.zeros(C.shape, np.float32)
    return np.linalg.solve(G + settings.ridge * level * np.eye(dim), C.T).T.astype(np.float32)
