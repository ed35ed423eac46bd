"""Encoders of texts: hashed words and character n-grams, trained here; or any pretrained encoder, kept as it is.

    network = ngram_encoder(buckets=50_000, dim=64)
    rows = ngram_rows(titles, buckets=50_000, width=64)
    network.compile("adam", loss=MultiSimilarity())
    network.fit(rows, categories)

Words never seen in training are met by the n-grams they share with others.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from numpy.typing import ArrayLike

from topkin.metrics.labels import values_of
from topkin.models.data.item_features import hash_words, tokenise
from topkin.models.metric_learning.layers import MetricEmbedding
from topkin.models.metric_learning.serialization import serializable


def ngrams(word: str, smallest: int, largest: int) -> list[str]:
    """The word between marks, ``<word>``, and its n-grams of ``smallest`` to ``largest`` letters, marks included."""
    marked = f"<{word}>"
    parts = [
        marked[i : i + n]
        for n in range(smallest, min(largest, len(marked) - 1) + 1)
        for i in range(len(marked) - n + 1)
    ]
    return [marked, *parts]


def _texts(texts: pa.Array | Sequence[str | None]) -> list[str | None]:
    """Texts from any container; one alone is one text, never its letters. Raises TypeError for what is no text."""
    values = values_of(texts, "texts")
    odd = sorted({type(v).__name__ for v in values if not isinstance(v, str | None)})
    if odd:
        raise TypeError(f"texts must be str or None, got {', '.join(odd)}: cast them")
    return values


def ngram_rows(
    texts: pa.Array | Sequence[str | None], *, buckets: int, width: int, smallest: int = 3, largest: int = 5
) -> np.ndarray:
    """The hashed words and n-grams of each text, (n, width) int32 in 1..buckets, padded with 0.

    In the order of the text, each word before its n-grams; what is more than ``width`` is left out. Texts are
    lower-cased, and cut to words of letters and digits. No text, or none with a word, is all 0. The hashes are
    the same on any machine and version.

    Args:
        texts: (n,) strings or None.
        buckets: numbers to hash to.
        width: numbers of a text, at most.
        smallest: letters of an n-gram, at least.
        largest: letters of an n-gram, at most.

    Raises:
        ValueError: sizes below 1, or ``largest`` below ``smallest``.

    Examples:
        >>> from topkin.models import ngram_rows
        >>> ngram_rows(["red lantern", None], buckets=500, width=12).shape
        (2, 12)
    """
    if min(buckets, width) < 1 or not 1 <= smallest <= largest:
        raise ValueError(
            f"buckets, width and smallest must be at least 1, largest at least smallest, got {buckets}, {width}, "
            f"{smallest} and {largest}"
        )
    titles = texts if isinstance(texts, pa.Array) else pa.array(_texts(texts), pa.string())
    words = tokenise(titles)
    flat = pc.list_flatten(words).dictionary_encode()
    hashed = [
        hash_words(ngrams(word, smallest, largest), buckets)[:width] if word else np.zeros(0, np.int32)
        for word in flat.dictionary.to_pylist()
    ]
    lengths = np.asarray(pc.fill_null(pc.list_value_length(words), 0))
    ends = np.cumsum(lengths)
    numbers = np.asarray(flat.indices)
    out = np.zeros((len(titles), width), np.int32)
    for row, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        at = 0
        for number in numbers[end - length : end]:
            part = hashed[number][: width - at]
            out[row, at : at + len(part)] = part
            at += len(part)
    return out


@serializable
class MeanOfRows(keras.layers.Layer):
    """The mean of the trained vectors of the numbers in each row, 0 being none: (n, width) -> (n, dim).

    A row of nothing but 0 gives a zero vector.
    """

    def __init__(self, buckets: int, dim: int, *, seed: int | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.buckets, self.dim, self.seed = buckets, dim, seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the vectors, (buckets + 1, dim); the first is never used."""
        start = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.vectors = self.add_weight((self.buckets + 1, self.dim), start, name="vectors")

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """See the class."""
        rows = tf.cast(rows, tf.int32)
        vectors = tf.gather(tf.convert_to_tensor(self.vectors), rows)
        present = tf.cast(rows > 0, vectors.dtype)[..., None]
        return tf.math.divide_no_nan(tf.reduce_sum(vectors * present, axis=1), tf.reduce_sum(present, axis=1))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tf.Tensor:
        """(n, dim)."""
        return (input_shape[0], self.dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "buckets": self.buckets, "dim": self.dim, "seed": self.seed}


