"""The threshold against a loop over all thresholds."""

import numpy as np
import pytest

from topkin.models.similarity.calibration import calibrate, match_metrics


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


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_with_the_highest_f1_is_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, known = rng.random(60).round(2), rng.random(60) < 0.4
    right = known & (rng.random(60) < scores)
    for of in (known, np.ones(60, bool)):
        metrics = {t: match_metrics(scores, right, of, t) for t in scores.tolist()}
        best = max(f["f1"] for f in metrics.values())
        chosen = calibrate(scores, right, None, of)
        assert chosen.threshold == min(t for t, f in metrics.items() if f["f1"] == pytest.approx(best, rel=1e-12))
        assert chosen.recall == metrics[chosen.threshold]["recall"]
        assert chosen.target is None


def test_no_right_match_has_no_highest_f1() -> None:
    with pytest.raises(ValueError, match="the highest F1 needs a right match, got none in 3"):
        calibrate([0.9, 0.8, 0.1], [False] * 3, None)
    with pytest.raises(ValueError, match=r"True where its match is right, got \(2,\)"):
        calibrate([0.9, 0.8], [True, False], None, [False, True])


def test_figures_of_matches_are_those_of_a_count_by_hand() -> None:
    rng = np.random.default_rng(2)
    scores, known = rng.random(80).round(1), rng.random(80) < 0.7
    right = known & (rng.random(80) < 0.6)
    metrics = match_metrics(scores, right, known, 0.5)
    cases = list(zip((scores >= 0.5).tolist(), right.tolist(), known.tolist(), strict=True))
    accepted = sum(a for a, _, _ in cases)
    hits = sum(a and r for a, r, _ in cases)
    assert metrics["precision"] == hits / accepted
    assert metrics["recall"] == hits / sum(k for _, _, k in cases)
    assert metrics["f1"] == pytest.approx(2 / (1 / metrics["precision"] + 1 / metrics["recall"]))
    assert metrics["accuracy"] == sum((a and r) or (not a and not k) for a, r, k in cases) / 80
    assert metrics["false_positive_rate"] == sum(a and not k for a, _, k in cases) / sum(not k for _, _, k in cases)
    assert match_metrics([0.1], [False], [True], 0.5)["precision"] == 0
