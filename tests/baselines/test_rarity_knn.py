"""Users alike by what is rare, against loops over users and items."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.baselines.rarity_knn import RarityKNN
from topkin.interactions import Interactions
from topkin.linalg import sparse_knn


def history_of(sets, n_items):
    """One purchase a day of each item of a user."""
    indptr = np.cumsum([0, *map(len, sets)]).astype(np.int64)
    items = np.array([item for one in sets for item in one], np.int32)
    ages = np.array([len(one) - day for one in sets for day in range(len(one))], np.float32)
    return Interactions(indptr, items, ages, np.ones(len(items), np.float32), n_items)


@st.composite
def shops(draw):
    """What up to 7 users bought of up to 7 items: some nothing, some items nobody."""
    n_items = draw(st.integers(1, 7))
    sets = draw(st.lists(st.lists(st.integers(0, n_items - 1), max_size=6), min_size=1, max_size=7))
    return sets, n_items


def naive(sets, n_items, neighbours, beta, most=2_000):
    """Scores of the users themselves, each user's neighbours with their similarities, and what each shares."""
    buyers = [{u for u, one in enumerate(sets) if i in one} for i in range(n_items)]
    looked = [
        {u for place, u in enumerate(sorted(b)) if place * most // len(b) != (place - 1) * most // len(b)}
        if len(b) > most
        else b
        for b in buyers
    ]
    shared = [{i for i in range(n_items) if u in looked[i]} for u in range(len(sets))]
    rarity = [math.log1p(len(sets) / max(len(b), 1)) for b in buyers]
    length = [math.sqrt(sum(rarity[i] ** 2 for i in set(one))) for one in sets]
    scores, near = np.zeros((len(sets), n_items)), []
    for u, one in enumerate(sets):
        alike = {v: sum(rarity[i] ** 2 for i in set(one) & shared[v]) for v in range(len(sets))}
        alike = {v: np.float32(value / length[v]) for v, value in alike.items() if value}
        near.append({v: alike[v] for v in sorted(alike, key=lambda v: (-alike[v], v))[:neighbours]})
        for item in range(n_items):
            scores[u, item] = sum(near[u][v] for v in near[u] if item in sets[v]) / max(len(buyers[item]), 1) ** beta
    return scores, near, rarity, length, shared


@settings(max_examples=60)
@given(shops(), st.integers(1, 4), st.sampled_from([0.0, 0.2]), st.integers(1, 5))
def test_scores_are_those_of_loops_over_users(shop, neighbours, beta, most):
    history = history_of(*shop)
    source = RarityKNN(neighbours=neighbours, beta=beta, most=most).fit(history)
    np.testing.assert_allclose(source.scores(history), naive(*shop, neighbours, beta, most)[0], rtol=1e-5, atol=1e-6)


@settings(max_examples=60)
@given(shops(), st.integers(1, 4), st.integers(1, 5))
def test_reasons_are_what_is_shared_with_the_neighbours_who_bought_it(shop, most, looked):
    sets, n_items = shop
    history = history_of(*shop)
    ids = np.tile(np.arange(n_items, dtype=np.int32), (len(sets), 1))
    ids[:, ::3] = -1
    reasons = RarityKNN(neighbours=3, most=looked).fit(history).explain(history, ids, most)
    _, near, rarity, length, shared = naive(*shop, 3, 0.2, looked)
    for u, one in enumerate(sets):
        for item, named in zip(ids[u], reasons[u], strict=True):
            parts = {
                mine: sum(rarity[mine] ** 2 / length[v] for v in near[u] if item in sets[v] and mine in shared[v])
                for mine in set(one)
            }
            some = {mine: part for mine, part in parts.items() if part > 0}
            assert len(set(named[named >= 0].tolist())) == min(most, len(some)) * (item >= 0)
            if item >= 0:
                values = [some[mine] for mine in named[named >= 0].tolist()]
                np.testing.assert_allclose(values, sorted(some.values(), reverse=True)[:most], rtol=1e-5)


def test_of_what_everybody_buys_few_buyers_are_looked_at_and_evenly():
    sets = [[0, 1 + user % 5] for user in range(100)]
    history = history_of(sets, 6)
    source = RarityKNN(most=10).fit(history)
    lengths = np.diff(source.item_indptr)
    assert lengths.tolist() == [10] * 6
    np.testing.assert_array_equal(np.diff(source.users[:10]), 10)
    assert (RarityKNN(most=100).fit(history).scores(history) > 0).sum() == 600


@pytest.mark.parametrize("cells", [1, 1 << 20])
def test_users_asked_a_few_at_a_time_get_the_same(cells, monkeypatch):
    rng = np.random.default_rng(0)
    sets = [rng.permutation(12)[: rng.integers(0, 7)].tolist() for _ in range(40)]
    history = history_of(sets, 12)
    source = RarityKNN(neighbours=5).fit(history)
    wanted = source.scores(history)
    ids = np.argsort(-wanted, axis=1)[:, :4].astype(np.int32)
    reasons = source.explain(history, ids, 2)
    monkeypatch.setattr(sparse_knn, "BLOCK_CELLS", cells)
    np.testing.assert_array_equal(source.scores(history), wanted)
    asked: list[int] = []
    reasons_of = RarityKNN._reasons

    def spied(self, some, *others):
        asked.append(some.shape[0])
        return reasons_of(self, some, *others)

    monkeypatch.setattr(RarityKNN, "_reasons", spied)
    np.testing.assert_array_equal(source.explain(history, ids, 2), reasons)
    assert (max(asked) == 1) == (cells == 1)  # neighbours' purchases are held for a few users at a time


def test_nobody_and_nothing_bought():
    history = history_of([[], []], 3)
    source = RarityKNN().fit(history)
    assert not source.scores(history).any()
    assert (source.explain(history, np.zeros((2, 2), np.int32), 1) == -1).all()
