"""What goes together in the settings of events, and what is said where it does not."""

from pathlib import Path

import pytest

from topkin.config.load import load_settings
from topkin.config.shop.events import done_with, event_types
from topkin.errors import ConfigError

BASE = '[purchases]\npath = "p.parquet"\n'
MIXED = BASE + 'event_type = "t"\n[purchases.event_weights]\nbuy = 1\nview = 0.1\nreturn = 0\n'


def load(tmp_path: Path, text: str, *sets: str):
    (tmp_path / "topkin.toml").write_text(text)
    return load_settings(tmp_path / "topkin.toml", sets, env={"TOPKIN_EVENTS__CART__WEIGHT": "0.7"} if sets else {})


def test_types_have_their_roles_and_weights_and_paths_are_relative_to_the_file(tmp_path):
    assert event_types(load(tmp_path, BASE)) == ()
    assert [tuple(t) for t in event_types(load(tmp_path, BASE + 'weight = "n"\n'))] == [
        ("purchase", "both", 1.0, "purchases")
    ]
    text = MIXED + '[purchases.event_roles]\nbuy = "both"\n[events.cart]\npath = "c.parquet"\nweight = "2 * n"\n'
    assert [tuple(t) for t in event_types(load(tmp_path, text))] == [
        ("buy", "both", 1.0, "purchases"),
        ("view", "input", 0.1, "purchases"),
        ("return", "return", 0.0, "purchases"),
        ("cart", "input", 1.0, "events.cart"),
    ]
    cart = load(tmp_path, text, "events.cart.role=target").events["cart"]
    assert (cart.path, cart.role, cart.weight) == (str(tmp_path / "c.parquet"), "target", 0.7)
    here = load(tmp_path, text, "events.cart.path=c.parquet").events["cart"]
    assert here.path == str(Path("c.parquet").absolute())


def test_nothing_stands_behind_a_reason_that_counts_as_bought():
    types = {"buy": {"role": "both"}, "order": {"role": "target"}, "view": {"role": "input"}, "tap": {"role": "input"}}
    words = {event: done_with(event, types) for event in (*types, None)}
    assert words == {"buy": "", "order": "", "view": " (viewed)", "tap": " (tap)", None: ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BASE + '[events.view]\npath = "v"\nwieght = 1\n',
            "events.view.wieght is not a key; did you mean events.view.weight",
        ),
        (BASE + "[events.view]\nweight = 1\n", "events.view.path is missing"),
        (BASE + '[events.view]\npath = "v"\nrole = "inputs"\n', 'did you mean "input"'),
        (BASE + '[events.view]\npath = "v"\nweight = -1\n', "events.view.weight takes a number from 0"),
        (BASE + "[events]\nview = 3\n", "events.view must be a section [events.view] of keys"),
        (BASE + '[events.purchase]\npath = "v"\n', "got several of 'purchase'"),
        (BASE + 'event_type = "t"\n', "got one without the other"),
        (
            MIXED + '[purchases.event_roles]\nbuy = "both"\n[heldout]\npath = "h"\n',
            "heldout.event_type name the types of two logs",
        ),
        (BASE + '[heldout]\npath = "h"\nevent_type = "t"\n', "got one without the other"),
        (MIXED, 'purchases.event_roles = { buy = "both" }'),
        (MIXED + '[purchases.event_roles]\nbuy = "target"\nview = "target"\n', "must be an input of a weight above 0"),
        (MIXED + '[purchases.event_roles]\nbye = "both"\n', "must name types of purchases.event_weights, got 'bye'"),
        (BASE + 'order = "n"\n[events.view]\npath = "v"\n', "put in order by their times"),
        (BASE + '[events.r]\npath = "v"\nrole = "return"\norder_id = "o"\n', "set purchases.order_id too"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_message(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
