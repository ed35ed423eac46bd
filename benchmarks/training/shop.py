"""The generated shop's job beside the oracle: NDCG@10 on novel items of model, baselines and planted preferences.

The peer here is the truth: the lists that the shop's own probabilities make, which no model of purchases can beat
but by luck.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topkin.artifacts import storage
from topkin.artifacts.runs import Run
from topkin.config.load import load_settings
from topkin.evaluation.protocol import lists_of
from topkin.interactions import encode_ids
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.pipelines.run import run_all
from topkin.synthetic.shop import Shop

K = 10
SEEDS = (42, 43, 44)
SHARE = 0.65  # of the oracle's NDCG@10, at least
BASELINES = ("popularity", "item_knn", "item_knn_recent")


def oracle(run: Run, truth: str) -> float:
    """Mean NDCG@10 of the planted best items over the users that the job's evaluation judges on novel items."""
    catalogue = storage.read_parquet(f"{run.folder('prepare')}/catalogue.parquet", ["item_id", "events"])
    sold = catalogue.filter(pc.greater(catalogue["events"], 0))["item_id"].combine_chunks()
    best = storage.read_parquet(truth, ["user_id", "rank", "item_id"])
    best = best.filter(pa.array(encode_ids(best["item_id"], sold) >= 0))
    users = best["user_id"].combine_chunks().unique()
    of = encode_ids(best["user_id"], users)
    first = np.flatnonzero(np.diff(of, prepend=-1))  # ranks start anew with each user, some of them left out
    rank = np.arange(len(best)) - np.repeat(first, np.diff([*first, len(best)])) + 1
    lists = lists_of(best.set_column(1, "rank", pa.array(rank)), users, sold, K)
    pairs = {}
    for name in ("events", "heldout"):
        table = storage.read_parts(f"{run.folder('prepare')}/{name}", ["user_id", "item_id"])
        at, items = encode_ids(table["user_id"], users), encode_ids(table["item_id"], sold)
        known = (at >= 0) & (items >= 0)
        pairs[name] = Csr.of_pairs(at[known], items[known], len(users), len(sold))
    novel = pairs["heldout"].without(pairs["events"], len(sold))
    judged = np.flatnonzero((novel.lengths > 0) & (pairs["events"].lengths > 0))
    values = ranking_metrics(lists[judged], novel.take(judged), (K,))[f"ndcg@{K}"]
    print(f"{len(judged)} users are judged")
    return float(values.mean())


def main() -> None:
    """Print the figures of the demo's shop for three seeds of the training."""
    with tempfile.TemporaryDirectory(prefix="topkin-shop-") as folder:
        shop = Shop()
        shop.write(f"{folder}/shop")
        config = Path(folder) / "topkin.toml"
        config.write_text(shop.config_toml("shop"))
        for seed in SEEDS:
            settings = load_settings(config, env={}, sets=[f"run.seed={seed}"])
            run = run_all(settings, as_of=shop.as_of)
            novel = storage.read_json(f"{run.folder('evaluate')}/metrics.json")["novel"]
            most = oracle(run, f"{folder}/shop/truth/best.parquet")
            figures = ", ".join(f"{name} {novel[name][f'ndcg@{K}']:.4f}" for name in BASELINES)
            model = novel["model"][f"ndcg@{K}"]
            share = model / most
            print(
                f"seed {seed}: topkin {model:.4f}, oracle {most:.4f}, share {share:.3f} "
                f"(at least {SHARE}) {'ok' if share >= SHARE else 'below'}; {figures}",
                flush=True,
            )


if __name__ == "__main__":
    main()
