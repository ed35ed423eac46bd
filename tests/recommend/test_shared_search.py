"""One search for several lists against a search for each of them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.recommend.test_lists import AS_OF, exact, shop_of
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.searchers import UserQueries
from topkin.recommend.sharded import lists_table
from topkin.recommend.shared_search import JointQueries, SharedSearcher, own_lists
from topkin.search.topk import top_k

N = 12
item_sets = st.lists(st.sets(st.integers(0, N - 1)), min_size=3, max_size=3)


class Groups:
    """Who may get what, by groups: an ``Audience`` without columns."""

    def __init__(self, group, masks):
        self.group, self.masks = group, masks

    def mask(self, group):
        return self.masks[group]


def of_sets(rows) -> Csr:
    pairs = [(u, i) for u, own in enumerate(rows) for i in own]
    return Csr.of_pairs(*np.array(pairs, int).reshape(-1, 2).T, len(rows), N)


@given(
    st.lists(st.tuples(item_sets, st.sets(st.integers(0, N - 1)), st.booleans()), min_size=1, max_size=3),
    st.integers(1, N),
    st.integers(1, N),
    st.integers(0, 999),
)
def test_a_list_taken_from_the_joint_search_is_its_own_search(lists, depth, k, seed):
    rng = np.random.default_rng(seed)
    items, users = (rng.integers(-2, 3, (n, 2)).astype(np.float32) for n in (N, 3))  # with ties
    masks, group = rng.random((2, N)) < 0.6, rng.integers(0, 2, 3)
    queries = [
        UserQueries(None, users, of_sets(bought), Groups(group, masks) if by else None) for bought, _, by in lists
    ]
    allowed = [~np.isin(np.arange(N), list(out)) for _, out, _ in lists]
    joint = JointQueries.of(queries, allowed)
    rows = joint.search(depth, lambda v, exclude, mask: top_k(v, items, depth, exclude=exclude, allowed=mask))
    for query, may in zip(queries, allowed, strict=True):
        for u in np.flatnonzero(users.any(axis=1)):
            mask = may & masks[group[u]] if query.audience else may
            one = np.array([u])
            own = rows[0][one], rows[1][one]
            ids, scores, proven = own_lists(own, k, query.exclude.take(one), mask)
            expected = top_k(users[one], items, k, exclude=query.exclude.take(one), allowed=mask)
            enough = (expected[0] >= 0).sum() if (expected[0] >= 0).sum() < k else k
            if proven[0]:
                assert (ids == expected[0]).all()
                assert (scores == expected[1]).all()
            else:  # the joint search does not reach as far: what it has is right
                assert (ids >= 0).sum() < enough or rows[0][u, -1] >= 0
                assert (ids[ids >= 0] == expected[0][0, : (ids >= 0).sum()]).all()
            if depth == N:
                assert proven[0]


def test_only_users_whose_list_is_not_proven_are_searched_for_again():
    histories, vectors, shelf = shop_of([("x", [(0, 1.0)])] * 3, N, seed=4)
    inner, asked = exact(shelf), []

    class Counted:
        shortfall = inner.shortfall

        def search(self, users, k, allowed):
            asked.append(len(users.vectors))
            return inner.search(users, k, allowed)

    history = Interactions.from_histories(histories, shelf.item_ids, AS_OF)
    users = UserQueries(history, vectors, of_sets([set(), set(), {3, 5, 7, 9}]))
    ids, scores = inner.search(users._replace(exclude=Csr.empty(3)), 6, shelf.allowed)
    searcher = SharedSearcher(lists_table((ids, scores), 0), Counted())
    rows, expected = searcher.search(users, 5, shelf.allowed), inner.search(users, 5, shelf.allowed)
    assert (rows[0] == expected[0]).all()
    assert (rows[1] == expected[1]).all()
    assert asked in ([], [1])
