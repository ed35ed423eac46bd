import importlib.util
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.baselines import fitted as fitted_module
from topkin.baselines import popularity as popularity_module
from topkin.baselines.als import IALS
from topkin.baselines.fitted import best_of, fit_baselines, load_baselines, save_baselines
from topkin.baselines.graph_filter import GraphFilter
from topkin.baselines.knn import ItemKNN, RandomWalk, UserKNN
from topkin.baselines.popularity import OwnFrequency, RecentPopularity, popularity, recent_popularity
from topkin.baselines.registry import BASELINES, SOURCES, left_out
from topkin.config.sections import EvaluateSettings
from topkin.errors import ArtifactError, ConfigError
from topkin.interactions import Interactions
from topkin.linalg import sparse_knn
from topkin.search.topk import top_k_of_scores


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


@settings(max_examples=60)
@given(shops())
def test_popularity_counts_distinct_buyers(shop):
    purchases, n_items = shop
    history = history_of(*shop)
    counts = [len(buyers(purchases, i)) for i in range(n_items)]
    assert popularity(history).tolist() == counts
    some = history.take(np.array([0, 0, len(purchases) - 1]))
    assert BASELINES["popularity"].make().fit(history).scores(some).tolist() == [counts] * 3


@settings(max_examples=60)
@given(shops())
def test_recent_popularity_equals_loops_and_is_ordered_with_ties_by_buyers(shop):
    purchases, n_items = shop
    history = history_of(*shop)
    recent = recent_popularity(history)
    assert recent == pytest.approx([naive_recent(purchases, i) for i in range(n_items)], rel=1e-5)
    keys = [(recent[i], len(buyers(purchases, i))) for i in range(n_items)]
    assert_same_order(RecentPopularity().fit(history).scores(history.take(np.array([0]))), [keys])


def test_one_user_cannot_make_an_item_popular():
    history = history_of([[(0, 0.0)] * 50, [(1, 1.0)], [(1, 1.0)]], 2)
    assert recent_popularity(history) == pytest.approx([1.5, 2 * math.exp(-1 / 7)])


@settings(max_examples=60)
@given(shops())
def test_own_frequency_orders_by_times_bought_then_buyers(shop):
    purchases, n_items = shop
    keys = []
    for one in purchases:
        times = Counter(i for i, _ in set(one))  # lines of one moment are one time
        keys.append([(times[i], len(buyers(purchases, i))) for i in range(n_items)])
    assert_same_order(OwnFrequency().fit(history_of(*shop)).scores(history_of(*shop)), keys)


BLOCKS = st.sampled_from([1, 5, 1 << 20])


@settings(max_examples=100)
@given(shops(), st.integers(1, 4), st.sampled_from([0.0, 0.65]), BLOCKS)
def test_item_knn_equals_loops_whatever_the_block(shop, neighbours, recency, cells):
    purchases, n_items = shop
    history = history_of(*shop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_knn, "BLOCK_CELLS", cells)
        scores = ItemKNN(neighbours=neighbours, recency=recency).fit(history).scores(history)
    np.testing.assert_allclose(scores, naive_knn(purchases, n_items, neighbours, recency), rtol=1e-5, atol=1e-6)


@settings(max_examples=60)
@given(shops(), st.sampled_from([0.5, 1.0]))
def test_by_position_an_item_counts_less_the_more_was_bought_since(shop, power):
    purchases, n_items = shop
    history = history_of(*shop)
    model = ItemKNN(neighbours=3, position=power).fit(history)
    unit = [history_of([[(i, 1.0)]], n_items) for i in range(n_items)]
    alone = np.array([model.scores(one)[0] for one in unit])  # what one item of a history says
    expected = np.zeros((len(purchases), n_items))
    for u, one in enumerate(purchases):
        last = {i: min(a for j, a in one if j == i) for i, _ in one}
        moments = sorted(set(last.values()))
        for i, age in last.items():
            expected[u] += alone[i] / (1 + moments.index(age)) ** power
    np.testing.assert_allclose(model.scores(history), expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60)
