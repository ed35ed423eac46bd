"""A generated shop where 97 % of the customers buy once: NDCG@10 on novel items of the closed form over popularity.

Few return to be judged, and as few to choose by: the peer is what sells, below which no list may fall.
"""

import argparse
from dataclasses import fields

import numpy as np
import pyarrow.compute as pc

import topkin
from topkin.synthetic.noise import NoiseRates
from topkin.synthetic.shop import Shop

ONCE = 0.97
BASELINES = ("popularity", "recent_popularity", "item_knn")


def main() -> None:
    """Print the figures of a few seeds of the shop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    asked = parser.parse_args()
    clean = NoiseRates(**{field.name: 0.0 for field in fields(NoiseRates)})
    for seed in asked.seeds:
        shop = Shop(users=asked.users, items=600, purchases=20 * asked.users, seed=seed, noise=clean, once=ONCE)
        log = shop.purchase_shard(0, 1)
        later = pc.greater_equal(log["timestamp"], shop.as_of)
        model = topkin.Recommender({"train": {"epochs": 0}})
        model.fit(log.filter(pc.invert(later)), shop.items_table(), as_of=shop.as_of)
        results = topkin.evaluate(model, log.filter(later), k=[10], baselines=BASELINES).to_pylist()
        rows = {row["model"]: row for row in results if row["metric"] == "ndcg@10"}
        own, sells = rows["model"]["value"], rows["popularity"]["value"]
        ratio = own / sells if sells else np.inf
        others = ", ".join(f"{name} {rows[name]['value']:.4f}" for name in BASELINES)
        interval = "{low:+.4f} to {high:+.4f}".format(**rows["popularity"])
        print(
            f"seed {seed}: {rows['model']['users']} users are judged, topkin {own:.4f}, {others}; over popularity "
            f"{ratio:.2f} (at least 1) {'ok' if ratio >= 1 else 'below'}, difference {interval}",
            flush=True,
        )


if __name__ == "__main__":
    main()
