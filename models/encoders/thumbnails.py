"""Small pictures of files of images, for pages."""

import struct

import tensorflow as tf

QUALITY = 75
"""Of the JPEG."""
MOST_PIXELS = 50_000_000
"""A picture with more is not decoded: in a small file there may be gigabytes of one colour."""


def thumbnail(file: bytes, most: int) -> bytes | None:
    """A picture as a JPEG whose longer side has no more than ``most`` pixels, on white where it is transparent.

    file: PNG, JPEG, GIF (the first frame), BMP or WebP; None is given for anything else, and beyond MOST_PIXELS.
    """
    if not 0 < pixels_of(file) <= MOST_PIXELS:
        return None
    with tf.device("CPU"):
        try:
            image = tf.io.decode_image(file, expand_animations=False)
        except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError):
            return None
        if image.shape[-1] in (2, 4):
            image = tf.cast(image, tf.float32)
            opaque = image[:, :, -1:] / 255
            image = image[:, :, :-1] * opaque + 255 * (1 - opaque)
        longer = max(image.shape[:2])
        if longer > most:
            size = [max(1, round(side * most / longer)) for side in image.shape[:2]]
            image = tf.image.resize(image, size, antialias=True)
        small = tf.saturate_cast(tf.round(tf.cast(image, tf.float32)), tf.uint8)
        return bytes(tf.io.encode_jpeg(small, quality=QUALITY, optimize_size=True).numpy())


def pixels_of(file: bytes) -> int:
    """Height times width as the head of a file says; 0 where it is no image that :func:`thumbnail` takes."""
    try:
        width, height = _size(file)
    except (struct.error, tf.errors.InvalidArgumentError):
        return 0
    return abs(width * height)


def _size(file: bytes) -> tuple[int, int]:
    """Width and height, which a BMP that begins at the top has below 0; (0, 0) of what is no image."""
    if file.startswith(b"\x89PNG"):
        width, height = struct.unpack_from(">II", file, 16)
    elif file.startswith(b"\xff\xd8"):
        with tf.device("CPU"):
            height, width = tf.io.extract_jpeg_shape(file).numpy()[:2].tolist()
    elif file.startswith(b"GIF8"):
        width, height = struct.unpack_from("<HH", file, 6)
    elif file.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", file, 18)
    elif file.startswith(b"RIFF") and file[8:12] == b"WEBP":
        width, height = _size_of_webp(file)
    else:
        return 0, 0
    return width, height


def _size_of_webp(file: bytes) -> tuple[int, int]:
    """Width and height; of the WebP container specification, in which each of its three kinds has them elsewhere."""
    if file[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", file, 26)
        return width & 0x3FFF, height & 0x3FFF
    if file[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", file, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(file[24:27], "little") + 1, int.from_bytes(file[27:30], "little") + 1
