"""A shop up to its embeddings, its tables written by hand."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import vector_column
from topkin.artifacts.partition import split_by_partition
from topkin.encoding.blocks import Block
from topkin.linalg.cosine import unit_rows
from topkin.recommend.sharded import shard_bounds

AS_OF, PARTS, USERS, ITEMS, DIM = datetime(2021, 3, 1), 3, 70, 60, 6
ENCODER = "e" * 64
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def vectors(rng: np.random.Generator, n: int) -> np.ndarray:
    """Unit rows of few values, so that many scores tie, across shards too; some are zero."""
    return unit_rows(rng.integers(-1, 2, (n, DIM)).astype(np.float32))


def write_shop(folder: Path) -> None:
    """Write it into a folder."""
    rng = np.random.default_rng(5)
    t = pa.int64()
    baskets = [rng.choice(ITEMS - 3, n, replace=True) for n in rng.integers(0, 12, USERS)]
    users = {
        "user_id": pa.array([2**53 + 1 + n for n in range(USERS)], t),
        "items": [b.tolist() for b in baskets],
        "times": [[AS_OF - timedelta(days=float(d)) for d in -np.sort(-rng.uniform(0.5, 60, len(b)))] for b in baskets],
        "weights": [[1.0] * len(b) for b in baskets],
        "segment": [("north", "south", None)[n % 3] for n in range(USERS)],
    }
    histories = split_by_partition(pa.table(users, schema=schemas.histories(t, t)), "user_id", PARTS)
    of_users = schemas.with_encoder(schemas.user_embeddings(t, DIM), ENCODER)
    of_items = schemas.with_encoder(schemas.item_embeddings(t, DIM), ENCODER)
    scored, pooled, bounds = vectors(rng, ITEMS), vectors(rng, ITEMS), shard_bounds(ITEMS, PARTS)
    for part in range(PARTS):
        name, rows = storage.part_name(part, PARTS), slice(bounds[part], bounds[part + 1])
        table = histories[part].sort_by("user_id")
        items = [pa.array(np.arange(ITEMS)[rows]), vector_column(scored[rows]), vector_column(pooled[rows])]
        preferences = [table["user_id"], vector_column(vectors(rng, len(table)))]
        storage.write_parquet(table, str(folder / "prepared" / "histories" / name))
        storage.write_parquet(
            pa.Table.from_arrays(items, schema=of_items), str(folder / "embeddings" / "items" / name), row_group_rows=7
        )
        storage.write_parquet(
            pa.Table.from_arrays(preferences, schema=of_users), str(folder / "embeddings" / "users" / name)
        )
    sold = np.bincount(np.concatenate(baskets), minlength=ITEMS)
    catalogue = {
        "item_id": np.arange(ITEMS),
        "title": pa.nulls(ITEMS, pa.string()),
        "category": pa.array([("a", "b", None)[n % 3] for n in range(ITEMS)]),
        "price": np.where(np.arange(ITEMS) % 17 == 3, 100.0 - np.arange(ITEMS), 1.0).astype(np.float32),
        "available": [n % 10 != 4 for n in range(ITEMS)],
        "events": sold,
        "users": sold,
        "recent": sold // 3,
        "first_sale": pa.nulls(ITEMS, schemas.TIME),
        "last_sale": pa.nulls(ITEMS, schemas.TIME),
    }
    table = pa.table(catalogue, schema=schemas.catalogue(t))
    storage.write_parquet(table, str(folder / "prepared" / "catalogue.parquet"))
    block = Block(name="trained", dim=DIM, weight=1, inverse_popularity=0.5, half_life_days=30, spread=(1.0,) * DIM)
    summary = {"encoder": ENCODER, "dim": DIM, "blocks": [block.to_json()], "history_length": 5, "users": USERS}
    storage.write_json(summary, str(folder / "embeddings" / "vectors.json"))
    storage.write_json({"encoder": ENCODER}, str(folder / "model" / "signature.json"))
    storage.write_json({}, str(folder / "model" / "repurchase.json"))
