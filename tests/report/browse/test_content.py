"""What a page holds to be looked up, beside the tables that it is made of."""

import json
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.report.browse.content import Source, content, script_json
from topkin.report.browse.sample import People
from topkin.telemetry.secrets import masked

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "a \"quoted\" 'title' \\",
    "\u202eright to left\u2066",
    "line\u2028break\u2029 \x00 end",
    "]]>&amp;<img src=x onerror=alert(1)>",
    'https://me:secret@shop.example/?key=abc"x',
    "日本語" * 60,
]


def shop(n_users: int, n_items: int, *, listed: int = 20, titles: list[str] | None = None) -> Source:
    """A shop whose user u bought items u and u + 1, and gets the ones after them."""
    rng = np.random.default_rng(0)
    numbers = range(n_items)
    titles = titles or [f"Item number {i} of a shop with titles of some length" for i in numbers]
    users = pa.array([f"user-{u:06d}" for u in range(n_users)])
    ids = [f"item-{i:06d}" for i in numbers]
    catalogue = pa.table(
        {
            "item_id": ids,
            "title": pa.array([titles[i % len(titles)] for i in numbers], pa.string()),
            "category": [f"category {i % 12}" for i in numbers],
            "price": pa.array([i / 3 for i in numbers], pa.float32()),
            "available": [i % 7 > 0 for i in numbers],
            "events": np.arange(n_items, 0, -1),
            "users": np.arange(n_items, 0, -1),
            "recent": np.ones(n_items, np.int64),
            "features": pa.array([{"image": f"https://shop.example/{i}.jpg", "tags": ["big", "red"]} for i in numbers]),
        }
    )  # fmt: skip
    bought = [[ids[u % n_items], ids[(u + 1) % n_items], ids[u % n_items]] for u in range(n_users)]
    times = [[datetime(2024, 1, 1), datetime(2024, 1, 2), datetime(2024, 1, 3)]] * n_users
    owners = np.repeat(np.arange(n_users), listed)
    near = np.repeat(np.arange(n_items), 10)
    neighbours = pa.table(
        {
            "item_id": pa.array(ids).take(pa.array(near)),
            "neighbour_id": pa.array(ids).take(pa.array((near + 1 + np.tile(np.arange(10), n_items)) % n_items)),
            "score": pa.array(rng.random(len(near)), pa.float32()),
        }
    )
    lists = pa.table(
        {
            "user_id": users.take(pa.array(owners)),
            "rank": np.tile(np.arange(1, listed + 1), n_users),
            "item_id": pa.array(ids).take(pa.array((owners + 2 + np.tile(np.arange(listed), n_users)) % n_items)),
            "score": pa.array(rng.random(len(owners)), pa.float32()),
            "source": ["model"] * len(owners),
            "times_bought": np.zeros(len(owners), np.int32),
            "because": [bought[u][:2] for u in owners],
        }
    )
    people = People(
        histories=pa.table({"user_id": users, "items": bought, "times": times, "segment": ["France"] * n_users}),
        listed=lists,
        heldout=pa.table({"user_id": users[:1], "item_id": [ids[2 % n_items]]}),
        near=pa.table(
            {"user_id": users, "neighbour_id": users.take(pa.array((np.arange(n_users) + 1) % n_users)),
             "score": pa.array(np.full(n_users, 0.5), pa.float32())}
        ),
    )  # fmt: skip
    vectors = rng.normal(size=(n_items, 6)).astype(np.float32)
    vectors[-1] = 0
    return Source(
        catalogue=catalogue,
        vectors=vectors.__getitem__,
        neighbours=lambda ids: neighbours.filter(pc.is_in(neighbours["item_id"], value_set=ids)),
        people=people,
    )


