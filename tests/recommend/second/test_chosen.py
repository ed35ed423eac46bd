"""How many users say whether sources help."""

import pytest

from topkin.recommend.second import chosen
from topkin.recommend.second.chosen import judge_bytes, judges


@pytest.mark.parametrize("rankers", [2, 5, 12])
@pytest.mark.parametrize("items", [1, 4_000, 1_000_000])
def test_judges_are_as_many_as_memory_and_time_allow_and_no_fewer_than_asked(rankers, items):
    most = judges(rankers, items, 0)
    assert most * judge_bytes(rankers) <= chosen.HELD
    assert most * rankers**2 * items <= chosen.SCORED
    more = most + 1
    held, scored = more * judge_bytes(rankers) > chosen.HELD, more * rankers**2 * items > chosen.SCORED
    assert held or scored or more > chosen.JUDGES
    assert judges(rankers, items, more) == more
