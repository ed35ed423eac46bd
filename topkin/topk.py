"""Exact top-k by inner product: the k best items of each query, ties by item number.

The score of a pair is the inner product in float64 rounded to float32: one number for one pair, however
the work is blocked. Lists are ordered by score, highest first, then by item number, lowest first; what
is excluded or not allowed never appears, and a list that gets short is padded with id -1, score -inf.
"""

from collections.abc import Sequence

import numpy as np

Exclude = tuple[np.ndarray, np.ndarray]
TopK = tuple[np.ndarray, np.ndarray]
BUDGET_BYTES = 256 << 20


def top_k(
    queries: np.ndarray,
    items: np.ndarray,
    k: int,
    *,
    exclude: Exclude | None = None,
    allowed: np.ndarray | None = None,
    budget_bytes: int = BUDGET_BYTES,
    threads: int | None = None,
) -> TopK:
    """The k items of highest inner product with each query: ids (n, k) int32, scores (n, k) float32.

    queries: (n, d) float32. items: (m, d) float32. exclude: CSR ``(indptr (n + 1,), items)``, the items that
    query r must not get are ``items[indptr[r]:indptr[r + 1]]``, in any order, repeats allowed.
    allowed: (m,) bool, the items that any query may get. budget_bytes: bound of the working memory beside
    inputs and result. threads: how many at once, by default one a processor.

    With unit vectors the score is the cosine; a zero vector scores 0 with everything. Raises ValueError
    for k below 1, shapes that do not fit, or a NaN or an infinity in a vector.
    """
    queries, items = np.asarray(queries, np.float32), np.asarray(items, np.float32)
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ValueError(f"queries and items must be (n, d) and (m, d), got {queries.shape} and {items.shape}")
    if not (np.isfinite(queries).all() and np.isfinite(items).all()):
        raise ValueError("vectors must be finite: set aside those with a NaN or an infinity first")
    exact = (queries.astype(np.float64) @ items.T.astype(np.float64)).astype(np.float32)
    return top_k_of_scores(exact, k, exclude=exclude, allowed=allowed)


def top_k_of_scores(
    scores: np.ndarray, k: int, *, exclude: Exclude | None = None, allowed: np.ndarray | None = None
) -> TopK:
    """The k best columns of each row of dense scores, (n, m) float32, as :func:`top_k` orders them.

    A column that scores -inf is never listed. Raises ValueError for a NaN.
    """
    scores = np.array(scores, np.float32)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers, got NaN")
    if exclude is not None:
        scores[np.repeat(np.arange(len(scores)), np.diff(exclude[0])), exclude[1]] = -np.inf
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    top = np.take_along_axis(scores, order, axis=1)
    ids = np.full((len(scores), k), -1, np.int32)
    best = np.full((len(scores), k), -np.inf, np.float32)
    ids[:, : order.shape[1]] = np.where(np.isneginf(top), -1, order)
    best[:, : order.shape[1]] = top
    return ids, best


def merge_top_k(parts: Sequence[TopK], k: int) -> TopK:
    """One list a row out of lists over disjoint items: ids (n, k) int32 and scores (n, k) float32.

    Associative and commutative: shards may be merged in any order, in any grouping.
    """
    ids = np.concatenate([p[0] for p in parts], axis=1)
    scores = np.concatenate([p[1] for p in parts], axis=1)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)
