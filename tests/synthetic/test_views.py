"""Views of the generated shop: near the planted taste, less so than what is bought, and beside it alone."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from topkin.artifacts import storage
from topkin.synthetic.shop import VIEWS, Shop

SMALL = {"users": 400, "items": 150, "purchases": 6_000}


def test_views_change_nothing_of_the_shop_and_are_the_same_in_any_number_of_shards(tmp_path):
    shop = Shop(**SMALL, views=3.0)
    assert shop.purchase_shard(0, 1).equals(Shop(**SMALL).purchase_shard(0, 1))
    whole = shop.view_shard(0, 1)
    assert whole.schema == VIEWS
    parts = pa.concat_tables([shop.view_shard(i, 2) for i in range(2)])
    order = [(name, "ascending") for name in VIEWS.names]
    assert parts.sort_by(order).equals(whole.sort_by(order))
    assert pc.min_max(whole["timestamp"])["min"].as_py() >= shop.start
    shop.write(str(tmp_path), truth=False)
    assert storage.read_parts(str(tmp_path / "views")).num_rows == len(whole)


def test_what_is_viewed_is_near_the_taste_and_what_is_bought_nearer():
    shop = Shop(**SMALL, views=3.0)
    people, views = shop.viewed(0)
    _, bought = shop.bought(0)
    items = shop.generated_items
    liking = items.liking(people.taste)[:, items.cell]
    means = [liking[x.row, x.item].mean() for x in (views, bought)]
    assert liking.mean() + 1 < means[0] < means[1]
    assert 3 < len(views) / len(bought) < 6


def test_most_of_what_is_bought_was_viewed_in_the_half_hour_before():
    shop = Shop(**SMALL, views=1.0)
    (_, views), (_, bought) = shop.viewed(0), shop.bought(0)
    seen = set(zip(views.row.tolist(), views.item.tolist(), np.floor(views.day * 24).tolist(), strict=True))
    hours = np.floor(bought.day * 24)
    pairs = zip(bought.row.tolist(), bought.item.tolist(), hours.tolist(), strict=True)
    assert np.mean([(u, i, h) in seen or (u, i, h - 1) in seen for u, i, h in pairs]) > 0.75


def test_views_below_zero_are_refused():
    with pytest.raises(ValueError, match="views must be at least 0, got -1"):
        Shop(**SMALL, views=-1)
