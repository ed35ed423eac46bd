"""The generated shop: the same from the same seed, in any number of shards, in bounded memory."""

import tracemalloc
from collections import Counter
from dataclasses import FrozenInstanceError
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from topkin.artifacts import storage
from topkin.synthetic.customers import BLOCK
from topkin.synthetic.noise import NoiseRates
from topkin.synthetic.shop import BEST, FIRST_USER, PURCHASES, Shop

SMALL = {"users": 900, "items": 150, "purchases": 9_000}


def sorted_rows(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names])


def test_the_same_arguments_give_the_same_shop() -> None:
    one, two = Shop(**SMALL, seed=7), Shop(**SMALL, seed=7)
    assert one.purchase_shard(0, 1).equals(two.purchase_shard(0, 1))
    assert one.items_table().equals(two.items_table())
    assert one.users_table().equals(two.users_table())
    assert one.best_shard(0, 1).equals(two.best_shard(0, 1))


def test_the_surveyed_told_their_favourite_categories() -> None:
    plain, asked = Shop(**SMALL, seed=7), Shop(**SMALL, seed=7, surveyed=0.7)
    users, planted = asked.users_table(), asked.planted_users()
    assert users.drop_columns(["likes"]).equals(plain.users_table())
    assert asked.purchase_shard(0, 1).equals(plain.purchase_shard(0, 1))
    values = np.asarray(pc.is_valid(users["likes"]))
    assert 0.6 < values.mean() < 0.8
    assert users["likes"].filter(pa.array(values)).equals(planted["categories"].filter(pa.array(values)))
    with pytest.raises(ValueError, match="surveyed must be a share within 0 and 1, got 2"):
        Shop(surveyed=2)


def test_another_seed_gives_another_shop() -> None:
    one, two = Shop(**SMALL, seed=7), Shop(**SMALL, seed=8)
    assert not one.purchase_shard(0, 1).equals(two.purchase_shard(0, 1))
    assert not one.items_table().equals(two.items_table())


def test_a_shard_is_the_same_whether_or_not_others_are_made() -> None:
    shop = Shop(**SMALL)
    every = [shop.purchase_shard(i, 3) for i in range(3)]
    assert Shop(**SMALL).purchase_shard(2, 3).equals(every[2])
    assert shop.purchase_shard(0, 3).equals(every[0])


@pytest.mark.parametrize("shards", [2, 4, 9])
def test_any_number_of_shards_holds_the_same_lines(shards: int) -> None:
    shop = Shop(**SMALL)
    whole = pa.concat_tables([shop.purchase_shard(i, shards) for i in range(shards)])
    assert sorted_rows(whole).equals(sorted_rows(shop.purchase_shard(0, 1)))


def test_each_customer_is_in_one_shard_and_nearly_all_buy() -> None:
    shop = Shop(**SMALL, noise=NoiseRates.none())
    seen = [set(shop.purchase_shard(i, 4)["user_id"].to_pylist()) for i in range(4)]
    assert sum(map(len, seen)) == len(set.union(*seen)) > 0.85 * shop.users
    assert set.union(*seen) <= set(shop.users_table()["user_id"].to_pylist())


def test_the_truth_of_shards_is_the_truth_of_the_whole() -> None:
    shop = Shop(**SMALL)
    assert pa.concat_tables([shop.best_shard(i, 3, k=5) for i in range(3)]).equals(shop.best_shard(0, 1, k=5))


def test_more_shards_than_blocks_are_empty_tables() -> None:
    shop = Shop(users=10, items=5, purchases=50)
    tables = [shop.purchase_shard(i, 3) for i in range(3)]
    assert [len(t) > 0 for t in tables] == [False, False, True]
    assert all(t.schema == PURCHASES for t in tables)
    assert shop.best_shard(0, 3).schema == BEST


@pytest.mark.parametrize(
    ("users", "items", "purchases"),
    [(2_000, 1_000, 60_000), (1_000, 300, 20_000), (6_000, 1_000, 20_000), (2_000, 40, 60_000)],
)
def test_about_as_many_purchases_are_made_as_asked_for(users: int, items: int, purchases: int) -> None:
    generated = Shop(users=users, items=items, purchases=purchases, noise=NoiseRates.none()).counts()["accepted"]
    assert generated == pytest.approx(purchases, rel=0.12)


@pytest.mark.parametrize(("users", "items", "purchases"), [(1, 1, 5), (3, 2, 0), (2, 7, 400)])
def test_tiny_shops_are_shops_too(users: int, items: int, purchases: int, tmp_path: Path) -> None:
    shop = Shop(users=users, items=items, purchases=purchases)
    shop.write(str(tmp_path))
    assert len(storage.read_parquet(str(tmp_path / "users.parquet"))) == users
    assert len(storage.read_parts(str(tmp_path / "purchases"))) == shop.counts()["lines"]


