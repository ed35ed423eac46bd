"""Neighbours against loops over all pairs."""

import itertools
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import schemas
from topkin.config.shop.similar import SimilarSettings
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.recommend.similar import bought_by_neighbours, similar_items, similar_part, similar_users

AS_OF = datetime(2020, 1, 1)


def _vectors(n: int, seed: int, zeros=()) -> np.ndarray:
    vectors = unit_rows(np.random.default_rng(seed).integers(-1, 2, (n, 4)).astype(np.float32))  # ties abound
    vectors[list(zeros)] = 0
    return vectors


def _nearest(vectors, row, may, k):
    scores = (vectors.astype(np.float64) @ vectors[row].astype(np.float64)).astype(np.float32)
    others = [j for j in range(len(vectors)) if j != row and may[j] and vectors[j].any()]
    return sorted(others, key=lambda j: (-scores[j], j))[:k] if vectors[row].any() else []


@given(st.integers(0, 99), st.integers(1, 12), st.lists(st.booleans(), min_size=9, max_size=9), st.integers(0, 9))
def test_neighbours_of_items_are_those_of_a_loop(seed, k, allowed, start):
    vectors = _vectors(9, seed, zeros=[4])
    rows = np.arange(start, 9)
    ids, _ = similar_items(vectors, rows, np.array(allowed), k)
    for r, row in enumerate(rows):
        assert ids[r][ids[r] >= 0].tolist() == _nearest(vectors, row, allowed, k)


@given(st.integers(0, 99), st.integers(1, 12), st.integers(0, 9), st.integers(0, 9))
def test_neighbours_of_users_do_not_depend_on_the_parts(seed, k, a, b):
    vectors = _vectors(9, seed, zeros=[2])
    cuts = [0, *sorted((a, b)), 9]
    blocks = [(s, vectors[s:e]) for s, e in itertools.pairwise(cuts)]
    for start, own in blocks:
        ids, scores = similar_users(own, start, blocks, k)
        for r in range(len(own)):
            expected = _nearest(vectors, start + r, np.ones(9, bool), k)
            assert ids[r][ids[r] >= 0].tolist() == expected
            assert np.isneginf(scores[r, len(expected) :]).all()


baskets = st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=4, max_size=4)


@given(
    baskets,
    baskets,
    st.lists(st.lists(st.sampled_from([-1, 0, 1, 2, 3]), min_size=3, max_size=3), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_what_neighbours_bought_is_what_a_loop_counts(theirs, own, neighbours, allowed, k, least, seed):
    def interactions(baskets):
        flat = np.array([i for b in baskets for i in b], np.int32)
        indptr = np.cumsum([0, *map(len, baskets)]).astype(np.int64)
        return Interactions(indptr, flat, np.zeros(len(flat), np.float32), np.ones(len(flat), np.float32), 6)

    neighbours = np.array([[j if j not in row[:c] else -1 for c, j in enumerate(row)] for row in neighbours], np.int32)
    cosines = np.random.default_rng(seed).choice([-0.5, 0.25, 0.5, 1.0], (4, 3)).astype(np.float32)
    ids, scores, support = bought_by_neighbours(
        neighbours, cosines, interactions(theirs), interactions(own), np.array(allowed), k, least
    )
    for u in range(4):
        total: dict[int, tuple[float, int]] = {}
        for j, c in zip(neighbours[u], cosines[u], strict=True):
            if j >= 0 and c > 0:
                for i in set(theirs[j]):
                    if allowed[i] and i not in own[u]:
                        total[i] = (total.get(i, (0, 0))[0] + float(c), total.get(i, (0, 0))[1] + 1)
        enough = [i for i, (_, support) in total.items() if support >= least]
        expected = [(i, *total[i]) for i in sorted(enough, key=lambda i: (-total[i][0], i))][:k]
        kept = ids[u] >= 0
        assert (
            list(zip(ids[u][kept].tolist(), scores[u][kept].tolist(), support[u][kept].tolist(), strict=True))
            == expected
        )


@pytest.mark.parametrize("kind", ["string", "int64", "binary"])
def test_tables_of_a_part_name_users_and_items_by_their_ids(kind):
    name = {"string": "{}".format, "int64": lambda t: 2**60 + ord(t), "binary": lambda t: b"\xff" + t.encode()}[kind]
    t = pa.array([name("a")]).type
    baskets = [["a", "b"], ["a", "b", "c"], ["d"], []]
    schema = schemas.histories(t, t)
    histories = pa.table(
        {
            "user_id": [name(u) for u in "stuv"],
            "items": [[name(i) for i in b] for b in baskets],
            "times": [[datetime(2019, 1, 1)] * len(b) for b in baskets],
            "weights": [[1.0] * len(b) for b in baskets],
            "segment": [None] * 4,
        },
        schema=schema,
    )
    vectors = unit_rows(np.array([[1, 0.1], [1, 0], [-1, 0.2], [0, 0]], np.float32))
    tables = [(0, histories.slice(0, 1)), (1, histories.slice(1))]
    blocks = [(0, vectors[:1]), (1, vectors[1:])]
    users, bought = similar_part(
        histories.slice(1),
        vectors[1:],
        1,
        blocks=blocks,
        tables=tables,
        item_ids=pa.array([name(i) for i in "abcde"], t),
        allowed=np.array([True, True, True, False, True]),
        as_of=AS_OF,
        settings=SimilarSettings(users=2, bought=5, min_support=1),
        encoder="e" * 64,
    )
    assert users.schema.equals(schemas.similar_users(t))
    assert schemas.encoder_of(bought.schema) == "e" * 64
    assert [(r["user_id"], r["rank"], r["neighbour_id"]) for r in users.to_pylist()] == [
        (name("t"), 1, name("s")),
        (name("t"), 2, name("u")),
        (name("u"), 1, name("s")),
        (name("u"), 2, name("t")),
    ]
    # s bought nothing that t did not, and u's vector points away from both.
    assert bought.to_pylist() == []
    users, bought = similar_part(
        histories.slice(0, 1),
        vectors[:1],
        0,
        blocks=blocks,
        tables=tables,
        item_ids=pa.array([name(i) for i in "abcde"], t),
        allowed=np.ones(5, bool),
        as_of=AS_OF,
        settings=SimilarSettings(users=1, bought=5, min_support=1),
        encoder="e" * 64,
    )
    assert [(r["item_id"], r["support"]) for r in bought.to_pylist()] == [(name("c"), 1)]
    assert bought["score"][0].as_py() == users["score"][0].as_py()