def test_lists_histories_and_neighbours_are_those_of_the_tables() -> None:
    source = shop(6, 9, listed=3)
    page = content(source)
    held = json.loads(page.script)
    items, users = held["items"], held["users"]
    assert (page.users, page.items) == (6, 9)
    assert items["id"] == source.catalogue["item_id"].to_pylist()
    assert [held["groups"][g] for g in items["group"]] == source.catalogue["category"].to_pylist()
    assert items["gone"] == [0, 7]
    assert items["more"][3] == ["image: https://shop.example/3.jpg", "tags: big red"]
    table = source.neighbours(source.catalogue["item_id"].combine_chunks())
    assert table is not None
    rows = table.to_pylist()
    flat = [
        (items["id"][i], items["id"][n], s)
        for i, row in enumerate(items["near"])
        for n, s in zip(*[iter(row)] * 2, strict=True)
    ]
    assert flat == [(r["item_id"], r["neighbour_id"], pytest.approx(r["score"], abs=5e-4)) for r in rows]
    assert users["history"][2] == [[2, 2, 19725], [3, 1, 19724]]  # the latest first, in days since 1970
    assert [[line[0] for line in row] for row in users["list"]] == [
        [(u + 2 + r) % 9 for r in range(3)] for u in range(6)
    ]
    assert [line[4] for line in users["list"][0]] == [1, 0, 0]
    assert users["later"] == [1, 0, 0, 0, 0, 0]
    assert users["list"][1][0][5] == [1, 2]
    assert users["near"] == [[(u + 1) % 6, 0.5] for u in range(6)]
    assert held["map"]["item"] == list(range(8))  # the last has no vector
    assert max(held["map"]["x"] + held["map"]["y"]) == 1000


def test_items_beyond_the_sample_are_named_and_no_more() -> None:
    source = shop(4, 30, listed=5)
    held = json.loads(content(source, items=10).script)
    ids = held["items"]["id"] + held["named"]["id"]
    assert len(held["items"]["id"]) == 10
    assert source.people is not None
    listed = source.people.listed["item_id"].to_pylist()
    assert [ids[line[0]] for row in held["users"]["list"] for line in row] == listed
    assert len(held["named"]["id"]) == len(held["named"]["title"]) > 0
    assert len(set(ids)) == len(ids)


def test_users_beyond_the_sample_are_neighbours_by_their_ids() -> None:
    held = json.loads(content(shop(30, 9), users=5).script)["users"]
    known = {u for row in held["near"] for u in row[::2]}
    assert all(u in range(5) or str(u).startswith("user-") for u in known)
    assert len(held["id"]) == 5


@pytest.mark.parametrize("people", [True, False])
def test_a_run_of_items_alone_holds_items_and_their_pictures(people: bool) -> None:
    source = shop(3, 5)
    alone = Source(
        catalogue=source.catalogue.select(["item_id", "title"]),
        vectors=source.vectors,
        neighbours=lambda ids: None,
        people=source.people if people else None,
        pictures=lambda ids: {ids[1].as_py(): "data:image/png;base64,AA=="},
    )
    held = json.loads(content(alone).script)
    assert ("users" in held) is people
    assert [bool(p) for p in held["items"]["picture"]].count(True) == 1
    assert "events" not in held["items"]
    assert held["items"]["near"] == [[]] * 5


@given(st.dictionaries(st.text(), st.lists(st.text() | st.integers(), max_size=4), max_size=4))
def test_json_in_a_page_means_the_same_and_has_nothing_that_html_reads(value: Any) -> None:
    script = script_json(value)
    assert json.loads(script) == value
    assert not set("<>&'\u2028\u2029") & set(script)


PIECES = (
    "s3://",
    "https://me:pw@",
    "?key=",
    "secret=",
    "\\",
    '"',
    "\\u0022",
    "<",
    "'",
    " ",
    "a",
    "@",
    "\n",
    ",",
    "&",
    "%3D",
)


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=4))
def test_json_in_a_page_stays_json_where_credentials_are_masked(texts: list[str]) -> None:
    hidden = json.loads(masked(script_json(texts)))
    assert len(hidden) == len(texts)
    assert all(type(text) is str for text in hidden)


@pytest.mark.parametrize("title", HOSTILE)
def test_hostile_titles_are_short_texts(title: str) -> None:
    held = json.loads(masked(content(shop(3, 4, titles=[title])).script))
    assert all(len(t) <= 120 for t in held["items"]["title"])
    assert not any("secret" in t or "\x00" in t for t in held["items"]["title"])


def test_two_thousand_users_and_five_thousand_items_fit_and_fewer_are_held_where_titles_are_long() -> None:
    page = content(shop(2500, 6000))
    assert (page.users, page.items) == (2000, 5000)
    assert len(page.script.encode()) < 6e6
    tight = content(shop(300, 400, titles=HOSTILE[-1:]), limit=100_000)
    assert len(tight.script.encode()) <= 100_000
    assert 0 < tight.users < 300
    assert 0 < tight.items < 400
