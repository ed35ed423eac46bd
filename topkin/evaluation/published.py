"""Published figures of recommendation models on public splits, to be printed beside one's own."""

GOWALLA = {
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
}
"""Recall@20 and NDCG@20 on the Gowalla split of NGCF and LightGCN, all items ranked, train items masked.

BSPM-EM: Choi et al., Blurring-sharpening process models for collaborative filtering, SIGIR 2023. The others: the
BARS leaderboard gowalla_m1 (Zhu et al., BARS: Towards open benchmarking for recommender systems, SIGIR 2022).
"""
