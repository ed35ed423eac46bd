"""The second stage's lists against loops over every item, and what validation chooses against planted rankings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.baselines.fitted import fit_baselines
from topkin.baselines.registry import SOURCES, SOURCES_BY_TIME
from topkin.config.sections import RecommendSettings, Settings
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.recommend.repurchase.blend import Factors, Repurchase, Weights, personal_part
from topkin.recommend.repurchase.rates import RepeatHistory, RepurchaseRates, counts_of
from topkin.recommend.second import candidates as module
from topkin.recommend.second import tuning
from topkin.recommend.second.candidates import ENCODER, Candidates
from topkin.recommend.second.chosen import MOST_PURCHASES, blend_of, sources_trained, sources_tried
from topkin.recommend.second.stage import PERSONAL, SecondStage
from topkin.recommend.second.tuning import Case, choose
from topkin.search.topk import top_k

N, USERS, DIM = 12, 9, 4
NAMES = ["popularity", "item_knn", "item_knn_position"]


def shop(seed: int) -> tuple[Interactions, np.ndarray, np.ndarray]:
    """Purchases, users' and items' vectors; the last item has none, and nobody bought the one before it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, USERS)
    items = rng.integers(0, N - 2, lengths.sum()).astype(np.int32)
    ages = np.concatenate([np.sort(rng.integers(0, 5, n))[::-1] for n in lengths]).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    history = Interactions(indptr, items, ages, np.ones(len(items), np.float32), N)
    vectors = unit_rows(rng.normal(size=(N, DIM)).astype(np.float32))
    vectors[-1] = 0
    return history, unit_rows(rng.normal(size=(USERS, DIM)).astype(np.float32)), vectors


def by_loops(user, stage, history, queries, vectors, exclude, allowed, depth, k, also=frozenset()):
    """(item, final, name of the largest part) of one user, best first; also: further candidates."""
    may = [i for i in range(N) if allowed[i] and i not in exclude and vectors[i].any()]
    scores = {ENCODER: queries[user].astype(np.float64) @ vectors.T.astype(np.float64)}
    scores |= {name: source.scores(history.take(np.array([user])))[0] for name, source in stage.sources.items()}
    chosen = set(sorted(may, key=lambda i: (-np.float32(scores[ENCODER][i]), i))[:depth])
    for name in stage.sources:
        known = [i for i in range(N) if allowed[i] and i not in exclude and scores[name][i] > 0]
        chosen |= set(sorted(known, key=lambda i: (-scores[name][i], i))[:depth]) & set(may)
    chosen |= also & set(may)
    parts = {}
    for item in chosen:
        scale = {name: max(abs(of[i]) for i in chosen) for name, of in scores.items()}
        parts[item] = {n: stage.weights[n] * (of[item] / scale[n] if scale[n] else 0) for n, of in scores.items()}
    total = sum(stage.weights[name] for name in scores)
    rows = [(i, sum(p.values()) / total, max(p, key=p.get)) for i, p in parts.items()]
    return sorted(rows, key=lambda row: -row[1])[:k]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.0, 0.3, 2.0]))
def test_lists_are_those_of_loops_over_every_item(seed, depth, k, weight):
    history, queries, vectors = shop(seed)
    weights = {ENCODER: 1.0, "popularity": 0.5, "item_knn": weight, "item_knn_position": 0.25}
    stage = SecondStage(weights, fit_baselines(history, NAMES, 5))
    allowed = np.random.default_rng(seed).random(N) < 0.8
    exclude = history.distinct().pattern
    exclude = Csr.of_pairs(exclude.rows, exclude.indices, USERS, N)
    ids, _ = top_k(queries, vectors, depth, exclude=exclude, allowed=allowed & vectors.any(axis=1))
    lists = stage.ranked(ids, k, history=history, exclude=exclude, queries=queries, vectors=vectors, allowed=allowed)
    for user in range(USERS):
        bought = set(exclude.take(np.array([user])).indices.tolist())
        expected = by_loops(user, stage, history, queries, vectors, bought, allowed, depth, k)
        listed = lists.ids[user][lists.ids[user] >= 0]
        assert len(listed) == len(expected)
        np.testing.assert_allclose(
            lists.final[user][: len(expected)], [row[1] for row in expected], rtol=1e-4, atol=1e-6
        )
        values = {
            item: value
            for item, value, _ in by_loops(user, stage, history, queries, vectors, bought, allowed, depth, N)
        }
        np.testing.assert_allclose(
            [values[i] for i in listed.tolist()], [row[1] for row in expected], rtol=1e-4, atol=1e-6
        )
        assert not set(listed.tolist()) & bought
        cosines = queries[user].astype(np.float64) @ vectors[listed].T.astype(np.float64)
        np.testing.assert_array_equal(lists.cosines[user][: len(listed)], cosines.astype(np.float32))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.0, 0.4, 3.0]))
