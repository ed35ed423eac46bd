import numpy as np
import pytest

from topkin.metrics import bootstrap as intervals
from topkin.metrics.bootstrap import bootstrap, paired_bootstrap


def test_the_interval_is_the_normal_one_for_many_users():
    rng = np.random.default_rng(0)
    b = rng.random(5000)
    a = b + rng.normal(0.1, 0.5, 5000)
    low, mean, high = paired_bootstrap(a, b, 2000, 1)
    error = 1.96 * np.std(a - b) / np.sqrt(5000)
    assert mean == pytest.approx((a - b).mean())
    assert low == pytest.approx(mean - error, abs=error / 10)
    assert high == pytest.approx(mean + error, abs=error / 10)


def test_it_holds_the_true_difference_about_19_times_in_20():
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        low, _, high = paired_bootstrap(rng.normal(0.3, 1, 60), np.zeros(60), 300, trial)
        held += low <= 0.3 <= high
    assert 175 <= held <= 199


def test_pairing_cancels_what_users_have_in_common():
    b = np.random.default_rng(3).normal(0, 100, 500)
    low, mean, high = paired_bootstrap(b + 1, b)
    assert (low, mean, high) == pytest.approx((1, 1, 1))


def test_swapped_recommenders_mirror_the_interval():
    a, b = np.random.default_rng(4).random((2, 50))
    low, mean, high = paired_bootstrap(a, b, 500, 5)
    assert paired_bootstrap(b, a, 500, 5) == pytest.approx((-high, -mean, -low))


def test_a_seed_gives_one_interval():
    a, b = np.random.default_rng(6).random((2, 50))
    assert paired_bootstrap(a, b, 100, 7) == paired_bootstrap(a, b, 100, 7)
    assert paired_bootstrap(a, b, 100, 7) != paired_bootstrap(a, b, 100, 8)


def test_columns_together_have_the_intervals_that_a_loop_over_resamples_gives(monkeypatch):
    values = np.random.default_rng(8).random((70, 3))
    rng = np.random.default_rng(9)
    means = [values[rng.integers(70, size=70)].mean(axis=0) for _ in range(40)]
    low, high, p = bootstrap(values - 0.5, 40, 9)
    means = np.array(means) - 0.5
    assert np.allclose([low, high], np.percentile(means, [2.5, 97.5], axis=0), rtol=0, atol=1e-12)
    beyond = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    assert p == pytest.approx(np.minimum(1, 2 * (beyond + 1) / 41))
    monkeypatch.setattr(intervals, "_BUDGET_BYTES", 1)  # one resample at a time
    assert np.allclose([low, high, p], bootstrap(values - 0.5, 40, 9), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "resamples", "message"),
    [
        ([1, 2], [1], 10, "two values for each user"),
        ([], [], 10, "at least one user"),
        ([1], [1], 0, "resamples must be at least 1, got 0"),
    ],
)
def test_wrong_use_is_told(a, b, resamples, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(np.array(a), np.array(b), resamples)


def test_a_p_value_is_small_for_a_clear_difference_and_fair_for_none():
    rng = np.random.default_rng(1)
    assert bootstrap(rng.normal(0.5, 1, (200, 1)), 499).p == pytest.approx(2 / 500)
    assert bootstrap(np.zeros((20, 1)), 99).p == 1
    chance = [bootstrap(rng.normal(0, 1, (80, 1)), 199, seed).p[0] < 0.05 for seed in range(200)]
    assert np.mean(chance) < 0.12
