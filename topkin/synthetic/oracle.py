"""What the customers of the generated shop would like best, computed from what was planted."""

import numpy as np

from topkin.synthetic.items import GeneratedItems

_BLOCK_SCORES = 1 << 24


def best_items(
    tastes: np.ndarray, items: GeneratedItems, appeal: np.ndarray, bought_by: np.ndarray, bought: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each customer's ``k`` best items of positive ``appeal`` that the customer did not buy.

    tastes: (n, DIM) float32. appeal: (n_items,) popularity by season. bought_by, bought: (m,) customer rows
    and item numbers. Returns row, rank (from 1), item, utility and taste, sorted by row and rank: utility is
    taste plus log appeal; ties go to the smaller item number. Fewer than ``k`` where there are no more.
    """
    with np.errstate(divide="ignore"):
        base = np.log(appeal).astype(np.float32)
    k = min(k, len(items))
    blocks = []
    step = max(1, _BLOCK_SCORES // len(items))
    for first in range(0, len(tastes), step):
        taste = items.liking(tastes[first : first + step])[:, items.cell].astype(np.float32)
        utility = taste + base
        in_block = (bought_by >= first) & (bought_by < first + len(taste))
        utility[bought_by[in_block] - first, bought[in_block]] = -np.inf
        order = np.argsort(-utility, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(utility, order, 1)
        row, rank = np.nonzero(np.isfinite(best))
        item = order[row, rank]
        blocks.append((row + first, rank + 1, item, best[row, rank], taste[row, item]))
    row, rank, item, value, liking = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return row, rank, item, value, liking
