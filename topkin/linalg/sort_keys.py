"""Lists as sorted numbers: one uint64 per entry that sorts by score, highest first, then by id, lowest first.

Sorting and merging lists is then sorting plain numbers, which NumPy does fast, with ties settled.
"""

import math

import numpy as np

LOWEST = np.finfo(np.float32).min
SAMPLED = 1 << 11  # values of a row that tell where its largest begin
LONG = 8  # so many times as many there must be; and of so many values one at most is looked at again
PAD = np.uint64(0xFF800000_FFFFFFFF)  # the key of score -inf, id -1


def kth(values: np.ndarray, k: int) -> np.ndarray:
    """The k-th largest value of each row, (n,) float32; -inf where there are fewer."""
    w = values.shape[1]
    if w < k:
        return np.full(len(values), -np.inf, np.float32)
    return np.partition(values, w - k, axis=1)[:, w - k]


def rank_among(seen: int, k: int, n: int) -> int:
    """The rank among ``seen`` of n values, drawn alike, below which hardly ever more than k of all are."""
    return min(k, math.ceil((1.5 + math.sqrt(2.25 + k * seen / n)) ** 2))


def above(values: np.ndarray, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each value that is not below its row's floor nor -inf, in row order."""
    keep = values >= np.maximum(floors, LOWEST)[:, None]
    row, column = np.divmod(np.flatnonzero(keep), max(values.shape[1], 1))
    return row, column


def best_places(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the k largest values of each row, ties by column, and of few others, in row order.

    Values of -inf are none of them. Long rows are not partitioned: above a rank among some of their values, below
    which hardly ever more than k of all are, lie a few values, which are counted. A row where that holds less than k,
    or where many are equal, is looked through by itself.
    """
    width = values.shape[1]
    step = width // SAMPLED
    if step >= LONG:
        some = values[:, ::step]
        floors = kth(some, rank_among(some.shape[1], k, width))
    else:
        floors = kth(values, k)
    keep = values >= np.maximum(floors, LOWEST)[:, None]
    counts = np.count_nonzero(keep, axis=1)
    for row in np.flatnonzero((counts < min(k, width)) | (counts > max(k, width // LONG))):
        keep[row] = False
        keep[row, _best_of_row(values[row], k, floors[row])] = True
    return np.divmod(np.flatnonzero(keep), max(width, 1))


def _best_of_row(values: np.ndarray, k: int, floor: np.float32) -> np.ndarray:
    """The columns of the k largest values but -inf, ties by column, in any order. floor: a guess at the k-th."""
    over = np.flatnonzero(values > max(floor, LOWEST))
    if len(over) < k:
        ties = np.flatnonzero(values == floor)[: k - len(over)] if floor >= LOWEST else over[:0]
        if len(over) + len(ties) == k:
            return np.concatenate([over, ties])
        over = np.flatnonzero(values >= LOWEST)
    if len(over) <= k:
        return over
    some = values[over]
    least = np.partition(some, len(some) - k)[len(some) - k]
    best = over[some > least]
    return np.concatenate([best, over[some == least][: k - len(best)]])


def keys_of(scores: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Numbers that sort as lists do, uint64: the score turned upside down, then the id."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    upside_down = np.where(bits < 0x80000000, bits ^ np.uint32(0x7FFFFFFF), bits)
    return upside_down.astype(np.uint64) << np.uint64(32) | ids.astype(np.int32).view(np.uint32)


def scores_of(keys: np.ndarray) -> np.ndarray:
    """The scores of keys, float32."""
    bits = (keys >> np.uint64(32)).astype(np.uint32)
    return np.where(bits < 0x80000000, bits ^ np.uint32(0x7FFFFFFF), bits).view(np.float32)


def lists_of(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids, int32, and the scores, float32, of keys."""
    return keys.astype(np.uint32).view(np.int32), scores_of(keys)


def first_keys(keys: np.ndarray, k: int) -> np.ndarray:
    """The k smallest keys of each row, sorted, padded."""
    if keys.shape[1] > k:
        keys = np.partition(keys, k - 1, axis=1)[:, :k]
    elif keys.shape[1] < k:
        keys = np.pad(keys, ((0, 0), (0, k - keys.shape[1])), constant_values=PAD)
    return np.sort(keys, axis=1)


def best_keys(row: np.ndarray, keys: np.ndarray, n: int, k: int, best: np.ndarray | None = None) -> np.ndarray:
    """The k smallest keys of each of n rows, and of ``best``; row: (len(keys),), ascending."""
    counts = np.bincount(row, minlength=n)
    table = np.full((n, int(counts.max(initial=0))), PAD)
    table[row, np.arange(len(row)) - (np.cumsum(counts) - counts)[row]] = keys
    return first_keys(table if best is None else np.concatenate([best, table], axis=1), k)
