"""The network that is trained where the user brings none: its layers follow from the kinds of the inputs.

What preprocessing learns (vocabularies, means) is a layer of the model, fitted to rows of the training, so that what
trains is what serves.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from topkin.encoding.signature import EncoderInput
from topkin.models.encoders.images import small_cnn
from topkin.models.encoders.text import MeanOfRows
from topkin.models.metric_learning.layers import MetricEmbedding
from topkin.models.metric_training.rows import Feeds

WORDS, NGRAMS, CATEGORIES = 20_000, 30_000, 50_000
UNITS, DROPOUT = 256, 0.1
WIDTHS = (32, 64, 128, 192, 256)

Branch = Callable[[EncoderInput, tf.Tensor, np.ndarray, int], tf.Tensor]


def default_network(
    specs: tuple[EncoderInput, ...],
    sample: Feeds,
    *,
    dim: int | None,
    unit: bool = True,
    places: bool = False,
    seed: int = 0,
) -> keras.Model:
    """A network for some inputs: a small CNN of each image, words and character n-grams of each text, an MLP of all.

    Args:
        specs: The inputs, their kinds and shapes.
        sample: Rows of the training, (k, …) by input, to which vocabularies and means are fitted; images need none.
        dim: Coordinates of a vector; None for what the last features are.
        unit: Whether vectors have length 1.
        places: Keep the places of an image apart in its features, as what has no labels to tell them needs; else they
            are pooled.
        seed: Of the first weights.

    Returns:
        A functional model with the inputs' names; preprocessing is inside.
    """
    inputs: list[tf.Tensor] = []
    images: list[tf.Tensor] = []
    flat: list[tf.Tensor] = []
    for number, spec in enumerate(specs):
        tensor = keras.Input(spec.shape, dtype=spec.dtype, name=spec.name)
        inputs.append(tensor)
        branch = _places if spec.kind == "image" and places else _BRANCHES[spec.kind]
        features = branch(spec, tensor, sample.get(spec.name, np.zeros(0)), seed + number)
        (images if spec.kind == "image" else flat).append(features)
    if flat:
        images.append(_perceptron(_joined(flat), seed))
    features = _joined(images)
    if dim is not None:
        start = keras.initializers.GlorotUniform(seed=seed)
        last = MetricEmbedding(dim, seed=seed) if unit else keras.layers.Dense(dim, kernel_initializer=start)
        features = last(features)
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, features, name="encoder")


def mirrored(encoder: keras.Model, specs: tuple[EncoderInput, ...]) -> keras.Model:
    """An encoder of the mean of a row's vector and of its mirror image's, of length 1: it takes twice the time.

    Left and right of every image input are exchanged; the other inputs are the same to both.
    """
    inputs = [keras.Input(s.shape, dtype=s.dtype, name=s.name) for s in specs]
    images = [s.kind == "image" for s in specs]
    turned = [keras.ops.flip(x, axis=2) if image else x for x, image in zip(inputs, images, strict=True)]
    both = [encoder(x[0] if len(x) == 1 else x) for x in (inputs, turned)]
    mean = MetricEmbedding(None)(keras.layers.Average()(both))
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, mean, name="mirrored")


def _joined(parts: list[tf.Tensor]) -> tf.Tensor:
    return parts[0] if len(parts) == 1 else keras.layers.Concatenate()(parts)


def _perceptron(x: tf.Tensor, seed: int) -> tf.Tensor:
    """Two dense layers, with the features themselves beside them: what is linear in them need not be learned anew."""
    deep = x
    for number in range(2):
        start = keras.initializers.HeNormal(seed=seed * 10_007 + number)
        deep = keras.layers.Dense(UNITS, kernel_initializer=start, use_bias=False)(deep)
        deep = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(deep))
        deep = keras.layers.Dropout(DROPOUT, seed=seed + number)(deep)
    return keras.layers.Concatenate()([x, deep])


def _image(spec: EncoderInput, x: tf.Tensor, sample: np.ndarray, seed: int) -> tf.Tensor:
    if len(spec.shape) == 2:
        x = keras.layers.Reshape((*spec.shape, 1))(x)
    height, width, channels = (*spec.shape, 1)[:3]
    stages = max(1, min(len(WIDTHS), int(np.log2(max(min(height, width), 8) / 7)) + 1))
    pixels = keras.layers.Rescaling(1.0)(x)
    return small_cnn((height, width, channels), widths=WIDTHS[:stages], dropout=DROPOUT, seed=seed)(pixels)


def _places(spec: EncoderInput, x: tf.Tensor, sample: np.ndarray, seed: int) -> tf.Tensor:
    """Convolutions that each halve the side until it is about four; the last one's map, every place of it."""
    height, width, channels = (*spec.shape, 1)[:3]
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((height, width, channels))(x))
    stages = max(1, min(len(WIDTHS), round(np.log2(max(min(height, width), 8) / 3.5))))
    for number, channels in enumerate(WIDTHS[:stages]):
        start = keras.initializers.GlorotUniform(seed=seed * 10_007 + number)
        size = 3 if number else 5
        x = keras.layers.Conv2D(channels, size, 2, "same", use_bias=False, kernel_initializer=start)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    return keras.layers.Flatten()(x)


