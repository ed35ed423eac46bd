"""Lists with places for new items against a loop over each user's order of all items."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recommend.rules.test_greedy import fits
from tests.recommend.rules.test_ruled_lists import NONE, N, catalogue_of, column, label, ruled
from tests.recommend.rules.test_ruled_rankers import VALUES, items_of, shop_ranked_by, whole_order
from tests.recommend.test_lists import AS_OF
from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.recommend.lists import PartUsers, build_queries, recommend
from topkin.recommend.rules.new_items import Quota
from topkin.recommend.searchers import MergedSearcher
from topkin.recommend.sharded import lists_table

AGES = st.sampled_from([None, 0.0, 7.0, 7.1, *[90.0] * 6])
"""Days since the first sale; none was never sold."""


def moments(ages) -> pa.Array:
    return pa.array([None if a is None else AS_OF - timedelta(days=a) for a in ages], schemas.TIME)


def with_sales(catalogue: pa.Table, ages) -> pa.Table:
    events = pa.array([0 if a is None else 3 for a in ages])
    return catalogue.append_column("first_sale", moments(ages)).append_column("events", events)


def with_rules(config: RecommendSettings, **rules) -> RecommendSettings:
    return RecommendSettings(**config.model_dump(exclude_unset=True), **rules)


def listed(order, new, caps, k, least):
    """The list of one user by the words of the rule. order: all items that the user may get."""

    def taken(first, items, most):
        for item in items:
            if len(first) < most and fits(first, item, caps):
                first = [*first, item]
        return first

    plain = taken([], order, k)
    if sum(new[i] for i in plain) >= least:
        return plain
    best = taken([], [i for i in order if new[i]], min(least, k))
    return sorted(taken(best, [i for i in order if i not in best], k), key=order.index)


@pytest.mark.parametrize(
    ("ranker", "bought"),
    [
        *(("encoder", "exclude"), ("encoder", "cooldown"), ("second", "exclude")),
        *(("item_knn", "exclude"), ("popularity", "keep")),
    ],
)
@settings(max_examples=40)
@given(
    **VALUES,
    brands=column(label),
    ages=column(AGES),
    max_per=st.dictionaries(st.sampled_from(["category", "brand"]), st.integers(1, 2)),
    k=st.integers(1, 6),
    least=st.integers(1, 6),
)
def test_the_best_new_items_take_the_last_places(
    ranker, bought, users, categories, seed, brands, ages, max_per, k, least
):
    *shop, searcher_of, config = shop_ranked_by(ranker, bought, users, categories, seed, k=k)
    histories, vectors, shelf = shop
    config = with_rules(config, max_per=max_per, new_items={"days": 7, "at_least": least})
    shelf = ruled(shelf, with_sales(catalogue_of(categories, brands, NONE, NONE, NONE), ages), config)
    lists = recommend(histories, vectors, shelf, searcher_of(shelf), config, AS_OF)
    new, caps = [a is None or a <= 7 for a in ages], shelf.rules.caps
    orders = whole_order(histories, vectors, shelf, searcher_of, config).ids
    expected = [listed([int(i) for i in ids if i >= 0], new, caps, k, least) for ids in orders]
    assert items_of(lists.recommendations.to_pylist(), len(users)) == expected
    assert lists.counts["users"]["few_new"] == sum(sum(new[i] for i in one) < least for one in expected)
    assert {r["user_id"] for r in lists.short_lists.to_pylist()} == {
        f"u{u}" for u, one in enumerate(expected) if len(one) < k
    }


@given(column(AGES), column(AGES))
def test_what_is_new_goes_by_the_first_sale_or_by_a_column(sold, offered):
    features = pa.StructArray.from_arrays([moments(offered)], names=["since"])
    catalogue = with_sales(pa.table({"features": features}), sold)
    for column_of, ages in ((None, sold), ("since", offered)):
        config = RecommendSettings(new_items={"days": 7, "at_least": 1, "column": column_of})
        expected = [s is None if a is None else a <= 7 for a, s in zip(ages, sold, strict=True)]
        assert Quota.of(config, catalogue, AS_OF).new.tolist() == expected


def test_what_shards_found_is_searched_again_where_it_has_too_few_new_items():
    *shop, searcher_of, config = shop_ranked_by("encoder", "exclude", [("x", [(0, 1.0)])], NONE, 3, k=4)
    histories, vectors, shelf = shop
    ages = [90.0] * 10 + [1.0] * 4
    config, whole = with_rules(config, new_items={"days": 7, "at_least": 4}), searcher_of(shelf)
    shelf = ruled(shelf, with_sales(catalogue_of(NONE, NONE, NONE, NONE, NONE), ages), config)
    queries = build_queries(histories, vectors, shelf, config, AS_OF)
    users = PartUsers.of(histories, queries, shelf, whole, config).users
    table = lists_table(whole.search(users, 4, shelf.allowed), N)
    merged = MergedSearcher(table, whole._scores, whole.search)
    result = [recommend(histories, vectors, shelf, by, config, AS_OF).recommendations for by in (whole, merged)]
    assert result[0].equals(result[1])
    assert np.all([int(i[-2:]) >= 10 for i in result[1]["item_id"].to_pylist()])
    plain = recommend(histories, vectors, replace(shelf, rules=None), whole, config, AS_OF).recommendations
    assert not result[1].equals(plain)
