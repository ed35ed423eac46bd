"""Lists under caps and diversity against loops over one candidate after the other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topkin.linalg.cosine import unit_rows
from topkin.recommend.rules.greedy import Caps, diverse, greedy

N_ITEMS = 12
columns = st.lists(
    st.tuples(st.integers(1, 3), st.lists(st.integers(-1, 2), min_size=N_ITEMS, max_size=N_ITEMS)), max_size=3
)
rows = st.lists(st.permutations(range(N_ITEMS)), min_size=1, max_size=5)


def caps_of(some) -> Caps:
    return Caps(
        np.array([labels for _, labels in some], np.int32).reshape(-1, N_ITEMS), np.array([m for m, _ in some], int)
    )


def fits(taken, item, caps) -> bool:
    """Whether a list may have one more item."""
    return all(
        labels[item] < 0 or sum(labels[t] == labels[item] for t in taken) < most
        for labels, most in zip(caps.codes, caps.most, strict=True)
    )


@given(rows, columns, st.integers(1, N_ITEMS), st.integers(0, N_ITEMS), st.sets(st.integers(0, N_ITEMS - 1)))
def test_the_next_item_that_breaks_no_cap_is_taken(orders, some, k, width, barred):
    ids, caps = np.array(orders, np.int32)[:, :width], caps_of(some)
    ids = np.where(np.isin(ids, list(barred)), np.int32(-1), ids)
    for row, places in zip(ids, greedy(ids, caps, k), strict=True):
        taken, at = [], []
        for place, item in enumerate(row):
            if item >= 0 and len(taken) < k and fits(taken, item, caps):
                taken.append(item)
                at.append(place)
        assert places.tolist() == at + [-1] * (k - len(at))


@given(rows, columns, st.integers(1, N_ITEMS), st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(0, 999))
def test_diversity_takes_the_item_of_highest_marginal_relevance(orders, some, k, weight, seed):
    rng = np.random.default_rng(seed)
    ids, caps = np.array(orders, np.int32)[:, :9], caps_of(some)
    ids[:, -1] = -1
    relevance = -np.sort(-rng.random(ids.shape, np.float32), axis=1)
    numbers = np.unique(ids[ids >= 0]).astype(np.int32)
    vectors = unit_rows(rng.standard_normal((N_ITEMS, 5)).astype(np.float32))
    chosen = diverse(ids, relevance, vectors[numbers], numbers, caps, k, weight)
    for row, values, places in zip(ids, relevance, chosen, strict=True):
        taken = []
        for place in places:
            gains = {}
            for at, item in enumerate(row):
                if item >= 0 and item not in taken and fits(taken, item, caps):
                    like = max((float(vectors[item] @ vectors[t]) for t in taken), default=0.0)
                    gains[at] = (1 - weight) * values[at] - weight * like
            if place < 0:
                assert not gains
                break
            assert gains[place] >= max(gains.values()) - 1e-5
            taken.append(row[place])


def test_without_diversity_the_order_of_scores_stays():
    ids = np.array([[3, 1, 2, 0]], np.int32)
    none = Caps(np.zeros((0, 4), np.int32), np.zeros(0, int))
    relevance, vectors = np.array([[1.0, 0.9, 0.8, 0.7]], np.float32), unit_rows(np.ones((4, 2), np.float32))
    assert diverse(ids, relevance, vectors, np.arange(4, dtype=np.int32), none, 4, 0.0).tolist() == [[0, 1, 2, 3]]


def test_lists_are_the_same_whoever_else_is_asked_for():
    rng = np.random.default_rng(0)
    ids = np.array([rng.permutation(400)[:90] for _ in range(300)], np.int32)
    relevance = -np.sort(-rng.random(ids.shape, np.float32), axis=1)
    vectors, numbers = unit_rows(rng.standard_normal((400, 64)).astype(np.float32)), np.arange(400, dtype=np.int32)
    caps = Caps(rng.integers(-1, 20, (2, 400)).astype(np.int32), np.array([2, 3]))
    whole = diverse(ids, relevance, vectors, numbers, caps, 20, 0.4)
    for part in (slice(0, 1), slice(7, 40), slice(250, 300)):
        assert (diverse(ids[part], relevance[part], vectors, numbers, caps, 20, 0.4) == whole[part]).all()
        assert (greedy(ids[part], caps, 20) == greedy(ids, caps, 20)[part]).all()
