"""Augmenters: images as they might have been, in NumPy, drawn from a generator that the caller owns.

    augment = Chain([Flip(), Shift(2), Erase(0.25, chance=0.5)])
    batch = augment(images, np.random.default_rng([seed, epoch, step]))

The examples' figures were measured with these, which draw from the generator alone; a model of yours may begin with
``keras.layers.RandomFlip`` and its like instead. Each takes images (n, height, width, channels), uint8 or float of 0
to 255, and gives as many of the same shape and dtype; each image draws for itself; the images that came are left as
they are. The same generator state gives the same images on any machine. ``chance`` is the share of images that are
changed at all.
"""

from collections.abc import Sequence

import numpy as np


class Augmenter:
    """The interface: a subclass has :meth:`change`."""

    def __init__(self, *, chance: float = 1.0) -> None:
        if not 0 <= chance <= 1:
            raise ValueError(f"chance must be from 0 to 1, got {chance}")
        self.chance = chance

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changed images, (n, height, width, channels) of the same dtype."""
        images = np.asarray(images)
        if images.ndim != 4:
            raise ValueError(f"images must be (n, height, width, channels), got shape {images.shape}")
        if self.chance == 1:
            return self.change(images, rng)
        changed = np.flatnonzero(rng.random(len(images)) < self.chance)
        out = images.copy()
        out[changed] = self.change(images[changed], rng)
        return out

    def change(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Every image changed; a new array."""
        raise NotImplementedError


class Chain(Augmenter):
    """One augmenter after the other."""

    def __init__(self, augmenters: Sequence[Augmenter], *, chance: float = 1.0) -> None:
        super().__init__(chance=chance)
        self.augmenters = list(augmenters)

    def change(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        for augmenter in self.augmenters:
            images = augmenter(images, rng)
        return images


class Shift(Augmenter):
    """Moved by whole pixels, up to ``most`` in each direction; what comes in from outside is ``fill``."""

    def __init__(self, most: int = 2, fill: float = 0.0, *, chance: float = 1.0) -> None:
        super().__init__(chance=chance)
        if most < 0:
            raise ValueError(f"most must be at least 0 pixels, got {most}")
        self.most, self.fill = most, fill

    def change(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        m, (n, height, width, _) = self.most, images.shape
        padded = np.pad(images, ((0, 0), (m, m), (m, m), (0, 0)), constant_values=images.dtype.type(self.fill))
        top, left = rng.integers(0, 2 * m + 1, (2, n))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        return np.ascontiguousarray(np.moveaxis(windows[np.arange(n), top, left], 1, -1))


class Flip(Augmenter):
    """Left and right exchanged."""

    def __init__(self, *, chance: float = 0.5) -> None:
        super().__init__(chance=chance)

    def change(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        return images[:, :, ::-1].copy()


class Affine(Augmenter):
    """Turned, scaled, sheared and moved about the centre, read between pixels by bilinear interpolation.

    degrees: turned by up to that, either way. scale: each axis by a factor from 1 / (1 + scale) to 1 + scale.
    shear: up to that many pixels sideways for each pixel down. shift: up to that many pixels in each
    direction, fractions too. Outside is ``fill``.
    """

    def __init__(
        self,
        degrees: float = 10.0,
        scale: float = 0.1,
        shear: float = 0.0,
        shift: float = 0.0,
        fill: float = 0.0,
        *,
        chance: float = 1.0,
    ) -> None:
        super().__init__(chance=chance)
        if min(degrees, scale, shear, shift) < 0:
            raise ValueError(f"degrees, scale, shear and shift must be at least 0, got {degrees, scale, shear, shift}")
        self.degrees, self.scale, self.shear, self.shift, self.fill = degrees, scale, shear, shift, fill

    def change(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        n, height, width, _ = images.shape
        turn = np.deg2rad(rng.uniform(-self.degrees, self.degrees, n))
        factor = np.exp(rng.uniform(-1, 1, (2, n)) * np.log1p(self.scale))
        lean, move = rng.uniform(-self.shear, self.shear, n), rng.uniform(-self.shift, self.shift, (2, n))
        y, x = (np.arange(size) - (size - 1) / 2 for size in (height, width))
        # Where in the old image each new pixel comes from: move, shear, turn, scale, in this order.
        turn, lean, tall, wide, down, right = (v[:, None, None] for v in (turn, lean, *factor, *move))
        y, x = y[None, :, None] - down, x[None, None, :] - right
        x = x - lean * y
        rows = (np.cos(turn) * y - np.sin(turn) * x) * tall + (height - 1) / 2
        columns = (np.sin(turn) * y + np.cos(turn) * x) * wide + (width - 1) / 2
        return sampled(images, rows, columns, self.fill)


def sampled(images: np.ndarray, rows: np.ndarray, columns: np.ndarray, fill: float) -> np.ndarray:
    """Images read at fractional places, (n, h, w) each, bilinearly; ``fill`` outside: (n, h, w, channels)."""
    n, height, width, _ = images.shape
    # One pixel of fill on each side, so that an image fades out over its edge instead of breaking off.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=images.dtype.type(fill))
    rows, columns = np.clip(rows + 1, 0, height + 1), np.clip(columns + 1, 0, width + 1)
    top, left = np.minimum(rows.astype(np.intp), height), np.minimum(columns.astype(np.intp), width)
    down, right = (rows - top).astype(np.float32)[..., None], (columns - left).astype(np.float32)[..., None]
    flat = padded.reshape(-1, images.shape[3])
    at = (np.arange(n)[:, None, None] * (height + 2) + top) * (width + 2) + left
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + width + 2] * (1 - right) + flat[at + width + 3] * right
    return _as(upper * (1 - down) + lower * down, images.dtype)


class Erase(Augmenter):
    """A rectangle covered with ``fill``, its sides up to ``most`` of the image's, at any place inside.

    Zhong et al., Random erasing data augmentation, AAAI 2020; DeVries and Taylor, Cutout, 2017.
    """

    def __init__(self, most: float = 0.4, fill: float = 0.0, *, chance: float = 0.5) -> None:
        super().__init__(chance=chance)
        if not 0 < most <= 1:
            raise ValueError(f"most must be above 0 and at most 1 of a side, got {most}")
        self.most, self.fill = most, fill

    def change(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        n, height, width, _ = images.shape
        inside = []
        for size in (height, width):
            length = rng.integers(1, max(1, round(self.most * size)) + 1, n)
            start = np.floor(rng.random(n) * (size - length + 1)).astype(int)
            place = np.arange(size)[None, :]
            inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))
        covered = inside[0][:, :, None] & inside[1][:, None, :]
        return np.where(covered[..., None], images.dtype.type(self.fill), images)


class Contrast(Augmenter):
    """Contrast about the image's mean and brightness, each by a factor from 1 / (1 + most) to 1 + most."""

    def __init__(self, most: float = 0.4, *, chance: float = 1.0) -> None:
        super().__init__(chance=chance)
        if most < 0:
            raise ValueError(f"most must be at least 0, got {most}")
        self.most = most

    def change(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        factors = np.exp(rng.uniform(-1, 1, (2, len(images), 1, 1, 1)) * np.log1p(self.most)).astype(np.float32)
        mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
        return _as(((images - mean) * factors[0] + mean) * factors[1], images.dtype)


def _as(images: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clipped to 0 and 255; rounded where whole numbers are kept."""
    images = np.clip(images, 0, 255)
    return (np.rint(images) if np.issubdtype(dtype, np.integer) else images).astype(dtype)
