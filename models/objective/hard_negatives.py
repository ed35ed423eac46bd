"""Hard negatives: items that the vectors of now rank high for users who did not buy them.

They are drawn beside the negatives that all purchases of a step share, and from one mixture of chances with them, so
that the chance of an item to be a candidate, which the losses take off, stays known exactly.
"""

import numpy as np

from topkin.encoding.blocks import TRAINED, Block, user_vectors
from topkin.interactions import Interactions
from topkin.models.data.histories import ItemCounts
from topkin.search.topk import top_k

USERS, DEPTH = 1024, 32  # users whose lists are made, and how long these are


def hard_negative_probabilities(
    history: Interactions,
    out: np.ndarray,
    pooled: np.ndarray,
    counts: ItemCounts,
    rng: np.random.Generator,
    *,
    inverse_popularity: float,
    half_life_days: float | None,
    history_length: int,
) -> np.ndarray:
    """The share of each item in the lists of a sample of users, (n_items,) float64, summing to 1; zeros for no list.

    A list holds the DEPTH items of highest score that the user did not buy and somebody is asked for.
    out, pooled: (n_items, d) float32, what is scored and what histories pool.
    """
    able = np.flatnonzero(np.diff(history.indptr) > 0)
    some = history.take(np.sort(rng.choice(able, min(USERS, len(able)), replace=False))).distinct()
    block = Block.unscaled(TRAINED, out.shape[1], inverse_popularity, half_life_days)
    users = user_vectors(some, pooled, counts.buyers, [block], length=history_length)
    ids, _ = top_k(users, out, DEPTH, exclude=some.pattern, allowed=counts.targets > 0)
    ids = ids[np.flatnonzero(users.any(axis=1))]
    listed = np.bincount(ids[ids >= 0], minlength=history.n_items)
    return np.asarray(listed / max(listed.sum(), 1))


def mixed(chances: np.ndarray, negatives: int, hard: np.ndarray, more: int) -> tuple[np.ndarray, int]:
    """Chances and number of draws that give, on average, ``negatives`` by the first and ``more`` by the hard ones."""
    if not more or not hard.any():
        return chances, negatives
    draws = negatives + more
    return (negatives * chances + more * hard) / draws, draws
