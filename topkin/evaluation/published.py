"""Published figures of recommendation models on public splits, to be printed beside one's own on the same split."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PublishedSplit:
    """A public split, known by its size, and what was published on it.

    Args:
        name: of the split.
        users, items, train, test: users, items of the train part, and distinct pairs of both parts.
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

    def to_json(self) -> dict[str, Any]:
        """What ``topkin benchmark`` prints of it."""
        return {"split": self.name, "metrics": list(self.metrics), "figures": dict(self.figures)}


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

_SEQUENCES = "hit_rate@10", "ndcg@10"

BEAUTY = PublishedSplit(
    name="Amazon's reviews of beauty products, five or more a user and item, as S3-Rec has them, last item held out",
    users=22_363,
    items=12_092,
    train=176_139,
    test=22_363,
    metrics=_SEQUENCES,
    figures={
        "SASRec": (0.0605, 0.0318),
        "S3-Rec": (0.0647, 0.0327),
        "TIGER": (0.0648, 0.0384),
        "CL4SRec": (0.0681, 0.0299),
        "HSTU": (0.0704, 0.0389),
        "ActionPiece": (0.0775, 0.0424),
        "LSAN": (0.0785, 0.0410),
        "DuoRec": (0.0845, 0.0443),
        "SASRec by sampled softmax": (0.0921, 0.0531),
        "eSASRec": (0.0928, 0.0523),
    },
)
SPORTS = PublishedSplit(
    name="the same of sports and outdoors",
    users=35_598,
    items=18_347,
    train=260_739,
    test=35_598,
    metrics=_SEQUENCES,
    figures={
        "SASRec": (0.0350, 0.0192),
        "S3-Rec": (0.0385, 0.0204),
        "CL4SRec": (0.0387, 0.0171),
        "TIGER": (0.0400, 0.0225),
        "HSTU": (0.0414, 0.0215),
        "LSAN": (0.0481, 0.0264),
        "DuoRec": (0.0498, 0.0262),
        "ActionPiece": (0.0500, 0.0264),
        "eSASRec": (0.0560, 0.0323),
        "SASRec by sampled softmax": (0.0569, 0.0314),
    },
)
TOYS = PublishedSplit(
    name="the same of toys and games",
    users=19_412,
    items=11_917,
    train=148_185,
    test=19_412,
    metrics=_SEQUENCES,
    figures={
        "S3-Rec": (0.0700, 0.0376),
        "LSAN": (0.0711, 0.0370),
        "TIGER": (0.0712, 0.0432),
        "HSTU": (0.0778, 0.0450),
        "eSASRec": (0.0939, 0.0538),
        "SASRec by sampled softmax": (0.0970, 0.0580),
    },
)
"""All items ranked, those of the history masked. Published figures count users whose last item nobody else bought.

All by the table of "Common academic benchmarks" in the repository of Tikhonovich et al., eSASRec: Enhancing
transformer-based recommendations in a modular fashion, RecSys 2025; those of HSTU on toys, of eSASRec and of SASRec by
sampled softmax are its own runs, the others what it quotes.
"""

SPLITS = (GOWALLA, BEAUTY, SPORTS, TOYS)


def published_on(users: int, items: int, train: int, test: int) -> PublishedSplit | None:
    """The public split of this size; None for any other data, beside which no published figure means anything."""
    sizes = users, items, train, test
    return next((s for s in SPLITS if (s.users, s.items, s.train, s.test) == sizes), None)