def test_bought_items_rank_beside_new_ones_as_loops_over_every_item_say(seed, depth, k, personal):
    history, queries, vectors = shop(seed)
    stage = SecondStage({ENCODER: 1.0, "popularity": 0.5, "item_knn": 0.7}, fit_baselines(history, NAMES[:2], 5))
    allowed = np.random.default_rng(seed).random(N) < 0.8
    rates = RepurchaseRates.of(counts_of(history), N)
    repurchase = Repurchase(Weights(personal=personal, fade=0.3), rates)
    ids, _ = top_k(queries, vectors, depth, allowed=allowed & vectors.any(axis=1))
    nothing = Csr.empty(USERS)
    lists = stage.ranked(
        ids, k, history=history, exclude=nothing, queries=queries, vectors=vectors, allowed=allowed,
        repurchase=repurchase,
    )  # fmt: skip
    own = RepeatHistory.of(history)
    parts = personal_part(Factors.of(own, rates), repurchase.weights)
    for user in range(USERS):
        mine = {int(i): p for i, p, u in zip(own.items, parts, own.users, strict=True) if u == user}
        new = by_loops(user, stage, history, queries, vectors, set(), allowed, depth, N, also=set(mine))
        value = {item: final / (abs(max(f for _, f, _ in new)) or 1.0) for item, final, _ in new}
        mine = {item: part for item, part in mine.items() if item in value}
        raised = {item: personal * part / max(mine.values()) for item, part in mine.items()}
        expected = sorted((value[i] + raised.get(i, 0.0) for i in value), reverse=True)[:k]
        listed = lists.ids[user][lists.ids[user] >= 0].tolist()
        assert len(listed) == len(expected)
        np.testing.assert_allclose(lists.final[user][: len(listed)], expected, rtol=1e-4, atol=1e-5)
        got = [value[i] + raised.get(i, 0.0) for i in listed]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
        for place, item in enumerate(listed):
            if abs(raised.get(item, 0.0) - value[item]) > 1e-4:
                by_own = stage.deciders[lists.decided[user, place]] == PERSONAL
                assert by_own == (raised.get(item, 0.0) > value[item])


@pytest.mark.parametrize("kept", [False, True])
def test_lists_do_not_depend_on_who_is_asked_together(monkeypatch, kept):
    history, queries, vectors = shop(1)
    stage = SecondStage({ENCODER: 1.0, "item_knn": 0.8}, fit_baselines(history, ["item_knn"], 5))
    allowed, exclude = np.ones(N, bool), Csr.empty(USERS) if kept else history.distinct().pattern
    repurchase = Repurchase(Weights(fade=0.2), RepurchaseRates.of(counts_of(history), N)) if kept else None
    ids, _ = top_k(queries, vectors, 4, exclude=exclude, allowed=vectors.any(axis=1))

    def lists(users, repurchase=repurchase):
        return stage.ranked(
            ids[users], 3, history=history.take(users), exclude=exclude.take(users), queries=queries[users],
            vectors=vectors, allowed=allowed, repurchase=repurchase,
        )  # fmt: skip

    whole = lists(np.arange(USERS))
    monkeypatch.setattr(module, "BUDGET_BYTES", 1)  # a user at a time
    for of_all, alone in zip(whole, lists(np.arange(USERS)), strict=True):
        np.testing.assert_array_equal(of_all, alone)
    for of_all, some in zip(whole, lists(np.array([7, 2])), strict=True):
        np.testing.assert_array_equal(of_all[[7, 2]], some)


def test_reasons_are_those_of_what_decided():
    history, queries, vectors = shop(3)
    stage = SecondStage({ENCODER: 1e-3, "popularity": 1e-4, "item_knn": 9.0}, fit_baselines(history, NAMES[:2], 5))
    exclude, allowed = history.distinct().pattern, np.ones(N, bool)
    ids, _ = top_k(queries, vectors, 6, exclude=exclude, allowed=vectors.any(axis=1))
    lists = stage.ranked(ids, 4, history=history, exclude=exclude, queries=queries, vectors=vectors, allowed=allowed)
    encoders = np.full((USERS, 4, 2), 11, np.int32)
    because = stage.explain(encoders, lists, history)
    by_knn, by_encoder = (lists.decided == stage.rankers.index(name) for name in ("item_knn", ENCODER))
    assert by_knn.any()
    assert by_encoder.any()
    assert (because[by_encoder] == 11).all()
    assert (because[lists.decided == stage.rankers.index("popularity")] == -1).all()
    users, places = np.nonzero(by_knn)
    for user, place in zip(users, places, strict=True):
        named = because[user, place][because[user, place] >= 0]
        assert len(named)
        assert set(named.tolist()) <= set(history.take(np.array([user])).items.tolist())
        one = np.array([user])
        expected = stage.sources["item_knn"].explain(history.take(one), lists.ids[one][:, [place]], 2)[0, 0]
        np.testing.assert_array_equal(because[user, place], expected)


