"""Images in Parquet, read as arrays, and encoders of images.

An image is its raw bytes, row by row, in a ``fixed_size_binary`` column. Encoders take uint8 or float images
of 0 to 255, (n, height, width, channels), scale them inside, and give features (n, d) without a head: put a
``MetricEmbedding`` after them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from topkin.artifacts import storage
from topkin.errors import InputError


class Images(NamedTuple):
    """images: (n, height, width, channels) uint8. labels: (n,), of the file's type. Both in the file's order."""

    images: np.ndarray
    labels: np.ndarray


def read_images(
    path: str, *, shape: tuple[int, int, int] = (28, 28, 1), image: str = "image", label: str = "label"
) -> Images:
    """Every image of one Parquet file with its label, in the file's order.

    Args:
        path: of the file.
        shape: of an image, (height, width, channels).
        image: the column of raw bytes, ``fixed_size_binary[height · width · channels]``.
        label: the column of labels.

    Returns:
        ``images``, (n, height, width, channels) uint8, and ``labels``, (n,) of the file's type.

    Raises:
        InputError: the file or a column is missing, a column is of another type, or has nulls.

    Examples:
        >>> import pyarrow as pa, pyarrow.parquet as pq
        >>> from topkin.models import read_images
        >>> table = pa.table({"image": pa.array([b"1234", b"5678"], pa.binary(4)), "label": [0, 1]})
        >>> pq.write_table(table, "images.parquet")
        >>> read_images("images.parquet", shape=(2, 2, 1)).images.shape
        (2, 2, 2, 1)
    """
    return images_of(storage.read_parquet(path, _present(path, image, label)), shape, image=image, label=label)


def _present(path: str, *columns: str) -> list[str]:
    if not storage.exists(path):
        raise InputError(f"images must be in a Parquet file, got {path}, which is not there: look at the path")
    fs, inner = storage.filesystem(path)
    with fs.open_input_file(inner) as source:
        names = pq.read_schema(source).names
    for column in columns:
        if column not in names:
            raise InputError(f"{path} must have a column {column!r}, got {', '.join(names)}: name the right one")
    return list(columns)


def images_of(table: pa.Table, shape: tuple[int, int, int], *, image: str = "image", label: str = "label") -> Images:
    """The images and labels of a table; see :func:`read_images`."""
    labels = table[label].combine_chunks()
    if labels.null_count:
        raise InputError(f"each image must have a label, {labels.null_count} of {len(labels)} have none: drop them")
    if pa.types.is_dictionary(labels.type):
        labels = labels.dictionary_decode()
    return Images(pixels(table[image], shape), labels.to_numpy(zero_copy_only=False))


def pixels(column: pa.ChunkedArray, shape: tuple[int, int, int]) -> np.ndarray:
    """A ``fixed_size_binary[height · width · channels]`` column as (n, height, width, channels) uint8."""
    size = int(np.prod(shape))
    if not pa.types.is_fixed_size_binary(column.type) or column.type.byte_width != size:
        raise InputError(
            f"images of shape {shape} must be fixed_size_binary[{size}], got {column.type}: give the shape"
        )
    if column.null_count:
        raise InputError(f"each row must have an image, {column.null_count} of {len(column)} have none: drop them")
    blocks = []
    for chunk in column.chunks:
        first = chunk.offset * size
        blocks.append(np.frombuffer(chunk.buffers()[1], np.uint8)[first : first + len(chunk) * size])
    return np.concatenate([np.zeros(0, np.uint8), *blocks]).reshape(-1, *shape)


def mlp(
    shape: Sequence[int] = (28, 28, 1),
    *,
    units: Sequence[int] = (128, 128, 128),
    dropout: float = 0.1,
    seed: int | None = None,
) -> keras.Model:
    """Flatten, then for each of ``units`` a dense layer with ReLU and dropout: (n, *shape) -> (n, units[-1]).

    Args:
        shape: of an image, (height, width, channels).
        units: width of each layer.
        dropout: after each layer.
        seed: of the first weights.

    Examples:
        >>> from topkin.models import mlp
        >>> mlp((28, 28, 1)).output_shape
        (None, 128)
    """
    x = inputs = keras.Input(tuple(shape))
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Flatten()(x)
    for number, width in enumerate(units):
        start = keras.initializers.GlorotUniform(seed=_next(seed, number))
        x = keras.layers.Dense(width, activation="relu", kernel_initializer=start)(x)
        x = keras.layers.Dropout(dropout, seed=_next(seed, number))(x)
    return keras.Model(inputs, x, name="mlp")


def small_cnn(
    shape: Sequence[int] = (28, 28, 1),
    *,
    widths: Sequence[int] = (32, 64, 128),
    depth: int = 2,
    dropout: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """Stages of ``depth`` convolutions, the size halved between stages, then pooled: (n, *shape) -> (n, d).

    d is 2 · widths[-1]. A convolution is 3 x 3, batch normalisation, ReLU. The features
    are each channel's mean and its maximum over the places.

    Args:
        shape: of an image, (height, width, channels).
        widths: channels of each stage.
        depth: convolutions of a stage; the first has one, at full size.
        dropout: of the features.
        seed: of the first weights.

    Examples:
        >>> from topkin.models import small_cnn
        >>> small_cnn((28, 28, 1)).output_shape
        (None, 256)
    """
    seeds = iter(range(10_000))
    x = inputs = keras.Input(tuple(shape))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    for stage, width in enumerate(widths):
        if stage:
            x = keras.layers.MaxPooling2D()(x)
        for _ in range(depth if stage else 1):
            x = _convolution(x, width, _next(seed, next(seeds)))
            x = keras.layers.ReLU()(x)
    return keras.Model(inputs, _pooled(x, dropout, seed), name="small_cnn")


def small_resnet(
    shape: Sequence[int] = (28, 28, 1),
    *,
    widths: Sequence[int] = (32, 64, 128),
    blocks: int = 1,
    dropout: float = 0.0,
    seed: int | None = None,
) -> keras.Model:
    """A residual network: a convolution, then stages of residual blocks: (n, *shape) -> (n, 2 · widths[-1]).

    Each stage after the first halves the size. Features as of :func:`small_cnn`.

    He et al., Deep residual learning for image recognition, CVPR 2016.

    Args:
        shape: of an image, (height, width, channels).
        widths: channels of each stage.
        blocks: of a stage.
        dropout: of the features.
        seed: of the first weights.

    Examples:
        >>> from topkin.models import small_resnet
        >>> small_resnet((28, 28, 1)).output_shape
        (None, 256)
    """
    seeds = iter(range(10_000))
    x = inputs = keras.Input(tuple(shape))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = keras.layers.ReLU()(_convolution(x, widths[0], _next(seed, next(seeds))))
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            beside = x
            if stride > 1 or x.shape[-1] != width:
                beside = _convolution(x, width, _next(seed, next(seeds)), size=1, stride=stride)
            x = keras.layers.ReLU()(_convolution(x, width, _next(seed, next(seeds)), stride=stride))
            x = _convolution(x, width, _next(seed, next(seeds)))
            x = keras.layers.ReLU()(keras.layers.Add()([x, beside]))
    return keras.Model(inputs, _pooled(x, dropout, seed), name="small_resnet")


def _convolution(x: tf.Tensor, width: int, seed: int | None, *, size: int = 3, stride: int = 1) -> tf.Tensor:
    start = keras.initializers.HeNormal(seed=seed)
    x = keras.layers.Conv2D(width, size, stride, "same", use_bias=False, kernel_initializer=start)(x)
    return keras.layers.BatchNormalization(momentum=0.9)(x)


def _pooled(x: tf.Tensor, dropout: float, seed: int | None) -> tf.Tensor:
    x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)])
    return keras.layers.Dropout(dropout, seed=seed)(x) if dropout else x


def _next(seed: int | None, number: int) -> int | None:
    return None if seed is None else seed * 10_007 + number
