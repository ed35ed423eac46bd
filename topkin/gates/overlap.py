"""How alike ranked lists are: overlap at k and rank-biased overlap of pairs, and the overlap of all lists."""

import numpy as np

BUDGET_BYTES = 64 << 20
PERSISTENCE = 0.9
"""Of rank-biased overlap: the first ten ranks have 86 % of the weight."""


def overlap_at_k(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share of items that two lists of a user have in common, of the longer list, (n,) float64; NaN for no item.

    a, b: (n, k) int, the items of each list in its order, an item once, -1 where a list is short.
    """
    longest = np.maximum((a >= 0).sum(axis=1), (b >= 0).sum(axis=1))
    common = _depths(a, b).sum(axis=1)
    return np.divide(common, longest, out=np.full(len(a), np.nan), where=longest > 0)


def rank_biased_overlap(a: np.ndarray, b: np.ndarray, p: float = PERSISTENCE) -> np.ndarray:
    """Rank-biased overlap, extrapolated from the lists' ends, (n,) float64; NaN where a list of the pair is empty.

    Webber, Moffat and Zobel, A similarity measure for indefinite rankings, TOIS 2010, equation 32: the mean overlap of
    the first d items over all depths d, weighted by (1 - p) p^(d - 1), where beyond its end the shorter list goes on as
    it did to its end, and beyond the longer both do.

    Args:
        a: (n, k) int, the items of each list in its order, an item once, -1 where a list is short.
        b: Likewise.
        p: From 0 to 1, both left out: the greater, the more lower ranks count.
    """
    if not 0 < p < 1:
        raise ValueError(f"p must lie between 0 and 1, got {p}")
    n, k = a.shape
    if not n or not k:
        return np.full(n, np.nan)
    lengths = np.stack([(a >= 0).sum(axis=1), (b >= 0).sum(axis=1)])
    short, long = lengths.min(axis=0), lengths.max(axis=0)
    common = np.cumsum(_depths(a, b), axis=1)  # [:, d - 1]: items in both first d
    depth = np.arange(1, k + 1)
    weight = p**depth
    at_short = common[np.arange(n), np.maximum(short, 1) - 1]
    at_long = common[np.arange(n), np.maximum(long, 1) - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        agreement = common / depth * weight * (depth <= long[:, None])
        beyond = at_short[:, None] * (depth - short[:, None]) / (short[:, None] * depth) * weight
        beyond = np.where((depth > short[:, None]) & (depth <= long[:, None]), beyond, 0.0)
        rest = ((at_long - at_short) / long + at_short / short) * p**long
        value = (1 - p) / p * (agreement.sum(axis=1) + beyond.sum(axis=1)) + rest
    return np.where(short > 0, value, np.nan)


def mean_overlap(lists: np.ndarray) -> float:
    """The overlap of two lists of different users, mean over all pairs, as a share of the mean length; 0 without pairs.

    lists: (n, k) int, an item once a list, -1 where a list is short.
    """
    n, held = len(lists), lists[lists >= 0]
    if n < 2 or not len(held):
        return 0.0
    times = np.unique(held, return_counts=True)[1].astype(np.float64)
    return float((times * (times - 1)).sum() / (n - 1) / len(held))


def _depths(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[:, d]: how many items both lists have by rank d and one of them not before, (n, k) int64."""
    if a.shape != b.shape:
        raise ValueError(f"the lists must be of one shape, got {a.shape} and {b.shape}")
    n, k = a.shape
    counts = np.zeros((n, k), np.int64)
    deeper = np.maximum(np.arange(k)[:, None], np.arange(k))
    step = max(1, BUDGET_BYTES // max(k * k, 1))
    for start in range(0, n, step):
        one, other = a[start : start + step], b[start : start + step]
        row, i, j = np.nonzero((one[:, :, None] == other[:, None, :]) & (one[:, :, None] >= 0))
        np.add.at(counts, (row + start, deeper[i, j]), 1)
    return counts