def _numbers(spec: EncoderInput, x: tf.Tensor, sample: np.ndarray, seed: int) -> tf.Tensor:
    if len(spec.shape) != 1:
        x, sample = keras.layers.Reshape((-1,))(x), sample.reshape(len(sample), -1)
    mean, variance = sample.mean(axis=0, dtype=np.float64), sample.var(axis=0, dtype=np.float64)
    # A column that never changes stays at 0 in place of growing without bound.
    variance = np.where(variance > 1e-12, variance, 1.0)
    return keras.layers.Normalization(mean=mean.astype(np.float32), variance=variance.astype(np.float32))(x)


def _categories(spec: EncoderInput, x: tf.Tensor, sample: np.ndarray, seed: int) -> tf.Tensor:
    """The trained vector of a value, or the mean of those of a list; a value never seen has that of the unknown."""
    listed = spec.kind in ("categories", "texts")
    values = sample.reshape(-1)
    values = values[values != (b"" if spec.dtype == "string" else 0)] if listed else values
    distinct, counts = np.unique(values, return_counts=True)
    distinct = distinct[np.sort(np.argsort(-counts, kind="stable")[:CATEGORIES])]
    width = int(min(64, 4 + 2 * np.sqrt(len(distinct) + 1)))
    if spec.dtype == "string":
        words = [value.decode("utf-8", "replace") for value in distinct] or ["unknown"]
        lookup = keras.layers.StringLookup(vocabulary=words, mask_token="" if listed else None)
    else:
        numbers = distinct.astype(np.int64).tolist() or [1]
        lookup = keras.layers.IntegerLookup(vocabulary=numbers, mask_token=0 if listed else None)
    if listed:
        return MeanOfRows(lookup.vocabulary_size() - 1, width, seed=seed)(lookup(x))
    start = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    vectors = keras.layers.Embedding(lookup.vocabulary_size(), width, start)(lookup(x))
    return keras.layers.Flatten()(vectors) if spec.shape else vectors


def _text(spec: EncoderInput, x: tf.Tensor, sample: np.ndarray, seed: int) -> tf.Tensor:
    """The means of the trained vectors of a text's words and of its character n-grams, side by side."""
    texts = tf.constant(sample.reshape(-1), tf.string)
    if not spec.shape:
        x = keras.layers.Reshape((1,))(x)
    parts = []
    for number, (split, ngrams, size, width) in enumerate(
        (("whitespace", None, WORDS, 24), ("character", (3, 4), NGRAMS, 128))
    ):
        vectorise = keras.layers.TextVectorization(
            size, split=split, ngrams=ngrams, output_mode="int", output_sequence_length=width
        )
        vectorise.adapt(tf.data.Dataset.from_tensor_slices(texts).batch(512))
        buckets = len(vectorise.get_vocabulary()) - 1
        parts.append(MeanOfRows(buckets, 64, seed=seed * 10_007 + number)(vectorise(x)))
    return keras.layers.Concatenate()(parts)


_BRANCHES: dict[str, Branch] = {
    "image": _image,
    "number": _numbers,
    "numbers": _numbers,
    "vector": _numbers,
    "category": _categories,
    "categories": _categories,
    "texts": _categories,
    "text": _text,
}
