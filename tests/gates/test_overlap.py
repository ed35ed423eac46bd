"""Overlap at k and rank-biased overlap beside loops over sets, as the papers write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.gates import overlap as module
from topkin.gates.overlap import mean_overlap, overlap_at_k, rank_biased_overlap

K = 7
LISTS = st.lists(st.integers(0, 9), unique=True, max_size=K)
PAIRS = st.lists(st.tuples(LISTS, LISTS), min_size=1, max_size=5)


def padded(lists: list[list[int]]) -> np.ndarray:
    return np.array([[*one, *[-1] * (K - len(one))] for one in lists])


def both(pairs: list[tuple[list[int], list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    return padded([a for a, _ in pairs]), padded([b for _, b in pairs])


def extrapolated(a: list[int], b: list[int], p: float) -> float:
    """Equation 32 of Webber, Moffat and Zobel (2010), depth by depth."""
    short, long = sorted((a, b), key=len)
    s, m = len(short), len(long)

    def common(d: int) -> int:
        return len(set(short[:d]) & set(long[:d]))

    total = sum(common(d) / d * p**d for d in range(1, m + 1))
    total += sum(common(s) * (d - s) / (s * d) * p**d for d in range(s + 1, m + 1))
    return (1 - p) / p * total + ((common(m) - common(s)) / m + common(s) / s) * p**m


@given(PAIRS, st.floats(0.05, 0.95))
def test_rank_biased_overlap_is_what_the_paper_says(pairs: list[tuple[list[int], list[int]]], p: float) -> None:
    overlap = rank_biased_overlap(*both(pairs), p)
    for (a, b), value in zip(pairs, overlap, strict=True):
        assert value == pytest.approx(extrapolated(a, b, p)) if a and b else np.isnan(value)


@given(PAIRS)
def test_overlap_is_the_common_share_of_the_longer_list(pairs: list[tuple[list[int], list[int]]]) -> None:
    for (a, b), value in zip(pairs, overlap_at_k(*both(pairs)), strict=True):
        longer = max(len(a), len(b))
        assert value == pytest.approx(len({*a} & {*b}) / longer) if longer else np.isnan(value)


@given(st.lists(LISTS, max_size=8))
def test_the_overlap_of_all_lists_is_the_mean_over_pairs(lists: list[list[int]]) -> None:
    overlap = mean_overlap(padded(lists) if lists else np.zeros((0, K), int))
    held, n = sum(map(len, lists)), len(lists)
    if n < 2 or not held:
        assert overlap == 0
        return
    common = sum(len({*lists[i]} & {*lists[j]}) for i in range(n) for j in range(n) if i != j)
    assert overlap == pytest.approx(common / (n * (n - 1)) / (held / n))


def test_the_same_list_has_an_overlap_of_one_and_a_turned_one_less_by_rank_alone() -> None:
    one, turned = np.array([[3, 1, 2]]), np.array([[2, 1, 3]])
    assert rank_biased_overlap(one, one) == pytest.approx([1.0])
    assert overlap_at_k(one, turned) == pytest.approx([1.0])
    assert rank_biased_overlap(one, turned)[0] < 1


def test_blocks_of_users_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.stack([rng.permutation(12)[:K] for _ in range(30)]) for _ in range(2))
    whole = rank_biased_overlap(a, b)
    monkeypatch.setattr(module, "BUDGET_BYTES", 4 * K * K)
    assert (rank_biased_overlap(a, b) == whole).all()


def test_wrong_arguments_are_told() -> None:
    lists = np.zeros((2, 3), int)
    with pytest.raises(ValueError, match="p must lie between 0 and 1, got 1"):
        rank_biased_overlap(lists, lists, 1)
    with pytest.raises(ValueError, match="must be of one shape"):
        overlap_at_k(lists, lists[:1])
    assert rank_biased_overlap(lists[:0], lists[:0]).shape == (0,)
