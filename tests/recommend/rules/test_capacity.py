"""What is given out against a loop over all pairs, the highest score first."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recommend.rules.test_greedy import caps_of, columns, fits
from topkin.recommend.rules.capacity import Allotment, CandidatePairs

N_ITEMS = 12
candidates = st.lists(
    st.lists(st.tuples(st.integers(0, N_ITEMS - 1), st.integers(-3, 3)), max_size=N_ITEMS, unique_by=lambda p: p[0]),
    min_size=1,
    max_size=7,
)
stocks = st.lists(st.integers(0, 3), min_size=N_ITEMS, max_size=N_ITEMS)


def pairs_of(users) -> CandidatePairs:
    ordered = [sorted(own, key=lambda p: -p[1]) for own in users]
    rows = [(u, i, s, place) for u, own in enumerate(ordered) for place, (i, s) in enumerate(own)]
    user, item, score, place = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.zeros(0, int)] * 4
    return CandidatePairs(user.astype(np.int64), item.astype(np.int32), score.astype(np.float32), place)


def one_by_one(pairs, stock, caps, k, tie):
    lists, left = [[] for _ in tie], list(stock)
    for at in np.lexsort((pairs.place, tie[pairs.user], -pairs.score)):
        user, item = int(pairs.user[at]), int(pairs.item[at])
        if len(lists[user]) < k and left[item] > 0 and fits(lists[user], item, caps):
            lists[user].append(item)
            left[item] -= 1
    return [own + [-1] * (k - len(own)) for own in lists], left


@settings(max_examples=300)
@given(candidates, stocks, columns, st.integers(1, 5), st.lists(st.integers(-3, 3), max_size=2), st.integers(0, 9))
def test_the_lists_are_those_of_one_pass_over_all_pairs(users, stock, some, k, edges, seed):
    pairs, caps = pairs_of(users), caps_of(some)
    tie = np.random.default_rng(seed).permutation(len(users)).astype(np.uint64)
    expected, left = one_by_one(pairs, stock, caps, k, tie)
    allotment = Allotment.empty(np.array(stock), caps, tie, k)
    for low, high in zip([*sorted(edges, reverse=True), -9], [9, *sorted(edges, reverse=True)], strict=True):
        allotment.take(pairs.keep((pairs.score >= low) & (pairs.score < high)))
    for edge in edges:  # what is below is given out anew
        allotment.back_to(edge)
        allotment.take(pairs.keep(pairs.score <= edge))
    order = np.where(allotment.places < 0, 99, allotment.places).argsort(axis=1, kind="stable")
    assert np.take_along_axis(allotment.items, order, axis=1).tolist() == expected
    assert allotment.stock.tolist() == left
    given = [
        [s for item, s in zip(allotment.items.flat, allotment.scores.flat, strict=True) if item == i]
        for i in range(N_ITEMS)
    ]
    assert allotment.lowest.tolist() == [min(of, default=np.inf) for of in given]
    assert (allotment.stock >= 0).all()
