"""The personal part against loops over every purchase, and the lists against a ranking of every item."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topkin.config.sections import RecommendSettings
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.linalg.csr import Csr
from topkin.metrics.ranking import ranking_metrics
from topkin.recommend.bought import BOUGHT, weights_of
from topkin.recommend.repurchase.blend import Factors, Repurchase, Weights, hazard, own_scores, personal_part
from topkin.recommend.repurchase.rates import (
    RECENT_DAYS,
    TRUST,
    RepeatHistory,
    RepurchaseRates,
    counts_of,
    merge_counts,
)
from topkin.recommend.repurchase.tuning import RepurchaseCase, choose, chosen
from topkin.search.topk import top_k

N = 7
ages = st.sampled_from([0.0, 0.25, 3.0, 13.0, 14.0, 15.0, 40.0, 300.0])
users_of_a_shop = st.lists(st.lists(st.tuples(st.integers(0, N - 1), ages), max_size=9), max_size=6)
powers = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0])
some_weights = st.builds(
    Weights, personal=st.sampled_from([0.0, 0.3, 1.5, 9.0]), repeat=powers, recent=powers, due=powers, fade=powers
)


def history_of(purchases: list[list[tuple[int, float]]], n_items: int = N) -> Interactions:
    flat = [p for user in purchases for p in sorted(user, key=lambda p: (-p[1], p[0]))]
    indptr = np.cumsum([0, *(len(user) for user in purchases)]).astype(np.int64)
    items = np.array([i for i, _ in flat], np.int32)
    return Interactions(
        indptr, items, np.array([a for _, a in flat], np.float32), np.ones(len(flat), np.float32), n_items
    )


def naive_habits(purchases):
    """By user: item -> (times, last, span)."""
    habits = []
    for user in purchases:
        moments = {i: sorted({a for j, a in user if j == i}) for i in sorted({i for i, _ in user})}
        habits.append({i: (len(m), m[0], m[-1] - m[0]) for i, m in moments.items()})
    return habits


def naive_tendencies(purchases, groups):
    """repeat, lately, interval of each item, from every user's habits."""
    habits = naive_habits(purchases)
    own = [[h[i] for h in habits if i in h] for i in range(N)]
    pairs = [h for of in own for h in of]
    share = (sum(t > 1 for t, _, _ in pairs) + 1) / (len(pairs) + 2)
    gaps = sum(t - 1 for t, _, _ in pairs)
    typical = sum(s for _, _, s in pairs) / gaps if gaps else float("nan")
    interval = []
    for i in range(N):
        mates = [h for j in range(N) if groups[j] == groups[i] for h in own[j]]
        of_group = (sum(s for *_, s in mates) + TRUST * typical) / (sum(t - 1 for t, *_ in mates) + TRUST)
        interval.append((sum(s for *_, s in own[i]) + TRUST * of_group) / (sum(t - 1 for t, *_ in own[i]) + TRUST))
    repeat = [(sum(t > 1 for t, *_ in of) + TRUST * share) / (len(of) + TRUST) for of in own]
    lately = [(sum(last <= RECENT_DAYS for _, last, _ in of) + 1) / (len(of) + 5) for of in own]
    return repeat, lately, interval


def tendencies_of(purchases, groups=None) -> RepurchaseRates:
    categories = None if groups is None else pa.array(groups, pa.string())
    return RepurchaseRates.of(counts_of(history_of(purchases)), N, categories)


@given(users_of_a_shop)
def test_habits_are_what_a_look_at_every_purchase_gives(purchases):
    own = RepeatHistory.of(history_of(purchases))
    naive = naive_habits(purchases)
    for u, expected in enumerate(naive):
        rows = slice(own.indptr[u], own.indptr[u + 1])
        assert list(own.items[rows]) == list(expected)
        got = list(zip(own.times[rows], own.last[rows], own.span[rows], strict=True))
        assert got == list(expected.values())
    ids = np.tile(np.array([3, -1, 0, 6], np.int32), (len(purchases), 1))
    assert own.times_of(ids).tolist() == [[h.get(i, (0,))[0] for i in (3, -1, 0, 6)] for h in naive]


@given(users_of_a_shop, st.integers(1, 3))
def test_counts_of_parts_add_up_to_the_counts_of_all(purchases, size):
    parts = [counts_of(history_of(purchases[s : s + size])) for s in range(0, len(purchases), size)]
    whole = counts_of(history_of(purchases))
    assert merge_counts(parts).equals(whole)
    assert merge_counts(parts[::-1]).equals(whole)


