"""Configurations with users and items and no purchases."""

from typing import Any

import pytest

from topkin.config.items_run import ItemsRunSettings, kind_of
from topkin.config.load import load_run, load_settings
from topkin.config.sections import Settings
from topkin.config.shop.vectors import VectorsSettings
from topkin.errors import ConfigError

ITEMS, USERS = {"path": "i", "vector": "emb"}, {"path": "u", "vector": "emb"}
PLAIN_ITEMS, PLAIN_USERS = {"path": "i"}, {"path": "u"}
ENCODER = {"path": "towers"}


def test_what_goes_by_purchases_is_off() -> None:
    settings = VectorsSettings.model_validate({"items": ITEMS, "users": USERS})
    assert not settings.has_purchases
    assert settings.vectors_given
    assert (settings.recommend.because, settings.recommend.sources, settings.recommend.min_history) == (0, (), 0)
    assert (settings.evaluate.baselines, settings.evaluate.hindsight, settings.publish.must_beat) == ((), (), ())
    assert VectorsSettings.model_validate(settings.model_dump(mode="json")) == settings
    settings = VectorsSettings.model_validate({"items": ITEMS, "users": USERS, "lists": {"mail": {"min_history": 1}}})
    assert settings.lists["mail"].min_history == settings.recommend.min_history == 0


@pytest.mark.parametrize(
    ("sections", "kind"),
    [
        ({"items": ITEMS, "users": USERS}, VectorsSettings),
        ({"items": PLAIN_ITEMS, "users": PLAIN_USERS, "encoder": ENCODER}, VectorsSettings),
        ({"items": ITEMS, "users": PLAIN_USERS}, VectorsSettings),
        ({"items": PLAIN_ITEMS, "users": PLAIN_USERS}, Settings),
        ({"items": ITEMS}, ItemsRunSettings),
        ({"users": USERS}, Settings),
        ({"purchases": {"path": "p"}, "items": ITEMS, "users": USERS}, Settings),
    ],
)
def test_the_sections_tell_the_kind(sections: dict[str, Any], kind: type) -> None:
    assert kind_of(sections) is kind


def test_both_ways_to_load_give_them(tmp_path: Any) -> None:
    path = tmp_path / "topkin.toml"
    path.write_text('[items]\npath = "i"\nvector = "emb"\n[users]\npath = "u"\nvector = "emb"\n')
    assert isinstance(load_settings(path, env={}), VectorsSettings)
    assert isinstance(load_run(path, env={}), VectorsSettings)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"items": ITEMS, "users": PLAIN_USERS}, "and users have none: set users.vector"),
        ({"items": PLAIN_ITEMS, "users": USERS}, "and items have none: set items.vector"),
        ({"train": {"epochs": 2}}, r"\[train\] learns from purchases"),
        ({"recommend": {"bought": "keep"}}, "recommend.bought goes by purchases"),
        ({"recommend": {"because": 2}}, "recommend.because goes by purchases"),
        ({"recommend": {"model": "item_knn"}}, "recommend.model goes by purchases"),
        ({"similar": {"bought": 5}}, "similar.bought goes by purchases"),
        ({"similar": {"bundles": 5}}, "similar.bundles goes by purchases"),
        ({"lists": {"mail": {"model": "popularity"}}}, "lists.mail.model goes by purchases"),
        ({"lists": {"mail": {"sources": ["item_knn"]}}}, "lists.mail.sources goes by purchases"),
        ({"prepare": {"split": "last"}}, "prepare.split goes by purchases"),
        ({"evaluate": {"baselines": ["item_knn"]}}, "evaluate.baselines goes by purchases"),
        ({"publish": {"must_beat": ["item_knn"]}}, "publish.must_beat goes by purchases"),
        ({"events": {"view": {"path": "v", "weight": 0.1}}}, r"\[events.view\] stands beside purchases"),
        ({"heldout": {"path": "h", "order": "row"}}, "set heldout.timestamp"),
        ({"items": {**ITEMS, "features": {"x": "x"}}}, "items.features are what training learns from"),
        ({"encoder": ENCODER}, "users and items both bring theirs"),
        (
            {"items": {**PLAIN_ITEMS, "latest_by": "day"}, "encoder": ENCODER},
            "cannot choose among several by items.latest_by",
        ),
        (
            {"users": PLAIN_USERS, "encoder": {**ENCODER, "inputs": {"x": "x"}}},
            "items.vector and encoder.inputs both give",
        ),
    ],
)
def test_what_does_not_go_without_purchases_is_said(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorsSettings.model_validate({"items": ITEMS, "users": USERS, **sections})


def test_purchases_are_asked_for_where_nothing_has_a_vector(tmp_path: Any) -> None:
    path = tmp_path / "topkin.toml"
    path.write_text('[items]\npath = "i"\n[users]\npath = "u"\n')
    with pytest.raises(ConfigError, match=r"section \[purchases\] is missing"):
        load_run(path, env={})
