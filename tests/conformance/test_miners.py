"""What every miner keeps: tuples that fit the batch and that loops would choose, eagerly, in a graph and under XLA."""

import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from topkin.models.metric_learning.distances import Cosine, Euclidean
from topkin.models.metric_learning.losses.pair import Contrastive, Triplet
from topkin.models.metric_learning.miners import (
    AllPairs,
    AllTriplets,
    Angular,
    BatchEasyHard,
    BatchHard,
    DistanceWeighted,
    Miner,
    MultiSimilarityMiner,
    PopularHard,
    SemiHard,
    TripletMargin,
)
from topkin.models.metric_learning.pairwise import compare
from topkin.models.metric_learning.tuples import Pairs, TripletCube, Triplets, check, choice_of
from topkin.models.ops.cosine import unit_rows

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 0, 3])
N, DIM = len(LABELS), 6
ROWS = unit_rows(np.random.default_rng(3).normal(size=(N, DIM))).numpy()
REF_LABELS, REFS = np.array([0, 1, 3, 3, 1, 0]), np.roll(ROWS[:6], 1, axis=1)
COUNTS = np.array([100, 10, 1, 0])

MINERS: dict[str, Callable[[], Miner]] = {
    "all pairs": AllPairs,
    "all triplets": AllTriplets,
    "triplet margin": lambda: TripletMargin(0.3, "hard", distance=Euclidean()),
    "semi-hard": lambda: SemiHard(0.3),
    "angular": lambda: Angular(30),
    "batch hard": BatchHard,
    "batch easy hard": BatchEasyHard,
    "easy hard, all": lambda: BatchEasyHard("all", "hard"),
    "multi-similarity": MultiSimilarityMiner,
    "distance-weighted": lambda: DistanceWeighted(seed=1),
    "popular hard": lambda: PopularHard(COUNTS, 2),
}
every_miner = pytest.mark.parametrize("make", MINERS.values(), ids=MINERS.keys())


def rows_of(tuples: Pairs | Triplets) -> list[list[int]]:
    return [t.numpy().tolist() for t in tuples]


@every_miner
@pytest.mark.parametrize("against", [False, True])
def test_tuples_fit_the_batch(make: Callable[[], Miner], against: bool) -> None:
    ref_labels, refs = (REF_LABELS, tf.constant(REFS)) if against else (None, None)
    tuples = make()(LABELS, tf.constant(ROWS), ref_labels, refs)
    others = REF_LABELS if against else LABELS
    anchors = (tuples.a, tuples.a) if isinstance(tuples, Triplets) else (tuples.a1, tuples.a2)
    assert len(anchors[0])
    assert len(anchors[1])
    assert all(t.dtype == tf.int64 for t in tuples)
    assert (LABELS[anchors[0]] == others[tuples.p]).all()
    assert (LABELS[anchors[1]] != others[tuples.n]).all()
    assert against or (anchors[0].numpy() != tuples.p.numpy()).all()


@every_miner
def test_eager_graph_and_xla_choose_alike(make: Callable[[], Miner]) -> None:
    expected = rows_of(make()(LABELS, tf.constant(ROWS)))
    spec = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, DIM], tf.float64)]
    miner = make()
    graph = tf.function(lambda y, x: miner(y, x), input_signature=spec)
    assert rows_of(graph(tf.constant(LABELS), tf.constant(ROWS))) == expected
    other = make()
    kind = type(other.choose(compare(LABELS, tf.constant(ROWS))))
    other = make()
    xla = tf.function(lambda y, x: tuple(other.choose(compare(y, x))), jit_compile=True, input_signature=spec)
    assert rows_of(kind(*xla(tf.constant(LABELS), tf.constant(ROWS))).tuples()) == expected


@every_miner
@pytest.mark.parametrize("labels", [np.arange(N), np.array([0] * (N - 1) + [1])])
def test_a_batch_without_positives_or_with_few_negatives_is_mined_too(make: Callable[[], Miner], labels: Any) -> None:
    labels = np.minimum(labels, 3) if len(set(labels)) == 2 else labels
    miner = PopularHard(np.ones(N)) if isinstance(make(), PopularHard) else make()
    tuples = miner(labels, tf.constant(ROWS))
    assert isinstance(tuples, Pairs | Triplets)
    if len(set(labels)) == N:
        assert len(tuples.p) == 0


@every_miner
def test_a_miner_survives_its_configuration(make: Callable[[], Miner]) -> None:
    miner = make()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(miner))
    assert repr(again) == repr(miner)
    assert rows_of(again(LABELS, tf.constant(ROWS))) == rows_of(miner(LABELS, tf.constant(ROWS)))


