"""Published figures of recommendation models on public splits, to be printed beside one's own on the same split."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedSplit:
    """A public split, known by its size, and what was published on it.

    Args:
        name: of the split.
        users, items, train, test: distinct users and items of the train part, and distinct pairs of both parts.
        metrics: what the figures are.
        figures: by model.
    """

    name: str
    users: int
    items: int
    train: int
    test: int
    metrics: tuple[str, ...]
    figures: Mapping[str, tuple[float, ...]]


GOWALLA = PublishedSplit(
    name="the Gowalla split of NGCF and LightGCN",
    users=29_858,
    items=40_981,
    train=810_128,
    test=217_242,
    metrics=("recall@20", "ndcg@20"),
    figures={
        "ItemCF": (0.1570, 0.1214),
        "MF-BPR": (0.1627, 0.1378),
        "CML": (0.1670, 0.1292),
        "YoutubeDNN": (0.1754, 0.1473),
        "EASE": (0.1765, 0.1467),
        "LightGCN": (0.1820, 0.1547),
        "MF-CCL": (0.1837, 0.1493),
        "GF-CF": (0.1849, 0.1518),
        "UltraGCN": (0.1862, 0.1580),
        "SimpleX": (0.1872, 0.1557),
        "BSPM-EM": (0.1920, 0.1597),
        "ChebyCF": (0.1941, 0.1616),
    },
)
"""All items ranked, train items masked.

ChebyCF: Kim et al., Graph spectral filtering with Chebyshev interpolation for recommendation, SIGIR 2025. BSPM-EM: Choi
et al., Blurring-sharpening process models for collaborative filtering, SIGIR 2023. The others: the BARS leaderboard
gowalla_m1 (Zhu et al., BARS: Towards open benchmarking for recommender systems, SIGIR 2022).
"""

SPLITS = (GOWALLA,)


def published_on(users: int, items: int, train: int, test: int) -> PublishedSplit | None:
    """The public split of this size; None for any other data, beside which no published figure means anything."""
    sizes = users, items, train, test
    return next((s for s in SPLITS if (s.users, s.items, s.train, s.test) == sizes), None)
