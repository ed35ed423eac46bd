"""A generated shop where some purchases say nothing of a taste: NDCG@10 on new items with their features and without.

Each user likes a few brands. A share of the purchases are gifts, of any brand; of the others those at full price are of
a brand that the user likes nearly always, those at half price seldom. Channel and discount of each purchase are known.
"""

import argparse
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from topkin.artifacts import storage
from topkin.config.load import settings_of
from topkin.metrics.bootstrap import paired_bootstrap
from topkin.models.data.purchase_weights import PurchaseWeights, read_features
from topkin.pipelines.engine import stages

START, DAYS, CUT, BRANDS, LIKED = datetime(2024, 1, 1), 200, 160, 40, 2
AT = "novel/model/ndcg@10"


def generate(folder: Path, users: int, items: int, each: int, gifts: float, seed: int) -> None:
    """purchases.parquet and items.parquet."""
    rng = np.random.default_rng(seed)
    brand, popular = rng.integers(0, BRANDS, items), rng.pareto(1.5, items) + 0.2
    likes = rng.random((users, BRANDS)).argsort(axis=1)[:, :LIKED]
    by_brand = [np.flatnonzero(brand == b) for b in range(BRANDS)]
    chances = [popular[at] / popular[at].sum() for at in by_brand]
    n = each * users
    user, gift = rng.integers(0, users, n), rng.random(n) < gifts
    discount = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0, 0.5, n))
    by_taste = ~gift & (rng.random(n) < 0.95 - 1.6 * discount)
    chosen = np.where(by_taste, likes[user, rng.integers(0, LIKED, n)], rng.integers(0, BRANDS, n))
    item = np.empty(n, np.int64)
    for b in range(BRANDS):
        mine = np.flatnonzero(chosen == b)
        item[mine] = rng.choice(by_brand[b], len(mine), p=chances[b]) if len(by_brand[b]) else rng.integers(0, items)
    times = [START + timedelta(days=float(d)) for d in rng.uniform(0, DAYS, n)]
    table = {"user_id": user, "item_id": item, "timestamp": times, "channel": np.where(gift, "gift", "web")}
    pq.write_table(pa.table({**table, "discount": discount}), folder / "purchases.parquet")
    names = pa.array([f"brand {b}" for b in brand])
    pq.write_table(pa.table({"item_id": np.arange(items), "brand": names}), folder / "items.parquet")


def run(folder: Path, seed: int, features: dict[str, str]) -> tuple[pa.Table, dict[str, Any]]:
    """The metrics of each judged user, and the signature of the encoder."""
    out = folder / f"out-{len(features)}"
    sections = {
        "run": {"output": str(out), "seed": seed, "parts": 2},
        "purchases": {"path": str(folder / "purchases.parquet"), "features": features},
        "items": {"path": str(folder / "items.parquet"), "features": {"brand": "brand"}},
        "recommend": {"sources": []},
        "evaluate": {"baselines": ["popularity", "item_knn"], "bootstrap": 100, "hindsight": [], "nightly": "off"},
    }
    settings, done = settings_of(sections, "the benchmark"), None
    for stage in ("prepare", "train", "embed", "recommend", "evaluate"):
        done = stages.run_stages(settings, as_of=START + timedelta(days=CUT), only=stage)
    assert done is not None
    signature = storage.read_json(storage.join(done.folder("train"), "signature.json"))
    return storage.read_parts(storage.join(done.folder("evaluate"), "users")).sort_by("user_id"), signature


def factors(signature: dict[str, Any]) -> str:
    """What some purchases weigh beside one on the web at full price, in words."""
    weights = PurchaseWeights.from_signature(signature)
    if weights is None:
        return "the features block is left out"
    named = [("web", 0.0), ("web", 0.25), ("web", 0.5), ("gift", 0.0)]
    kind = pa.list_(pa.struct([pa.field("channel", pa.string()), pa.field("discount", pa.float32())]))
    rows = pa.array([[{"channel": c, "discount": d} for c, d in named]], kind)
    logs = weights.logs(read_features(weights.rows, pa.table({"purchase_features": rows})))
    ratios = np.exp(logs - logs[0])
    return ", ".join(f"{c} at {d:.0%} off {w:.2f}" for (c, d), w in zip(named, ratios, strict=True))


def main() -> None:
    """Print the figures of a few seeds of the shop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--each", type=int, default=10, help="purchases of a user, on average")
    parser.add_argument("--gifts", type=float, default=0.5, help="share of purchases that are gifts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    asked = parser.parse_args()
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory(prefix="topkin-purchases-") as name:
            folder = Path(name)
            generate(folder, asked.users, asked.items, asked.each, asked.gifts, seed)
            without, _ = run(folder, seed, {})
            learned, signature = run(folder, seed, {"channel": "channel", "discount": "discount"})
        blocks = {b["name"]: (round(b["weight"], 2), b["gate"]) for b in signature["blocks"]}
        a, b = (np.asarray(table[AT].drop_null()) for table in (learned, without))
        low, mean, high = paired_bootstrap(a, b, 1000)
        print(
            f"seed {seed}, {len(a)} users: {a.mean():.4f} with purchases' features, {b.mean():.4f} without, difference "
            f"{mean:+.4f} ({low:+.4f} to {high:+.4f}); weights: {factors(signature)}; blocks (weight, gate) {blocks}",
            flush=True,
        )


if __name__ == "__main__":
    main()