FIXTURES = json.loads((Path(__file__).parents[1] / "models" / "metric_learning" / "pml_fixtures.json").read_text())
OURS = {
    "batch hard": BatchHard(distance=Euclidean()),
    "multi-similarity": MultiSimilarityMiner(0.1),
    "multi-similarity narrow": MultiSimilarityMiner(-0.3),
    **{f"triplet margin {kind}": TripletMargin(0.3, kind) for kind in ("all", "hard", "semihard", "easy")},
    **{
        name: BatchEasyHard(name.split()[1], name.split()[2], distance=Euclidean())
        for name in FIXTURES["miners"]
        if name.startswith("easy-hard")
    },
}


@pytest.mark.parametrize("name", FIXTURES["miners"])
def test_the_choice_is_that_of_pytorch_metric_learning(name: str) -> None:
    arrays = FIXTURES["arrays"]
    triplets = rows_of(OURS[name](np.array(arrays["labels"]), tf.constant(arrays["embeddings"], tf.float64)))
    expected = FIXTURES["miners"][name]
    if len(expected) == 4 and len(triplets) == 4:
        for side in (slice(0, 2), slice(2, 4)):
            assert sorted(zip(*triplets[side], strict=True)) == sorted(zip(*expected[side], strict=True))
    else:
        assert sorted(zip(*triplets, strict=True)) == sorted(zip(*expected, strict=True))


@pytest.mark.parametrize("degrees", [10, 30, 60])
def test_angular_triplets_are_those_with_a_wide_angle_at_the_negative(degrees: float) -> None:
    expected = []
    for a, p, n in product(range(N), repeat=3):
        if a != p and LABELS[a] == LABELS[p] != LABELS[n]:
            middle = (ROWS[a] + ROWS[p]) / 2
            width, reach = np.linalg.norm(ROWS[a] - ROWS[p]), np.linalg.norm(ROWS[n] - middle)
            if math.degrees(math.atan(width / (2 * reach))) > degrees:
                expected.append((a, p, n))
    triplets = rows_of(Angular(degrees)(LABELS, tf.constant(ROWS)))
    assert sorted(zip(*triplets, strict=True)) == sorted(expected)
    assert degrees > 30 or expected


def test_the_distance_weights_are_one_by_the_density_of_distances() -> None:
    miner = DistanceWeighted(cutoff=0.5, farthest=1.4)
    for distance in (0.2, 0.5, 0.9, 1.39):
        d = max(distance, 0.5)
        density = d ** (DIM - 2) * (1 - d * d / 4) ** ((DIM - 3) / 2)
        weight = float(miner.log_weights(tf.constant([[distance]], tf.float64), DIM)[0, 0])
        assert weight == pytest.approx(-math.log(density))
    assert float(miner.log_weights(tf.constant([[1.4]]), DIM)[0, 0]) == -math.inf


def test_distance_weighted_negatives_are_drawn_by_their_weights() -> None:
    miner, draws = DistanceWeighted(seed=5), np.zeros((N, N))
    x, y = np.tile(ROWS, (6, 1)), np.tile(LABELS, 6)
    for _ in range(40):
        tuples = miner(y, tf.constant(x))
        np.add.at(draws, (tuples.a.numpy() % N, tuples.n.numpy() % N), 1)
    far = Euclidean().matrix(tf.constant(ROWS))
    weights = np.exp(miner.log_weights(far, DIM).numpy()) * (LABELS[:, None] != LABELS[None, :])
    for i in range(N):
        if draws[i].sum():
            np.testing.assert_allclose(draws[i] / draws[i].sum(), weights[i] / weights[i].sum(), atol=0.06)
    assert (draws[:, :].sum(axis=1) > 0).sum() >= 5
    assert rows_of(miner(y, tf.constant(x))) != rows_of(tuples)


def test_distance_weighted_needs_unit_rows() -> None:
    with pytest.raises(ValueError, match="DistanceWeighted needs unit rows, got rows of lengths up to"):
        DistanceWeighted()(LABELS, tf.constant(3 * ROWS))


@pytest.mark.parametrize("correction", [0.0, 1.0, -1.0])
def test_popular_hard_negatives_equal_loops(correction: float) -> None:
    triplets = PopularHard(COUNTS, 2, correction, 0.5)(LABELS, tf.constant(ROWS))
    share = np.log(np.maximum(COUNTS, 0.5) / np.maximum(COUNTS, 0.5).sum())
    expected = []
    for i in range(N):
        hardness = [
            (ROWS[i] @ ROWS[j] / 0.5 - correction * share[LABELS[j]], j) for j in range(N) if LABELS[i] != LABELS[j]
        ]
        expected += [(i, j) for _, j in sorted(hardness, reverse=True)[:2]]
    assert sorted(zip(triplets.a2.numpy(), triplets.n.numpy(), strict=True)) == sorted(expected)


