import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.gates.spread import effective_rank, spread


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_the_rank_is_the_entropy_of_the_squared_singular_values(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).normal(size=shape)
    energy = np.linalg.svd(rows, compute_uv=False) ** 2
    shares = energy / energy.sum()
    assert effective_rank(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


@given(st.integers(1, 12), st.integers(1, 5))
def test_as_many_directions_as_lie_at_right_angles(directions: int, times: int) -> None:
    assert effective_rank(np.repeat(np.eye(12)[:directions], times, axis=0)) == pytest.approx(directions)


def test_vectors_of_any_length_on_one_line_have_rank_one() -> None:
    line = np.outer(np.arange(1.0, 20), np.ones(5))
    assert spread(line.astype(np.float32)).rank == pytest.approx(1)


def test_zeros_and_what_is_not_finite_are_no_vectors() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors = np.concatenate([vectors, np.zeros((2, 4), np.float32), np.full((2, 4), np.nan, np.float32)])
    vectors[6, :3] = 0, np.inf, 0
    measured = spread(vectors)
    assert (measured.vectors, measured.not_finite) == (4, 0.25)
    assert measured.rank == pytest.approx(4)
    nothing = spread(np.zeros((0, 4), np.float32))
    assert (nothing.vectors, nothing.not_finite, nothing.rank) == (0, 0, 0)
