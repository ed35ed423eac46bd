"""Items in no more lists than there are pieces, from files of parts, against a pass over all users and all items."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recommend.rules.test_greedy import fits
from tests.recommend.rules.test_ruled_lists import NONE, N, catalogue_of, column, label, ruled, some_users
from tests.recommend.test_lists import AS_OF, exact, shop_of
from topkin.artifacts.partition import hash_ids
from topkin.artifacts.shuffle import write_arrow
from topkin.config.sections import RecommendSettings
from topkin.recommend.lists import PartUsers, build_queries
from topkin.recommend.rules.allot import PartFiles, allot, candidates_table, chosen
from topkin.recommend.rules.shop import FEW_STOCK, ShopRules


def made_in_parts(folder, histories, vectors, shelf, config, parts, band, searcher_of=exact):
    """The lists of all users, and the rows of the parts, in the order of the parts."""
    row_of = np.arange(len(histories)) % parts
    users, files, number = [], [], 0
    for part in range(parts):
        rows = np.flatnonzero(row_of == part)
        own = histories.take(rows)
        queries = build_queries(own, vectors[rows], shelf, config, AS_OF)
        users.append(PartUsers.of(own, queries, shelf, searcher_of(shelf), config))
        depth = min(shelf.rules.depth(users[-1].k), N)
        path = f"{folder}/{part}.parquet"
        candidates = users[-1].find(np.arange(len(rows)), depth)
        write_arrow(candidates_table(candidates, hash_ids(histories["user_id"].take(rows))), path)
        files.append(PartFiles.of(part, number, path))
        number += len(rows)
    allotment = allot(files, shelf.rules, users[0].k, lambda part, *which: users[part].find(*which), band)
    lists = [of.tables(*chosen(file, allotment, shelf.rules, of.k)) for of, file in zip(users, files, strict=True)]
    return [r for one in lists for r in one.recommendations.to_pylist()], [
        r for one in lists for r in one.short_lists.to_pylist()
    ]


@settings(max_examples=150)
@given(
    some_users,
    column(label),
    column(st.integers(0, 3)),
    st.dictionaries(st.just("category"), st.integers(1, 2)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([1, 7, 1000]),
    st.integers(0, 99),
)
def test_no_item_is_given_out_too_often_and_lists_are_those_of_one_pass_over_everything(
    tmp_path_factory, users, categories, stock, max_per, k, parts, band, seed
):
    folder = tmp_path_factory.mktemp("candidates")
    config = RecommendSettings(k=k, max_per=max_per, capacity=1)
    histories, vectors, shelf = shop_of(users, N, seed=seed)
    parts = min(parts, len(users))
    shelf = ruled(shelf, catalogue_of(categories, NONE, NONE, NONE, NONE), config)
    stock = np.array(stock)
    shelf = replace(shelf, rules=replace(shelf.rules, capacity=stock), allowed=shelf.allowed & (stock > 0))
    rows, shorts = made_in_parts(str(folder), histories, vectors, shelf, config, parts, band)
    queries = build_queries(histories, vectors, shelf, config, AS_OF)
    whole = PartUsers.of(histories, queries, shelf, exact(shelf), config)
    candidates, tie = whole.find(np.arange(len(users)), N), hash_ids(histories["user_id"])
    pairs = [
        (u, int(i), place, (source, -float(s)))
        for u in range(len(users))
        for place, (i, s, source) in enumerate(
            zip(candidates.ids[u], candidates.scores[u], candidates.sources[u], strict=True)
        )
        if i >= 0
    ]
    expected, left = [[] for _ in users], stock.copy()
    for u, i, _, _ in sorted(pairs, key=lambda p: (p[3], tie[p[0]], p[2])):
        if len(expected[u]) < k and left[i] > 0 and fits(expected[u], i, shelf.rules.caps):
            expected[u].append(i)
            left[i] -= 1
    got = [[int(r["item_id"][-2:]) for r in rows if r["user_id"] == f"u{u}"] for u in range(len(users))]
    assert got == expected
    assert {r["user_id"] for r in shorts} == {f"u{u}" for u, own in enumerate(expected) if len(own) < k}


def test_a_list_that_stock_made_short_says_so(tmp_path):
    users = [("x", [(0, 1.0)]), ("x", [(0, 1.0)]), ("y", [(0, 1.0)])]
    histories, vectors, shelf = shop_of(users, N, seed=3)
    config = RecommendSettings(k=5, capacity=1)
    shelf = ruled(shelf, catalogue_of(NONE, NONE, NONE, NONE, NONE), config)
    rows, shorts = made_in_parts(str(tmp_path), histories, vectors, shelf, config, 2, 100)
    assert len(rows) == len({r["item_id"] for r in rows})
    assert {r["reason"] for r in shorts} == {FEW_STOCK}


def test_a_stock_counts_whole_pieces_and_none_means_no_limit():
    stock = pa.array([3.9, 0.5, -2.0, None, 1e30, 1.0], pa.float32())
    catalogue = pa.table({"features": pa.StructArray.from_arrays([stock], names=["stock"])})
    rules = ShopRules.of(RecommendSettings(capacity="stock"), catalogue, AS_OF, np.ones(6, bool), lambda n: n)
    assert rules.capacity.tolist() == [3, 0, 0, 2**53, 2**53, 1]
    assert rules.valid.tolist() == [True, False, False, True, True, True]
