"""Keys as data say what the typed schema says."""

import tomllib
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.baselines.registry import BASELINES
from topkin.config.encoder import EncoderInputSettings
from topkin.config.purchases import PurchaseFeatureSettings
from topkin.config.reference import as_toml, bare_or_quoted, keys, nearest, sections, syntax_error
from topkin.config.sections import Baseline, Settings, TrainAdvancedSettings
from topkin.config.shop.events import EventSettings
from topkin.config.shop.lists import ListSettings
from topkin.config.shop.rules import EligibleSettings, NewItems
from topkin.config.tables import FeatureSettings


def test_every_key_of_the_schema_is_there_with_a_description() -> None:
    kinds: dict[str, Any] = {"train.advanced": TrainAdvancedSettings}
    kinds |= dict.fromkeys(("encoder.inputs.NAME", "encoder.user_inputs.NAME"), EncoderInputSettings)
    kinds |= dict.fromkeys(("items.features.NAME", "users.features.NAME"), FeatureSettings)
    kinds["purchases.features.NAME"] = PurchaseFeatureSettings
    kinds["recommend.eligible.NAME"] = EligibleSettings
    for name, field in Settings.model_fields.items():
        kinds[name] = next(t for t in getattr(field.annotation, "__args__", (field.annotation,)) if t is not type(None))
    kinds |= {"events.NAME": EventSettings, "lists.NAME": ListSettings, "lists.NAME.eligible.NAME": EligibleSettings}
    kinds |= dict.fromkeys(("recommend.new_items", "lists.NAME.new_items"), NewItems)
    del kinds["events"], kinds["lists"]
    assert {section.name for section in sections()} == set(kinds)
    for section in sections():
        assert section.description
        assert {k.name for k in section.keys} == set(kinds[section.name].model_fields) - {
            "advanced",
            "inputs",
            "user_inputs",
            "features",
            "eligible",
            "new_items",
        }
    assert all(k.description.endswith(".") and k.takes for k in keys().values())


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("train.epochs", "a whole number of at least 0"),
        ("train.advanced.temperature", "a number from 0.01 to 100"),
        ("train.advanced.logq", "a number from 0 to 1"),
        ("train.half_life_days", "a number above 0 and of at most 36500"),
        ("train.advanced.id_dropout", "a number of at least 0 and below 1"),
        ("recommend.search", 'one of "exact", "index"'),
        ("evaluate.k", "a list, each a whole number of at least 1"),
        ("purchases.rules", "a table of names, each with a text that is not empty"),
        ("recommend.allow", "a text"),
        ("encoder.inputs.NAME.size", "a list of 2, each a whole number of at least 1"),
        ("encoder.inputs.NAME.missing", "a number or a text"),
        ("run.seed", "a whole number from 0 to 2147483647"),
    ],
)
def test_what_a_key_takes_is_said_in_words(name: str, takes: str) -> None:
    assert keys()[name].takes == takes


def test_the_gate_can_ask_for_every_baseline_and_for_nothing_else() -> None:
    assert get_args(Baseline) == tuple(BASELINES)


def test_required_keys_and_sections_are_known() -> None:
    assert [k for k, key in keys().items() if key.required] == [
        "purchases.path",
        "purchases.features.NAME.column",
        "items.path",
        "items.features.NAME.column",
        "users.path",
        "users.features.NAME.column",
        "heldout.path",
        "events.NAME.path",
        "encoder.path",
        "recommend.eligible.NAME.user",
        "recommend.eligible.NAME.item",
        "recommend.new_items.days",
        "recommend.new_items.at_least",
        "lists.NAME.eligible.NAME.user",
        "lists.NAME.eligible.NAME.item",
        "lists.NAME.new_items.days",
        "lists.NAME.new_items.at_least",
    ]
    assert [s.name for s in sections() if s.required] == ["purchases"]


values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_what_is_spelt_as_toml_is_read_back(value: object) -> None:
    assert tomllib.loads(f"value = {as_toml(value)}") == {"value": value}


@given(st.text(max_size=10))
def test_any_name_can_be_a_key(name: str) -> None:
    assert tomllib.loads(f"{bare_or_quoted(name)} = 1") == {name: 1}


def test_nearest_is_similar_or_begins_alike_and_else_none() -> None:
    assert nearest("epoch", ["epochs", "dim"]) == "epochs"
    assert nearest("ef", ["ef_construction", "ef_search"]) == "ef_search"
    assert nearest("EPOCHS", ["epochs"]) == "epochs"
    assert nearest("zzz", ["epochs"]) is None
    assert nearest("", ["epochs"]) is None


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("path = a.parquet", "a text in quotes"),
        ("[train]\nk = 1\n\n[train]  # again\n", "[train] stands in line 1 already, put the keys there"),
        ("[a.b]\nk = 1\n[a.b]\n", "[a.b] stands in line 1 already"),
        ('k = "a = "b""', "quotes inside it are others"),
        ('"a b" = 1\na b = 1', "a name with spaces stands in quotes"),
        ("k = 1\nk = 2", "the key stands above already"),
        ('path = "C:\\data"', "write it twice, or put the text in single quotes"),
        ("k = 'abc", "close the text with the quote"),
        ("k = [1, 2", "close the list with ]"),
    ],
)
def test_what_is_no_toml_has_a_cure(text: str, cure: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as e:
        tomllib.loads(text)
    assert cure in syntax_error("topkin.toml", text, str(e.value))
