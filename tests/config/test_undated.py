"""Purchases without times in the configuration."""

import pytest

from topkin.config import undated
from topkin.config.load import settings_of
from topkin.config.sections import Settings
from topkin.errors import ConfigError

UNDATED = {"path": "p.parquet", "order": "nr"}


def test_an_order_stands_in_for_times() -> None:
    settings = settings_of({"purchases": UNDATED}, "t")
    assert not settings.timed
    assert (settings.purchases.timestamp, settings.purchases.order) == (None, "nr")
    assert settings.prepare.split == "last"
    assert settings.evaluate.days is None
    assert not {"recent_popularity", "recent_popularity_30", "item_knn_recent"} & set(settings.evaluate.baselines)
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings
    assert settings_of({"purchases": {"path": "p.parquet"}}, "t").timed


def test_no_time_and_no_order_is_the_order_of_rows() -> None:
    assert settings_of({"purchases": {"path": "p.parquet", "timestamp": None}}, "t").purchases.order == "row"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"purchases": {**UNDATED, "timestamp": "day"}}, "purchases.timestamp and purchases.order exclude each other"),
        ({"purchases": UNDATED, "heldout": {"path": "h"}}, "set heldout.order"),
        ({"purchases": {"path": "p"}, "heldout": {"path": "h", "order": "row"}}, "set heldout.timestamp"),
        ({"purchases": UNDATED, "recommend": {"bought": "cooldown"}}, 'set "exclude", or "keep"'),
        ({"purchases": UNDATED, "recommend": {"bought": "boost"}}, "a user's own interval"),
        ({"purchases": UNDATED, "recommend": {"model": "recent_popularity"}}, "goes by time"),
        (
            {"purchases": UNDATED, "publish": {"must_beat": ["item_knn_recent"]}},
            "publish.must_beat names item_knn_recent",
        ),
        ({"purchases": {**UNDATED, "order": ""}}, "purchases.order takes a text that is not empty"),
    ],
)
def test_what_only_times_can_give_is_refused_with_its_cure(sections: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings_of(sections, "t")
    assert message in str(refused.value)


def test_the_split_that_is_asked_for_is_kept_and_told() -> None:
    for split, words in (("time", "nothing is held out"), ("last", "the last position of each user is held out")):
        settings = settings_of({"purchases": UNDATED, "prepare": {"split": split}}, "t")
        assert settings.prepare.split == split
        assert words in undated.notes(settings, "prepare")[-1]
        assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_a_held_out_file_keeps_its_split() -> None:
    settings = settings_of({"purchases": UNDATED, "heldout": {"path": "h", "order": "row"}}, "t")
    assert settings.prepare.split == "time"
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_each_thing_that_is_off_is_said() -> None:
    settings = settings_of({"purchases": UNDATED}, "t")
    text = " ".join(line for stage in undated.OFF for line in undated.notes(settings, stage))
    for word in ("column 'nr'", "recent_days", "duplicates", "half-lives", "cool-downs", "evaluate.days", "cold items"):
        assert word in text
    assert undated.notes(settings_of({"purchases": {"path": "p"}}, "t"), "train") == []