@given(shops())
def test_a_random_walk_scores_an_item_by_where_the_bought_ones_lead(shop):
    purchases, n_items = shop
    history = history_of(*shop)
    model = RandomWalk(neighbours=n_items, alpha=0.5, beta=0.2).fit(history)
    sets = [{i for i, _ in one} for one in purchases]
    count = [max(len(buyers(purchases, i)), 1) for i in range(n_items)]
    expected = np.zeros((len(sets), n_items))
    for u, own in enumerate(sets):
        for start in own:
            for via in sets:
                for end in via - {start} if start in via else ():
                    expected[u, end] += (count[start] * len(via)) ** -0.5 * count[end] ** -0.2
    np.testing.assert_allclose(model.scores(history), expected, rtol=1e-5, atol=1e-6)


def test_what_followed_an_item_leads_and_what_came_before_it_counts_less():
    history = history_of([[(0, 3.0), (1, 2.0), (2, 1.0)]] * 3 + [[(3, 1.0)]], 4)
    model = BASELINES["next_items"].make(2).fit(history)
    after_one = model.scores(history_of([[(1, 1.0)]], 4))[0]
    assert after_one[2] > after_one[0] > after_one[3] == 0
    assert after_one[0] == pytest.approx(after_one[2] / 2)
    asked = history_of([[(0, 3.0), (1, 1.0)]], 4)
    assert model.explain(asked, np.array([[2]], np.int32), 2).tolist() == [[[1, 0]]]  # the last one says most


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=30), st.sampled_from([0.0, 1e-45, 1.0]))
def test_values_a_rounding_apart_keep_their_order_and_ties_go_by_buyers(pairs, least):
    first = np.full(len(pairs), least, np.float32)
    for step in range(1, 4):
        first[[i for i, (ups, _) in enumerate(pairs) if ups >= step]] = np.nextafter(
            first[[i for i, (ups, _) in enumerate(pairs) if ups >= step]], np.float32(2)
        )
    then = np.array([buyers for _, buyers in pairs], np.float32)
    assert_same_order([popularity_module._told_apart(first, then)], [list(zip(first, then, strict=True))])


def test_topkins_own_sources_are_measured_where_they_are_named():
    assert [name for name, entry in BASELINES.items() if not entry.default] == ["next_items", "user_knn_rarity"]
    assert "next_items" in SOURCES
    assert "next_items" not in EvaluateSettings().baselines
    assert EvaluateSettings(baselines=["next_items"]).baselines == ("next_items",)


def test_a_random_walk_names_the_bought_items_that_it_came_from():
    history = history_of([[(0, 1.0), (1, 1.0)], [(0, 1.0), (1, 1.0)], [(2, 1.0), (1, 1.0), (3, 1.0)]], 4)
    model = RandomWalk(neighbours=2).fit(history)
    asked = history_of([[(0, 2.0), (2, 2.0), (3, 1.0)]], 4)
    assert model.explain(asked, np.array([[1, -1]], np.int32), 3).tolist() == [[[0, 2, 3], [-1, -1, -1]]]
    walks = model.scores(history_of([[(i, 1.0)] for i in (0, 2, 3)], 4))[:, 1]
    assert walks[0] > walks[1] == walks[2] > 0


@pytest.mark.parametrize("name", ["item_knn", "random_walk"])
def test_reasons_are_the_same_whatever_the_block_and_none_where_nobody_asks(name, monkeypatch):
    rng = np.random.default_rng(1)
    history = history_of([[(int(i), 1.0) for i in rng.choice(20, 5, replace=False)] for _ in range(12)], 20)
    model = BASELINES[name].make(3).fit(history)
    ids, _ = top_k_of_scores(model.scores(history), 4, exclude=history.distinct().pattern)
    whole = model.explain(history, ids, 2)
    assert (whole >= 0).any()
    monkeypatch.setattr(sparse_knn, "BLOCK_CELLS", 1)
    np.testing.assert_array_equal(model.explain(history, ids, 2), whole)
    nobody = history.take(np.zeros(0, np.int64))
    assert model.explain(nobody, ids[:0], 2).shape == (0, ids.shape[1], 2)


