"""The generated shop with a log of views beside its purchases: NDCG@10 on novel items without and with the views.

The peer is the same recommender fitted on the purchases alone. Customers view what is near their planted taste. The
weight of a view is chosen on the month before the as-of date with ``--choose``, else it is given.
"""

import argparse
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import topkin
from topkin.interactions import encode_ids
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.synthetic.customers import Customers, GeneratedPurchases
from topkin.synthetic.shop import Shop

SEEDS, K = (42, 43, 44), 10
GAIN = 0.10  # of NDCG@10, at least
GRID = (0.05, 0.2, 0.5, 1.0)
MONTH = timedelta(days=31)


def log_of(shop: Shop, drawn: Callable[[int], tuple[Customers, GeneratedPurchases]]) -> pa.Table:
    """What ``shop.bought`` or ``shop.viewed`` draws of each block of customers, before any noise, by one set of ids."""
    tables = []
    for block in range(shop.blocks):
        people, rows = drawn(block)
        times = np.datetime64(shop.start, "us") + (rows.day * 86_400e6).astype("timedelta64[us]")
        tables.append(pa.table({"user_id": people.number[rows.row], "item_id": rows.item, "timestamp": times}))
    return pa.concat_tables(tables)


def ndcg(rows: pa.Table, views: pa.Table | None, as_of: datetime, weight: float, train: dict[str, int]) -> float:
    """NDCG@K of what users of before bought for the first time in the month from ``as_of`` on."""
    events = {} if views is None else {"events": {"view": {"weight": weight}}}
    recommender = topkin.Recommender(train=train, recommend={"k": K}, **events)
    recommender.fit(rows, events=None if views is None else {"view": views}, as_of=as_of)
    cut, end = (pa.scalar(t, pa.timestamp("us")) for t in (as_of, as_of + MONTH))
    known = rows.filter(pc.less(rows["timestamp"], cut))
    later = rows.filter(pc.and_(pc.greater_equal(rows["timestamp"], cut), pc.less(rows["timestamp"], end)))
    users, items = (known[name].combine_chunks().unique() for name in ("user_id", "item_id"))
    bought, truth = (pairs(t, users, items) for t in (known, later))
    novel = truth.without(bought, len(items))
    judged = np.flatnonzero(novel.lengths)
    lists = recommender.recommend(users.take(pa.array(judged)))
    ids = np.full((len(judged), K), -1, np.int32)
    rows_of = encode_ids(lists["user_id"], users.take(pa.array(judged)))
    ids[rows_of, np.asarray(lists["rank"]) - 1] = encode_ids(lists["item_id"], items)
    return float(ranking_metrics(ids, novel.take(judged), (K,))[f"ndcg@{K}"].mean())


def pairs(table: pa.Table, users: pa.Array, items: pa.Array) -> Csr:
    """The users and items of a table that are known, as numbers."""
    row, item = encode_ids(table["user_id"], users), encode_ids(table["item_id"], items)
    there = (row >= 0) & (item >= 0)
    return Csr.of_pairs(row[there], item[there], len(users), len(items))


def main() -> None:
    """Print NDCG@10 of purchases alone, with views, and the gain, of shops and trainings of three seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--purchases", type=int, default=15_000)
    parser.add_argument("--views", type=float, default=5.0, help="views on visits for each purchase")
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=0, help="of the trained block; 0 for the closed form alone")
    parser.add_argument("--choose", action="store_true", help="choose the weight on the month before")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    args = parser.parse_args()
    train, sizes = {"epochs": args.epochs}, {name: getattr(args, name) for name in ("users", "items", "purchases")}
    for seed in args.seeds:
        shop = Shop(**sizes, seed=seed, views=args.views)
        rows, views, weight = log_of(shop, shop.bought), log_of(shop, shop.viewed), args.weight
        if args.choose:
            figures = {w: ndcg(rows, views, shop.as_of - MONTH, w, train) for w in GRID}
            weight = max(figures, key=lambda w: figures[w])
            print(f"seed {seed}: on validation " + ", ".join(f"{w:g}: {n:.4f}" for w, n in figures.items()), flush=True)
        alone, both = (ndcg(rows, seen, shop.as_of, weight, train) for seen in (None, views))
        gain = both / alone - 1
        print(
            f"seed {seed}: {len(rows):,} purchases alone {alone:.4f}, with {len(views):,} views of weight {weight:g} "
            f"{both:.4f}, gain {gain:+.1%} (at least {GAIN:.0%}) {'ok' if gain >= GAIN else 'below'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
