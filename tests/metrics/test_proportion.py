import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.metrics.proportion import Z95, wilson


@given(st.integers(1, 400), st.data())
def test_the_ends_are_where_the_score_test_just_rejects(n: int, data: st.DataObject) -> None:
    """Wilson's definition: the shares p whose distance to the share seen is z of their own standard errors."""
    share = data.draw(st.integers(0, n)) / n
    low, high = wilson(share, n)
    for end in (low, high):
        if 1e-12 < end < 1 - 1e-12:
            assert abs(share - end) == pytest.approx(Z95 * np.sqrt(end * (1 - end) / n), abs=1e-9)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


@pytest.mark.parametrize(("share", "n"), [(0.5, 0), (1.1, 5), (-0.1, 5)])
def test_an_interval_of_nothing_is_refused(share: float, n: int) -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        wilson(share, n)
