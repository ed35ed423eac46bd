"""Rows of column numbers against lists of sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topkin.linalg.csr import Csr, entries_of, indptr_of

N = 6
rows = st.lists(st.lists(st.integers(0, N - 1), max_size=7), min_size=1, max_size=5)


def of(lists: list[list[int]]) -> Csr:
    return Csr(indptr_of(np.array([len(one) for one in lists])), np.array([i for one in lists for i in one], np.int32))


def lists_of(csr: Csr) -> list[list[int]]:
    assert (csr.indptr.dtype, csr.indices.dtype) == (np.int64, np.int32)
    return [csr.indices[a:b].tolist() for a, b in zip(csr.indptr[:-1], csr.indptr[1:], strict=True)]


@given(rows, st.randoms(use_true_random=False))
def test_rows_are_taken_cut_and_counted_as_lists_are(lists, random):
    csr = of(lists)
    some = [random.randrange(len(lists)) for _ in range(4)]
    start, stop = sorted(random.randrange(len(lists) + 1) for _ in range(2))
    mask = np.array([random.random() < 0.5 for _ in range(N)])
    numbers = np.where(mask, np.cumsum(mask) - 1, -1).astype(np.int32)
    assert lists_of(csr.take(np.array(some))) == [lists[r] for r in some]
    assert lists_of(csr.slice(start, stop)) == lists[start:stop]
    assert lists_of(csr.renumbered(numbers)) == [[int(numbers[i]) for i in one if mask[i]] for one in lists]
    assert csr.count_in(mask).tolist() == [sum(bool(mask[i]) for i in one) for one in lists]
    assert csr.rows.tolist() == [r for r, one in enumerate(lists) for _ in one]
    assert (csr.n_rows, csr.lengths.tolist()) == (len(lists), [len(one) for one in lists])
    assert entries_of(csr.indptr, np.array(some))[0].tolist() == np.cumsum([0, *(len(lists[r]) for r in some)]).tolist()


@given(rows, rows)
def test_pairs_are_distinct_and_ascending_and_can_be_taken_off(lists, others):
    others = (others + [[]] * len(lists))[: len(lists)]
    csr, other = of(lists), of(others)
    order = np.random.default_rng(0).permutation(len(csr.indices))
    assert lists_of(Csr.of_pairs(csr.rows[order], csr.indices[order], len(lists), N)) == [sorted(set(o)) for o in lists]
    left = [sorted(set(a) - set(b)) for a, b in zip(lists, others, strict=True)]
    assert lists_of(csr.without(other, N)) == left
    assert lists_of(Csr.empty(2)) == [[], []]
    assert lists_of(Csr.single(np.array([3, -1, 0]))) == [[3], [], [0]]
