import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topkin.baselines as module
from topkin.baselines import BASELINES, ItemKNN, OwnFrequency, RecentPopularity, popularity, recent_popularity
from topkin.interactions import Interactions
from topkin.topk import top_k_of_scores


def history_of(purchases, n_items):
    """From a list per user of (item, age), in time order."""
    flat = [p for one in purchases for p in sorted(one, key=lambda p: (-p[1], p[0]))]
    indptr = np.cumsum([0, *map(len, purchases)]).astype(np.int64)
    items = np.array([i for i, _ in flat], np.int32)
    ages = np.array([a for _, a in flat], np.float32)
    return Interactions(indptr, items, ages, np.ones(len(flat), np.float32), n_items)


@st.composite
def shops(draw):
    """Purchases of up to 6 users among up to 7 items, with repeats, empty users and unsold items."""
    n_items = draw(st.integers(1, 7))
    purchase = st.tuples(st.integers(0, n_items - 1), st.sampled_from([0.0, 0.5, 3.0, 10.0, 40.0]))
    return draw(st.lists(st.lists(purchase, max_size=8), min_size=1, max_size=6)), n_items


def buyers(purchases, item):
    return {u for u, one in enumerate(purchases) if any(i == item for i, _ in one)}


def naive_recent(purchases, item):
    return sum(min(1.5, sum(math.exp(-a / 7) for i, a in one if i == item)) for one in purchases)


def naive_similarity(purchases, i, j):
    both = len(buyers(purchases, i) & buyers(purchases, j))
    return both / math.sqrt(len(buyers(purchases, i)) * len(buyers(purchases, j))) if both else 0.0


def naive_knn(purchases, n_items, neighbours, recency):
    scores = np.zeros((len(purchases), n_items))
    for j in range(n_items):
        # compared in float32, as the neighbours are chosen
        near = {i: np.float32(naive_similarity(purchases, i, j)) for i in range(n_items) if i != j}
        kept = sorted((i for i in near if near[i] > 0), key=lambda i: (-near[i], i))[:neighbours]
        factor = (max(naive_recent(purchases, j), 0.05) / max(len(buyers(purchases, j)), 1)) ** recency
        for u, one in enumerate(purchases):
            scores[u, j] = factor * sum(near[i] for i in kept if i in {i for i, _ in one})
    return scores


def assert_same_order(scores, keys):
    """Scores of a user must order the items as tuples do, ties as ties."""
    for row, own in zip(scores, keys, strict=True):
        for i in range(len(row)):
            for j in range(len(row)):
                assert (row[i] < row[j]) == (own[i] < own[j])


@settings(max_examples=60, deadline=None)
@given(shops())
def test_popularity_counts_distinct_buyers(shop):
    purchases, n_items = shop
    history = history_of(*shop)
    counts = [len(buyers(purchases, i)) for i in range(n_items)]
    assert popularity(history).tolist() == counts
    rows = np.array([0, 0, len(purchases) - 1])
    assert BASELINES["popularity"]().fit(history).scores(rows).tolist() == [counts] * 3


@settings(max_examples=60, deadline=None)
@given(shops())
def test_recent_popularity_equals_loops_and_is_ordered_with_ties_by_buyers(shop):
    purchases, n_items = shop
    history = history_of(*shop)
    recent = recent_popularity(history)
    assert recent == pytest.approx([naive_recent(purchases, i) for i in range(n_items)], rel=1e-5)
    keys = [(recent[i], len(buyers(purchases, i))) for i in range(n_items)]
    assert_same_order(RecentPopularity().fit(history).scores(np.array([0])), [keys])


def test_one_user_cannot_make_an_item_popular():
    history = history_of([[(0, 0.0)] * 50, [(1, 1.0)], [(1, 1.0)]], 2)
    assert recent_popularity(history) == pytest.approx([1.5, 2 * math.exp(-1 / 7)])


@settings(max_examples=60, deadline=None)
@given(shops())
def test_own_frequency_orders_by_times_bought_then_buyers(shop):
    purchases, n_items = shop
    keys = []
    for one in purchases:
        times = Counter(i for i, _ in set(one))  # lines of one moment are one time
        keys.append([(times[i], len(buyers(purchases, i))) for i in range(n_items)])
    assert_same_order(OwnFrequency().fit(history_of(*shop)).scores(np.arange(len(purchases))), keys)


@settings(max_examples=100, deadline=None)
@given(shops(), st.integers(1, 4), st.sampled_from([0.0, 0.65]), st.sampled_from([1, 100, 1 << 20]))
def test_item_knn_equals_loops_whatever_the_block(shop, neighbours, recency, block_bytes):
    purchases, n_items = shop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block_bytes)
        model = ItemKNN(neighbours=neighbours, recency=recency).fit(history_of(*shop))
    found = model.scores(np.arange(len(purchases)))
    np.testing.assert_allclose(found, naive_knn(purchases, n_items, neighbours, recency), rtol=1e-5, atol=1e-6)


def test_item_knn_finds_the_other_items_of_a_checkerboard():
    purchases = [[(i, 1.0) for i in range(u % 2, 8, 2) if i != u] for u in range(8)]
    model = ItemKNN().fit(history_of(purchases, 8))
    bought = Interactions.distinct(history_of(purchases, 8))
    ids, _ = top_k_of_scores(model.scores(np.arange(8)), 1, exclude=(bought.indptr, bought.items))
    assert ids[:, 0].tolist() == list(range(8))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_finite_float32_blocks_of_its_own_and_leaves_the_history_alone(name):
    rng = np.random.default_rng(0)
    purchases = [list(zip(rng.integers(0, 9, n).tolist(), rng.random(n) * 50, strict=True)) for n in (5, 0, 30)]
    history = history_of(purchases, 10)
    copies = [a.copy() for a in (history.indptr, history.items, history.ages, history.weights)]
    model = BASELINES[name]().fit(history)
    scores = model.scores(np.array([2, 1]))
    assert scores.shape == (2, 10)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    again = model.scores(np.array([2, 1]))
    scores[:] = 7
    np.testing.assert_array_equal(model.scores(np.array([2, 1])), again)
    for before, after in zip(copies, (history.indptr, history.items, history.ages, history.weights), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("purchases", [[[]], [[], []]])
def test_a_shop_without_sales_gives_every_item_the_same_score(name, purchases):
    scores = BASELINES[name]().fit(history_of(purchases, 3)).scores(np.arange(len(purchases)))
    assert scores.shape == (len(purchases), 3)
    assert (scores == scores[:, :1]).all()
