"""The threshold against a loop over all thresholds."""

import numpy as np
import pytest

from topkin.models.similarity.calibration import calibrate


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_the_lowest_that_reaches_the_target(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 15, 60) / 15
    right = rng.random(60) < scores * 0.9 + 0.1
    got = calibrate(scores, right, 0.8)
    good = [t for t in sorted(set(scores)) if right[scores >= t].mean() >= 0.8]
    assert got.threshold == min(good)
    assert got.precision == pytest.approx(right[scores >= got.threshold].mean())
    assert got.recall == pytest.approx(right[scores >= got.threshold].sum() / 60)
    assert got.thresholds.tolist() == sorted(set(scores), reverse=True)
    want = [right[scores >= t].mean() for t in got.thresholds]
    np.testing.assert_allclose(got.precisions, want)


def test_equal_scores_are_accepted_together() -> None:
    with pytest.raises(ValueError, match=r"reach precision 0.9, the best is 0.6667 at score 0.5000"):
        calibrate([0.5, 0.5, 0.5], [True, True, False], 0.9)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1, got 95"):
        calibrate([0.5], [True], 95)
    with pytest.raises(ValueError, match="a score and a truth"):
        calibrate([], [], 0.9)
    with pytest.raises(ValueError, match="finite, got 1"):
        calibrate([np.nan], [True], 0.9)
