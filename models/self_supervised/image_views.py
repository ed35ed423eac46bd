"""Random versions of pictures: turned, shifted, scaled, flipped, recoloured and erased in part, in one pass."""

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class ImageViews:
    """A random version of each picture of a batch: (n, height, width, channels) in, the same shape in float32 out.

    largest: the pictures' values are from 0, the background, to this. scale: the picture is enlarged by a
    factor drawn from it, log-uniformly: above 1 crops, below 1 leaves a border of 0. stretch: height by width
    changes by at most this factor. shift: by at most this share of the side. turn: by at most this many
    degrees. flip: mirror left and right half of the time. contrast: multiply by a factor in 1 ± contrast.
    brightness: add up to ± this share of ``largest`` where the picture is not background. gamma: raise to a
    power of at most this or one by it. erase: how often a box is blanked, of erase_share of each side. noise:
    standard deviation of added noise, as a share of ``largest``. Draws from TensorFlow's global generator:
    ``keras.utils.set_random_seed`` makes them repeat. The defaults suit pictures of clothes.
    """

    scale: tuple[float, float] = (0.95, 1.15)
    stretch: float = 1.1
    shift: float = 0.05
    turn: float = 4.0
    flip: bool = True
    contrast: float = 0.6
    brightness: float = 0.0
    gamma: float = 1.0
    erase: float = 0.5
    erase_share: tuple[float, float] = (0.15, 0.4)
    noise: float = 0.0
    largest: float = 255.0

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two factors above 0, the smaller first, got {self.scale}")
        if self.stretch < 1 or self.gamma < 1:
            raise ValueError(f"stretch and gamma must be at least 1, got {self.stretch} and {self.gamma}")
        if min(self.shift, self.turn, self.contrast, self.brightness, self.noise) < 0 or not self.largest > 0:
            raise ValueError(
                f"shift, turn, contrast, brightness and noise must be at least 0, largest above, got {self}"
            )
        if not 0 <= self.erase_share[0] <= self.erase_share[1] <= 1 or not 0 <= self.erase <= 1:
            raise ValueError(f"erase and erase_share must be within 0 and 1, got {self.erase} and {self.erase_share}")

    def __call__(self, images: Any) -> Any:
        """See the class. Raises ValueError for another rank."""
        images = tf.convert_to_tensor(images)
        if images.shape.rank != 4:
            raise ValueError(f"images must be (n, height, width, channels), got shape {images.shape}")
        images = self._recoloured(self._moved(tf.cast(images, tf.float32) / self.largest)) * self.largest
        return self._erased(images) if self.erase else images

    def _moved(self, images: Any) -> Any:
        n, height, width = (tf.shape(images)[axis] for axis in range(3))
        h, w = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
        zoom = tf.exp(-_between(n, *map(math.log, self.scale)))
        ratio = tf.exp(_around(n, math.log(self.stretch) / 2))
        angle = _around(n, self.turn * math.pi / 180)
        mirror = tf.where(_around(n, 1.0) < 0, -1.0, 1.0) if self.flip else tf.ones(n)
        # Where each place of the result is read from: about the middle, turned, scaled, then shifted.
        a, b = tf.cos(angle) * zoom * ratio * mirror, -tf.sin(angle) * zoom * ratio
        c, d = tf.sin(angle) * zoom / ratio * mirror, tf.cos(angle) * zoom / ratio
        middle_x, middle_y = (w - 1) / 2, (h - 1) / 2
        x = middle_x - a * middle_x - b * middle_y + _around(n, self.shift) * w
        y = middle_y - c * middle_x - d * middle_y + _around(n, self.shift) * h
        none = tf.zeros(n)
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=tf.stack([a, b, x, c, d, y, none, none], axis=1),
            output_shape=tf.stack([height, width]),
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )

    def _recoloured(self, images: Any) -> Any:
        n = tf.shape(images)[0]
        if self.gamma > 1:
            power = tf.exp(_around(n, math.log(self.gamma)))
            images = tf.pow(tf.maximum(images, 1e-6), power[:, None, None, None])
        if self.contrast:
            images = images * (1.0 + _around(n, self.contrast))[:, None, None, None]
        if self.brightness:
            inked = tf.cast(images > 0.05, tf.float32)
            images = images + inked * _around(n, self.brightness)[:, None, None, None]
        if self.noise:
            images = images + tf.random.normal(tf.shape(images), stddev=self.noise)
        return tf.clip_by_value(images, 0.0, 1.0)

    def _erased(self, images: Any) -> Any:
        n = tf.shape(images)[0]
        hits = tf.random.uniform((n,)) < self.erase
        inside = [self._span(n, tf.shape(images)[axis]) for axis in (1, 2)]
        box = inside[0][:, :, None] & inside[1][:, None, :] & hits[:, None, None]
        return tf.where(box[..., None], 0.0, images)

    def _span(self, n: Any, side: Any) -> Any:
        """A random stretch of each row's places, (n, side) bool."""
        length = _between(n, *self.erase_share)
        start = tf.random.uniform((n,)) * (1.0 - length)
        places = (tf.range(side, dtype=tf.float32) + 0.5) / tf.cast(side, tf.float32)
        return (places > start[:, None]) & (places < (start + length)[:, None])


def _between(n: Any, low: float, high: float) -> Any:
    return tf.random.uniform((n,), low, high) if high > low else tf.fill((n,), low)


def _around(n: Any, reach: float) -> Any:
    """Uniform from -reach to reach, (n,)."""
    return tf.random.uniform((n,), -reach, reach) if reach else tf.zeros((n,))
