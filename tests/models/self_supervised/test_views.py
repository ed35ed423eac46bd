"""Views of pictures and of histories: what is kept, what may change, and known answers."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from topkin.models.self_supervised.history_crops import HistoryCrops
from topkin.models.self_supervised.image_views import ImageViews

STILL: dict[str, Any] = {
    "scale": (1.0, 1.0),
    "stretch": 1.0,
    "shift": 0.0,
    "turn": 0.0,
    "flip": False,
    "contrast": 0.0,
    "erase": 0.0,
}
PICTURES = np.random.default_rng(0).integers(0, 256, (40, 9, 7, 2)).astype(np.uint8)


def test_without_changes_a_view_is_the_picture() -> None:
    np.testing.assert_allclose(ImageViews(**STILL)(PICTURES), PICTURES, atol=1e-3)


def test_flips_mirror_some_and_leave_the_others() -> None:
    got = ImageViews(**{**STILL, "flip": True})(PICTURES).numpy()
    mirrored = np.abs(got - PICTURES[:, :, ::-1]).max(axis=(1, 2, 3)) < 1e-2
    same = np.abs(got - PICTURES).max(axis=(1, 2, 3)) < 1e-2
    assert (mirrored ^ same).all()
    assert 5 < mirrored.sum() < 35


def test_contrast_is_one_factor_for_a_picture() -> None:
    dim = PICTURES // 4 + 10
    got = ImageViews(**{**STILL, "contrast": 0.5})(dim).numpy() / dim
    assert np.ptp(got, axis=(1, 2, 3)).max() < 1e-4
    assert 0.5 <= got.min() < 0.8 < 1.2 < got.max() <= 1.5


def test_enlarging_keeps_the_middle_and_shrinking_leaves_a_border() -> None:
    cross = np.zeros((1, 9, 9, 1), np.float32)
    cross[0, 3:6, 3:6] = 100
    large = ImageViews(**{**STILL, "scale": (2.0, 2.0)})(cross).numpy()
    small = ImageViews(**{**STILL, "scale": (0.5, 0.5)})(np.full_like(cross, 100)).numpy()
    assert large[0, 4, 4, 0] == pytest.approx(100)
    assert large.sum() > 2.5 * cross.sum()
    assert small[0, 4, 4, 0] == pytest.approx(100)
    assert small[0, 0].max() == 0


def test_shifts_move_by_no_more_than_told() -> None:
    dot = np.zeros((60, 20, 20, 1), np.float32)
    dot[:, 10, 10] = 200
    got = ImageViews(**{**STILL, "shift": 0.2})(dot).numpy()[..., 0]
    mass = got.sum(axis=(1, 2))
    np.testing.assert_allclose(mass, 200, rtol=1e-3)
    centre = np.einsum("nhw,h->n", got, np.arange(20.0)) / mass
    assert 2 < np.abs(centre - 10).max() <= 4.001


def test_erasing_blanks_one_box_of_the_told_size() -> None:
    full = np.full((50, 20, 20, 1), 9.0, np.float32)
    got = ImageViews(**{**STILL, "erase": 0.5, "erase_share": (0.25, 0.5), "largest": 9.0})(full).numpy()[..., 0] == 0
    hit = got.any(axis=(1, 2))
    assert 10 < hit.sum() < 40
    for box in got[hit]:
        height, width = box.any(axis=1).sum(), box.any(axis=0).sum()
        assert box.sum() == height * width
        assert 4 <= min(height, width) <= max(height, width) <= 11


def test_views_stay_in_range_and_repeat_with_the_seed() -> None:
    views = ImageViews(brightness=0.3, gamma=1.5, noise=0.1, contrast=0.8)
    tf.random.set_seed(3)
    first = views(PICTURES).numpy()
    tf.random.set_seed(3)
    np.testing.assert_array_equal(views(PICTURES).numpy(), first)
    assert 0 <= first.min() <= first.max() <= 255
    assert first.shape == PICTURES.shape
    assert np.abs(views(PICTURES).numpy() - first).max() > 1


def test_a_crop_is_a_stretch_of_the_history_in_its_places() -> None:
    rng = np.random.default_rng(0)
    histories = rng.integers(1, 1000, (200, 15))
    histories[rng.random(histories.shape) < 0.3] = 0
    histories[0] = 0
    crops = HistoryCrops(share=(0.4, 0.6), drop=0.0)(histories).numpy()
    assert crops.dtype == histories.dtype
    kept = crops != 0
    np.testing.assert_array_equal(crops[kept], histories[kept])
    assert not kept[0].any()
    for row, whole in zip(kept[1:], histories[1:] != 0, strict=True):
        of_bought = row[whole]
        first, last = np.flatnonzero(of_bought)[[0, -1]]
        assert of_bought[first : last + 1].all()
        assert 0.4 * whole.sum() - 0.5 <= of_bought.sum() <= max(0.6 * whole.sum() + 0.5, 1)
    starts = [np.flatnonzero(r[w])[0] for r, w in zip(kept[1:], histories[1:] != 0, strict=True)]
    assert min(starts) == 0 < np.mean(starts)


def test_dropping_leaves_a_purchase_at_least() -> None:
    histories = np.arange(1, 601).reshape(200, 3)
    kept = HistoryCrops(share=(1.0, 1.0), drop=0.9)(histories).numpy() != 0
    assert kept[:, 0].all()
    assert kept[:, 1:].mean() < 0.3


def test_wrong_use_is_told() -> None:
    with pytest.raises(ValueError, match="smaller first, got"):
        ImageViews(scale=(1.2, 0.8))
    with pytest.raises(ValueError, match="height, width, channels"):
        ImageViews()(np.zeros((3, 9, 9)))
    with pytest.raises(ValueError, match="item numbers, got float32"):
        HistoryCrops()(np.zeros((3, 9), np.float32))
    with pytest.raises(ValueError, match="drop below 1"):
        HistoryCrops(drop=1.0)