def test_large_arrays_lie_on_the_disk_once_and_say_the_same(tmp_path, monkeypatch):
    history, names = some_shop(), measured()
    in_memory = fit_baselines(history, names, 3)
    monkeypatch.setattr(fitted_module, "MAPPED_FROM", 1)
    mapped = fit_baselines(history, names, 3)
    assert isinstance(mapped["random_walk"].similarities.base, np.memmap)
    assert mapped["item_knn_recent"].similarities is mapped["item_knn"].similarities
    save_baselines(mapped, str(tmp_path))
    read = load_baselines(str(tmp_path), names, 3)
    for name in names:
        expected = in_memory[name].scores(history)
        np.testing.assert_array_equal(mapped[name].scores(history), expected)
        np.testing.assert_array_equal(read[name].scores(history), expected)


def test_models_of_other_similarities_take_no_neighbours_of_each_other():
    history = some_shop()
    together = fit_baselines(history, list(measured()), 3)
    for name in ("item_knn", "item_knn_recent", "item_knn_nearby", "next_items", "random_walk"):
        alone = fit_baselines(history, [name], 3)[name]
        np.testing.assert_array_equal(together[name].scores(history), alone.scores(history))


def test_what_goes_by_order_says_nothing_without_one_and_what_goes_by_time_nothing_without_times():
    silent = {n for n, entry in BASELINES.items() if not entry.tells(times=False, order=False)}
    assert silent == {
        *("recent_popularity", "recent_popularity_30"),
        *("item_knn_recent", "item_knn_position", "item_knn_nearby", "next_items"),
    }
    ordered = {n for n, entry in BASELINES.items() if entry.tells(times=False, order=True)}
    assert ordered == set(BASELINES) - {*("recent_popularity", "recent_popularity_30", "item_knn_recent")}
    assert all(entry.tells(times=True, order=True) for entry in BASELINES.values())


@pytest.mark.parametrize("cells", [1, 200, 1 << 20])
def test_the_graph_filter_is_the_gram_matrix_of_the_normalised_purchases(cells, monkeypatch):
    monkeypatch.setattr(sparse_knn, "BLOCK_CELLS", cells)
    rng = np.random.default_rng(3)
    bought = rng.random((30, 12)) < 0.3
    bought[0] = bought[:, 0] = True  # nobody and nothing is without purchases
    history = history_of([[(i, 1.0) for i in np.flatnonzero(row).tolist()] for row in bought], 12)
    normal = bought / np.sqrt(bought.sum(axis=1, keepdims=True) * bought.sum(axis=0))
    scores = GraphFilter().fit(history).scores(history)
    np.testing.assert_allclose(scores, bought @ (normal.T @ normal), rtol=1e-5)


@settings(max_examples=100)
@given(shops(), st.integers(1, 4), BLOCKS)
def test_user_knn_equals_loops_whatever_the_block(shop, neighbours, cells):
    purchases, n_items = shop
    sets = [{i for i, _ in one} for one in purchases]
    history = history_of(*shop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_knn, "BLOCK_CELLS", cells)
        scores = UserKNN(neighbours=neighbours).fit(history).scores(history)
    expected = np.zeros((len(sets), n_items))
    for u, own in enumerate(sets):
        near = {v: np.float32(len(own & s) / math.sqrt(max(len(own) * len(s), 1))) for v, s in enumerate(sets)}
        for v in sorted((v for v in near if near[v] > 0), key=lambda v: (-near[v], v))[:neighbours]:
            expected[u, list(sets[v])] += near[v]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def checkerboard():
    return history_of([[(i, 1.0) for i in range(u % 2, 8, 2) if i != u] for u in range(8)], 8)


