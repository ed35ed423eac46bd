"""Where an item stands, beside lists made by the same rules and an oracle that counts."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.encoding.blocks import Block
from topkin.recommend.explain import ExplainableScores
from topkin.recommend.lists import ItemContext, recommend
from topkin.recommend.placement import Placement, placement
from topkin.recommend.searchers import ExactSearcher

AS_OF, ITEMS, DIM = datetime(2024, 6, 1), 12, 3
KIND = pa.string()


def catalogue(available: list[bool]) -> pa.Table:
    rows = [
        {"item_id": f"i{n:02d}", "title": None, "category": "ab"[n % 2], "price": 1.0, "available": available[n],
         "events": n, "users": n, "recent": n, "first_sale": None, "last_sale": None}
        for n in range(ITEMS)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schemas.catalogue(KIND))


def history(bought: list[tuple[int, int]]) -> pa.Table:
    row = {
        "user_id": "u",
        "items": [f"i{item:02d}" for item, _ in bought],
        "times": [AS_OF - timedelta(days=age) for _, age in bought],
        "weights": [1.0] * len(bought),
        "segment": "x",
    }
    return pa.Table.from_pylist([row], schemas.histories(KIND, KIND))


def scores(seed: int) -> ExplainableScores:
    rng = np.random.default_rng(seed)
    vectors, in_vectors = (rng.normal(size=(ITEMS, DIM)).astype(np.float32) for _ in range(2))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    block = Block(name="svd", dim=DIM, weight=1, inverse_popularity=0, half_life_days=None, spread=(1.0,) * DIM)
    buyers = np.ones(ITEMS, np.int64)
    return ExplainableScores(vectors=vectors, in_vectors=in_vectors, buyers=buyers, blocks=[block], history_length=9)


def placed(
    settings: RecommendSettings, bought: list[tuple[int, int]], available: list[bool], seed: int, *, timed: bool = True
) -> tuple[pa.Table, list[Placement], np.ndarray]:
    """The user's list, the placement of every item, and the cosine of every item."""
    items, own, how = catalogue(available), history(bought), scores(seed)
    vector = np.zeros(DIM, np.float32)
    if bought:
        vector = np.random.default_rng(seed + 1).normal(size=DIM).astype(np.float32)
        vector /= np.linalg.norm(vector)
    allowed = np.asarray(items["available"], bool)
    context = ItemContext.of_catalogue(items, settings, allowed=allowed, encoder="e" * 64, vectors=how.vectors)
    searcher = ExactSearcher(how.vectors, how)
    lists = recommend(own, vector[None, :], context, searcher, settings, AS_OF).recommendations
    places = [
        placement(
            catalogue=items,
            settings=settings,
            as_of=AS_OF,
            history=own,
            listed=lists,
            vector=vector,
            scores=how,
            item=n,
            timed=timed,
        )
        for n in range(ITEMS)
    ]
    return lists, places, how.vectors @ vector


@settings_of_hypothesis(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, ITEMS - 1), st.integers(1, 60)), max_size=6),
    st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS),
    st.sampled_from(["exclude", "cooldown"]),
    st.integers(1, 14),
    st.integers(0, 99),
)
def test_an_item_is_placed_or_has_its_reasons(
    bought: list[tuple[int, int]], available: list[bool], rule: str, k: int, seed: int
) -> None:
    settings = RecommendSettings(k=k, bought=rule)  # type: ignore[arg-type]
    lists, places, cosines = placed(settings, bought, available, seed)
    ranks = {row["item_id"]: row["rank"] for row in lists.to_pylist()}
    last = {item: min(age for i, age in bought if i == item) for item, _ in bought}
    may = [available[n] and not (n in last and (rule == "exclude" or last[n] < 30)) for n in range(ITEMS)]
    for n, place in enumerate(places):
        assert place.rank == ranks.get(f"i{n:02d}")
        assert (place.rank is None) == bool(place.why_not)
        assert place.listed == len(lists)
        assert ("it is not available in the catalogue" in place.why_not) == (not available[n])
        of_rule = [why for why in place.why_not if why.startswith("the user bought it")]
        assert len(of_rule) == (n in last and (rule == "exclude" or last[n] < 30))
        if not bought:
            assert (place.cosine, place.place, place.candidates) == (None, None, None)
            continue
        assert place.candidates == sum(may)
        assert place.place == (1 + sum(may[m] and cosines[m] > cosines[n] for m in range(ITEMS)) if may[n] else None)
        if place.rank is not None:
            assert place.place == place.rank
        elif may[n]:
            assert place.why_not == (f"it is in place {place.place} of {sum(may)} by the encoder's score, and the list ends at {len(lists)}",)  # fmt: skip  # noqa: E501
        total = place.shares["share"].to_numpy().sum()
        assert total >= 0
        assert set(place.shares["item_id"].to_pylist()) <= {f"i{item:02d}" for item, _ in bought}


def test_lists_of_items_and_caps_and_what_sells_are_named(tmp_path: pytest.TempPathFactory) -> None:
    path = f"{tmp_path}/deny.parquet"
    pq.write_table(pa.table({"item_id": ["i03"]}), path)
    every = [True] * ITEMS
    settings = RecommendSettings(k=4, deny=path, max_per={"category": 2})
    _, places, _ = placed(settings, [(0, 5)], every, 1)
    assert places[3].why_not == (f"it is on the list recommend.deny = {path}",)
    assert places[0].why_not == (
        'the user bought it 1 time, last on 2024-05-27: by recommend.bought = "exclude" bought items are never listed',
    )
    _, undated, _ = placed(settings, [(0, 5)], every, 1, timed=False)
    assert undated[0].why_not[0].startswith("the user bought it 1 time: by recommend.bought")
    only = [why for place in places for why in place.why_not if "max_per" in why]
    assert only
    assert all(why.startswith("the list has ") for why in only)
    _, places, _ = placed(RecommendSettings(k=4), [], every, 1)
    assert [bool(place.why_not) for place in places] == [True] * 8 + [False] * 4
    assert places[0].why_not == (
        "the list is of what sells, for the user has 0 purchases, fewer than recommend.min_history = 1: its 4 items "
        "sell more",
    )
