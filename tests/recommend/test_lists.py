"""Whole lists against an oracle that looks at every user, item and rule by itself."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.config.sections import RecommendSettings
from topkin.encoding.blocks import Block
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.recommend.bought import BOUGHT, FEW_COOL, FEW_UNBOUGHT
from topkin.recommend.explain import ExplainableScores
from topkin.recommend.lists import FEW_ALLOWED, FEW_ITEMS, SHORTFALLS, ItemContext, recommend
from topkin.recommend.popular_fallback import SegmentPopularity, segment_counts
from topkin.recommend.repurchase.blend import Factors, Repurchase, personal_part
from topkin.recommend.repurchase.rates import RepeatHistory, RepurchaseRates, counts_of
from topkin.recommend.rules.eligibility import allowed_items, cooldown_days
from topkin.recommend.searchers import FEW_SOLD, FEW_VECTORS, ExactSearcher

AS_OF = datetime(2020, 6, 1)
DIM = 4
ID_TYPES = {
    "string": lambda n: f"item-{n:02d}",
    "int64": lambda n: 2**53 + 1 + n,  # lost in a float
    "binary": lambda n: b"\xff\x00%02d" % n,
}


def block(inverse_popularity, half_life):
    return Block(
        name="trained",
        dim=DIM,
        weight=1,
        inverse_popularity=inverse_popularity,
        half_life_days=half_life,
        spread=tuple([1.0] * DIM),
    )


@dataclass(frozen=True, kw_only=True)
class Shelf(ItemContext):
    """All that the lists of a shop are made from."""

    in_vectors: np.ndarray
    buyers: np.ndarray
    blocks: list[Block]
    history_length: int


def exact(shelf: Shelf) -> ExactSearcher:
    fields = ("vectors", "in_vectors", "buyers", "blocks", "history_length")
    return ExactSearcher(shelf.vectors, ExplainableScores(**{name: getattr(shelf, name) for name in fields}))


def shop_of(
    users, n_items, *, kind="string", available=None, deny=None, allow=None, no_vector=(), seed=0, days=30.0, by=None
):
    """Histories, user vectors and the shelf of a tiny shop; ``users`` are (segment, [(item, age in days)])."""
    rng = np.random.default_rng(seed)
    name = ID_TYPES[kind]
    t = pa.array([name(0)]).type
    ids = pa.array([name(n) for n in range(n_items)], t)
    histories = pa.table(
        {
            "user_id": pa.array([name(90 + u) if kind != "string" else f"u{u}" for u in range(len(users))], t),
            "items": pa.array([[name(i) for i, _ in h] for _, h in users], pa.list_(t)),
            "times": pa.array(
                [[AS_OF - timedelta(days=a) for _, a in h] for _, h in users], pa.list_(pa.timestamp("us"))
            ),
            "weights": pa.array([[1.0] * len(h) for _, h in users], pa.list_(pa.float32())),
            "segment": pa.array([s for s, _ in users], pa.string()),
        },
        schema=schemas.histories(t, t),
    )
    vectors = unit_rows(rng.integers(-2, 3, (n_items, DIM)).astype(np.float32))  # few values, so that scores tie
    vectors[list(no_vector)] = 0
    in_vectors = rng.integers(-1, 3, (n_items, DIM)).astype(np.float32)
    in_vectors[list(no_vector)] = 0
    history = Interactions.from_histories(histories, ids, AS_OF)
    events = np.bincount(history.items, minlength=n_items)
    recent = np.bincount(history.items[history.ages <= 7], minlength=n_items)
    catalogue = pa.table({"item_id": ids, "available": available or [True] * n_items})
    listed = {
        key: None if rows is None else pa.array([name(r) for r in rows], t)
        for key, rows in (("allow", allow), ("deny", deny))
    }
    shelf = Shelf(
        item_ids=ids,
        vectors=vectors,
        in_vectors=in_vectors,
        buyers=events,
        allowed=allowed_items(catalogue, **listed).mask,
        cooldown=cooldown_days(pa.array(["a", "b"] * n_items)[:n_items], days, by),
        popularity=SegmentPopularity(events, recent, segment_counts(history, histories, AS_OF, 7.0)),
        blocks=[block(0.5, None)],
        history_length=3,
        encoder="e" * 64,
    )
    pooled = history.distinct().latest(3)
    weights = np.maximum(events, 1).astype(np.float32)[pooled.items] ** np.float32(-0.5)
    sums = np.zeros((len(users), DIM), np.float32)
    np.add.at(sums, pooled.users, in_vectors[pooled.items] * weights[:, None])
    return histories, unit_rows(sums), shelf


def _rows(lists, user_id):
    return [r for r in lists.recommendations.to_pylist() if r["user_id"] == user_id]


age = st.sampled_from([0.5, 3.0, 12.0, 29.0, 31.0, 300.0])
history = st.lists(st.tuples(st.integers(0, 7), age), max_size=7)
some_users = st.lists(st.tuples(st.sampled_from([None, "x", "y"]), history), min_size=1, max_size=5)
some_items = st.none() | st.lists(st.integers(0, 7), max_size=8)


@settings(max_examples=200)
@given(
    some_users,
    st.lists(st.booleans(), min_size=8, max_size=8),
    some_items,
    some_items,
    st.sets(st.integers(0, 7), max_size=3),
    st.sampled_from(["exclude", "keep", "cooldown", "boost"]),
    st.integers(1, 10),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 99),
)
def test_any_rules_are_kept_and_any_short_list_is_explained(
    users, available, deny, allow, no_vector, bought, k, min_history, because, seed
):
    config = RecommendSettings(
        k=k, bought=bought, min_history=min_history, because=because, cooldown_by_category={"b": 10}
    )
    histories, vectors, shelf = shop_of(
        users, 8, available=available, deny=deny, allow=allow, no_vector=no_vector, seed=seed, by={"b": 10}
    )
    search = exact(shelf)
    lists = recommend(histories, vectors, shelf, search, config, AS_OF)
    lists.recommendations.validate(full=True)
    shorts = {r["user_id"]: r for r in lists.short_lists.to_pylist()}
    used = 0
    for u, (_, purchases) in enumerate(users):
        latest = {i: min(a for j, a in purchases if j == i) for i, _ in purchases}
        may = [
            i
            for i in range(8)
            if available[i]
            and i not in (deny or [])
            and (allow is None or i in allow)
            and (
                bought in ("keep", "boost")
                or i not in latest
                or (bought == "cooldown" and latest[i] >= (30, 10)[i % 2])
            )
        ]
        of_model = len(purchases) >= min_history and len(purchases) > 0 and vectors[u].any()
        if of_model:
            may = [i for i in may if shelf.vectors[i].any()]
            score = {
                i: np.float32(np.dot(vectors[u].astype(np.float64), shelf.vectors[i].astype(np.float64))) for i in may
            }
            expected = sorted(may, key=lambda i: (-score[i], i))[:k]
        rows = _rows(lists, f"u{u}")
        got = [int(r["item_id"][-2:]) for r in rows]
        assert [r["rank"] for r in rows] == list(range(1, len(rows) + 1))
        assert set(got) <= set(may)
        assert len(set(got)) == len(got)
        if of_model:
            assert got == expected
            assert {r["source"] for r in rows} <= {"model"}
            assert [r["score"] for r in rows] == [float(score[i]) for i in expected]
        else:
            sold = {i for i in may if shelf.popularity.events[i]}
            assert set(got) == sold if len(got) < k else set(got) <= sold
            assert "model" not in {r["source"] for r in rows}
        for r in rows:
            moments = {a for j, a in purchases if j == int(r["item_id"][-2:])}
            assert r["times_bought"] == len(moments)
            assert len(r["because"]) <= because
            assert set(r["because"]) <= {f"item-{i:02d}" for i in latest}
        assert (f"u{u}" in shorts) == (len(rows) < k)
        if len(rows) < k:
            used += 1
            assert (shorts[f"u{u}"]["wanted"], shorts[f"u{u}"]["got"]) == (k, len(rows))
            assert shorts[f"u{u}"]["reason"] in SHORTFALLS
    assert sum(lists.counts["source"].values()) == len(lists.recommendations)
    assert sum(lists.counts["reason"].values()) == used == len(lists.short_lists)


BUYER = [(None, [(0, 1.0), (1, 40.0)])]


@pytest.mark.parametrize(
    ("n_items", "options", "config", "reason"),
    [
        (3, {}, {"k": 4}, FEW_ITEMS),
        (6, {"available": [True, True, False, False, False, False]}, {"k": 4}, FEW_ALLOWED),
        (6, {"allow": [1, 2]}, {"k": 4}, FEW_ALLOWED),
        (6, {"deny": [1, 2, 3, 4]}, {"k": 4}, FEW_ALLOWED),
        (6, {"no_vector": [3, 4, 5]}, {"k": 4}, FEW_VECTORS),
        (6, {}, {"k": 5}, FEW_UNBOUGHT),
        (6, {}, {"k": 6, "bought": "cooldown"}, FEW_COOL),
        (6, {}, {"k": 4, "min_history": 3}, FEW_SOLD),
    ],
)
def test_each_short_list_gets_the_first_rule_that_left_too_few(n_items, options, config, reason):
    histories, vectors, shelf = shop_of(BUYER, n_items, seed=3, **options)
    lists = recommend(histories, vectors, shelf, exact(shelf), RecommendSettings(**config), AS_OF)
    assert lists.short_lists["reason"].to_pylist() == [reason]


def test_users_without_a_usable_history_get_what_sells_in_their_segment():
    users = [("x", [(0, 1.0), (1, 1.0)]), ("x", []), ("y", []), (None, [(2, 90.0)]), ("x", [(5, 100.0)])]
    histories, vectors, shelf = shop_of(users, 6, no_vector=[5])
    vectors[4] = 0
    config = RecommendSettings(k=4, min_history=1)
    lists = recommend(histories, vectors, shelf, exact(shelf), config, AS_OF)
    of = {
        u: [(r["item_id"][-1], r["source"], r["score"], r["because"]) for r in _rows(lists, u)]
        for u in ("u1", "u2", "u4")
    }
    segment, recent, ever = schemas.SOURCES[1:]
    assert of["u1"] == [("0", segment, 1, []), ("1", segment, 1, []), ("2", ever, 1, []), ("5", ever, 1, [])]
    assert [s for _, s, *_ in of["u2"]] == [recent, recent, ever, ever]
    assert [i for i, *_ in of["u4"]] == ["0", "1", "2"]  # not 5, which the user bought
    assert lists.counts["fallback"] == {
        "no purchases": 2,
        "fewer purchases than recommend.min_history": 0,
        "no vector: none was brought, or the encoder knows no item bought": 1,
    }


def test_reasons_are_the_pooled_items_of_largest_share():
    users = [(None, [(4, 50.0), (3, 40.0), (2, 3.0), (1, 2.0), (0, 1.0)])]  # the vector pools the three latest
    histories, vectors, shelf = shop_of(users, 20, seed=5)
    lists = recommend(histories, vectors, shelf, exact(shelf), RecommendSettings(k=15, because=2), AS_OF)
    unpooled = 0
    for row in _rows(lists, "u0"):
        j = int(row["item_id"][-2:])
        shares = {i: float(shelf.in_vectors[i] @ shelf.vectors[j]) for i in range(5)}
        named = [i for i in sorted(range(3), key=lambda i: (-shares[i], i)) if shares[i] > 1e-6][:2]
        assert row["because"] == [f"item-{i:02d}" for i in named]
        unpooled += max(shares[3], shares[4]) > max(shares[i] for i in range(3)) > 1e-6
    assert unpooled  # some item would have been explained by what the vector does not hold


@pytest.mark.parametrize("kind", sorted(ID_TYPES))
def test_ids_of_any_type_survive(kind):
    users = [(None, [(0, 1.0)]), (None, [(3, 1.0), (4, 2.0)]), (None, [])]
    histories, vectors, shelf = shop_of(users, 6, kind=kind)
    lists = recommend(histories, vectors, shelf, exact(shelf), RecommendSettings(k=3), AS_OF)
    table = lists.recommendations
    t = histories["user_id"].type
    assert table.schema.equals(schemas.recommendations(t, t))
    assert schemas.encoder_of(table.schema) == "e" * 64
    assert table["user_id"].unique().to_pylist() == histories["user_id"].to_pylist()
    assert set(table["item_id"].to_pylist()) <= set(shelf.item_ids.to_pylist())
    assert {i for r in table["because"].to_pylist() for i in r} <= set(shelf.item_ids.to_pylist())


def test_vectors_of_other_users_are_refused():
    histories, vectors, shelf = shop_of(BUYER, 6)
    with pytest.raises(ValueError, match=r"as many as histories \(1\), got 2"):
        recommend(histories, np.repeat(vectors, 2, axis=0), shelf, exact(shelf), RecommendSettings(), AS_OF)


@pytest.mark.parametrize(("inverse_popularity", "half_life"), [(0.0, None), (2.0, None), (0.0, 1.0), (2.0, 1.0)])
def test_because_names_the_largest_parts_of_the_score_by_the_encoders_own_weights(inverse_popularity, half_life):
    users = [("x", [(0, 9), (1, 6), (2, 1)]), ("x", [(1, 20), (1, 8)]), ("y", [(2, 5), (1, 2), (0, 1)])]
    histories, _, shelf = shop_of(users, 6, seed=3)
    shelf = replace(shelf, blocks=[block(inverse_popularity, half_life)], history_length=2)
    vectors, parts = [], []
    for _, history in users:
        latest = dict(history)  # in time order: the last one stays
        kept = sorted(latest, key=lambda i: (-latest[i], i))[-2:]
        weight = {
            i: max(shelf.buyers[i], 1.0) ** -inverse_popularity * 2 ** (-latest[i] / (half_life or np.inf))
            for i in kept
        }
        total = sum(weight[i] * shelf.in_vectors[i].astype(np.float64) for i in kept)
        vectors.append(total / np.linalg.norm(total))
        parts.append({i: weight[i] * shelf.in_vectors[i].astype(np.float64) / np.linalg.norm(total) for i in kept})
    result = recommend(
        histories,
        np.array(vectors, np.float32),
        shelf,
        exact(shelf),
        RecommendSettings(k=6, bought="keep", because=2),
        AS_OF,
    )
    rows = result.recommendations.to_pylist()
    assert len(rows) == 18
    for row in rows:
        mine, item = parts[int(row["user_id"][1:])], shelf.item_ids.to_pylist().index(row["item_id"])
        shares = {i: float(part @ shelf.vectors[item]) for i, part in mine.items()}
        assert sum(shares.values()) == pytest.approx(row["score"], abs=1e-6)
        best = sorted((i for i in shares if shares[i] > 1e-9), key=lambda i: (-round(shares[i], 6), i))
        assert row["because"] == [f"item-{i:02d}" for i in best]


@pytest.mark.parametrize("k", [2_000_000_000, 10**12])
def test_a_k_beyond_the_catalogue_costs_no_more_than_the_catalogue(k):
    histories, vectors, shelf = shop_of(BUYER, 4, seed=3)
    config = RecommendSettings(k=k, bought="keep")
    lists = recommend(histories, vectors, shelf, exact(shelf), config, AS_OF)
    assert sorted(lists.recommendations["item_id"].to_pylist()) == shelf.item_ids.to_pylist()
    [short] = lists.short_lists.to_pylist()
    assert (short["wanted"], short["got"], short["reason"]) == (min(k, 2**31 - 1), 4, FEW_ITEMS)


@pytest.mark.parametrize("policy", ["keep", "boost"])
def test_own_items_rank_by_their_personal_part_and_are_their_own_reason(policy):
    users = [
        ("x", [(0, 61.0), (0, 31.0), (1, 30.0), (2, 9.0), (0, 1.0)]),
        (None, [(3, 40.0), (4, 20.0), (3, 20.0)]),
        ("y", []),
        (None, [(5, 3.0), (6, 2.0)]),
    ]
    histories, vectors, shelf = shop_of(users, 12, deny=[2], no_vector=[6], seed=4)
    history = Interactions.from_histories(histories, shelf.item_ids, AS_OF)
    items = RepurchaseRates.of(counts_of(history), 12)
    shelf = replace(shelf, repurchase=Repurchase(BOUGHT[policy].weights, items))
    config = RecommendSettings(k=6, bought=policy, because=2)
    lists = recommend(histories, vectors, shelf, exact(shelf), config, AS_OF)
    plain = recommend(histories, vectors, replace(shelf, repurchase=None), exact(shelf), replace_k(config, 12), AS_OF)
    own = RepeatHistory.of(history)
    part = personal_part(Factors.of(own, items), BOUGHT[policy].weights)
    for u in (0, 1, 3):
        of_model = {int(r["item_id"][-2:]): r for r in _rows(plain, f"u{u}")}
        parts = {
            int(i): p for i, p in zip(own.items[own.users == u], part[own.users == u], strict=True) if i in of_model
        }
        best = max(r["score"] for r in of_model.values())
        value = {i: r["score"] / abs(best) for i, r in of_model.items()}
        for i, p in parts.items():
            value[i] += BOUGHT[policy].weights.personal * p / max(parts.values())
        rows = _rows(lists, f"u{u}")
        assert [int(r["item_id"][-2:]) for r in rows] == sorted(value, key=lambda i: (-value[i], i))[:6]
        assert [r["rank"] for r in rows] == list(range(1, 7))
        for r in rows:
            alike = of_model[int(r["item_id"][-2:])]
            assert (r["score"], r["source"], r["times_bought"]) == (alike["score"], "model", alike["times_bought"])
            assert r["because"] == ([r["item_id"]] if r["times_bought"] else alike["because"])
        assert any(r["times_bought"] for r in rows)
        assert not all(r["times_bought"] for r in rows)
    assert _rows(lists, "u2") == [r for r in _rows(plain, "u2") if r["rank"] <= 6]


def replace_k(config: RecommendSettings, k: int) -> RecommendSettings:
    return config.model_copy(update={"k": k})
