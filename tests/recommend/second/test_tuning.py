"""What a blend is worth, by the ranks of what was bought, is what its lists are worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.recommend.second import tuning
from topkin.recommend.second.candidates import Candidates
from topkin.recommend.second.stage import blended
from topkin.recommend.second.tuning import AT, METRIC, Case, choose


def case_of(seed, users=9, items=40, width=30):
    """Users with candidates and bought items, some of whom bought nothing that is a candidate; scores with ties."""
    rng = np.random.default_rng(seed)
    rows = np.full((users, width), -1, np.int32)
    for row in rows:
        some = np.sort(rng.choice(items, rng.integers(0, width + 1), replace=False))
        row[: len(some)] = some
    features = rng.integers(0, 4, (3, users, width)).astype(np.float32) / 3
    features[:, rows < 0] = 0
    truth = [rng.choice(items, rng.integers(1, 6), replace=False) for _ in range(users)]
    pairs = np.repeat(np.arange(users), [len(own) for own in truth]), np.concatenate(truth)
    return Case(Candidates(rows, np.zeros(rows.shape, np.float32), features), Csr.of_pairs(*pairs, users, items))


@given(st.integers(0, 10_000), st.lists(st.sampled_from([0.0, 0.1, 0.4, 1.6]), min_size=2, max_size=2))
def test_a_blend_is_worth_what_its_lists_are_worth(seed, weights):
    case, weights = case_of(seed), np.array([1.0, *weights])
    ids, _ = case.some.best(blended(case.some.features, weights), AT)
    np.testing.assert_allclose(case.judged(weights), ranking_metrics(ids, case.truth, (AT,))[METRIC], atol=1e-12)


@pytest.mark.parametrize("users", [7, 9])
def test_each_user_is_in_one_fold(users):
    case, weights = case_of(3, users=users), np.array([1.0, 0.4, 0.1])
    whole, values = case.judged(weights), np.full(users, np.nan)
    for number in range(tuning.FOLDS):
        values[number :: tuning.FOLDS] = case.fold(number).judged(weights)
    np.testing.assert_array_equal(values, whole)


def test_a_source_that_gains_surely_is_taken_before_one_that_may_gain_more():
    users, width = 400, 30
    items = np.tile(np.arange(width, dtype=np.int32), (users, 1))
    features = np.zeros((3, users, width), np.float32)
    features[0] = 1 - np.arange(width) / width
    places = np.full(users, width - 1)  # of the bought item, by the encoder
    places[:3] = 25
    features[1, np.arange(3), 25] = 1  # lifts three from nowhere to the top, by chance for all that is known
    places[3:10] = 1
    features[2, np.arange(3, 10), 1] = 1  # lifts seven from the second place
    case = Case(Candidates(items, np.zeros(items.shape, np.float32), features), Csr.single(places.astype(np.int32)))
    gains = [float((case.judged(np.array(w)) - case.judged(np.eye(3)[0])).mean()) for w in ([1, 2, 0.0], [1, 0, 2.0])]
    assert gains[0] > gains[1] > 0
    assert set(choose([case], ["chance", "sure"]).weights) == {"encoder", "sure"}