@given(users_of_a_shop, st.lists(st.sampled_from(["a", "b", None]), min_size=N, max_size=N), some_weights)
def test_personal_parts_are_those_of_a_loop_over_users_and_items(purchases, groups, weights):
    items, own = tendencies_of(purchases, groups), RepeatHistory.of(history_of(purchases))
    repeat, lately, interval = naive_tendencies(purchases, groups)
    np.testing.assert_allclose(items.repeat, repeat)
    np.testing.assert_allclose(items.lately, lately)
    np.testing.assert_allclose(items.interval, interval)
    expected = []
    for habits in naive_habits(purchases):
        for i, (times, last, span) in habits.items():
            days = (span + TRUST * interval[i]) / (times - 1 + TRUST)
            x = last / days if days > 0 else float("inf") if last else 0.0
            nearness = 1.0 if np.isnan(days) else 1 / (1 + 2 * abs(1 - x)) if x < 2 else 1 / (1 + x)
            lasting = repeat[i] ** weights.repeat * lately[i] ** weights.recent / (1 + last) ** weights.fade
            expected.append(times * lasting * nearness**weights.due)
    part = personal_part(Factors.of(own, items), weights)
    np.testing.assert_allclose(part, expected)
    assert (part > 0).all()


def test_an_item_is_most_due_one_interval_after_the_last_purchase():
    days = np.full(5, 20.0)
    np.testing.assert_allclose(hazard(np.array([0.0, 10.0, 20.0, 40.0, 180.0]), days), [1 / 3, 1 / 2, 1, 1 / 3, 1 / 10])
    assert hazard(np.array([5.0]), np.array([np.nan])) == [1.0]


@settings(max_examples=200)
@given(
    users_of_a_shop,
    some_weights,
    st.integers(1, 9),
    st.lists(st.booleans(), min_size=N, max_size=N),
    st.sets(st.integers(0, N - 1), max_size=2),
    st.integers(0, 99),
)
def test_lists_are_those_of_ranking_every_item_by_the_blend(purchases, weights, k, allowed, no_vector, seed):
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.integers(-2, 3, (N, 3)).astype(np.float32))  # few values, so that scores tie
    vectors[list(no_vector)] = 0
    queries = unit_rows(rng.integers(-2, 3, (len(purchases), 3)).astype(np.float32) + 0.5)
    history, items = history_of(purchases), tendencies_of(purchases)
    allowed = np.array(allowed)
    may = allowed & vectors.any(axis=1)
    ids, scores = top_k(queries, vectors, k, allowed=may)
    got, shown = Repurchase(weights, items).ranked(
        ids, scores, history=history, queries=queries, vectors=vectors, allowed=allowed
    )
    own = RepeatHistory.of(history)
    parts = personal_part(Factors.of(own, items), weights)
    for u in range(len(purchases)):
        score = {
            j: np.float32(queries[u].astype(np.float64) @ vectors[j].astype(np.float64)) for j in np.flatnonzero(may)
        }
        part = {i: p for i, p in zip(own.items[own.users == u], parts[own.users == u], strict=True) if i in score}
        best = abs(np.float64(max(score.values(), default=1))) or 1.0
        value = {j: s / best for j, s in score.items()}
        for i, p in part.items():
            value[i] += weights.personal * p / max(part.values())
        expected = sorted(value, key=lambda j: (-value[j], j))[:k]
        assert got[u][got[u] >= 0].tolist() == expected
        assert shown[u][got[u] >= 0].tolist() == [score[j] for j in expected]
        assert (shown[u][got[u] < 0] == -np.inf).all()


def test_an_own_item_has_the_very_score_that_the_search_gives_it():
    rng = np.random.default_rng(0)
    queries, vectors = (unit_rows(rng.standard_normal((n, 33)).astype(np.float32)) for n in (40, 60))
    purchases = [[(int(i), 1.0) for i in rng.choice(60, 9, replace=False)] for _ in range(40)]
    own = RepeatHistory.of(history_of(purchases, 60))
    ids, scores = top_k(queries, vectors, 60)
    of_pair = {(u, i): s for u in range(40) for i, s in zip(ids[u].tolist(), scores[u].tolist(), strict=True)}
    got = own_scores(own, queries, vectors, np.ones(60, bool)).tolist()
    assert got == [of_pair[pair] for pair in zip(own.users.tolist(), own.items.tolist(), strict=True)]


def test_boost_lists_first_what_is_due_and_keep_what_was_bought_most():
    purchases = [[(0, 1.0), (0, 31.0), (0, 61.0), (1, 30.0), (1, 60.0)]]  # 0 more often, but only a day ago
    vectors = unit_rows(np.ones((N, 2), np.float32))
    ids, scores = top_k(vectors[:1], vectors, 3)
    lists = {}
    for policy in ("keep", "boost"):
        ranked = Repurchase(BOUGHT[policy].weights, tendencies_of(purchases)).ranked
        lists[policy], _ = ranked(
            ids,
            scores,
            history=history_of(purchases),
            queries=vectors[:1],
            vectors=vectors,
            allowed=np.ones(N, bool),
        )
    assert lists["keep"].tolist() == [[0, 1, 2]]
    assert lists["boost"].tolist() == [[1, 0, 2]]


