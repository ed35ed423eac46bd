"""Augmenters: each equals a loop over pixels, keeps shape, dtype and range, and repeats from its generator."""

import copy
from typing import Any

import numpy as np
import pytest

from topkin.models.metric_training.augment import Affine, Chain, Contrast, Erase, Flip, Shift, sampled

EVERY = [
    Shift(2),
    Flip(),
    Affine(degrees=20, scale=0.2, shear=0.2, shift=1.5),
    Erase(0.5),
    Contrast(0.5),
    Chain([Flip(chance=1), Shift(1, fill=7, chance=0.5)]),
]
every = pytest.mark.parametrize("augment", EVERY, ids=lambda a: type(a).__name__)


def images(dtype: Any = np.uint8, n: int = 9) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, 7, 6, 2)).astype(dtype)


@every
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shape_dtype_and_range_stay_and_the_images_that_came_too(augment: Any, dtype: Any) -> None:
    came = images(dtype)
    before = came.copy()
    got = augment(came, np.random.default_rng(0))
    assert got.shape == came.shape
    assert got.dtype == dtype
    assert got.min() >= 0
    assert got.max() <= 255
    assert (came == before).all()
    assert (got != came).any()


@every
def test_the_generator_decides(augment: Any) -> None:
    first, again, other = (augment(images(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@every
def test_each_image_draws_for_itself(augment: Any) -> None:
    got = augment(np.repeat(images(n=1), 40, axis=0), np.random.default_rng(0))
    assert len(np.unique(got.reshape(40, -1), axis=0)) > 1


@every
def test_a_chance_of_zero_changes_nothing(augment: Any) -> None:
    never = copy.copy(augment)
    never.chance = 0
    assert (never(images(), np.random.default_rng(0)) == images()).all()


def test_a_chance_is_the_share_that_is_changed() -> None:
    many = np.repeat(images(n=1), 4000, axis=0)
    changed = (Flip(chance=0.25)(many, np.random.default_rng(0)) != many).any(axis=(1, 2, 3)).mean()
    assert changed == pytest.approx(0.25, abs=0.03)


def test_a_shift_is_one_of_all_shifts_and_each_comes() -> None:
    one = images(n=1)
    got = Shift(1, fill=9)(np.repeat(one, 400, axis=0), np.random.default_rng(0))
    padded = np.full((1, 9, 8, 2), 9, np.uint8)
    padded[:, 1:-1, 1:-1] = one
    possible = {padded[0, r : r + 7, c : c + 6].tobytes() for r in range(3) for c in range(3)}
    assert {image.tobytes() for image in got} == possible


def test_a_flip_exchanges_left_and_right() -> None:
    assert (Flip(chance=1)(images(), np.random.default_rng(0)) == images()[:, :, ::-1]).all()


def naive_bilinear(image: np.ndarray, row: float, column: float, fill: float) -> np.ndarray:
    total = np.zeros(image.shape[2])
    for r in range(-1, image.shape[0] + 1):
        for c in range(-1, image.shape[1] + 1):
            weight = max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c))
            inside = 0 <= r < image.shape[0] and 0 <= c < image.shape[1]
            total += weight * (image[r, c] if inside else fill)
    return total


def test_reading_between_pixels_equals_naive_loops() -> None:
    came = images(np.float32, n=3)
    rng = np.random.default_rng(1)
    rows, columns = rng.uniform(-1, 7, (3, 7, 6)), rng.uniform(-1, 6, (3, 7, 6))
    got = sampled(came, rows, columns, 20.0)
    for n, r, c in np.ndindex(3, 7, 6):
        want = naive_bilinear(came[n], rows[n, r, c], columns[n, r, c], 20.0)
        np.testing.assert_allclose(got[n, r, c], want, rtol=1e-4, atol=1e-3)


def test_far_outside_is_the_fill() -> None:
    places = np.full((1, 7, 6), 50.0)
    assert (sampled(images(n=1), places, -places, 31.0) == 31).all()


def test_a_quarter_turn_is_one_and_no_change_is_none() -> None:
    square = np.random.default_rng(0).integers(0, 256, (1, 5, 5, 1)).astype(np.uint8)
    assert (Affine(0, 0)(square, np.random.default_rng(0)) == square).all()

    class Quarter:
        def uniform(self, low: Any, high: Any, size: Any) -> Any:
            return np.full(size, high if high > 2 else 0.0)

    turned = Affine(degrees=90, scale=0)(square, Quarter())  # type: ignore[arg-type]
    assert (turned[0] == np.rot90(square[0], -1)).all() or (turned[0] == np.rot90(square[0], 1)).all()


def test_what_is_erased_is_one_rectangle_of_at_most_its_share() -> None:
    bright = np.full((300, 10, 8, 1), 200, np.uint8)
    sizes = set()
    for image in Erase(0.5, fill=3, chance=1)(bright, np.random.default_rng(0))[..., 0]:
        rows, columns = np.nonzero(image == 3)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width
        sizes.add((int(height), int(width)))
    assert max(height for height, _ in sizes) == 5
    assert max(width for _, width in sizes) == 4
    assert len(sizes) == 20


def test_contrast_is_as_large_as_it_says() -> None:
    grey = np.full((2000, 6, 6, 1), 120, np.float32)
    brightness = Contrast(0.5)(grey, np.random.default_rng(0))[:, 0, 0, 0] / 120
    assert brightness.min() == pytest.approx(1 / 1.5, rel=0.01)
    assert brightness.max() == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(chance=1.5), "chance must be from 0 to 1, got 1.5"),
        (lambda: Shift(-1), "most must be at least 0 pixels, got -1"),
        (lambda: Erase(1.2), "above 0 and at most 1 of a side, got 1.2"),
        (lambda: Affine(degrees=-3), "must be at least 0"),
        (lambda: Contrast(-1), "must be at least 0"),
        (lambda: Flip()(np.zeros((3, 28, 28)), np.random.default_rng(0)), r"must be \(n, height, width, channels\)"),
    ],
)
def test_wrong_use_is_explained(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
