"""The best k of a list of before and of the candidates that are new or not what they were."""

from collections.abc import Callable

import numpy as np

from topkin.linalg.sort_keys import keys_of
from topkin.search.topk import TopK, merge_top_k

SHARE = 0.3
"""Users that changed, of all, from which on everybody is searched for again: less work than twice some."""


def carried(ids: np.ndarray, scores: np.ndarray, fresh: TopK, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge earlier lists with what new candidates score, and say where that is not enough to know the best k.

    A candidate that was not listed and is what it was scores no more than the last of a full list did. So the best k
    are known where the k-th of what stays and what is new is before that: above its score, or not after the last
    entry that stays. Of a list that was not full every candidate was in it.

    Args:
        ids: (n, m) int32, tonight's numbers of the earlier lists' entries, -1 for one that is gone or not what it was;
            the order of numbers is that of before.
        scores: (n, m) float32, the earlier scores, padded -inf: also those of entries that are gone.
        fresh: The best k of the candidates that are new, or not what they were: ids padded -1, scores padded -inf.
        k: Length of a list, then and now.

    Returns:
        ids (n, k) int32 padded -1, scores (n, k) float32 padded -inf, and (n,) bool, the rows to be searched again.
    """
    there = np.isfinite(scores)
    stays = there & (ids >= 0)
    old_ids, old_scores = np.where(stays, ids, np.int32(-1)), np.where(stays, scores, np.float32(-np.inf))
    best = merge_top_k([(old_ids, old_scores), fresh], k)
    full = there.sum(axis=1) >= k
    lowest = np.where(there, scores, np.float32(np.inf)).min(axis=1, initial=np.float32(np.inf))
    last_key = np.where(stays, keys_of(old_scores, old_ids), np.uint64(0)).max(axis=1, initial=np.uint64(0))
    kth_id, kth = best[0][:, -1], best[1][:, -1]
    known = (kth_id >= 0) & ((kth > lowest) | (keys_of(kth, kth_id) <= last_key))
    return best[0], best[1], full & ~known


def search_again(
    same: np.ndarray, old: TopK, fresh: Callable[[np.ndarray], TopK], search: Callable[[np.ndarray], TopK], k: int
) -> TopK:
    """The best k of each query: earlier lists carried over where the query is the same, the others searched for.

    Args:
        same: (n,) bool, the queries that are what they were.
        old: Their lists of before, as :func:`carried` takes them.
        fresh: From rows of queries to the best k of the candidates that are not what they were.
        search: From rows of queries to the best k of all candidates.
        k: Length of a list.
    """
    rows = np.flatnonzero(same)
    ids, scores = np.full((len(same), k), -1, np.int32), np.full((len(same), k), -np.inf, np.float32)
    ids[rows], scores[rows], unsure = carried(old[0][rows], old[1][rows], fresh(rows), k)
    again = np.flatnonzero(~same)
    again = np.sort(np.concatenate([again, rows[unsure]]))
    if len(again):
        ids[again], scores[again] = search(again)
    return ids, scores