def test_the_correction_decides_how_popular_negatives_are() -> None:
    def popularity(correction: float) -> float:
        return float(COUNTS[LABELS[PopularHard(COUNTS, 1, correction, 0.5)(LABELS, tf.constant(ROWS)).n]].mean())

    assert popularity(5) < popularity(0) < popularity(-5)


def test_index_tuples_become_masks_as_loops_would_make_them() -> None:
    comparison = compare(LABELS, tf.constant(ROWS))
    pairs = Pairs([0, 0, 1], [3, 6, 4], [0, 1, 1], [1, 0, 2])
    cube = choice_of(pairs, comparison).cube()
    triplets = TripletCube(cube).tuples()
    assert rows_of(triplets) == [[0, 0, 1, 1], [3, 6, 4, 4], [1, 1, 0, 2]]
    for choice in (choice_of(triplets, comparison), TripletCube(cube), choice_of(pairs, comparison)):
        positive, negative = choice.masks((N, N))
        assert {tuple(r) for r in np.argwhere(positive)} == {(0, 3), (0, 6), (1, 4)}
        assert {tuple(r) for r in np.argwhere(negative)} == {(0, 1), (1, 0), (1, 2)}


def test_a_miner_takes_the_distance_of_its_loss_unless_it_has_its_own() -> None:
    x = tf.constant(ROWS * np.arange(1, N + 1)[:, None])
    bare, same, other = (Triplet(0.5, miner=BatchHard(distance=d))(LABELS, x) for d in (None, Euclidean(), Cosine()))
    assert float(bare) == float(same) != float(other)


class Mine(Miner):
    """A miner as a user would write it."""

    def mine(self, comparison: Any, far: Any) -> Triplets:
        return Triplets([0, 1], [3, 4], [1, 2])


def test_a_users_own_miner_may_return_index_tuples_to_any_loss() -> None:
    x = tf.constant(ROWS)
    far = Euclidean().matrix(x).numpy()
    gaps = [max(far[0, 3] - far[0, 1] + 5, 0), max(far[1, 4] - far[1, 2] + 5, 0)]
    assert float(Triplet(5, miner=Mine())(LABELS, x)) == pytest.approx(np.mean(gaps))
    near = [far[0, 3], far[1, 4]]
    loss = Contrastive(0, 0, squared=False, miner=Mine())
    assert float(loss(LABELS, x)) == pytest.approx(np.mean(near))


@pytest.mark.parametrize(
    ("tuples", "message"),
    [
        (Triplets([0], [1], [2]), "a positive pair must be two rows of one label, got 1 others"),
        (Triplets([0], [0], [2]), "a positive pair must be two rows of one label"),
        (Pairs([0], [3], [0], [6]), "a negative pair must be two rows of different labels"),
        (Pairs([0], [N], [0], [1]), r"must number rows of the batch \(10\)"),
        (Pairs([0, 3], [3], [0], [1]), "must have the same length, got 2 and 1"),
    ],
)
def test_tuples_that_do_not_fit_are_explained(tuples: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(tuples, compare(LABELS, tf.constant(ROWS)))


def test_what_is_no_tuple_of_numbers_is_explained() -> None:
    comparison = compare(LABELS, tf.constant(ROWS))
    with pytest.raises(TypeError, match=r"must return Pairs .* or Triplets .*, got tuple"):
        check(([0], [3], [1]), comparison)
    with pytest.raises(TypeError, match=r"a must be \(k,\) integers, got float32"):
        check(Triplets([0.0], [3], [1]), comparison)


def test_settings_that_mean_nothing_are_explained() -> None:
    with pytest.raises(ValueError, match="kind must be one of all, hard, semihard, easy, got 'soft'"):
        TripletMargin(kind="soft")
    for positive, negative in product(("semihard",), ("semihard", "all")):
        with pytest.raises(ValueError, match='"semihard" must stand beside "easy" or "hard"'):
            BatchEasyHard(positive, negative, distance=Cosine())
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        PopularHard(COUNTS, 0)
    with pytest.raises(ValueError, match="labels must number counts, 0 to 3, got 0 to 9"):
        PopularHard(COUNTS)(np.arange(N), tf.constant(ROWS))
