"""Siamese networks: pairs that are what they say, one encoder on both sides, the article's loss, the best threshold."""

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from topkin.models.encoders.images import mlp
from topkin.models.metric_learning.distances import Cosine
from topkin.models.metric_learning.losses.pair import PairContrastive
from topkin.models.metric_learning.samplers import PairBatches, PairList, make_pairs
from topkin.models.similarity.siamese import PairAccuracy, Siamese, best_threshold, pair_accuracy, pick_pairs

LABELS = np.array(["x"] * 5 + ["y"] * 30 + ["z"] * 2 + ["alone"])
ROWS = np.random.default_rng(0).integers(0, 256, (len(LABELS), 4, 4, 1)).astype(np.uint8)


def encoder() -> keras.Model:
    return mlp((4, 4, 1), units=(6, 3), seed=1)


def test_pairs_are_balanced_and_what_they_say() -> None:
    pairs = make_pairs(LABELS, per_row=3, seed=4)
    assert len(pairs.first) == 37 * 3 * 2
    assert pairs.alike.mean() == 0.5
    assert ((LABELS[pairs.first] == LABELS[pairs.second]) == (pairs.alike > 0)).all()
    assert (pairs.first != pairs.second).all()
    for kind in (0, 1):  # each row that has a like is as often the first of a pair of each kind
        assert np.bincount(pairs.first[pairs.alike == kind], minlength=38).tolist() == [3] * 37 + [0]


def test_every_pair_can_come_and_labels_come_evenly() -> None:
    pairs = make_pairs(LABELS, per_row=400, seed=0)
    alike, other = pairs.alike > 0, pairs.alike == 0
    of_x = pairs.second[alike & (pairs.first == 2)]
    np.testing.assert_allclose(np.bincount(of_x, minlength=5)[:5], [100, 100, 0, 100, 100], atol=40)
    labels, counts = np.unique(LABELS[pairs.second[other & (LABELS[pairs.first] == "y")]], return_counts=True)
    assert labels.tolist() == ["alone", "x", "z"]
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.02)


def test_the_seed_decides_the_pairs() -> None:
    first, again, other = (make_pairs(LABELS, seed=seed) for seed in (1, 1, 2))
    assert (first.second == again.second).all()
    assert (first.second != other.second).any()


@pytest.mark.parametrize("labels", [["a", "a", "a"], ["a", "b", "c"], []])
def test_labels_without_pairs_are_explained(labels: list[str]) -> None:
    with pytest.raises(ValueError, match="two labels and a label with two rows, got"):
        make_pairs(labels)


