"""Files of images, as bytes or by their paths, decoded and resized in one pass over a batch.

Decoded as ``keras.utils.image_dataset_from_directory`` does, so that a model sees in the job what it saw in training:
values of 0 to 255, resized by bilinear interpolation, the first frame of an animation.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from pyarrow import types

from topkin.artifacts import storage
from topkin.encoding.batching import prefetched
from topkin.encoding.columns import Rejections
from topkin.encoding.signature import EncoderInput
from topkin.errors import ArtifactError

READERS = 16
"""Files read at once: they may lie far away."""

WINDOW_BYTES, STEP = 32 << 20, 64
"""Bytes of files that are decoded at a time, while the next are read; they are read and counted STEP at a time."""


def decode(column: pa.Array, spec: EncoderInput, rejections: Rejections, *, folder: str = "") -> np.ndarray:
    """(n, *spec.shape) float32, or uint8 where the model takes whole numbers.

    Rows that cannot be read or decoded are rejected.

    Args:
        column: (n,) binary: PNG, JPEG, GIF, BMP or WebP; or strings: paths or URIs of such files.
        spec: the input.
        rejections: of the n rows.
        folder: what relative paths begin in.
    """
    null = np.asarray(pc.is_null(column))
    shape = (*spec.shape, 1)[:3]
    images = np.zeros((len(column), *shape), np.float32 if "float" in spec.dtype else np.uint8)
    decoded, unread = np.zeros(len(column), bool), np.zeros(len(column), bool)
    with closing(prefetched(_windows(column, np.flatnonzero(~null), folder), 1)) as windows:
        for rows, files in windows:
            lost = np.array([file is None for file in files], bool)
            unread[rows[lost]] = True
            for good, pixels in _decoded(rows[~lost], files[~lost], shape, images.dtype):
                images[good], decoded[good] = pixels, True
    rejections.reject(unread, f"{spec.label} names a file that cannot be read")
    rejections.reject(~null & ~decoded, f"{spec.label} is no image that can be decoded")
    return images.reshape(len(column), *spec.shape)


def _windows(column: pa.Array, wanted: np.ndarray, folder: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers and the bytes of their files, objects that are None where they cannot be read.

    A window has about WINDOW_BYTES: to begin one costs as much as decoding many small files.
    """
    inside = types.is_binary(column.type) or types.is_large_binary(column.type)
    parts: list[np.ndarray] = []
    begin = held = 0
    with ThreadPoolExecutor(READERS) as pool:
        for end in range(STEP, len(wanted) + STEP, STEP):
            files = column.take(pa.array(wanted[end - STEP : end])).to_numpy(zero_copy_only=False)
            if not inside:
                files[:] = list(pool.map(partial(read_file, folder), files))
            parts.append(files)
            held += sum(len(file) for file in files if file is not None)
            if held >= WINDOW_BYTES or end >= len(wanted):
                yield wanted[begin:end], np.concatenate(parts)
                parts, begin, held = [], end, 0


def read_file(folder: str, path: str) -> bytes | None:
    """The bytes of a file; None where it cannot be read. folder: what relative paths begin in."""
    try:
        return storage.read_bytes(path if "://" in path else storage.join(folder, path))
    except (ArtifactError, OSError, ValueError):  # not there, not to be read, or no name of a file
        return None


def _decoded(
    rows: np.ndarray, files: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers and pixels of those files that are images."""
    if not len(rows):
        return
    with tf.device("CPU"):
        data = tf.data.Dataset.from_tensor_slices((rows, tf.constant(files.tolist(), tf.string)))
        data = data.map(_decoder(shape, dtype.name), num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        yield from data.batch(256).as_numpy_iterator()


@lru_cache
def _decoder(shape: tuple[int, ...], dtype: str) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """What makes an image of a file, traced once."""
    height, width, channels = shape

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.string)], autograph=False)
    def one(row: tf.Tensor, file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_image(file, channels=channels, expand_animations=False)
        image = tf.ensure_shape(image, (None, None, channels))
        same = tf.reduce_all(tf.shape(image)[:2] == (height, width))
        image = tf.cond(
            same,
            lambda: tf.cast(image, tf.float32),
            lambda: tf.image.resize(image, (height, width)),
        )
        image = tf.ensure_shape(image, shape)
        return row, tf.saturate_cast(tf.round(image), tf.uint8) if dtype == "uint8" else image

    return one
