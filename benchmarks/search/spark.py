"""Lists from factors against Spark's ALS model: seconds from factor files to Parquet files of lists.

``python -m benchmarks.search.spark [--users 50000 --items 20000 --rank 64 --k 50 --cores 2 --repeats 5]``. Spark's
model is given the same factors and asked ``recommendForAllUsers``; its session is started and warm before the clock
runs. It is left out where PySpark or Java is not installed.
"""

import argparse
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._turns import Turns


def ours(folder: Path, k: int, cores: int) -> None:
    """Factor files to a file of lists, with Spark's columns: user, rank, item and score."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from topkin.artifacts import storage
    from topkin.search.topk import top_k

    def read(name: str) -> tuple[Any, Any]:
        table = pq.read_table(folder / name)
        features = table["features"].combine_chunks()
        return np.asarray(table["id"]), np.asarray(features.flatten()).reshape(len(table), -1)

    (users, factors), (items, vectors) = read("users"), read("items")
    ids, scores = top_k(factors, vectors, k, threads=cores)
    lists = {
        "user_id": np.repeat(users, k),
        "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), len(users)),
        "item_id": items[ids.ravel()],
        "score": scores.ravel(),
    }
    storage.write_parquet(pa.table(lists), str(folder / "ours" / "lists.parquet"))


class Spark:
    """A local session, and an ALS model made of factor files."""

    def __init__(self, folder: Path, rank: int, k: int, cores: int):
        from pyspark.sql import SparkSession

        self.folder, self.rank, self.k = folder, rank, k
        builder = SparkSession.builder.master(f"local[{cores}]").config("spark.driver.memory", "6g")
        builder = builder.config("spark.ui.enabled", "false").config("spark.local.dir", str(folder))
        self.session = builder.config("spark.sql.shuffle.partitions", str(2 * cores)).getOrCreate()
        self.session.sparkContext.setLogLevel("ERROR")

    def __call__(self) -> None:
        """Factor files to a folder of lists."""
        from pyspark.ml.recommendation import ALSModel

        users, items = (self.session.read.parquet(str(self.folder / name))._jdf for name in ("users", "items"))
        model = self.session._jvm.org.apache.spark.ml.recommendation.ALSModel("als", self.rank, users, items)
        lists = ALSModel(model.setUserCol("user").setItemCol("item")).recommendForAllUsers(self.k)
        lists.write.mode("overwrite").parquet(str(self.folder / "spark"))


def same_items(folder: Path) -> float:
    """The share of places where both list the same item."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "spark").sort_by("user")
    spark = np.asarray(table["recommendations"].combine_chunks().flatten().field("item"))
    return float((spark == np.asarray(pq.read_table(folder / "ours")["item_id"])).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = {"users": 50_000, "items": 20_000, "rank": 64, "k": 50, "cores": 2, "repeats": 5}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if not importlib.util.find_spec("pyspark") or not shutil.which("java"):
        print("PySpark or Java is not installed: nothing is measured")
        return
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HOME"], folder = scratch, Path(scratch)
        for name, n in (("users", args.users), ("items", args.items)):
            (folder / name).mkdir()
            flat = pa.array(rng.standard_normal(n * args.rank, dtype=np.float32))
            features = pa.ListArray.from_arrays(np.arange(0, n * args.rank + 1, args.rank, dtype=np.int32), flat)
            pq.write_table(pa.table({"id": np.arange(n, dtype=np.int32), "features": features}), folder / name / "0")
        spark = Spark(folder, args.rank, args.k, args.cores)
        turns = Turns({"topkin": lambda: ours(folder, args.k, args.cores), "Spark ALS": spark}, args.repeats)
        print(
            f"factor files to lists: {args.users:,} users x {args.items:,} items, rank {args.rank}, k = {args.k}, "
            f"{args.cores} cores"
        )
        turns.tell_seconds()
        print("peer's time / topkin's time, at least, aim, places with the same item")
        turns.tell_ratio("topkin", "Spark ALS", 8.0, f"{same_items(folder):.4%}", 15.0)
        spark.session.stop()


if __name__ == "__main__":
    main()
