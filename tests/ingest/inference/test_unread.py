"""init on columns that their name speaks for and whose values are not read as they are."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topkin.errors import InputError
from topkin.ingest.inference.look import ShopLook, look

CLOCK = datetime(2026, 1, 1)
N = 400
RNG = np.random.default_rng(0)
USERS, ITEMS = RNG.integers(0, 40, N), RNG.integers(0, 30, N)
TIMES = np.datetime64("2025-01-01", "us") + RNG.integers(0, 200 * 86_400, N).astype("timedelta64[s]")


def looked_at(folder: Path, columns: dict[str, object], *chosen: str) -> ShopLook:
    path = str(folder / "p.parquet")
    pq.write_table(pa.table(columns), path)
    return look(path, None, None, chosen, CLOCK)


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ([f"{t} EST" for t in TIMES], "try_strptime(timestamp, '"),
        ([f'"{t}"' for t in TIMES], "try_strptime(timestamp, '"),
        ([str(t).encode() for t in TIMES], "decode(timestamp)"),
        (pa.array(TIMES).cast(pa.time64("us")), "CAST(order_date AS DATE) + timestamp"),
    ],
)
def test_a_column_that_is_called_a_time_and_is_not_read_as_one_is_not_undated_data(tmp_path, values, cure):
    shop = looked_at(tmp_path, {"user_id": USERS, "item_id": ITEMS, "timestamp": values})
    assert shop.tables[0].column("timestamp") == "timestamp"
    assert len(shop.findings) == 1
    assert cure in str(shop.findings[0])


def test_days_of_the_week_are_no_unread_time(tmp_path):
    days = [("Mon", "Tue", "Wed")[n % 3] for n in range(N)]
    shop = looked_at(tmp_path, {"user_id": USERS, "item_id": ITEMS, "date": days})
    assert shop.tables[0].column("timestamp") is None


def test_nested_columns_are_named_and_can_be_chosen(tmp_path):
    users = pa.array([[("id", int(u))] for u in USERS], pa.map_(pa.string(), pa.int64()))
    columns = {"user_id": users, "item_id": ITEMS, "timestamp": TIMES}
    with pytest.raises(InputError, match=r"no column looks like user_id.*nested ones are user_id, map<string, int64"):
        looked_at(tmp_path, columns)
    shop = looked_at(tmp_path, columns, "user_id=user_id")
    assert "purchases.normalise.user_id = \"user_id['key']\"" in str(shop.findings[0])


def test_more_rejects_than_check_allows_are_told(tmp_path):
    times = np.where(np.arange(N) % 3 == 0, np.datetime64("1970-01-01", "us"), TIMES)
    shop = looked_at(tmp_path, {"user_id": USERS, "item_id": ITEMS, "timestamp": times})
    assert "at most 20.0 % of the rows may be rejected" in str(shop.findings[0])


def test_dates_of_digits_that_went_through_floats_are_read(tmp_path):
    texts = [f"{str(t)[:10].replace('-', '')}.0" for t in TIMES]
    shop = looked_at(tmp_path, {"user_id": USERS, "item_id": ITEMS, "timestamp": texts})
    assert not shop.findings
    assert shop.purchases is not None
    assert not shop.purchases.rejected