def test_a_siamese_network_gives_the_distance_of_what_its_encoder_gives() -> None:
    base = encoder()
    vectors = base.predict(ROWS, verbose=0)
    pairs = make_pairs(LABELS)
    want = np.sqrt(((vectors[pairs.first] - vectors[pairs.second]) ** 2).sum(axis=1))
    got = Siamese(base).predict([ROWS[pairs.first], ROWS[pairs.second]], verbose=0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(Siamese(base).distances(ROWS, pairs), want, rtol=1e-4, atol=1e-5)


def test_a_siamese_network_trains_its_encoder_by_the_articles_loss_and_survives_saving(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    rows = ROWS // 4 + np.select([LABELS == "x", LABELS == "y"], [0, 150], 70).astype(np.uint8)[:, None, None, None]
    base = mlp((4, 4, 1), units=(32, 16), dropout=0.0, seed=1)
    network = Siamese(base)
    network.compile("rmsprop", loss=PairContrastive(margin=1.0), metrics=[PairAccuracy(0.5)], jit_compile=False)
    pairs = make_pairs(LABELS, seed=3)
    before = base.get_weights()[0].copy()
    distances = network.distances(rows, pairs)
    loss, accuracy = network.evaluate([rows[pairs.first], rows[pairs.second]], pairs.alike, verbose=0)
    y = pairs.alike
    naive = [(y[i] * d**2 + (1 - y[i]) * max(1 - d, 0) ** 2) / 2 for i, d in enumerate(distances)]
    # Keras takes the mean over batches of 32 and a rest, weighted by their rows.
    np.testing.assert_allclose(loss, np.mean(naive), rtol=1e-4)
    np.testing.assert_allclose(accuracy, pair_accuracy(distances, pairs.alike, 0.5))
    history = network.fit(PairBatches(rows, LABELS, batch_size=16, seed=1), epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert (base.get_weights()[0] != before).any()
    network.save(tmp_path / "siamese.keras")
    loaded = keras.saving.load_model(tmp_path / "siamese.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded.distances(rows, pairs), network.distances(rows, pairs))


def test_a_siamese_network_by_similarity_survives_its_configuration() -> None:
    network = Siamese(encoder(), distance=Cosine())
    again = Siamese.from_config(network.get_config())
    assert again.distance.larger_is_nearer
    metric = PairAccuracy(0.7, larger_is_nearer=True)
    metric = PairAccuracy.from_config(metric.get_config())
    metric.update_state([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1])
    assert float(metric.result()) == 0.5


def test_batches_of_pairs_repeat_from_the_seed_and_differ_between_epochs() -> None:
    def noisy(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rows + rng.random(rows.shape)

    first, again = (PairBatches(ROWS, LABELS, batch_size=10, augment=noisy, seed=2) for _ in range(2))
    assert len(first) == 7
    (a, b), alike = first[3]
    (c, d), same = again[3]
    assert (a == c).all()
    assert (b == d).all()
    assert (alike == same).all()
    assert a.shape == (10, 4, 4, 1)
    first.on_epoch_end()
    assert (first[3][0][0] != a).any()
    with pytest.raises(ValueError, match="batch_size must be at most the number of pairs, 74: got 100"):
        PairBatches(ROWS, LABELS, batch_size=100)


def naive_best(distances: np.ndarray, alike: np.ndarray) -> float:
    edges = np.sort(distances)
    cuts = [edges[0] - 1, edges[-1] + 1, *((a + b) / 2 for a, b in itertools.pairwise(edges))]
    return max(pair_accuracy(distances, alike, cut) for cut in cuts)


@pytest.mark.parametrize("turned", [False, True])
def test_the_best_threshold_is_the_best_of_all(turned: bool) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 9, 40):
        for _ in range(20):
            alike = rng.integers(0, 2, n)
            distances = np.round(rng.normal(size=n) + (1 - alike), 1)  # rounded: ties
            given = -distances if turned else distances
            threshold, accuracy = best_threshold(given, alike, larger_is_nearer=turned)
            assert accuracy == pytest.approx(naive_best(distances, alike))
            assert pair_accuracy(given, alike, threshold, larger_is_nearer=turned) == pytest.approx(accuracy)


def test_a_threshold_that_parts_all_lies_in_the_widest_gap() -> None:
    assert best_threshold([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0]) == (0.5, 1.0)


@pytest.mark.parametrize(("distances", "message"), [([1, np.nan], "must be finite, got 1"), ([1], "got 1 and 2")])
def test_distances_that_are_none_are_explained(distances: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best_threshold(distances, [0, 1])


def test_the_pairs_shown_are_the_worst_then_typical_ones_and_no_row_twice() -> None:
    distances = np.array([0.9, 0.1, 0.6, 0.3, 0.2, 1.2, 0.8])
    alike = np.array([1, 1, 1, 0, 1, 0, 1], np.float32)
    pairs = PairList(np.array([0, 2, 4, 6, 8, 10, 0]), np.array([1, 3, 5, 7, 9, 11, 4]), alike)
    assert pick_pairs(distances, pairs, 0.5, 1) == [0, 3, 1, 5]
    assert pick_pairs(distances, pairs, 0.5, 2) == [0, 2, 3, 1, 4, 5]
