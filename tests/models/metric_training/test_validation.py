"""Which epoch's weights are kept."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topkin.models.metric_training.validation import as_good


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(50, 2_000))
def test_as_good_is_the_last_that_is_within_a_standard_error_of_the_highest(hits: list[int], asked: int) -> None:
    scores = [h / 50 for h in hits]
    at = as_good(scores, asked)
    error = np.sqrt(max(scores) * (1 - max(scores)) / asked)
    assert max(scores) - scores[at] <= error + 1e-12
    assert all(max(scores) - later > error - 1e-12 for later in scores[at + 1 :])


def test_noise_does_not_choose_an_early_epoch_and_a_fall_does() -> None:
    assert as_good([0.86, 0.923, 0.915, 0.921], 1_000) == 3
    assert as_good([0.86, 0.923, 0.915, 0.88], 1_000) == 2
    assert as_good([0.5, 1.0, 0.99], 1_000) == 1
