"""Generated purchases for the benchmarks: Parquet files made by NumPy column by column, the same for a seed.

Users and items are drawn from skewed distributions, times over two years. Of a thousand rows about ten come
twice, ten are returns, five have no user and five no price: what ``prepare`` must find.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FILE_ROWS = 2_500_000
START, AS_OF, DAYS = np.datetime64("2023-01-01", "us"), np.datetime64("2024-12-01", "us"), 730
COUNTRIES = ["DE", "FR", "UK", "US", "IT"]
PURCHASES = {
    "user_id": "user_id",
    "item_id": "item_id",
    "timestamp": "timestamp",
    "quantity": "quantity",
    "price": "price",
    "segment": "country",
    "rules": {"bought": "quantity > 0", "priced": "price > 0"},
}
"""The section ``[purchases]`` of the configuration, but for the path."""


def table(rows: int, users: int, items: int, seed: int, block: int = 0) -> pa.Table:
    """One block of purchases, all of it drawn from (seed, block)."""
    rng = np.random.default_rng([seed, block])
    who = (users * rng.random(rows) ** 1.5).astype(np.int64) + 1_000_000_007
    what = (items * rng.random(rows) ** 2.5).astype(np.int64)
    names = pc.binary_join_element_wise("item-", pc.utf8_lpad(pa.array(np.arange(items)).cast(pa.string()), 8, "0"), "")
    purchases = pa.table(
        {
            "user_id": pa.array(who, mask=rng.random(rows) < 0.005),
            "item_id": names.take(pa.array(what)),
            "timestamp": pa.array(START + (rng.random(rows) * DAYS * 86_400).astype(np.int64) * np.timedelta64(10**6)),
            "quantity": pa.array(np.where(rng.random(rows) < 0.01, -1, rng.integers(1, 6, rows))),
            "price": pa.array(np.round(1 + what % 997 * 0.1, 2), mask=rng.random(rows) < 0.005),
            "country": pa.DictionaryArray.from_arrays(pa.array((who % 5).astype(np.int32)), COUNTRIES).cast(
                pa.string()
            ),
        }
    )
    twice = rng.choice(rows, rows // 100, replace=False)
    return pa.concat_tables([purchases.slice(0, rows - len(twice)), purchases.take(pa.array(twice))]).combine_chunks()


def write(folder: Path, rows: int, seed: int = 0) -> Path:
    """``rows`` purchases of ``rows / 30`` users and ``rows / 300`` items in files of at most FILE_ROWS rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for block, first in enumerate(range(0, rows, FILE_ROWS)):
        size = min(FILE_ROWS, rows - first)
        purchases = table(size, max(rows // 30, 1), max(rows // 300, 1), seed, block)
        pq.write_table(purchases, folder / f"part-{block:05d}.parquet", row_group_size=500_000)
    return folder