def ngram_encoder(*, buckets: int, dim: int = 64, hidden: int | None = None, seed: int | None = None) -> keras.Model:
    """Rows of :func:`ngram_rows` to unit rows: (n, width) int32 -> (n, dim) float32.

    The mean of the n-grams' vectors, then a :class:`MetricEmbedding`. A text without a word stays a zero vector:
    it is like nothing.

    Bojanowski et al., Enriching word vectors with subword information, TACL 2017.

    Args:
        buckets: as of :func:`ngram_rows`.
        dim: of the embedding.
        hidden: width of the n-grams' vectors; ``dim`` where None.
        seed: of the first weights.

    Examples:
        >>> from topkin.models import ngram_encoder, ngram_rows
        >>> encoder = ngram_encoder(buckets=500, dim=8)
        >>> encoder(ngram_rows(["red lantern"], buckets=500, width=12)).shape
        TensorShape([1, 8])
    """
    inputs = keras.Input((None,), dtype="int32")
    features = MeanOfRows(buckets, hidden or dim, seed=seed)(inputs)
    return keras.Model(inputs, MetricEmbedding(dim, seed=seed)(features), name="ngram_encoder")


class PretrainedText:
    """An adapter: any function from texts to vectors, checked, in batches; train a head on what it gives.

    Called on (n,) strings or None it gives (n, dim) float32, each distinct text encoded once. The function's
    weights stay as they are. An empty text or None is not asked about and gives a zero vector.

    Args:
        encode: called with a list of at most ``batch_size`` strings, gives (b, dim) numbers: a Keras or
            TensorFlow model's ``predict``, sentence-transformers' ``encode``, a request to a service.
        dim: of the vectors.
        batch_size: strings of a call.

    Raises:
        ValueError: sizes below 1; when called, vectors of another shape or numbers that are not finite.

    Examples:
        >>> from topkin.models import PretrainedText
        >>> lengths = PretrainedText(lambda texts: np.array([[len(text)] for text in texts]), dim=1)
        >>> lengths(["cup", None])
        array([[3.],
               [0.]], dtype=float32)
    """

    def __init__(self, encode: Callable[[list[str]], ArrayLike], *, dim: int, batch_size: int = 256) -> None:
        if min(dim, batch_size) < 1:
            raise ValueError(f"dim and batch_size must be at least 1, got {dim} and {batch_size}")
        self.encode, self.dim, self.batch_size = encode, dim, batch_size

    def __call__(self, texts: pa.Array | Sequence[str | None]) -> np.ndarray:
        """(n, dim) float32, each distinct text encoded once.

        Raises ValueError where the function gives another shape or numbers that are not finite.
        """
        values = _texts(texts)
        distinct = list(dict.fromkeys(text for text in values if text))
        out = np.zeros((len(distinct) + 1, self.dim), np.float32)
        for start in range(0, len(distinct), self.batch_size):
            batch = distinct[start : start + self.batch_size]
            vectors = np.asarray(self.encode(batch))
            if vectors.shape != (len(batch), self.dim):
                raise ValueError(
                    f"the encoder must give ({len(batch)}, {self.dim}) numbers for {len(batch)} texts, got shape "
                    f"{vectors.shape}: give its dimension as dim"
                )
            if not np.isfinite(vectors).all():
                bad = batch[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
                raise ValueError(f"vectors must be finite, got others for the text {bad[:80]!r}")
            out[start : start + len(batch)] = vectors
        place: dict[str | None, int] = {text: number for number, text in enumerate(distinct)}
        return out[[place.get(text, len(distinct)) for text in values]] if values else out[:0]

    def head(self, dim: int, *, seed: int | None = None) -> keras.Model:
        """A model to train on the vectors: (n, self.dim) -> (n, dim) unit rows."""
        inputs = keras.Input((self.dim,))
        return keras.Model(inputs, MetricEmbedding(dim, seed=seed)(inputs), name="text_head")


def pretrained_keras(
    model: keras.Model, prepare: Callable[[list[str]], ArrayLike], *, batch_size: int = 256
) -> PretrainedText:
    """The :class:`PretrainedText` of a Keras model with output (n, dim).

    Args:
        model: as it is; its weights are not trained.
        prepare: from a list of strings to the model's input.
        batch_size: strings of a call.

    Examples:
        >>> from topkin.models import ngram_encoder, ngram_rows, pretrained_keras
        >>> texts = pretrained_keras(ngram_encoder(buckets=500, dim=8), lambda t: ngram_rows(t, buckets=500, width=12))
        >>> texts(["red lantern", "blue lantern"]).shape
        (2, 8)
    """
    return PretrainedText(
        partial(_predict, model, prepare, batch_size), dim=int(model.output_shape[-1]), batch_size=batch_size
    )


def _predict(
    model: keras.Model, prepare: Callable[[list[str]], ArrayLike], batch_size: int, texts: list[str]
) -> np.ndarray:
    return model.predict(prepare(texts), batch_size=batch_size, verbose=0)
