"""Texts: n-grams as a loop over letters gives them, misspelt words near, any pretrained encoder adapted."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pytest

from topkin.models.data.item_features import hash_words
from topkin.models.encoders.text import MeanOfRows, PretrainedText, ngram_encoder, ngram_rows, ngrams, pretrained_keras
from topkin.models.metric_learning.losses.pair import MultiSimilarity

TEXTS = ["Red lantern", None, "", "RED, lanterns!", "blue &amp; red", "ü1"]


def test_the_ngrams_of_a_word() -> None:
    assert ngrams("red", 3, 4) == ["<red>", "<re", "red", "ed>", "<red", "red>"]
    assert ngrams("a", 3, 5) == ["<a>"]


def test_rows_are_the_hashed_ngrams_of_each_word_in_order() -> None:
    rows = ngram_rows(TEXTS, buckets=1000, width=40)
    for row, words in zip(
        rows, [["red", "lantern"], [], [], ["red", "lanterns"], ["blue", "red"], ["ü1"]], strict=True
    ):
        grams = [gram for word in words for gram in ngrams(word, 3, 5)]
        want = hash_words(grams, 1000).tolist() if grams else []
        assert row.tolist() == (want + [0] * 40)[:40]
    assert (ngram_rows(pa.array(TEXTS), buckets=1000, width=7) == rows[:, :7]).all()
    assert ngram_rows([], buckets=9, width=3).shape == (0, 3)


def test_the_mean_leaves_padding_out() -> None:
    layer = MeanOfRows(9, 4, seed=1)
    got = np.asarray(layer(np.array([[1, 3, 0], [0, 0, 0], [2, 2, 5]])))
    vectors = np.asarray(layer.vectors)
    np.testing.assert_allclose(got[0], (vectors[1] + vectors[3]) / 2, rtol=1e-6)
    assert not got[1].any()
    np.testing.assert_allclose(got[2], (2 * vectors[2] + vectors[5]) / 3, rtol=1e-6)


def test_an_encoder_learns_meets_unseen_spellings_and_survives_saving(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    kinds = {0: ["lantern", "candle", "lamp"], 1: ["spade", "shovel", "rake"]}
    rng = np.random.default_rng(0)
    colours = ["red", "blue", "green", "white"]
    texts, labels = zip(
        *[(f"{rng.choice(colours)} {rng.choice(kinds[kind])}", kind) for kind in (0, 1) * 60], strict=True
    )
    encoder = ngram_encoder(buckets=500, dim=8, seed=1)
    encoder.compile(keras.optimizers.Adam(0.02), loss=MultiSimilarity(), jit_compile=False)
    rows = ngram_rows(texts, buckets=500, width=32)
    encoder.fit(rows, np.array(labels), batch_size=40, epochs=10, verbose=0)
    asked = ngram_rows(["pink lanterns", "pink lampp", "pink shovels", "spades", None], buckets=500, width=32)
    vectors = encoder.predict(asked, verbose=0)
    assert not vectors[4].any()
    near = vectors[:4] @ vectors[:4].T
    assert min(near[0, 1], near[2, 3]) > near[:2, 2:].max() + 0.2
    encoder.save(tmp_path / "text.keras")
    again = keras.saving.load_model(tmp_path / "text.keras", safe_mode=True)
    assert (again.predict(asked, verbose=0) == vectors).all()


def test_a_pretrained_encoder_is_asked_once_for_each_text_in_batches() -> None:
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> Any:
        asked.append(texts)
        return [[len(text), text.count("e")] for text in texts]

    texts = PretrainedText(encode, dim=2, batch_size=2)
    assert texts(["red", None, "tree", "red", "", "a"]).tolist() == [[3, 1], [0, 0], [4, 2], [3, 1], [0, 0], [1, 0]]
    assert asked == [["red", "tree"], ["a"]]
    assert texts([]).shape == (0, 2)
    vectors = np.asarray(texts.head(5, seed=1)(texts(["red", "tree"])))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_a_keras_model_is_adapted() -> None:
    model = ngram_encoder(buckets=50, dim=3, seed=2)

    def prepare(texts: list[str]) -> np.ndarray:
        return ngram_rows(texts, buckets=50, width=9)

    got = pretrained_keras(model, prepare)(["red", "blue"])
    np.testing.assert_allclose(got, model.predict(prepare(["red", "blue"]), verbose=0))


def test_what_a_pretrained_encoder_must_give_is_explained() -> None:
    with pytest.raises(ValueError, match=r"must give \(1, 3\) numbers for 1 texts, got shape \(1, 2\)"):
        PretrainedText(lambda texts: np.zeros((len(texts), 2)), dim=3)(["a"])
    with pytest.raises(ValueError, match="must be finite, got others for the text 'b'"):
        PretrainedText(lambda texts: [[0.0] if text == "a" else [np.nan] for text in texts], dim=1)(["a", "b"])
    with pytest.raises(ValueError, match="largest at least smallest, got 9, 3, 4 and 3"):
        ngram_rows(["a"], buckets=9, width=3, smallest=4, largest=3)
