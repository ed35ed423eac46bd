"""What a source brings: the same from few scores as from all."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.baselines.registry import BASELINES
from topkin.interactions import Interactions
from topkin.linalg.csr import Csr
from topkin.recommend.second import scored as module
from topkin.recommend.second.scored import CommonScores, DenseScores, SparseScores, scores_of


@st.composite
def scores(draw):
    """Scores of up to 5 users for up to 9 items with ties, zeros and some below zero, and what may not be listed."""
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    cell = st.sampled_from([0.0, 0.0, 0.0, -1.0, 0.5, 0.5, 2.0])
    values = np.array(draw(st.lists(st.lists(cell, min_size=m, max_size=m), min_size=n, max_size=n)), np.float32)
    left_out = np.array(draw(st.lists(st.booleans(), min_size=n * m, max_size=n * m))).reshape(n, m)
    allowed = np.array(draw(st.lists(st.booleans(), min_size=m, max_size=m)))
    return values, Csr.of_pairs(*np.nonzero(left_out), n, m), allowed, draw(st.integers(1, m + 1))


@settings(max_examples=100)
@given(scores())
def test_few_scores_bring_what_all_of_them_do(case):
    values, exclude, allowed, k = case
    sparse, dense = SparseScores(sp.csr_array(values)), DenseScores(values)
    ids = sparse.best(k, exclude, allowed)
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.sort(dense.best(k, exclude, allowed), axis=1))
    for row, mine in enumerate(ids):
        banned = set(exclude.indices[exclude.indptr[row] : exclude.indptr[row + 1]].tolist())
        may = [i for i in range(values.shape[1]) if allowed[i] and i not in banned and values[row, i] > 0]
        assert set(mine[mine >= 0].tolist()) == set(sorted(may, key=lambda i: (-values[row, i], i))[:k])
    items = np.argsort(values, axis=1)
    np.testing.assert_array_equal(sparse.of(items), np.take_along_axis(values, items, axis=1))
    np.testing.assert_array_equal(dense.of(items), sparse.of(items))


@settings(max_examples=100)
@given(scores())
def test_scores_that_all_users_share_bring_what_theirs_do(case):
    values, exclude, allowed, k = case
    values = np.repeat(values[:1], len(values), axis=0)
    common, dense = CommonScores(values[0], len(values)), DenseScores(values)
    np.testing.assert_array_equal(common.best(k, exclude, allowed), dense.best(k, exclude, allowed))
    items = np.argsort(values, axis=1)
    np.testing.assert_array_equal(common.of(items), dense.of(items))


def small_shop() -> Interactions:
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 6, 30)
    ages = [np.sort(rng.integers(0, 40, n))[::-1] for n in lengths]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = rng.integers(0, 20, indptr[-1]).astype(np.int32)
    return Interactions(indptr, items, np.concatenate(ages).astype(np.float32), np.ones(len(items), np.float32), 25)


@pytest.mark.parametrize("name", [name for name, entry in BASELINES.items() if entry.missing is None])
@pytest.mark.parametrize("few", [1, 1000])
def test_the_scores_of_every_source_are_its_own_whichever_way_they_are_held(name, few, monkeypatch):
    monkeypatch.setattr(module, "FEW", few)
    history = small_shop()
    source = BASELINES[name].make(5).fit(history)
    mine = scores_of(source, history)
    assert isinstance(mine, SparseScores) == (source.sparse_scores(history) is not None and few == 1)
    assert isinstance(mine, CommonScores) == (source.common_scores() is not None)
    items = np.tile(np.arange(25), (30, 1))
    np.testing.assert_array_equal(mine.of(items), source.scores(history))