@pytest.mark.parametrize("name", ["item_knn", "random_walk", "user_knn", "graph_filter", "ials"])
def test_the_other_items_of_a_checkerboard_are_found_for_known_and_for_new_users(name):
    if name in left_out([name]):
        pytest.skip("implicit is not installed")
    history = checkerboard()
    model = BASELINES[name].make()
    if isinstance(model, IALS):
        model.factors, model.regularisation = 4, 0.01  # a small shop
    model.fit(history)
    own = history.distinct()
    ids, _ = top_k_of_scores(model.scores(history), 1, exclude=own.pattern)
    assert ids[:, 0].tolist() == list(range(8))
    new = history_of([[(0, 2.0), (2, 2.0), (4, 2.0)]], 8)
    ids, _ = top_k_of_scores(model.scores(new), 1, exclude=new.pattern)
    assert ids[0, 0] == 6


def test_a_user_is_solved_from_the_history_as_the_library_does():
    pytest.importorskip("implicit")
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    history = history_of([[(int(i), 1.0) for i in rng.choice(40, 6, replace=False)] for _ in range(60)], 40)
    model = IALS(factors=8, seed=3, alpha=2.0).fit(history)
    assert np.array_equal(model.items, IALS(factors=8, seed=3, alpha=2.0).fit(history).items)
    assert IALS(factors=8).fit(history).confidence == pytest.approx(max(0.3 * np.sqrt(60 * 40 / 360), 1))
    with threadpool_limits(1, "blas"):
        theirs = AlternatingLeastSquares(8, regularization=1.0, alpha=2.0, random_state=3, num_threads=1)
    theirs.item_factors, theirs.user_factors = model.items, np.zeros((60, 8), np.float32)
    users = theirs.recalculate_user(np.arange(60), history.distinct().counts())
    np.testing.assert_allclose(model.scores(history), users @ model.items.T, atol=1e-3)


