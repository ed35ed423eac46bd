from itertools import islice

import pytest

from topkin.config.sections import TrainSettings
from topkin.errors import ConfigError
from topkin.evaluation.tuning import SPACE, best_of, draws, space_of


def test_the_configured_settings_come_first_and_no_draw_comes_twice():
    drawn = list(islice(draws(SPACE, 3), 200))
    assert drawn[0] == {}
    assert len({tuple(sorted(draw.items())) for draw in drawn}) == 200


def test_a_search_goes_on_where_it_stopped_and_a_seed_is_a_search():
    assert list(islice(draws(SPACE, 3), 5)) == list(islice(draws(SPACE, 3), 9))[:5]
    assert list(islice(draws(SPACE, 3), 9)) != list(islice(draws(SPACE, 4), 9))


def test_a_small_space_ends():
    drawn = list(draws({"temperature": (0.1, 0.2)}, 0))
    assert sorted(map(str, drawn)) == sorted(map(str, [{}, {"temperature": 0.1}, {"temperature": 0.2}]))


def test_every_value_of_the_space_is_one_that_the_configuration_takes():
    for name, values in SPACE.items():
        for value in values:
            assert {**vars(train := TrainSettings().changed(**{name: value})), **vars(train.advanced)}[name] == value


def test_a_key_that_is_not_searched_is_named():
    assert space_of(["train.advanced.temperature"]) == {"temperature": SPACE["temperature"]}
    with pytest.raises(ConfigError, match=r"--key must be one of temperature, .* got epochs"):
        space_of(["epochs"])


def test_the_best_trial_is_the_earliest_of_equals():
    trials = [{"number": n, "value": v} for n, v in enumerate((0.1, 0.3, 0.3, 0.2))]
    assert best_of(trials, "value")["number"] == 1
