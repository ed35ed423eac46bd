"""User vectors and the closed form's matrix over inputs, against loops over a user's events."""

from dataclasses import replace

import numpy as np
import pytest

from topkin.encoding.blocks import Block, user_vectors
from topkin.encoding.svd import purchase_weights
from topkin.interactions import Interactions
from topkin.models.data.histories import after_cut, before_cut, fresh

ITEMS, DIM, USERS = 12, 5, 9


def random_history(seed: int, weighted: bool = False) -> Interactions:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 8, USERS)
    ages = np.concatenate([np.sort(rng.uniform(0, 60, n))[::-1] for n in lengths]).astype(np.float32)
    items = rng.integers(0, ITEMS, len(ages)).astype(np.int32)
    weights = rng.choice([0.25, 0.5, 2.0], len(ages)).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Interactions(indptr, items, ages, weights, ITEMS, weighted=weighted)


@pytest.mark.parametrize("half_life", [None, 20.0])
def test_weights_of_one_for_the_purchases_give_what_no_weights_give(half_life):
    plain = random_history(0)
    ones = replace(plain, inputs=replace(plain, weights=np.ones_like(plain.weights), weighted=True))
    in_vectors = np.random.default_rng(1).standard_normal((ITEMS, DIM)).astype(np.float32)
    blocks, buyers = [Block.unscaled("svd", DIM, 0.5, half_life)], np.arange(ITEMS)
    assert np.array_equal(*(user_vectors(h, in_vectors, buyers, blocks, length=4) for h in (plain, ones)))
    assert (purchase_weights(plain) != purchase_weights(ones)).nnz == 0


@pytest.mark.parametrize("half_life", [None, 20.0])
def test_inputs_take_the_place_of_purchases_each_item_with_its_greatest_weight(half_life):
    inputs = random_history(2, weighted=True)
    history = replace(random_history(0), inputs=inputs)
    in_vectors = np.random.default_rng(1).standard_normal((ITEMS, DIM)).astype(np.float32)
    buyers = np.arange(ITEMS)
    got = user_vectors(history, in_vectors, buyers, [Block.unscaled("svd", DIM, 0.5, half_life)])
    matrix = purchase_weights(history, half_life_days=half_life).toarray()
    for user in range(USERS):
        mine = slice(inputs.indptr[user], inputs.indptr[user + 1])
        rows = list(zip(inputs.items[mine], inputs.ages[mine], inputs.weights[mine], strict=True))
        latest = {i: min(a for j, a, _ in rows if j == i) for i, _, _ in rows}
        most = {i: max(w for j, _, w in rows if j == i) for i, _, _ in rows}
        decay = {i: 1.0 if half_life is None else 2.0 ** (-latest[i] / half_life) for i in latest}
        want = np.zeros(DIM) + sum(most[i] * decay[i] * max(buyers[i], 1) ** -0.5 * in_vectors[i] for i in most)
        assert got[user] == pytest.approx(want / (np.linalg.norm(want) or 1), abs=1e-5)
        assert matrix[user] == pytest.approx([most.get(i, 0) * decay.get(i, 0) for i in range(ITEMS)], rel=1e-5)


def test_a_cut_takes_inputs_from_then_on_and_what_is_asked_for_has_none():
    history = replace(random_history(0), inputs=random_history(2, weighted=True))
    before = before_cut(history, 20)
    assert before.inputs is not None
    assert before.inputs.ages.min() > 0
    assert len(before.inputs.items) == int((history.inputs.ages > 20).sum())
    assert before.inputs.weighted
    assert np.array_equal(before.items, before_cut(random_history(0), 20).items)
    assert after_cut(history, 20).inputs is None
    assert fresh(history, 20).inputs is None
