"""What a similarity model is given: nothing, one, too many, another shape or kind; and weights that changed since."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from topkin.metrics.clustering import nmi
from topkin.metrics.retrieval import knn_accuracy, retrieval_metrics
from topkin.models import (
    MetricEmbedding,
    PretrainedText,
    Siamese,
    SimilarityModel,
    calibrate,
    dssm,
    effective_rank,
    losses,
    miners,
    ngram_rows,
    pair_accuracy,
    samplers,
    whitened,
)
from topkin.models.ops.encoders import embedding_dim, fingerprint

ROWS = np.eye(4, dtype="float32")


def model_of() -> SimilarityModel:
    keras.utils.set_random_seed(2)
    inputs = keras.Input((4,))
    model = SimilarityModel(keras.Model(inputs, MetricEmbedding(3, seed=1)(inputs)))
    model.index(ROWS, ["a", "b", "a", "b"])
    return model


@pytest.fixture(scope="module")
def model() -> SimilarityModel:
    return model_of()


def test_no_rows_give_no_answers(model: SimilarityModel) -> None:
    for nothing in (ROWS[:0], [], np.zeros((0, 4), "uint8")):
        assert model.lookup(nothing, k=1) == []
        assert model.match(nothing, threshold=0.5) == []
        assert model.embed(nothing).shape == (0, 3)
        assert model.index(nothing) == []
    assert model.index([], [], ids=[]) == []
    with pytest.raises(ValueError, match="calibrate needs queries, got none"):
        model.calibrate(ROWS[:0], [])


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            ROWS[:, :2],
            ValueError,
            r"inputs must have shape \(n, 4\), got \(4, 2\): shape them as the encoder was built",
        ),
        (ROWS[0], ValueError, r"\(n, 4\), got \(4,\): give rows, x\[None\] for one alone"),
        (ROWS[None, None], ValueError, r"got \(1, 1, 4, 4\)"),
        (np.array(list("abcd"))[None], TypeError, r"inputs must be numbers \(float32\), got <U1: encode them first"),
        ([["a", 1, 2, 3]], TypeError, "inputs must be numbers"),
        ([[1, 2, 3, None]], ValueError, "embeddings must be finite, got 1 of 1 rows"),
        ([[1, 2], [1, 2, 3]], ValueError, "rows of equal length"),
        (np.full((2, 4), np.nan), ValueError, "embeddings must be finite, got 2 of 2 rows with a NaN"),
        (ROWS.astype(complex), TypeError, "got complex128"),
        (np.zeros((2, 4), "datetime64[s]"), TypeError, "got datetime64"),
        ({"a": ROWS, "b": ROWS}, TypeError, "must be one array, got a dict of a, b"),
        ("mug", TypeError, "inputs must be numbers"),
        (3.0, ValueError, r"got \(\)"),
        (None, ValueError, r"inputs must have shape \(n, 4\), got \(\)"),
    ],
)
def test_inputs_that_do_not_fit_are_told_without_a_trace(
    x: Any, error: type[Exception], message: str, model: SimilarityModel
) -> None:
    for use in (model.embed, model.lookup, model.index):
        with pytest.raises(error, match=message) as raised:
            use(x)
        assert "\n" not in str(raised.value)


def test_what_fits_in_another_dress_is_taken(model: SimilarityModel) -> None:
    want = model.embed(ROWS)
    for same in (
        ROWS.tolist(),
        ROWS.astype(int),
        ROWS.astype(object),
        pd.DataFrame(ROWS),
        tf.constant(ROWS),
        {"x": ROWS},
    ):
        np.testing.assert_allclose(model.embed(same), want, atol=1e-6)
    np.testing.assert_allclose(model.embed(tf.data.Dataset.from_tensor_slices(ROWS).batch(3)), want, atol=1e-6)


def test_one_is_looked_up_without_the_batch_axis(model: SimilarityModel) -> None:
    assert model.single_lookup(ROWS[0], k=1)[0].label == "a"
    with pytest.raises(ValueError, match=r"got \(1, 1, 4\).*call lookup for several"):
        model.single_lookup(ROWS[:1], k=1)


def test_texts_and_several_inputs_are_checked_each() -> None:
    text = keras.Input((), dtype="string", name="title")
    number = keras.Input((6,), dtype="int64", name="history")
    read = keras.layers.TextVectorization(vocabulary=["cup", "pan"], output_sequence_length=3)(text)
    pool = keras.layers.GlobalAveragePooling1D()
    both = [pool(keras.layers.Embedding(9, 3)(read)), pool(keras.layers.Embedding(9, 3)(number))]
    encoder = keras.Model([text, number], keras.layers.Concatenate()(both))
    model, numbers = SimilarityModel(encoder), np.arange(12).reshape(2, 6) % 9
    want = model.embed([np.array(["cup", "pan"]), numbers])
    for same in (["cup", "pan"], pd.Series(["cup", "pan"]), pa.array(["cup", "pan"]), np.array([["cup"], ["pan"]])):
        np.testing.assert_array_equal(model.embed({"title": same, "history": numbers.astype(float)}), want)
    model.index([["cup", "pan"], numbers], ["a", "b"])
    assert model.single_lookup(["cup", numbers[0]], k=1)[0].label == "a"
    for x, error, message in (
        ([["cup", None], numbers], TypeError, "title must be of one kind"),
        ([[1, 2], numbers], TypeError, "title must be texts, got int"),
        ([["cup"], numbers], ValueError, "inputs must have the same length, got 1, 2 rows"),
        ([["cup", "pan"], numbers + 0.5], TypeError, "history must be whole numbers"),
        ([["cup", "pan"]], TypeError, "inputs must be a list of 2 arrays, got 1"),
        (["cup", "pan", "pot"], TypeError, "inputs must be a list of 2 arrays, got 3"),
        ({"title": ["cup", "pan"]}, TypeError, "inputs must be a list of 2 arrays, got dict"),
    ):
        with pytest.raises(error, match=message):
            model.embed(x)


CHANGES: dict[str, Callable[[keras.Model], Any]] = {
    "set_weights": lambda e: e.set_weights([w + 1e-6 for w in e.get_weights()]),
    "one number": lambda e: e.trainable_variables[0].assign(np.asarray(e.trainable_variables[0]) + np.eye(4, 3) * 1e-3),
    "signs of two": lambda e: e.set_weights([-w for w in e.get_weights()]),
    "rows that changed places": lambda e: e.set_weights([w[::-1] for w in e.get_weights()]),
    "its own fit": lambda e: (
        e.compile("adam", loss=losses.MultiSimilarity()),
        e.fit(samplers.ClassBatches(ROWS, [0, 0, 1, 1], classes=2, examples=2), epochs=2, verbose=0),
    ),
    "a model around it": lambda e: (
        (around := keras.Sequential([e, keras.layers.Dense(2)])).compile("sgd", loss="mse"),
        around.fit(ROWS, ROWS[:, :2], verbose=0),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_index_of_other_weights_is_stale_however_they_changed(
    change: Callable[[keras.Model], Any], tmp_path: Path
) -> None:
    model = model_of()
    assert model.lookup(ROWS[:1], k=1)[0][0].id == 0
    before = model.encoder.get_weights()
    change(model.encoder)
    for use in (
        lambda: model.lookup(ROWS[:1], k=1),
        lambda: model.match(ROWS, threshold=0.5),
        lambda: model.index(ROWS),
        lambda: model.save(str(tmp_path / "things")),
        lambda: model.evaluate_retrieval(ROWS, list("abab"), ks=(1,)),
    ):
        with pytest.raises(RuntimeError, match=r"as it is, whose weights changed since: call reset_index\(\)"):
            use()
    model.encoder.set_weights(before)  # as it was: the index is of it again
    assert model.lookup(ROWS[:1], k=1)[0][0].id == 0


def test_load_weights_a_statistic_and_a_vocabulary_are_seen(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    encoder = keras.Model(inputs, keras.layers.BatchNormalization()(keras.layers.Dense(3)(inputs)))
    encoder.save_weights(tmp_path / "first.weights.h5")
    first = fingerprint(encoder)
    encoder(ROWS, training=True)  # moves the means alone
    assert fingerprint(encoder) != first
    encoder.load_weights(tmp_path / "first.weights.h5")
    assert fingerprint(encoder) == first
    words = keras.layers.StringLookup(vocabulary=["cup", "pan"])
    text = keras.Input((2,), dtype="string")
    reader = keras.Model(text, keras.layers.Flatten()(keras.layers.Embedding(3, 2)(words(text))))
    first = fingerprint(reader)
    words.set_vocabulary(["pan", "cup"])
    assert fingerprint(reader) != first


def test_all_removed_is_no_index_that_could_be_stale() -> None:
    model = model_of()
    model.remove([0, 1, 2, 3])
    model.encoder.set_weights([w + 1 for w in model.encoder.get_weights()])
    model.index(ROWS, list("abab"))
    assert model.lookup(ROWS[:1], k=1)[0][0].score == pytest.approx(1)


def test_training_data_are_checked_before_keras_sees_them() -> None:
    inputs = keras.Input((4,))
    model = SimilarityModel(keras.Model(inputs, MetricEmbedding(3)(inputs)))
    model.compile("adam", loss=losses.MultiSimilarity())
    for y, settings, error, message in (
        (["a"] * 4, {}, ValueError, "labels must be of two classes at least, got 1 in 4 rows"),
        (["a", "b"], {}, ValueError, "inputs and labels must have the same length, got 4 and 2"),
        ("abab", {}, ValueError, "same length, got 4 and 1"),
        (list("abab"), {"sample_weight": [1, 2, np.nan, 1]}, ValueError, "finite and at least 0, got 1"),
        (list("abab"), {"sample_weight": [1, 2, -1, -2]}, ValueError, "finite and at least 0, got 2"),
        (list("abab"), {"sample_weight": [1, 2]}, ValueError, r"one number for each row, \(4,\), got int64 of shape"),
        ([1.0, np.nan, 1.0, 2.0], {}, ValueError, "labels must not be NaN"),
    ):
        with pytest.raises(error, match=message):
            model.fit(ROWS, y, verbose=0, **settings)
    assert model.classes == []  # a refused call leaves nothing behind
    for held, message in (
        ((ROWS[:, :2], list("abab")), r"inputs must have shape \(n, 4\)"),
        ((ROWS, ["a"]), "same length, got 4 and 1"),
        ((ROWS, list("abab"), [1, 1, 1, -1]), "at least 0, got 1"),
        ((ROWS[:0], []), "one class at least, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(ROWS, list("abab"), validation_data=held, verbose=0)
    history = model.fit(
        ROWS[[0, 1, 2, 3, 0]], pd.Series(list("ababa")), batch_size=4, shuffle=False, epochs=2, verbose=0
    )
    assert history.history["skipped"] == [1, 1]
    model.index(ROWS, np.array([[0], [1], [0], [1]]))
    assert [n.label for n in model.single_lookup(ROWS[1], k=1)] == [1]
    for wrong in (float("nan"), "much"):
        with pytest.raises(ValueError, match="threshold must be a number"):
            model.match(ROWS, threshold=wrong)  # type: ignore[arg-type]


def test_an_encoder_that_is_not_built_is_refused_with_the_cure() -> None:
    bare = keras.Sequential([keras.layers.Dense(3)])
    for use in (SimilarityModel, Siamese, lambda e: dssm(e, e), embedding_dim):
        with pytest.raises(ValueError, match=r"must be a built Keras model.*begin it with keras\.Input"):
            use(bare)
    bare(np.zeros((5, 4)))  # built by its first batch
    model = SimilarityModel(bare)
    model.index(ROWS[:2])
    assert len(model.lookup(ROWS, k=1)) == 4


def test_what_else_takes_inputs_texts_and_labels_asks_the_same() -> None:
    encoder = model_of().encoder
    with pytest.raises(ValueError, match="two rows at least, got 0"):
        whitened(encoder, ROWS[:0])
    with pytest.raises(ValueError, match=r"inputs must have shape \(n, 4\), got \(4, 2\)"):
        whitened(encoder, ROWS[:, :2])
    with pytest.raises(ValueError, match=r"inputs must have shape \(n, 4\), got \(4, 2\)"):
        Siamese(encoder).distances(ROWS[:, :2], samplers.make_pairs([0, 0, 1, 1]))
    alone = ngram_rows("red cup", buckets=99, width=8)
    np.testing.assert_array_equal(alone, ngram_rows(["red cup"], buckets=99, width=8))
    ones = PretrainedText(lambda texts: np.ones((len(texts), 2)), dim=2)
    assert ones("cup").shape == (1, 2)
    assert ones(pd.Series(["cup", None], dtype=object)).tolist() == [[1, 1], [0, 0]]
    for use in (ones, lambda t: ngram_rows(t, buckets=9, width=3)):
        with pytest.raises(TypeError, match="texts must be str or None, got int"):
            use([1, 2])
    with pytest.raises(ValueError, match="finite, got 1 rows"):
        effective_rank(np.array([[np.nan, 1.0], [0, 1]]))
    with pytest.raises(ValueError, match="above 0 and at most 1, got 'high'"):
        calibrate([0.1, 0.2], [True, False], "high")  # type: ignore[arg-type]
    wrong: Any
    for wrong in (["yes", "no"], [1, np.nan]):
        with pytest.raises(ValueError, match="right or not, True or False"):
            calibrate([0.1, 0.2], wrong, 0.5)
        with pytest.raises(ValueError, match="alike must be 1 for pairs of one label and 0"):
            pair_accuracy([0.1, 0.2], wrong)
    with pytest.raises(ValueError, match="two classes at least"):
        miners.BatchHard()(list("aaaa"), ROWS)
    with pytest.raises(TypeError, match="of rows and of references must be of one kind, got int64 and string"):
        losses.Triplet().forward_pairs([0, 1], ROWS[:2], ["a", "b"], ROWS[2:])
    with pytest.raises(ValueError, match="1 labels in 1 rows"):
        samplers.make_pairs("abab")


def test_metrics_read_labels_as_the_index_does() -> None:
    with pytest.raises(ValueError, match="got 1 labels for 4 rows"):
        retrieval_metrics(ROWS, "abab", ks=(1,))
    with pytest.raises(ValueError, match="labels must not be NaN, got 1"):
        retrieval_metrics(ROWS, [0, 0, 1, np.nan], ks=(1,))
    ks: Any
    for ks in (1, "1", (1.5,)):
        with pytest.raises(TypeError, match="ks must be a list of whole numbers"):
            knn_accuracy(ROWS, list("aabb"), ks=ks)
    want = retrieval_metrics(ROWS, list("aabb"), ks=(1,))
    same: Any
    for same in (np.array([[0], [0], [1], [1]]), pa.array(list("aabb")), pd.Series(list("aabb"), dtype="category")):
        assert retrieval_metrics(ROWS, same, ks=(1,)) == want
        assert nmi(ROWS, same, seed=0) == nmi(ROWS, list("aabb"), seed=0)


@pytest.mark.slow
def test_the_fingerprint_of_ten_million_numbers_costs_less_than_a_lookup() -> None:
    inputs = keras.Input((1000,))
    encoder = keras.Model(inputs, keras.layers.Dense(1000)(keras.layers.Dense(5000)(inputs)))

    def seconds(what: Callable[[], Any]) -> float:
        what()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            what()
            times.append(time.perf_counter() - start)
        return min(times)

    one = np.zeros((1, 1000))
    assert seconds(lambda: fingerprint(encoder)) < seconds(lambda: encoder.predict(one, verbose=0))
