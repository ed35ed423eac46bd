"""Whole lists under rules of a shop against a search through all items for every user."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recommend.test_lists import AS_OF, exact, shop_of
from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.errors import ConfigError
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.bought import BOUGHT
from topkin.recommend.lists import SHORTFALLS, recommend
from topkin.recommend.repurchase.blend import Repurchase
from topkin.recommend.repurchase.rates import RepurchaseRates, counts_of
from topkin.recommend.rules import boosted
from topkin.recommend.rules.shop import (
    FEW_ELIGIBLE,
    FEW_PER,
    FEW_SHOWN,
    FEW_VALID,
    REASONS,
    ShopRules,
)

N = 14
DAYS = st.none() | st.integers(-2, 2)


def catalogue_of(categories, brands, sold_in, first, last) -> pa.Table:
    moments = [
        pa.array([None if d is None else AS_OF + timedelta(days=d) for d in days], schemas.TIME)
        for days in (first, last)
    ]
    features = pa.StructArray.from_arrays(
        [pa.array(brands, pa.string()), pa.array(sold_in, schemas.LABELS), *moments],
        names=["brand", "sold_in", "first", "last"],
    )
    return pa.table({"category": pa.array(categories, pa.string()), "features": features})


def ruled(shelf, catalogue, config):
    """The shelf with the rules of a configuration."""
    allowed = shelf.allowed
    rules = ShopRules.of(config, catalogue, AS_OF, allowed, lambda numbers: shelf.vectors[numbers])
    return shelf if rules is None else replace(shelf, rules=rules, allowed=allowed & rules.valid)


def column(values, size=N):
    return st.lists(values, min_size=size, max_size=size)


age = st.sampled_from([0.5, 3.0, 300.0])
history = st.lists(st.tuples(st.integers(0, N - 1), age), max_size=6)
some_users = st.lists(st.tuples(st.sampled_from([None, "x", "y", "z"]), history), min_size=1, max_size=5)
label = st.none() | st.sampled_from(["a", "b", "c"])


@settings(max_examples=200)
@given(
    some_users,
    column(label),
    column(label),
    column(st.none() | st.lists(st.sampled_from(["x", "y"]), max_size=2)),
    column(DAYS),
    column(DAYS),
    st.dictionaries(st.sampled_from(["category", "brand"]), st.integers(1, 2)),
    st.booleans(),
    st.booleans(),
    st.lists(st.sets(st.integers(0, N - 1), max_size=5), min_size=5, max_size=5),
    st.sampled_from(["exclude", "cooldown"]),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_lists_are_those_of_a_search_through_all_items(
    users, categories, brands, sold_in, first, last, max_per, eligible, valid, shown, bought, k, seed
):
    config = RecommendSettings(
        k=k,
        bought=bought,
        max_per=max_per,
        eligible={"country": {"user": "segment", "item": "sold_in"}} if eligible else {},
        valid_from="first" if valid else None,
        valid_to="last" if valid else None,
        not_shown_nights=1,
    )
    histories, vectors, shelf = shop_of(users, N, seed=seed)
    shelf = ruled(shelf, catalogue_of(categories, brands, sold_in, first, last), config)
    pairs = [(u, i) for u in range(len(users)) for i in shown[u]]
    seen = Csr.of_pairs(*(np.array(x, int) for x in zip(*pairs, strict=True)), len(users), N) if pairs else None
    lists = recommend(histories, vectors, shelf, exact(shelf), config, AS_OF, seen)
    rows = lists.recommendations.to_pylist()
    shorts = {r["user_id"]: r for r in lists.short_lists.to_pylist()}
    for u, (segment, purchases) in enumerate(users):
        latest = {i: min(a for j, a in purchases if j == i) for i, _ in purchases}
        may = [
            i
            for i in range(N)
            if (i not in latest or (bought == "cooldown" and latest[i] >= 30))
            and i not in shown[u]
            and not (valid and first[i] is not None and first[i] > 0)
            and not (valid and last[i] is not None and last[i] < 0)
            and not (eligible and sold_in[i] and segment not in sold_in[i])
        ]
        got = [int(r["item_id"][-2:]) for r in rows if r["user_id"] == f"u{u}"]
        if len(purchases) and vectors[u].any():
            may = [i for i in may if shelf.vectors[i].any()]
            score = [np.float32(vectors[u].astype(np.float64) @ v.astype(np.float64)) for v in shelf.vectors]
            order = sorted(may, key=lambda i: (-score[i], i))
        else:
            popular = recommend(
                histories, vectors, replace(shelf, rules=None), exact(shelf), config_of(N, bought=bought), AS_OF
            )
            sold = [r for r in popular.recommendations.to_pylist() if r["user_id"] == f"u{u}"]
            order = [i for r in sold if (i := int(r["item_id"][-2:])) in may]
        columns = {"category": categories, "brand": brands}
        expected = []
        for i in order:
            held = [(columns[c][i], [columns[c][j] for j in expected], m) for c, m in max_per.items()]
            if len(expected) < k and all(own is None or others.count(own) < m for own, others, m in held):
                expected.append(i)
        assert got == expected
        assert (f"u{u}" in shorts) == (len(got) < k)
        if len(got) < k:
            assert shorts[f"u{u}"]["reason"] in (*SHORTFALLS, *REASONS)
            assert (shorts[f"u{u}"]["reason"] == FEW_PER) == (len(order) >= k)
    assert sum(lists.counts["reason"].values()) == len(lists.short_lists)


def config_of(k, **more) -> RecommendSettings:
    return RecommendSettings(k=k, **more)


BUYER = [("x", [(0, 1.0)]), ("y", [(0, 1.0)]), (None, [])]
NONE = [None] * N


@pytest.mark.parametrize(
    ("columns", "keys", "reason"),
    [
        ((["a"] * N, NONE, NONE, NONE, NONE), {"max_per": {"category": 2}}, FEW_PER),
        ((NONE, NONE, NONE, [1] * N, NONE), {"valid_from": "first"}, FEW_VALID),
        ((NONE, NONE, NONE, NONE, [-1] * N), {"valid_to": "last"}, FEW_VALID),
        (
            (NONE, NONE, [["z"]] * N, NONE, NONE),
            {"eligible": {"c": {"user": "segment", "item": "sold_in"}}},
            FEW_ELIGIBLE,
        ),
        ((NONE, NONE, NONE, NONE, NONE), {"not_shown_nights": 3, "k": N}, FEW_SHOWN),
    ],
)
def test_a_short_list_says_which_rule_left_too_few(columns, keys, reason):
    histories, vectors, shelf = shop_of(BUYER, N, seed=3)
    config = RecommendSettings(**{"k": 4, **keys})
    shelf = ruled(shelf, catalogue_of(*columns), config)
    lists = recommend(histories, vectors, shelf, exact(shelf), config, AS_OF, Csr.single(np.array([5, 5, -1])))
    assert lists.short_lists.filter(pa.array([True, True] + [False] * (len(lists.short_lists) - 2)))[
        "reason"
    ].to_pylist() == [reason, reason]


def test_diversity_spreads_a_list_and_keeps_caps():
    users = [(None, [(0, 1.0), (1, 2.0)])] * 4
    histories, vectors, shelf = shop_of(users, 40, seed=2)
    catalogue = pa.table({"category": pa.array([str(i % 3) for i in range(40)])})

    def make(**keys):
        config = RecommendSettings(k=6, **keys)
        lists = recommend(histories, vectors, some := ruled(shelf, catalogue, config), exact(some), config, AS_OF)
        return [int(i[-2:]) for i in lists.recommendations["item_id"].to_pylist()[:6]]

    def alike(items):
        return np.triu(shelf.vectors[items] @ shelf.vectors[items].T, 1).sum()

    plain, spread, capped = make(), make(diversity=0.5), make(diversity=0.5, max_per={"category": 2})
    assert plain[0] == spread[0] == capped[0]
    assert alike(spread) < alike(plain)
    assert max(np.bincount([i % 3 for i in capped])) == 2 < max(np.bincount([i % 3 for i in spread]))


def test_bought_items_that_a_list_showed_lately_stay_away_where_bought_items_are_kept():

    users = [("x", [(0, 9), (1, 6), (2, 1)])]
    histories, vectors, shelf = shop_of(users, N, seed=1)
    rates = RepurchaseRates.of(counts_of(Interactions.from_histories(histories, shelf.item_ids, AS_OF)), N)
    config = RecommendSettings(k=8, bought="keep", not_shown_nights=2)
    shelf = ruled(
        replace(shelf, repurchase=Repurchase(BOUGHT["keep"].weights, rates)), pa.table({"category": NONE}), config
    )
    shown = Csr.of_pairs(np.zeros(2, int), np.array([1, 5]), 1, N)
    lists = {
        what: recommend(histories, vectors, shelf, exact(shelf), config, AS_OF, seen)
        for what, seen in (("all", None), ("rest", shown))
    }
    items = {what: result.recommendations["item_id"].to_pylist() for what, result in lists.items()}
    assert "item-01" in items["all"]
    assert not {"item-01", "item-05"} & set(items["rest"])
    assert len(items["rest"]) == 8


def test_columns_that_a_rule_cannot_use_are_refused():
    catalogue = catalogue_of(NONE, NONE, [["x"]] * N, NONE, NONE)
    for keys, says in (
        ({"max_per": {"sold_in": 1}}, "recommend.max_per.sold_in must name a column with one label"),
        ({"capacity": "brand"}, "recommend.capacity must name a column of numbers, brand is string"),
        ({"eligible": {"c": {"user": "segment", "item": "first"}}}, "recommend.eligible.c.item must name"),
    ):
        with pytest.raises(ConfigError, match=says):
            ShopRules.of(RecommendSettings(**keys), catalogue, AS_OF, np.ones(N, bool), lambda n: n)


@settings(max_examples=150)
@given(
    column(st.none() | st.floats(-3, 5, width=32)),
    column(label),
    st.dictionaries(st.just("category"), st.integers(1, 2)),
    st.sampled_from([-0.7, 0.1, 1.0]),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_boosted_lists_are_those_of_an_order_of_all_items(margins, categories, max_per, weight, k, seed):
    users = [("x", [(0, 1.0)]), ("y", [(1, 2.0), (2, 3.0)])]
    histories, vectors, shelf = shop_of(users, N, seed=seed)
    config = RecommendSettings(k=k, max_per=max_per, boost={"margin": weight})
    features = pa.StructArray.from_arrays([pa.array(margins, pa.float32())], names=["margin"])
    shelf = ruled(shelf, pa.table({"category": pa.array(categories, pa.string()), "features": features}), config)
    rows = recommend(histories, vectors, shelf, exact(shelf), config, AS_OF).recommendations.to_pylist()
    plain = recommend(histories, vectors, replace(shelf, rules=None), exact(shelf), config_of(N), AS_OF)
    largest = max((abs(m) for m in margins if m is not None), default=0) or 1
    for user, vector in zip(("u0", "u1"), vectors, strict=True):
        if not vector.any():
            continue  # a list of what sells keeps its order
        own = {int(r["item_id"][-2:]): r["score"] for r in plain.recommendations.to_pylist() if r["user_id"] == user}
        best = abs(next(iter(own.values()), 1)) or 1
        value = {i: np.float32(s / best) + np.float32(weight * (margins[i] or 0) / largest) for i, s in own.items()}
        got = [int(r["item_id"][-2:]) for r in rows if r["user_id"] == user]
        expected = []
        for i in sorted(value, key=lambda i: -value[i]):
            held = [categories[j] for j in expected]
            most = max_per.get("category", N) if categories[i] is not None else N
            if len(expected) < k and held.count(categories[i]) < most:
                expected.append(i)
        assert [value[i] for i in got] == pytest.approx([value[i] for i in expected], abs=1e-5)
        assert all(r["score"] == own[int(r["item_id"][-2:])] for r in rows if r["user_id"] == user)


@pytest.mark.parametrize(("max_per", "budget"), [({}, 1 << 24), ({}, 12), ({"category": 2}, 12)])
def test_an_item_far_down_is_lifted_by_its_boost_alone(max_per, budget, monkeypatch):
    """Of 300 items a few have a high boost, which more candidates of each user would not reach at first.

    They are looked up for no more users at a time than the budget has room for.
    """
    monkeypatch.setattr(boosted, "BUDGET", budget)
    n, k, rng = 300, 3, np.random.default_rng(4)
    users = [("x", [(0, 1.0)])] * 8
    histories, vectors, shelf = shop_of(users, n, seed=9)
    margins = np.where(np.arange(n) % 60 == 7, 1 - np.arange(n) / 1000, 0.001 * rng.random(n))
    for weight in (0.05, 0.3, 0.9):
        config = RecommendSettings(k=k, max_per=max_per, boost={"margin": weight})
        features = pa.StructArray.from_arrays([pa.array(margins, pa.float32())], names=["margin"])
        labels = pa.array([str(i % 5) for i in range(n)])
        some = ruled(shelf, pa.table({"category": labels, "features": features}), config)
        asked, looked_up = [], []
        searcher = exact(some)
        search = searcher.search

        def counted(users, depth, allowed, search=search, asked=asked, looked_up=looked_up, some=some):
            asked.append(depth)
            looked_up += [len(users.vectors) * depth] if allowed.sum() < some.allowed.sum() else []
            return search(users, depth, allowed)

        searcher.search = counted
        got = recommend(histories, vectors, some, searcher, config, AS_OF).recommendations.to_pylist()
        every = config.model_copy(update={"k": n, "max_per": {}})
        unruled = ruled(shelf, pa.table({"category": labels, "features": features}), every)
        whole = recommend(histories, vectors, unruled, exact(unruled), every, AS_OF).recommendations.to_pylist()
        for u in range(len(users)):
            if not vectors[u].any():
                continue
            expected = []
            for item in [int(r["item_id"].split("-")[1]) for r in whole if r["user_id"] == f"u{u}"]:
                if len(expected) < k and sum(j % 5 == item % 5 for j in expected) < max_per.get("category", k):
                    expected.append(item)
            assert [int(r["item_id"].split("-")[1]) for r in got if r["user_id"] == f"u{u}"] == expected
        assert max(asked) < n / 4  # no user needed many candidates
        assert all(pairs <= budget for pairs in looked_up)
