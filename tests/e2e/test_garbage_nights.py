"""Some of the nights of ``make faults``: garbage is refused for what is wrong with it, an honest night is not.

A few of them are quick. Most are judged by their prepared tables alone, beside what the good night made;
``make faults`` does whole nights.
"""

import pytest

from benchmarks.faults._garbage import NIGHTS, Garbage
from benchmarks.faults.nights import GOOD, Nights
from tests.quick import some
from topkin.artifacts import runs

DAMAGED = [night for night in NIGHTS if night.damage is not None]
BY_DATA = [night for night in NIGHTS if night.damage is None and {*night.gates} != {"overlap"}][::2]
WHOLE = next(night for night in NIGHTS if night.name == "users shuffled")


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """One good night, published."""
    return Nights(tmp_path_factory.mktemp("nights"))


def named(night: Garbage) -> str:
    return night.name


@pytest.mark.parametrize("night", some(BY_DATA, 3, name=named))
def test_garbage_in_the_input_is_refused_for_its_reason(nights: Nights, night: Garbage) -> None:
    outcome = nights.by_data(night)
    assert not outcome.published
    assert outcome.right, outcome.reasons


@pytest.mark.slow
@pytest.mark.parametrize("night", some(DAMAGED, 1, name=named))
def test_garbage_in_the_results_is_refused_for_its_reason(nights: Nights, night: Garbage) -> None:
    outcome = nights.garbage(night)
    assert not outcome.published
    assert outcome.right, outcome.reasons


def test_a_whole_night_of_garbage_leaves_the_good_one_live(nights: Nights) -> None:
    outcome = nights.garbage(WHOLE)
    assert outcome.right, outcome.reasons
    live = runs.published(str(nights.root))
    assert live is not None
    assert live.run_id == nights.good.run_id


@pytest.mark.parametrize("day", [GOOD + 1, *(pytest.param(GOOD + n, marks=pytest.mark.slow) for n in (4, 9))])
def test_an_honest_night_is_not_refused(nights: Nights, day: int) -> None:
    """The next one, one after a week-end, and one after three days of a sale."""
    honest = Garbage(name=str(day), gates=(), files=lambda _: nights.shop.files(day), days=day - GOOD - 1)
    assert nights.by_data(honest).reasons == []
