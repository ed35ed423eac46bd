"""Files of images, as bytes or by their paths, decoded and resized in one pass over a batch.

Decoded as ``keras.utils.image_dataset_from_directory`` does, so that a model sees in the job what it saw in training:
values of 0 to 255, resized by bilinear interpolation, the first frame of an animation.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
from pyarrow import types

from topkin.artifacts import storage
from topkin.encoding.columns import Rejections
from topkin.encoding.signature import EncoderInput
from topkin.errors import ArtifactError

READERS = 16
"""Files read at once: they may lie far away."""


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
    files = column.to_numpy(zero_copy_only=False)
    files[null] = b""
    if not (types.is_binary(column.type) or types.is_large_binary(column.type)):
        files, unread = _read(files, ~null, folder)
        rejections.reject(unread, f"{spec.column} names a file that cannot be read")
        null |= unread
    wanted = np.flatnonzero(~null)
    shape = (*spec.shape, 1)[:3]
    images = np.zeros((len(column), *shape), np.float32 if "float" in spec.dtype else np.uint8)
    decoded = np.zeros(len(column), bool)
    for rows, pixels in _decoded(files, wanted, shape, images.dtype):
        images[rows], decoded[rows] = pixels, True
    rejections.reject(~null & ~decoded, f"{spec.column} is no image that can be decoded")
    return images.reshape(len(column), *spec.shape)


def _read(paths: np.ndarray, wanted: np.ndarray, folder: str) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of each file, (n,) objects, and which could not be read, (n,) bool."""

    def read(path: str) -> bytes | None:
        try:
            return storage.read_bytes(path if "://" in path else storage.join(folder, path))
        except (ArtifactError, OSError, ValueError):  # not there, not to be read, or no name of a file
            return None

    files, unread = np.full(len(paths), b"", object), np.zeros(len(paths), bool)
    with ThreadPoolExecutor(READERS) as pool:
        for row, data in zip(np.flatnonzero(wanted), pool.map(read, paths[wanted]), strict=True):
            if data is None:
                unread[row] = True
            else:
                files[row] = data
    return files, unread


def _decoded(files: np.ndarray, wanted: np.ndarray, shape: tuple[int, ...], dtype: np.dtype):  # type: ignore[no-untyped-def]
    """Row numbers and pixels of those files that are images, a few hundred at a time."""
    height, width, channels = shape

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
        return row, tf.saturate_cast(tf.round(image), tf.uint8) if dtype == np.uint8 else image

    if not len(wanted):
        return
    with tf.device("CPU"):
        data = tf.data.Dataset.from_tensor_slices((wanted, tf.constant(files[wanted].tolist(), tf.string)))
        data = data.map(one, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        yield from data.batch(256).as_numpy_iterator()
