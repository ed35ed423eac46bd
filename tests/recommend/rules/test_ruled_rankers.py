"""Rules of a shop over other rankers, a second stage, bought items and baselines: lists against a loop over all pairs.

The order of each user's items is that of a search for all of them without rules, which other tests check.
"""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.recommend.rules.test_allot import made_in_parts
from tests.recommend.rules.test_greedy import fits
from tests.recommend.rules.test_ruled_lists import NONE, N, catalogue_of, column, label, ruled, some_users
from tests.recommend.test_lists import AS_OF, exact, shop_of
from topkin.artifacts.partition import hash_ids
from topkin.baselines.fitted import fit_baselines
from topkin.config.sections import RecommendSettings
from topkin.interactions import Interactions
from topkin.recommend.bought import BOUGHT
from topkin.recommend.lists import PartUsers, build_queries, recommend
from topkin.recommend.repurchase.blend import Repurchase
from topkin.recommend.repurchase.rates import RepurchaseRates, counts_of
from topkin.recommend.searchers import BaselineSearcher
from topkin.recommend.second import stage
from topkin.recommend.second.candidates import ENCODER

SECOND = {ENCODER: 1.0, "popularity": 0.3, "item_knn": 0.9}
CASES = [
    ("second", "exclude"),
    ("second", "keep"),
    ("encoder", "keep"),
    ("item_knn", "exclude"),
    ("popularity", "keep"),
]
VALUES = {"users": some_users, "categories": column(label), "seed": st.integers(0, 99)}


def shop_ranked_by(ranker, bought, users, categories, seed, **rules):
    """Histories, users' vectors, the shelf under rules, what makes its searcher, and the settings."""
    model = {} if ranker in ("second", "encoder") else {"model": ranker, "personal": 0}
    config = RecommendSettings(bought=bought, **model, **rules)
    histories, vectors, shelf = shop_of(users, N, seed=seed)
    history = Interactions.from_histories(histories, shelf.item_ids, AS_OF)
    shelf = ruled(shelf, catalogue_of(categories, NONE, NONE, NONE, NONE), config)
    if model:
        [baseline] = fit_baselines(history, [ranker], 5).values()
        return (
            histories,
            vectors[:, :0],
            shelf,
            lambda of: BaselineSearcher(baseline, shelf.popularity.events > 0),
            config,
        )
    if BOUGHT[bought].weights is not None:
        shelf = replace(shelf, repurchase=Repurchase(BOUGHT[bought].weights, RepurchaseRates.of(counts_of(history), N)))
    if ranker == "second":
        names = [name for name in SECOND if name != ENCODER]
        shelf = replace(shelf, second=stage.SecondStage(SECOND, fit_baselines(history, names, 5)))
    return histories, vectors, shelf, exact, config


def whole_order(histories, vectors, shelf, searcher_of, config):
    """What a search for all items finds for each user."""
    queries = build_queries(histories, vectors, shelf, config, AS_OF)
    part = PartUsers.of(histories, queries, shelf, searcher_of(shelf), config)
    return part.find(np.arange(len(histories)), N)


def items_of(rows, users):
    return [[int(r["item_id"][-2:]) for r in rows if r["user_id"] == f"u{u}"] for u in range(users)]


@pytest.mark.parametrize(("ranker", "bought"), CASES)
@settings(max_examples=30)
@given(**VALUES, most=st.integers(1, 3), k=st.integers(1, 6))
def test_caps_take_the_next_best_of_any_order(ranker, bought, users, categories, seed, most, k):
    shop = shop_ranked_by(ranker, bought, users, categories, seed, k=k, max_per={"category": most})
    histories, vectors, shelf, searcher_of, config = shop
    lists = recommend(histories, vectors, shelf, searcher_of(shelf), config, AS_OF)
    expected = []
    for ids in whole_order(*shop).ids:
        expected.append([])
        for item in ids[ids >= 0].tolist():
            if len(expected[-1]) < k and fits(expected[-1], item, shelf.rules.caps):
                expected[-1].append(item)
    assert items_of(lists.recommendations.to_pylist(), len(users)) == expected