def _case(seed: int, repeats: bool) -> RepurchaseCase:
    """Users some of whose purchases come back, or none and the model knows what comes."""
    rng = np.random.default_rng(seed)
    users, n = 60, 40
    purchases = [
        [(int(i), float(a)) for i, a in zip(rng.choice(20, 6), rng.integers(1, 90, 6), strict=True)]
        for _ in range(users)
    ]
    vectors, queries = (unit_rows(rng.standard_normal((m, 6)).astype(np.float32)) for m in (n, users))
    ids, scores = top_k(queries, vectors, 20)
    truth = [sorted({i for i, _ in p})[:3] if repeats else sorted(ids[u, :3].tolist()) for u, p in enumerate(purchases)]
    history = history_of(purchases, n)
    return RepurchaseCase.of(
        ids,
        scores,
        known=history,
        truth=Csr(np.cumsum([0, *map(len, truth)]), np.array([i for t in truth for i in t], np.int32)),
        queries=queries,
        vectors=vectors,
        allowed=np.ones(n, bool),
        items=RepurchaseRates.of(counts_of(history), n),
    )


@pytest.mark.parametrize("repeats", [True, False])
def test_the_personal_part_weighs_as_much_as_validation_asks_for(repeats):
    cases = [_case(1, repeats), _case(2, repeats)]
    result = chosen(cases)
    assert result == chosen(cases)
    assert (result["keep"]["personal"] > 0) == repeats
    assert result["keep"]["due"] == 0
    assert result["boost"]["due"] > 0
    best, start = Weights(**result["keep"]), BOUGHT["keep"].weights

    def judged(weights):
        return np.concatenate([case.judged(weights) for case in cases])

    assert judged(best).mean() > judged(start).mean()
    assert judged(best).mean() == pytest.approx(1.0) or repeats  # without repeats the truth is the model's first three
    for name in ("personal", "repeat", "recent"):  # and no single step clearly betters it
        for option in (0.0, 0.25, 0.4, 1.0):
            gain = judged(replace(best, **{name: option})) - judged(best)
            assert gain.mean() <= 2 * gain.std() / np.sqrt(len(gain)) + 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_weights_are_judged_by_the_lists_that_they_give(seed):
    rng = np.random.default_rng(seed)
    case = _case(seed, seed % 2 == 0)
    case = replace(case, pairs=case.pairs._replace(scores=np.round(case.pairs.scores, 1)))  # with ties
    for _ in range(5):
        personal, repeat, recent, due, fade = rng.choice([0.0, 0.5, 1.0, 2.0], 5)
        weights = Weights(personal, repeat, recent, due, fade)
        part = personal_part(Factors.of(case.own, case.items), weights)
        ids, _ = case.pairs.ranked(part, weights.personal, 10)
        wanted = ranking_metrics(ids, case.truth, (10,))["ndcg@10"]
        assert case.judged(weights).tolist() == wanted.tolist()


def test_several_cuts_are_chosen_for_together():
    repeats, news = _case(1, True), _case(1, False)
    alone = [choose([case], start=BOUGHT["keep"].weights, fixed=("due",)) for case in (repeats, news)]
    both = choose([repeats, news], start=BOUGHT["keep"].weights, fixed=("due",))
    assert alone[1].personal == 0 < both.personal <= alone[0].personal
    for case, own in zip((repeats, news), alone, strict=True):
        assert case.judged(own).mean() >= case.judged(both).mean() - 0.02


def test_what_nothing_could_have_told_changes_the_weights_seldom():
    changed = 0
    for seed in range(10):
        rng, case = np.random.default_rng(seed), _case(seed, True)
        indptr = case.truth[0]
        noise = [np.sort(rng.choice(40, 3, replace=False)) for _ in indptr[1:]]
        best = choose(
            [replace(case, truth=Csr(indptr, np.concatenate(noise)))],
            start=BOUGHT["boost"].weights,
            fixed=("personal",),
        )
        changed += best != BOUGHT["boost"].weights
    assert changed <= 3  # 10 where any gain is enough


def test_set_weights_win_over_chosen_ones_and_those_over_the_defaults():
    result = {"keep": {"personal": 3.0, "repeat": 0.25}}

    def weights(**settings):
        return weights_of(RecommendSettings(**settings), result)

    assert weights(bought="keep", personal_repeat=1.0) == Weights(3.0, 1.0, BOUGHT["keep"].weights.recent, 0.0)
    assert weights(bought="boost") == BOUGHT["boost"].weights
    assert weights(bought="exclude") is weights(bought="cooldown") is None
    assert weights(bought="keep", model="item_knn", personal=0) is None
