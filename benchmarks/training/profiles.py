"""A generated shop where users told what they like: NDCG@10 on new items with their features and without, by purchases.

Users who had bought nothing are judged by whatever they bought afterwards: without features they get what sells.
"""

import argparse
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import topkin
from topkin.evaluation.protocol import lists_of
from topkin.interactions import Interactions, encode_ids
from topkin.linalg.csr import Csr
from topkin.metrics.bootstrap import paired_bootstrap
from topkin.metrics.ranking import ranking_metrics
from topkin.synthetic.noise import NoiseRates
from topkin.synthetic.shop import Shop

K = 10
GROUPS = {"none": (0, 0), "1 to 3": (1, 3), "4 to 9": (4, 9), "10 or more": (10, 10**9)}
"""Distinct items bought before: least and most."""


def judged(
    model: topkin.Recommender, history: Interactions, users: pa.Array, later: pa.Table
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the users who bought an item later that had been sold, and new to them, and their NDCG@10."""
    items = model.items
    known = Csr.of_pairs(history.users, history.items, len(users), len(items))
    rows, numbers = encode_ids(later["user_id"], users), encode_ids(later["item_id"], items)
    sold = np.bincount(history.items, minlength=len(items)) > 0
    counts = (rows >= 0) & (numbers >= 0) & sold[numbers]
    truth = Csr.of_pairs(rows[counts], numbers[counts], len(users), len(items)).without(known, len(items))
    some = np.flatnonzero(truth.lengths > 0)
    lists = lists_of(model.recommend(users.take(pa.array(some)), K), users.take(pa.array(some)), items, K)
    return some, ranking_metrics(lists, truth.take(some), (K,))[f"ndcg@{K}"]


def main() -> None:
    """Print the figures of a few seeds of the shop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=4_000)
    parser.add_argument("--items", type=int, default=800)
    parser.add_argument("--each", type=int, default=6, help="purchases of a user, on average")
    parser.add_argument("--surveyed", type=float, default=0.8, help="share of users who told what they like")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    asked = parser.parse_args()
    clean = NoiseRates(**{field.name: 0.0 for field in fields(NoiseRates)})
    for seed in asked.seeds:
        shop = Shop(
            users=asked.users,
            items=asked.items,
            purchases=asked.each * asked.users,
            seed=seed,
            noise=clean,
            surveyed=asked.surveyed,
        )
        log, users = shop.purchase_shard(0, 1), shop.users_table()
        later = pc.greater_equal(log["timestamp"], shop.as_of)
        figures = []
        for features in ({}, {"likes": "likes"}):
            model = topkin.Recommender({"run": {"seed": seed}, "users": {"path": "users", "features": features}})
            model.fit(log.filter(pc.invert(later)), shop.items_table(), users, as_of=shop.as_of)
            histories = model._known.histories
            history = Interactions.from_histories(histories, model.items, model.as_of)
            ids = histories["user_id"].combine_chunks()
            some, values = judged(model, history, ids, log.filter(later))
            figures.append(values)
        weights = {block.name: (round(block.weight, 2), block.prior_purchases) for block in model._known.blocks}
        print(f"seed {seed}: weights {weights}", flush=True)
        bought = np.diff(history.distinct().indptr)[some]
        for name, (least, most) in GROUPS.items():
            group = (bought >= least) & (bought <= most)
            if not group.any():
                continue
            without, with_features = (values[group] for values in figures)
            low, mean, high = paired_bootstrap(with_features, without, 1000)
            print(
                f"  {name} bought before, {group.sum()} users: {with_features.mean():.4f} with users' features, "
                f"{without.mean():.4f} without, difference {mean:+.4f} ({low:+.4f} to {high:+.4f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
