from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.config.sections import TrainSettings
from topkin.interactions import Interactions
from topkin.models.data.histories import count
from topkin.models.data.in_memory import UNTIMED, InMemoryInteractions
from topkin.models.training.batches import batches, draw_folds, example_weights, sampling_probabilities

N = 20
RECIPE = TrainSettings(batch_size=16).changed(folds=3, history_length=50, example_half_life_days=None, negatives=0)


def random_history(seed=2, users=12):
    """Users with 0 to 11 purchases of 20 items, repeats among them."""
    rng = np.random.default_rng(seed)
    lengths = np.arange(users)
    items = rng.integers(0, N, lengths.sum()).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ages = np.concatenate([np.sort(rng.uniform(0, 90, n))[::-1] for n in lengths]).astype(np.float32)
    return Interactions(indptr, items, ages, np.ones(len(items), np.float32), N)


@pytest.fixture
def history() -> Interactions:
    return random_history()


def buyers_of(history):
    return np.bincount(history.distinct().items, minlength=N)


def epoch(history, recipe=RECIPE, seed=0):
    """The batches of an epoch, negatives drawn from all items alike."""
    even = np.cumsum(np.full(N, 1 / N))
    return list(drawn(history, recipe, seed, even))


def drawn(history, recipe, seed, cumulative):
    return batches(
        history,
        buyers_of(history),
        recipe,
        np.random.default_rng(seed),
        batch_size=recipe.batch_size,
        cumulative=cumulative,
        negatives=recipe.advanced.negatives,
    )


def questions(batch):
    """What a batch asks, a row at a time: targets, history items with weights, and bought candidates."""
    for row in range(batch["question"][-1] + 1):
        inside = batch["history"][:, 0] == row
        items = batch["pooled"][batch["history"][inside, 1]].tolist()
        yield (
            batch["candidates"][batch["target"][batch["question"] == row]].tolist(),
            dict(zip(items, batch["history_weights"][inside].tolist(), strict=True)),
            batch["candidates"][batch["bought"][batch["bought"][:, 0] == row, 1]].tolist(),
        )


def sets_of(history):
    return [set(history.items[a:b].tolist()) for a, b in zip(history.indptr, history.indptr[1:], strict=False)]


@pytest.mark.parametrize("half_life", [None, 20.0])
def test_every_distinct_purchase_is_asked_for_once(history, half_life):
    want = Counter(i for s in sets_of(history) if len(s) > 1 for i in s)
    got = Counter()
    for batch in epoch(history, RECIPE.changed(half_life_days=half_life)):
        got.update(batch["candidates"][batch["target"]].tolist())
    assert got == want


@pytest.mark.parametrize("half_life", [None, 20.0])
def test_a_question_asks_for_a_part_of_a_users_purchases_from_all_the_others(history, half_life):
    sets = sets_of(history)
    asked = 0
    for batch in epoch(history, RECIPE.changed(batch_size=1000, half_life_days=half_life)):
        for targets, known, _ in questions(batch):
            assert known
            assert not set(known) & set(targets)
            assert set(known) | set(targets) in sets
            asked += 1
    assert asked > len([s for s in sets if len(s) > 1])


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 6), st.integers(0, 8))
def test_bought_candidates_are_those_of_the_user_and_no_others(seed, size, folds, negatives):
    history = random_history(seed, users=8)
    sets = sets_of(history)
    recipe = RECIPE.changed(batch_size=size, folds=folds, negatives=negatives)
    for batch in epoch(history, recipe, seed):
        candidates = set(batch["candidates"].tolist())
        assert len(candidates) == len(batch["candidates"])
        for targets, known, bought in questions(batch):
            own = [s for s in sets if set(targets) | set(known) <= s]
            assert any(sorted(bought) == sorted(s & candidates) for s in own)


def test_a_question_cut_by_the_end_of_a_batch_sees_none_of_its_targets(history):
    """Of a fold whose targets fall in two batches, neither is in the history of the other."""
    for batch in epoch(history, RECIPE.changed(batch_size=1, folds=2)):
        ((targets, known, _),) = questions(batch)
        assert len(targets) == 1
        whole = max((s for s in sets_of(history) if set(targets) | set(known) <= s), key=len)
        assert len(known) <= len(whole) // 2 + 1


def test_folds_are_of_equal_size_up_to_one_and_drawn_anew(history):
    known = history.distinct()
    first, second = (draw_folds(known, RECIPE, np.random.default_rng(seed)) for seed in (0, 1))
    for fold in (first, second):
        for a, b in zip(known.indptr, known.indptr[1:], strict=False):
            sizes = np.bincount(fold[a:b])
            if b > a:
                assert len(sizes[sizes > 0]) == min(3, b - a)
                assert np.ptp(sizes[sizes > 0]) <= 1
    assert (first != second).any()


def test_with_a_half_life_a_fold_is_a_stretch_of_time(history):
    known = history.distinct()
    fold = draw_folds(known, RECIPE.changed(half_life_days=10.0), np.random.default_rng(0))
    for a, b in zip(known.indptr, known.indptr[1:], strict=False):
        assert (np.diff(fold[a:b]) >= 0).all()
        assert b - a < 2 or 2 <= len(np.unique(fold[a:b])) <= 4