def test_a_shard_of_a_hundred_million_purchases_is_quick_and_small() -> None:
    shop = Shop(users=3_200_000, items=20_000, purchases=100_000_000)
    tracemalloc.start()
    try:
        table = shop.purchase_shard(700, 1_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 60_000 < len(table) < 200_000
    assert peak < 120e6
    assert pc.min(table["user_id"]).as_py() >= FIRST_USER + 699 * 3_200 - BLOCK


def test_a_shard_is_sorted_by_time_and_within_the_shops_year() -> None:
    shop = Shop(**SMALL)
    times = np.asarray(shop.purchase_shard(1, 2)["timestamp"])
    assert (np.diff(times) >= np.timedelta64(0)).all()
    assert times[0] >= np.datetime64("2024-01-01")
    assert times[-1] < np.datetime64("2025-01-01")
    assert shop.as_of == datetime(2024, 12, 1)


def test_an_invoice_is_of_one_customer_at_one_time() -> None:
    table = Shop(**SMALL, noise=NoiseRates.none()).purchase_shard(0, 1)
    by = table.group_by("invoice_id").aggregate([("user_id", "count_distinct"), ("timestamp", "count_distinct")])
    assert set(by["user_id_count_distinct"].to_pylist()) == {1}
    assert set(by["timestamp_count_distinct"].to_pylist()) == {1}
    assert len(table) / len(by) > 1.5  # baskets
    assert len(table.group_by(["user_id", "timestamp"]).aggregate([])) == len(by)


def test_customers_and_items_appear_after_the_cut() -> None:
    shop = Shop()
    lines = shop.purchase_shard(0, 1).filter(pc.field("user_id").is_valid())
    first = lines.group_by("user_id").aggregate([("timestamp", "min")])["timestamp_min"].to_pylist()
    assert sum(t >= shop.as_of for t in first) >= 40
    planted = shop.planted_items()
    late = planted.filter(pc.greater_equal(planted["launch"], pa.scalar(shop.as_of, pa.timestamp("ms"))))
    assert len(late) >= 15
    known = lines.filter(pc.field("timestamp") < pa.scalar(shop.as_of, pa.timestamp("ms")))
    clean = {c.strip().upper() for c in known["item_id"].to_pylist()}
    assert not clean & set(late["item_id"].to_pylist())


def test_some_users_never_buy_before_the_cut() -> None:
    shop = Shop()
    known = shop.purchase_shard(0, 1).filter(pc.field("timestamp") < pa.scalar(shop.as_of, pa.timestamp("ms")))
    missing = set(shop.users_table()["user_id"].to_pylist()) - set(known["user_id"].to_pylist())
    assert 0.03 < len(missing) / shop.users < 0.2


def test_popularity_has_a_long_tail() -> None:
    sales = Counter(Shop(noise=NoiseRates.none()).purchase_shard(0, 1)["item_id"].to_pylist())
    ranked = np.sort(list(sales.values()))[::-1]
    assert ranked[:100].sum() > 0.4 * ranked.sum()
    assert (ranked < 10).sum() > 100


def test_writing_and_reading_gives_the_tables_back(tmp_path: Path) -> None:
    shop = Shop(**SMALL)
    shop.write(str(tmp_path), shards=2)
    read = storage.read_parts(str(tmp_path / "purchases"))
    assert read.schema == PURCHASES
    assert read.equals(pa.concat_tables([shop.purchase_shard(i, 2) for i in range(2)]))
    assert storage.read_parquet(str(tmp_path / "items.parquet")).equals(shop.items_table())
    assert storage.read_parquet(str(tmp_path / "users.parquet")).equals(shop.users_table())
    assert storage.read_parquet(str(tmp_path / "truth/best.parquet")).equals(shop.best_shard(0, 1))
    assert storage.read_parquet(str(tmp_path / "truth/items.parquet")).equals(shop.planted_items())
    assert storage.read_parquet(str(tmp_path / "truth/users.parquet")).equals(shop.planted_users())
    assert storage.read_json(str(tmp_path / "truth/counts.json")) == shop.counts()


def test_without_truth_only_its_counts_are_written(tmp_path: Path) -> None:
    Shop(users=20, items=10, purchases=100).write(str(tmp_path), truth=False)
    assert storage.files(str(tmp_path / "truth")) == ["counts.json"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"users": 0}, "users must be at least 1, got 0"),
        ({"items": 0}, "items must be at least 1, got 0"),
        ({"purchases": -1}, "purchases must be at least 0, got -1"),
        ({"days": 31}, "days must be more than heldout_days, got 31 and 31"),
    ],
)
def test_a_shop_that_cannot_be_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shop(**wrong)


def test_a_shard_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="shard must be from 0 to 2 for 3 shards, got 3"):
        Shop(**SMALL).purchase_shard(3, 3)


def test_a_shop_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Shop().users = 3  # type: ignore[misc]


def test_customers_who_buy_once_keep_their_first_purchase_and_no_other() -> None:
    many, few = Shop(**SMALL, seed=7), Shop(**SMALL, seed=7, once=0.97)
    lengths = []
    for block in range(many.blocks):
        (people, all_of), (_, some) = many.bought(block), few.bought(block)
        for row in range(len(people)):
            own, kept = all_of.take(all_of.row == row), some.take(some.row == row)
            lengths.append((len(own), len(kept)))
            assert len(kept) in (len(own), min(1, len(own)))
            if len(own):
                assert (kept.item[0], kept.day[0]) == (own.item[0], own.day.min())
    left = sum(kept == 1 < own for own, kept in lengths) / sum(own > 1 for own, _ in lengths)
    assert 0.94 < left < 0.99
    with pytest.raises(ValueError, match=r"once must be a share within 0 and 1, got 2"):
        Shop(once=2)
