"""The network over histories against a loop; order counts where it is there, and only there."""

import math

import numpy as np
import pytest

from topkin.encoding import recurrent
from topkin.encoding.blocks import SEQUENCE, Block, factors, user_vectors
from topkin.encoding.recurrent import Gru
from topkin.errors import ArtifactError
from topkin.interactions import Interactions
from topkin.linalg.cosine import unit_rows
from topkin.recommend.explain import explain

DIM, LENGTH = 3, 4
BLOCKS = [
    Block(name="svd", dim=2, weight=1.0, inverse_popularity=0.5, half_life_days=None, spread=(0.7, 0.2)),
    Block(name=SEQUENCE, dim=DIM, weight=0.6, inverse_popularity=0.0, half_life_days=None, spread=(0.4, 0.3, 0.1)),
]
HISTORIES = [
    [(3, 30.0), (7, 20.0), (3, 10.0), (9, 1.0)],
    [],
    [(0, 8.0)],  # item 0 is not known
    [(11, 5.0)],
    [(i, 9.0 - i) for i in range(8)],
]


def network(seed=0, dim=DIM):
    rng = np.random.default_rng(seed)
    shapes = (dim + 1, 3 * dim), (dim, 3 * dim), (2, 3 * dim), (dim, dim)
    return Gru(LENGTH, *(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def shop(histories, n_items=12):
    rng = np.random.default_rng(1)
    flat = [purchase for history in histories for purchase in history]
    indptr = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    items, ages = np.array([i for i, _ in flat], np.int32), np.array([a for _, a in flat], np.float32)
    in_vectors = rng.normal(size=(n_items, 2 + DIM + 1)).astype(np.float32)
    in_vectors[0, 2:] = 0
    in_vectors[:, -1] = 0
    made = Interactions(indptr, items, ages, np.ones(len(flat), np.float32), n_items)
    return made, in_vectors, rng.integers(1, 50, n_items)


def naive(net, history, in_vectors):
    """The module's formulas, one number at a time."""
    latest = sorted(dict(history).items(), key=lambda pair: -pair[1])[-net.length :]
    latest = [(item, age) for item, age in latest if in_vectors[item].any()]
    h, before = [0.0] * DIM, None
    for item, age in latest:
        x = [*map(float, in_vectors[item]), math.log(1 + (before - age if before is not None else 0))]
        before = age
        read = [sum(x[i] * net.kernel[i, j] for i in range(DIM + 1)) + net.bias[0, j] for j in range(3 * DIM)]
        kept = [sum(h[i] * net.recurrent[i, j] for i in range(DIM)) + net.bias[1, j] for j in range(3 * DIM)]
        new = []
        for j in range(DIM):
            z = 1 / (1 + math.exp(-read[j] - kept[j]))
            r = 1 / (1 + math.exp(-read[DIM + j] - kept[DIM + j]))
            new.append(z * h[j] + (1 - z) * math.tanh(read[2 * DIM + j] + r * kept[2 * DIM + j]))
        h = new
    return [sum(h[i] * net.output[i, j] for i in range(DIM)) for j in range(DIM)]


def test_users_are_read_as_by_the_formulas():
    net = network()
    history, in_vectors, _ = shop(HISTORIES)
    got = net.read(history.distinct(), in_vectors[:, 2:5])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [naive(net, h, in_vectors[:, 2:5]) for h in HISTORIES], atol=1e-5)
    assert not got[[1, 2]].any()


def test_a_user_is_read_alike_in_any_batch():
    rng = np.random.default_rng(2)
    histories = [
        [(int(i), 50.0 - n) for n, i in enumerate(rng.permutation(300)[: rng.integers(0, 9)])] for _ in range(700)
    ]
    history, _, _ = shop(histories, 300)
    in_vectors = rng.normal(size=(300, 48)).astype(np.float32)
    net = network(dim=48)
    whole = net.read(history, in_vectors)
    for size in (1, 7, 300):
        rows = [np.arange(start, min(start + size, 700)) for start in range(0, 700, size)][:40]
        for at in rows:
            assert (net.read(history.take(at), in_vectors) == whole[at]).all()


def test_the_order_of_purchases_counts_in_this_block_alone():
    there = [(3, 30.0), (7, 20.0), (9, 10.0)]
    back = [(9, 30.0), (7, 20.0), (3, 10.0)]
    history, in_vectors, buyers = shop([there, back])
    one, other = user_vectors(history, in_vectors, buyers, BLOCKS, sequence=network())
    np.testing.assert_allclose(*(unit_rows(v[None, :2]) for v in (one, other)), atol=1e-6)
    assert np.abs(one[2:5] - other[2:5]).max() > 0.01


def test_the_block_weighs_z_scores_beside_the_pooled_one_and_has_no_shares():
    history, in_vectors, buyers = shop(HISTORIES)
    net = network()
    pooled = user_vectors(history, in_vectors, buyers, BLOCKS[:1])
    read = net.read(history.distinct(), in_vectors[:, 2:5]).astype(float)
    deviation = np.sqrt((read**2 * BLOCKS[1].spread).sum(axis=1, keepdims=True))
    read = np.divide(0.6 * read, deviation, out=np.zeros_like(read), where=deviation > 0)
    made = factors(history.distinct(), in_vectors, buyers, BLOCKS)
    assert not made[:, 1].any()
    sums = np.zeros((history.n_users, 2))
    kept = history.distinct()
    np.add.at(sums, kept.users, made[:, :1] * in_vectors[kept.items, :2].astype(float))
    want = unit_rows(np.column_stack([sums, read, np.zeros(len(sums))]))
    np.testing.assert_allclose(user_vectors(history, in_vectors, buyers, BLOCKS, sequence=net), want, atol=1e-6)
    np.testing.assert_allclose(unit_rows(sums), pooled[:, :2], atol=1e-6)


def test_a_sequence_block_without_its_network_is_refused():
    history, in_vectors, buyers = shop(HISTORIES)
    with pytest.raises(ValueError, match="needs its network, got None"):
        user_vectors(history, in_vectors, buyers, BLOCKS)


def test_a_network_is_read_back_as_it_was_and_with_its_encoder_only(tmp_path):
    net = network()
    recurrent.write(net, str(tmp_path), "this one")
    again = recurrent.load(str(tmp_path), "this one")
    assert again.length == net.length
    for name in ("kernel", "recurrent", "bias", "output"):
        assert (getattr(again, name) == getattr(net, name)).all()
    with pytest.raises(ArtifactError, match="must be of the encoder another, got this one"):
        recurrent.load(str(tmp_path), "another")


def test_shares_add_up_to_what_the_pooled_blocks_alone_would_score():
    history, in_vectors, buyers = shop(HISTORIES)
    kept = history.distinct()
    vectors = unit_rows(np.random.default_rng(4).normal(size=in_vectors.shape))
    lists = np.tile(np.arange(3, 9, dtype=np.int32), (history.n_users, 1))
    made = factors(kept, in_vectors, buyers, BLOCKS)
    _, shares = explain(kept, made, BLOCKS, in_vectors, vectors, lists, 8)
    alone = unit_rows(user_vectors(history, in_vectors, buyers, BLOCKS, sequence=network())[:, :2])
    for row in (0, 4):
        mine = kept.items[kept.indptr[row] : kept.indptr[row + 1]]
        carried = made[kept.indptr[row] : kept.indptr[row + 1], :1] * in_vectors[mine, :2].astype(float)
        parts = carried @ vectors[3:9, :2].T / np.linalg.norm(carried.sum(axis=0))
        np.testing.assert_allclose(shares[row].sum(axis=1), np.maximum(parts, 0).sum(axis=0), atol=1e-6)
        np.testing.assert_allclose(parts.sum(axis=0), vectors[3:9, :2] @ alone[row], atol=1e-6)