def test_purchases_weigh_by_rarity_and_by_days_from_what_is_asked():
    history = Interactions(
        np.array([0, 4, 6]),
        np.array([0, 1, 2, 3, 0, 1], np.int32),
        np.array([40, 30, 20, 10, 5, 5], np.float32),
        np.ones(6, np.float32),
        N,
    )
    recipe = RECIPE.changed(folds=4, half_life_days=10.0)
    age = {0: 40, 1: 30, 2: 20, 3: 10}
    seen = 0
    for seed in range(20):
        for batch in epoch(history, recipe, seed):
            for targets, known, _ in questions(batch):
                if set(targets) | set(known) != set(age):
                    continue
                times = [age[t] for t in targets]
                for item, weight in known.items():
                    days = max(min(times) - age[item], age[item] - max(times), 0)
                    assert weight == pytest.approx((2 if item < 2 else 1) ** -0.5 * 2 ** (-days / 10), rel=1e-5)
                    seen += 1
    assert seen > 50


def test_length_shortens_histories_at_random_but_never_to_nothing(history):
    whole = {tuple(sorted(t)): k for b in epoch(history) for t, k, _ in questions(b)}
    seen = set()
    for seed in range(3):
        for batch in epoch(history, RECIPE.changed(history_length=2, batch_size=1000), seed):
            for targets, known, _ in questions(batch):
                assert 0 < len(known) <= 2
                seen.add((tuple(targets), tuple(known)))
    assert len(seen) > len(whole)
    lengths = [len(k) for b in epoch(history, RECIPE.changed(batch_size=1000)) for _, k, _ in questions(b)]
    short = epoch(history, RECIPE.changed(batch_size=1000, history_length=2))
    assert sorted(len(k) for b in short for _, k, _ in questions(b)) == sorted(min(n, 2) for n in lengths)


def test_a_seed_decides_the_order_and_another_gives_another(history):
    first, again, other = epoch(history), epoch(history), epoch(history, seed=1)
    assert all((a[k] == b[k]).all() for a, b in zip(first, again, strict=True) for k in a)
    assert any(not np.array_equal(a["candidates"], b["candidates"]) for a, b in zip(first, other, strict=True))


def test_batches_are_of_equal_size_and_their_weights_of_mean_one(history):
    sizes = [len(b["target"]) for b in epoch(history)]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 16
    assert np.concatenate([b["weights"] for b in epoch(history)]).mean() == pytest.approx(1, rel=1e-5)


def test_nobody_with_two_items_gives_no_batch():
    alone = Interactions(np.array([0, 2, 3]), np.array([1, 1, 4], np.int32), *np.ones((2, 3), np.float32), N)
    assert epoch(alone) == []


def test_shared_negatives_are_drawn_by_their_chances():
    targets = np.array([0, 1, 4, 16])
    assert sampling_probabilities(targets).tolist() == [0, 1 / 3, 1 / 3, 1 / 3]
    assert sampling_probabilities(np.zeros(2, int)).tolist() == [0, 0]
    history = random_history()
    only = np.zeros(N)
    only[7] = 1.0
    recipe = RECIPE.changed(negatives=5, batch_size=2)
    for batch in drawn(history, recipe, 0, np.cumsum(only)):
        others = set(batch["candidates"].tolist()) - set(batch["candidates"][batch["target"]].tolist())
        assert others <= {7}
        assert 7 in batch["candidates"]


def test_users_with_many_purchases_and_old_examples_weigh_less(history):
    recipe = RECIPE.changed(user_power=1.0, example_half_life_days=10.0)
    weights = example_weights(history, recipe)
    lengths = np.repeat(np.diff(history.indptr), np.diff(history.indptr))
    np.testing.assert_allclose(weights, 2 ** (-history.ages / 10) / lengths, rtol=1e-5)


@pytest.mark.parametrize("half_life_days", [None, 30.0])
def test_inputs_are_pooled_but_for_those_of_the_items_asked_for(half_life_days):
    purchases, inputs = random_history(seed=5), replace(random_history(seed=6), weighted=True)
    inputs = replace(inputs, weights=np.random.default_rng(0).choice([0.5, 2.0], len(inputs.items)).astype(np.float32))
    bought, known = by_user(purchases), by_user(inputs)
    recipe, asked = RECIPE.changed(half_life_days=half_life_days, inverse_popularity=0.0), Counter()
    for batch in epoch(replace(purchases, inputs=inputs), recipe):
        for targets, pooled, _ in questions(batch):
            left = [known[u].keys() - pooled.keys() for u in range(len(known))]
            users = [
                u for u, items in enumerate(left) if pooled.keys() <= known[u].keys() and items <= bought[u].keys()
            ]
            (user,) = [u for u in users if set(targets) <= bought[u].keys()]
            assert pooled.keys().isdisjoint(targets)
            if half_life_days is None:
                assert pooled == {i: known[user][i] for i in pooled}
            asked.update((user, t) for t in targets)
    assert set(asked.values()) == {1}
    parts = [replace(purchases, inputs=inputs)]
    counts = count(InMemoryInteractions("", pa.chunked_array([pa.array(range(N))]), UNTIMED, parts=parts), 7)
    assert Counter(t for _, t in asked) == {i: n for i, n in enumerate(counts.targets.tolist()) if n}


def by_user(history: Interactions) -> list[dict[int, float]]:
    """The items of each user with the greatest weight of each."""
    weights_of: list[dict[int, float]] = [{} for _ in range(history.n_users)]
    for user, item, weight in zip(history.users, history.items.tolist(), history.weights.tolist(), strict=True):
        weights_of[user][item] = max(weight, weights_of[user].get(item, 0.0))
    return weights_of
