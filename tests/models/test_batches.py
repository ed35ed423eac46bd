from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from topkin.interactions import Interactions
from topkin.models.data import Recipe, batches, count, example_weights, joined, newer, older

RECIPE = Recipe(
    batch_size=16, history_length=5, rarity=0.5, half_life_days=None, user_power=0.5, example_half_life_days=None
)


@pytest.fixture
def history() -> Interactions:
    """Twelve users with 0 to 11 purchases of 20 items, repeats among them."""
    rng = np.random.default_rng(2)
    lengths = np.arange(12)
    items = rng.integers(0, 20, lengths.sum()).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ages = np.concatenate([np.sort(rng.uniform(0, 90, n))[::-1] for n in lengths]).astype(np.float32)
    return Interactions(indptr, items, ages, np.ones(len(items), np.float32), 20)


def epoch(history, recipe=RECIPE, seed=0):
    buyers = np.bincount(history.distinct().items, minlength=20)
    return list(batches(history, buyers, recipe, np.random.default_rng(seed)))


def bought(history, user):
    return set(history.items[history.indptr[user] : history.indptr[user + 1]].tolist())


def test_every_distinct_purchase_is_asked_for_once(history):
    known = history.distinct()
    several = [u for u in range(12) if len(bought(history, u)) > 1]
    want = Counter(i for u in several for i in bought(history, u))
    got = Counter()
    for batch in epoch(history, replace(RECIPE, batch_size=1)):
        got.update(batch["candidates"][batch["positive"]].tolist())
    assert got == want
    assert known.n_users == 12


def test_an_example_never_sees_its_target_and_only_its_users_purchases(history):
    sets = [bought(history, u) for u in range(12)]
    for batch in epoch(history):
        targets = batch["candidates"][batch["positive"]]
        for row, target in enumerate(targets):
            seen = set(batch["history"][row][batch["history_weights"][row] > 0].tolist())
            assert target not in seen
            assert seen
            assert any(seen | {target} <= s for s in sets)


def test_what_the_user_bought_and_the_padding_are_masked(history):
    recipe = replace(RECIPE, history_length=20)  # the whole history, so that rows tell their user
    for batch in epoch(history, recipe):
        distinct = len(np.unique(batch["candidates"][batch["positive"]]))
        assert batch["masked"][:, distinct:].all()
        for row, target in enumerate(batch["candidates"][batch["positive"]]):
            own = {*batch["history"][row][batch["history_weights"][row] > 0].tolist(), int(target)}
            want = [int(i) in own for i in batch["candidates"][:distinct]]
            assert batch["masked"][row, :distinct].tolist() == want


def test_a_seed_decides_the_order_and_another_gives_another(history):
    first, again, other = epoch(history), epoch(history), epoch(history, seed=1)
    assert all((a[k] == b[k]).all() for a, b in zip(first, again, strict=True) for k in a)
    assert not all((a["history"] == b["history"]).all() for a, b in zip(first, other, strict=True))


def test_shapes_are_the_same_in_every_batch(history):
    shapes = {tuple((k, v.shape, v.dtype.str) for k, v in batch.items()) for batch in epoch(history)}
    assert len(shapes) == 1


def test_history_weights_fall_with_rarity_and_distance_in_time(history):
    buyers = np.bincount(history.distinct().items, minlength=20)
    recipe = replace(RECIPE, half_life_days=30.0, batch_size=4)
    plain = list(batches(history, buyers, replace(recipe, half_life_days=None), np.random.default_rng(0)))
    aged = list(batches(history, buyers, recipe, np.random.default_rng(0)))
    for a, b in zip(plain, aged, strict=True):
        there = a["history_weights"] > 0
        np.testing.assert_allclose(
            a["history_weights"][there], np.maximum(buyers, 1)[a["history"][there]] ** -0.5, rtol=1e-6
        )
        assert (b["history_weights"][there] <= a["history_weights"][there]).all()
        assert (b["history_weights"][there] < a["history_weights"][there]).any()


def test_users_with_many_purchases_and_old_examples_weigh_less(history):
    recipe = replace(RECIPE, user_power=1.0, example_half_life_days=10.0)
    weights = example_weights(history, recipe)
    lengths = np.repeat(np.diff(history.indptr), np.diff(history.indptr))
    np.testing.assert_allclose(weights, 2 ** (-history.ages / 10) / lengths, rtol=1e-5)


def test_a_cut_splits_the_history_and_moves_the_clock(history):
    before, after = older(history, 30), newer(history, 30)
    assert len(before.items) + len(after.items) == len(history.items)
    assert before.ages.min() >= 0
    assert after.ages.max() < 30
    whole = joined([before, after])
    assert whole.n_users == 24
    assert len(whole.items) == len(history.items)


def test_counts_are_those_of_the_catalogue(purchases, catalogue):
    counts = count(purchases, 7)
    assert counts.events.tolist() == catalogue["events"].to_pylist()
    assert counts.buyers.tolist() == catalogue["users"].to_pylist()
    assert counts.recent.tolist() == catalogue["recent"].to_pylist()
    assert counts.examples == counts.events.sum()


def test_small_buffers_stream_the_same_purchases(purchases):
    whole = next(iter(purchases.groups(np.random.default_rng(0))))
    streamed = list(replace(purchases, buffer=1).groups(np.random.default_rng(0)))
    assert len(streamed) == 3
    assert sorted(whole.items.tolist()) == sorted(i for g in streamed for i in g.items.tolist())
