"""Items in the plane of the two main directions of their vectors."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topkin.linalg.gram import principal_axes

CATEGORIES = 8
"""Groups that are told apart by colour and shape."""


@dataclass(frozen=True, kw_only=True)
class ItemMap:
    """Items in the plane: points (n, 2), groups (n,) numbers in ``names``.

    explained: share of the vectors' variance that the plane keeps. ordered: the groups are deciles of
    sales, the last sold most; else they are categories, with ``rest`` the last one all the others.
    """

    points: np.ndarray
    groups: np.ndarray
    names: Sequence[str]
    explained: float
    ordered: bool
    rest: bool


def plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """The two principal components of the rows, (n, 2), and the share of the variance that they keep.

    Each axis points to where its largest coordinate lies, so that the picture does not flip between runs.
    """
    vectors = vectors.astype(np.float64)
    mean, variances, axes = principal_axes(vectors)
    points = (vectors - mean) @ np.pad(axes, ((0, 0), (0, 1)))[:, :2]
    signs = np.sign(points[np.abs(points).argmax(axis=0), [0, 1]])
    total = float(variances.sum())
    return points * np.where(signs == 0, 1, signs), float(variances[:2].sum()) / total if total else 0.0


def map_items(vectors: np.ndarray, categories: Sequence[str | None], events: np.ndarray) -> ItemMap | None:
    """Items, best sold first, in the plane; None with fewer than 3 of them.

    vectors: (n, dim), none of them zero. categories, events: of the same items.
    """
    n = len(vectors)
    if n < 3:
        return None
    points, explained = plane(vectors)
    sales: Counter[str] = Counter()
    for category, sold in zip(categories, events.tolist(), strict=True):
        if category:
            sales[category] += sold or 1
    common = sorted(sales, key=lambda c: (-sales[c], c))
    ordered, rest = len(common) < 2 and bool(events.any()), False
    if len(common) < 2 and not ordered:
        groups, words = np.zeros(n, np.int64), ["all items"]
    elif ordered:
        groups = np.minimum(9 - np.arange(n) * 10 // n, 9)
        words = ["sold least", *([""] * 8), "sold most"]
    else:
        rest = len(common) > CATEGORIES or not all(categories)
        words = [*common[: CATEGORIES - 1], "all others"] if rest else common
        at = {word: i for i, word in enumerate(words[:-1] if rest else words)}
        groups = np.array([at.get(c or "", len(words) - 1) for c in categories])
    return ItemMap(points=points, groups=groups, names=words, explained=explained, ordered=ordered, rest=rest)