def planted(users: int, of_source: float, seed: int = 0, scale: float = 1.0) -> Case:
    """Candidates whose true item the encoder ranks by chance, the first source too, and the second as told."""
    rng = np.random.default_rng(seed)
    width = 50
    items = np.tile(np.arange(width, dtype=np.int32), (users, 1))
    true = rng.integers(0, width, users)
    features = rng.random((3, users, width)).astype(np.float32)
    features[2, np.arange(users), true] += np.float32(of_source)
    features[2] *= np.float32(scale)
    truth = Csr(np.arange(users + 1, dtype=np.int64), true.astype(np.int32))
    return Case(Candidates(items, features[0], features), truth)


def test_a_source_that_knows_more_is_taken_and_one_that_knows_nothing_is_not():
    chosen = choose([planted(200, 1.0), planted(300, 1.0, seed=1)], ["noise", "telling"])
    assert set(chosen.weights) == {ENCODER, "telling"}
    assert chosen.weights["telling"] > 0
    assert (chosen.users, chosen.periods, chosen.reason) == (500, 2, "")
    assert chosen.interval[0] > 0
    assert chosen.values["second_stage"] > chosen.values[ENCODER]
    assert chosen.values["telling"] > 2 * chosen.values["noise"]


def test_the_grid_goes_on_where_its_highest_weight_is_best():
    chosen = choose([planted(400, 1.0, scale=0.02)], ["noise", "telling"])
    assert chosen.weights["telling"] > tuning.GRID[-1]


@pytest.mark.parametrize("users", [30, 500])
def test_the_encoder_ranks_alone_where_nothing_says_otherwise(users):
    chosen = choose([planted(users, 0.0)], ["noise", "telling"])
    assert not chosen.weights
    assert chosen.reason


def test_parts_of_other_widths_are_joined():
    wide, narrow = planted(3, 1.0).some, planted(2, 1.0).some
    narrow = Candidates(narrow.items[:, :7], narrow.cosines[:, :7], narrow.features[:, :, :7])
    both = Candidates.joined([wide, narrow])
    assert both.items.shape == (5, 50)
    assert (both.items[3:, 7:] == -1).all()
    np.testing.assert_array_equal(both.take(np.array([4])).features[:, 0, :7], narrow.features[:, 1])


def test_without_being_asked_for_sources_are_tried_on_logs_of_a_size_alone():
    default, asked = RecommendSettings(), RecommendSettings(sources=("item_knn",))
    assert sources_tried(default, MOST_PURCHASES, timed=False) == SOURCES
    assert sources_tried(default, MOST_PURCHASES, timed=True) == SOURCES_BY_TIME
    assert set(SOURCES_BY_TIME) < set(SOURCES)
    for timed in (False, True):
        assert sources_tried(RecommendSettings(sources=SOURCES), 10, timed=timed) == SOURCES
        assert sources_tried(default, MOST_PURCHASES + 1, timed=timed) == ()
        assert sources_tried(asked, MOST_PURCHASES + 1, timed=timed) == ("item_knn",)
        assert sources_tried(RecommendSettings(sources=("item_knn",), model="popularity"), 10, timed=timed) == ()


def test_sources_are_weighed_where_any_list_is_by_the_encoder():
    def trained(main: dict, *lists: dict, purchases: int = 10) -> tuple[str, ...]:
        named = {f"l{n}": values for n, values in enumerate(lists)}
        sections = {"purchases": {"path": "p"}, "recommend": main, "lists": named}
        return sources_trained(Settings.model_validate(sections), purchases)

    by_sales, asked = {"model": "popularity"}, {"model": "popularity", "sources": ("item_knn",)}
    assert trained({}) == trained(by_sales, {"model": "encoder"}) == SOURCES_BY_TIME
    assert trained(asked, by_sales, {"model": "encoder"}) == ("item_knn",)
    assert trained(by_sales) == trained({"sources": ()}, {}) == trained(by_sales, {"model": "encoder", "sources": ()})
    assert trained(by_sales) == ()
    assert trained(by_sales, {"model": "encoder"}, purchases=MOST_PURCHASES + 1) == ()


@pytest.mark.parametrize(
    "changes",
    [{"model": "item_knn", "personal": 0.0}, {"sources": ("popularity",)}, {"sources": ()}],
)
@pytest.mark.parametrize("bought", ["exclude", "keep"])
def test_lists_go_without_a_second_stage(bought, changes):
    record = {"weights": {ENCODER: 1.0, "item_knn_recent": 0.4}}
    asked = {"sources": SOURCES, "bought": bought}
    assert blend_of(RecommendSettings(**asked), record) == record["weights"]
    assert blend_of(RecommendSettings(**{**asked, **changes}), record) is None
    assert blend_of(RecommendSettings(**asked), {"weights": {}}) is None