THREE = [(None, [(0, 0.5)]), (None, [(0, 0.5)]), (None, [(1, 0.5)])]
PIECES = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1]


@pytest.mark.parametrize(("ranker", "bought"), CASES)
@settings(max_examples=30)
@example(users=THREE, categories=NONE, seed=0, stock=PIECES, max_per={}, k=2, parts=1, band=1)  # scores go by the best
@given(
    **VALUES,
    stock=column(st.integers(0, 3)),
    max_per=st.dictionaries(st.just("category"), st.integers(1, 2)),
    k=st.integers(1, 4),
    parts=st.integers(1, 3),
    band=st.sampled_from([1, 7, 1000]),
)
def test_pieces_go_to_the_highest_of_any_order(
    tmp_path_factory, ranker, bought, users, categories, seed, stock, max_per, k, parts, band
):
    folder = str(tmp_path_factory.mktemp("candidates"))
    shop = shop_ranked_by(ranker, bought, users, categories, seed, k=k, capacity=1, max_per=max_per)
    histories, vectors, shelf, searcher_of, config = shop
    stock = np.array(stock)
    shelf = replace(shelf, rules=replace(shelf.rules, capacity=stock), allowed=shelf.allowed & (stock > 0))
    parts = min(parts, len(users))
    rows, shorts = made_in_parts(folder, histories, vectors, shelf, config, parts, band, searcher_of)
    candidates, tie = whole_order(histories, vectors, shelf, searcher_of, config), hash_ids(histories["user_id"])
    lowest = np.minimum.accumulate(candidates.final, axis=1)
    pairs = [
        (
            source,
            -float(candidates.scores[u, place] if source else lowest[u, place]),
            tie[u],
            place,
            u,
            int(candidates.ids[u, place]),
        )
        for u, place in zip(*np.nonzero(candidates.ids >= 0), strict=True)
        if (source := candidates.sources[u, place]) >= 0
    ]
    expected, left = [[] for _ in users], stock.copy()
    for *_, u, i in sorted(pairs):
        if len(expected[u]) < k and left[i] > 0 and fits(expected[u], i, shelf.rules.caps):
            expected[u].append(i)
            left[i] -= 1
    assert items_of(rows, len(users)) == expected
    assert {r["user_id"] for r in shorts} == {f"u{u}" for u, own in enumerate(expected) if len(own) < k}


@pytest.mark.parametrize("bought", ["exclude", "keep"])
@settings(max_examples=30)
@given(
    **VALUES,
    stock=column(st.integers(0, 3)),
    most=st.integers(1, 2),
    k=st.integers(1, 4),
    depth=st.integers(1, 5),
    parts=st.integers(1, 3),
)
def test_few_candidates_of_a_second_stage_break_no_rule(
    tmp_path_factory, bought, users, categories, seed, stock, most, k, depth, parts
):
    shop = shop_ranked_by("second", bought, users, categories, seed, k=k, max_per={"category": most})
    histories, vectors, shelf, searcher_of, config = shop
    limited = replace(shelf, rules=replace(shelf.rules, capacity=np.array(stock)))
    limited = replace(limited, allowed=shelf.allowed & (np.array(stock) > 0))
    with patch.object(stage, "DEPTH", depth):
        capped = recommend(histories, vectors, shelf, searcher_of(shelf), config, AS_OF).recommendations.to_pylist()
        folder, parts = str(tmp_path_factory.mktemp("candidates")), min(parts, len(users))
        given, _ = made_in_parts(folder, histories, vectors, limited, config, parts, 7, searcher_of)
    for rows in (capped, given):
        for u, items in enumerate(items_of(rows, len(users))):
            assert len(items) == len(set(items)) <= k
            assert all(fits(items[:place], item, shelf.rules.caps) for place, item in enumerate(items))
            final = [r["final"] for r in rows if r["user_id"] == f"u{u}" and r["source"] == "model"]
            assert final == sorted(final, reverse=True)
    assert (np.bincount([int(r["item_id"][-2:]) for r in given], minlength=N) <= stock).all()
