"""What lists have beside their own columns: shares that add up, what ordered them, columns of the items."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.recommend.test_lists import AS_OF, exact, shop_of
from topkin.config.sections import RecommendSettings, Settings
from topkin.interactions import Interactions
from topkin.recommend.columns import ItemColumns
from topkin.recommend.lists import recommend
from topkin.recommend.repurchase.blend import Repurchase, Weights
from topkin.recommend.repurchase.rates import RepurchaseRates, counts_of

USERS = [
    ("x", [(0, 9), (1, 6), (2, 1)]),
    ("x", [(1, 20), (1, 8)]),
    ("y", [(2, 5), (1, 2), (0, 1), (7, 0.5)]),
    ("y", []),
]
CONTENT = pa.table(
    {
        "title": [f"thing {n}" if n != 3 else None for n in range(12)],
        "features": [{"image": f"https://shop.example/{n}.jpg"} for n in range(12)],
    }
)


def _lists(columns, shelf, histories, vectors, **rules):
    settings = RecommendSettings(k=12, columns=columns, **rules)
    return recommend(histories, vectors, shelf, exact(shelf), settings, AS_OF).recommendations


@pytest.mark.parametrize("bought", ["exclude", "keep"])
def test_shares_of_all_purchases_add_up_to_the_score(bought):
    histories, vectors, shelf = shop_of(USERS, 12, seed=3)
    table = _lists(("because_shares",), shelf, histories, vectors, bought=bought, because=20)
    plain = _lists((), shelf, histories, vectors, bought=bought, because=20)
    assert table.drop_columns(["because_shares"]).equals(plain)  # nothing else is another
    model = [row for row in table.to_pylist() if row["source"] == "model"]
    assert model
    history = Interactions.from_histories(histories, shelf.item_ids, AS_OF)
    searcher, whole = exact(shelf)._scores, 0
    for row in model:
        assert len(row["because_shares"]) == len(row["because"])
        named = [share for share in row["because_shares"] if share is not None]
        assert named == sorted(named, reverse=True)
        user, item = histories["user_id"].index(row["user_id"]).as_py(), shelf.item_ids.index(row["item_id"]).as_py()
        bought_ones = np.arange(12, dtype=np.int32)[None, None, :]
        every = searcher.shares_of(history.take(np.array([user])), np.array([[item]], np.int32), bought_ones)
        assert np.nansum(every) == pytest.approx(row["score"], abs=1e-6)
        whole += np.nansum(every < 0) == 0 and sum(named) == pytest.approx(row["score"], abs=1e-6)
        if row["times_bought"] == 0:
            first = searcher.shares(history.take(np.array([user])), np.array([[item]], np.int32), 20)[1][0, 0]
            np.testing.assert_allclose(named, first[: len(named)], rtol=1e-6)
    assert whole  # some score is named in full
    popular = [row for row in table.to_pylist() if row["source"] != "model"]
    assert popular
    assert all(row["because_shares"] == [] for row in popular)


@pytest.mark.parametrize("personal", [None, 0.4, 5.0])
def test_final_is_what_orders_the_lists(personal):
    histories, vectors, shelf = shop_of(USERS, 12, seed=3)
    history = Interactions.from_histories(histories, shelf.item_ids, AS_OF)
    if personal is not None:
        rates = RepurchaseRates.of(counts_of(history), 12, pa.array(["a"] * 12))
        shelf = replace(shelf, repurchase=Repurchase(Weights(personal=personal), rates))
    table = _lists(("final",), shelf, histories, vectors, bought="exclude" if personal is None else "keep")
    falls = 0
    for user in histories["user_id"].to_pylist():
        rows = [row for row in table.to_pylist() if row["user_id"] == user]
        finals = [row["final"] for row in rows]
        if rows[0]["source"] != "model":
            assert set(finals) == {None}
            continue
        assert finals == sorted(finals, reverse=True)
        if personal is None:
            assert finals == [row["score"] for row in rows]
            continue
        best = max(row["score"] for row in rows)  # all items are listed
        own = [row for row in rows if row["times_bought"]]
        assert max(row["final"] - row["score"] / best for row in own) == pytest.approx(personal, rel=1e-5)
        for row in rows:
            if not row["times_bought"]:
                assert row["final"] == pytest.approx(row["score"] / best, rel=1e-5)
        falls += [row["score"] for row in rows] != sorted((row["score"] for row in rows), reverse=True)
    assert falls or not personal


def test_final_of_a_short_list_is_that_of_the_whole_one():
    histories, vectors, shelf = shop_of(USERS, 12, seed=3)
    history = Interactions.from_histories(histories, shelf.item_ids, AS_OF)
    rates = RepurchaseRates.of(counts_of(history), 12, pa.array(["a"] * 12))
    shelf = replace(shelf, repurchase=Repurchase(Weights(personal=50.0), rates))
    whole = _lists(("final",), shelf, histories, vectors, bought="keep")
    settings = RecommendSettings(k=2, columns=("final",), bought="keep")  # the model's best item is not among these
    short = recommend(histories, vectors, shelf, exact(shelf), settings, AS_OF).recommendations
    kept = [row for row in whole.to_pylist() if row["rank"] <= 2]
    assert [(r["item_id"], r["final"]) for r in short.to_pylist()] == [(r["item_id"], r["final"]) for r in kept]


def test_columns_of_items_come_last_in_the_order_asked():
    histories, vectors, shelf = shop_of(USERS, 12, seed=3)
    catalogue = CONTENT.append_column("item_id", shelf.item_ids)
    columns = ("image", "final", "title")
    shelf = replace(shelf, columns=ItemColumns.of(catalogue, columns))
    table = _lists(columns, shelf, histories, vectors)
    assert table.column_names[-3:] == ["final", "image", "title"]
    assert table.schema.metadata
    for row in table.to_pylist():
        n = int(row["item_id"][-2:])
        assert row["title"] == (f"thing {n}" if n != 3 else None)
        assert row["image"] == f"https://shop.example/{n}.jpg"
    assert ItemColumns.of(catalogue, ("final",)) is None


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ({"recommend": {"columns": ["title"]}}, "recommend.columns must name a column of items that is kept, final"),
        ({"items": {"path": "i", "title": "name"}, "recommend": {"columns": ["titel"]}}, "did you mean 'title'"),
        (
            {"items": {"path": "i", "features": {"score": "s"}}, "recommend": {"columns": ["score"]}},
            "has not, got 'score'",
        ),
        ({"items": {"path": "i", "title": "n"}, "similar": {"columns": ["final"]}}, "has not, got 'final'"),
        ({"items": {"path": "i", "title": "n"}, "similar": {"columns": ["title", "title"]}}, "twice"),
        ({"recommend": {"columns": ["because_shares"], "because": 0}}, "because = 0"),
        ({"recommend": {"columns": ["because_shares"], "model": "item_knn"}}, "item_knn"),
    ],
)
def test_columns_that_are_not_there_are_refused(sections, match):
    with pytest.raises(ValueError, match=match):
        Settings(purchases={"path": "p"}, **sections)