def test_without_the_library_factors_are_left_out_with_a_word(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install implicit" in left_out(["ials", "popularity"])["ials"]
    assert list(fit_baselines(checkerboard(), ["ials", "popularity"], 5)) == ["popularity"]
    with pytest.raises(ConfigError, match="take it off the list"):
        IALS().fit(checkerboard())


def measured():
    return [name for name in BASELINES if name not in left_out([name])]


def some_shop():
    rng = np.random.default_rng(0)
    purchases = [list(zip(rng.integers(0, 9, n).tolist(), rng.random(n) * 50, strict=True)) for n in (5, 0, 30)]
    return history_of(purchases, 10)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_gives_finite_float32_blocks_of_its_own_and_leaves_the_history_alone(name):
    if name not in measured():
        pytest.skip("its library is not installed")
    history = some_shop()
    copies = [a.copy() for a in (history.indptr, history.items, history.ages, history.weights)]
    model = BASELINES[name].make().fit(history)
    some = history.take(np.array([2, 1]))
    scores = model.scores(some)
    assert scores.shape == (2, 10)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    again = model.scores(some)
    scores[:] = 7
    np.testing.assert_array_equal(model.scores(some), again)
    for before, after in zip(copies, (history.indptr, history.items, history.ages, history.weights), strict=True):
        np.testing.assert_array_equal(before, after)


def test_baselines_read_again_score_the_same(tmp_path):
    history, names = some_shop(), measured()
    fitted = fit_baselines(history, names, 3)
    save_baselines(fitted, str(tmp_path))
    read = load_baselines(str(tmp_path), names, 3)
    assert list(read) == names
    for name in names:
        np.testing.assert_array_equal(read[name].scores(history), fitted[name].scores(history))
    alike = [read[name].similarities for name in ("item_knn", "item_knn_recent")]
    assert np.shares_memory(*alike)  # one list of neighbours in memory
    alone = load_baselines(str(tmp_path), ["item_knn_recent"], 3)["item_knn_recent"]
    np.testing.assert_array_equal(alone.scores(history), fitted["item_knn_recent"].scores(history))
    with pytest.raises(ArtifactError, match="no baseline popularity"):
        load_baselines(str(tmp_path / "none"), ["popularity"], 3)


def test_large_arrays_of_baselines_are_read_from_the_disk_and_score_the_same(tmp_path, monkeypatch):
    history, names = some_shop(), measured()
    fitted = fit_baselines(history, names, 3)
    save_baselines(fitted, str(tmp_path))
    monkeypatch.setattr("topkin.baselines.fitted.MAPPED_FROM", 8)
    read = load_baselines(str(tmp_path), names, 3)
    assert isinstance(read["item_knn"].similarities.base.base, np.memmap)
    for name in names:
        np.testing.assert_array_equal(read[name].scores(history), fitted[name].scores(history))


@settings(max_examples=40)
@given(shops(), st.integers(1, 9), st.sampled_from([1, 500, 1 << 20]), st.booleans(), st.randoms(use_true_random=False))
def test_the_best_of_a_baseline_are_its_best_scores_whatever_the_blocks(shop, k, budget, mask, random):
    history, n_items = history_of(*shop), shop[1]
    model = RecentPopularity().fit(history) if random.random() < 0.5 else ItemKNN().fit(history)
    allowed = np.array([random.random() < 0.7 for _ in range(n_items)])
    own = [{i for i, _ in one} for one in shop[0]]
    exclude = history.pattern if mask else None
    ids, best = best_of(model, history, k, exclude=exclude, allowed=allowed, budget_bytes=budget)
    for u, scores in enumerate(model.scores(history)):
        may = [i for i in range(n_items) if allowed[i] and not (mask and i in own[u])]
        expected = sorted(may, key=lambda i, scores=scores: (-scores[i], i))[:k]
        assert ids[u].tolist() == expected + [-1] * (k - len(expected))
        assert best[u].tolist() == [*scores[expected], *[-np.inf] * (k - len(expected))]


@settings(max_examples=60)
@given(shops(), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 1 << 20]), st.randoms(use_true_random=False))
def test_the_reasons_of_item_knn_are_the_bought_items_of_which_its_score_is_made(shop, most, near, cells, random):
    purchases, n_items = shop
    history = history_of(*shop)
    model = ItemKNN(neighbours=near).fit(history)
    ids = np.array([random.sample([*range(n_items), -1], min(3, n_items)) for _ in purchases], np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_knn, "BLOCK_CELLS", cells)
        reasons = model.explain(history, ids, most)
    assert reasons.shape == (*ids.shape, most)
    for u, row in enumerate(ids):
        own = sorted({i for i, _ in purchases[u]})
        alone = {h: model.scores(history_of([[(h, 1.0)]], n_items))[0] for h in own}
        for place, j in enumerate(row):
            adds = {h: alone[h][j] for h in own if j >= 0 and alone[h][j] > 0}
            expected = sorted(adds, key=lambda h, adds=adds: (-adds[h], h))[:most]
            assert reasons[u, place].tolist() == expected + [-1] * (most - len(expected))


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_explains_where_the_registry_says_so(name):
    if name not in measured():
        pytest.skip("its library is not installed")
    history, entry = checkerboard(), BASELINES[name]
    model = entry.make().fit(history)
    ids, _ = best_of(model, history, 3, exclude=history.pattern)
    reasons = model.explain(history, ids, 2)
    assert (reasons.shape, reasons.dtype) == ((8, 3, 2), np.int32)
    assert (reasons >= 0).any() == entry.explains


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("purchases", [[[]], [[], []]])
def test_a_shop_without_sales_gives_every_item_the_same_score(name, purchases):
    if name not in measured():
        pytest.skip("its library is not installed")
    history = history_of(purchases, 3)
    scores = BASELINES[name].make().fit(history).scores(history)
    assert scores.shape == (len(purchases), 3)
    assert (scores == scores[:, :1]).all()
