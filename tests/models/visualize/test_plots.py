"""Pictures show the images and numbers that they were given, and say what cannot be drawn."""

import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from topkin.models import Neighbour
from topkin.models.visualize.plots import plot_confusion, plot_distances, plot_map, plot_neighbours, plot_pairs

RNG = np.random.default_rng(0)


def shown(figure: Figure) -> tuple[list[np.ndarray], list[str]]:
    """The images, without the white line at their right edge, and all texts but the title."""
    figure.canvas.draw()
    images = [np.asarray(image.get_array()) for ax in figure.axes for image in ax.images]
    return images, [t.get_text() for ax in (figure, *figure.axes) for t in ax.texts if t.get_text()][1:]


def test_a_picture_of_pairs_holds_both_images_their_distance_and_whether_it_is_right() -> None:
    rows = RNG.integers(0, 256, (4, 5, 6, 1)).astype(np.uint8)
    figure = plot_pairs(
        rows, [0, 2], [1, 3], [0.25, 0.75], [1, 1], threshold=0.5, names=["<a>", "b", "c", "d"], title="P & Q"
    )
    images, texts = shown(figure)
    for image, (left, right) in zip(images, ((0, 1), (2, 3)), strict=True):
        assert (image[:, :6] == rows[left][..., 0]).all()
        assert (image[:, 7:13] == rows[right][..., 0]).all()
    assert figure.get_suptitle().strip() == "P & Q"
    assert texts == ["Called alike below 0.50. ✓ rightly, ✗ wrongly.", "✓ 0.25\n<a> · b", "✗ 0.75\nc · d"]


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 1), (4, 6, 3), (1, 1)])
def test_a_picture_of_neighbours_has_a_line_for_each_query(shape: tuple[int, ...]) -> None:
    rows: Any = RNG.integers(0, 256, (6, *shape)).astype(np.uint8)
    images, texts = shown(plot_neighbours(rows[:2], [rows[2:4], rows[4:6]], [[True, False], [False, True]]))
    for image, row in zip(images, rows[[0, 2, 3, 1, 4, 5]], strict=True):
        assert (image[:, :-1] == row.reshape(image[:, :-1].shape)).all()
    assert texts[1:] == ["query", "✓ 1", "✗ 2", "query", "✗ 1", "✓ 2"]


def test_a_look_up_brings_its_pictures_labels_and_scores() -> None:
    pixels = RNG.random((3, 4, 4)).round(2)
    neighbours = [[Neighbour(1, 7, "cup", 0.9, pixels[1]), Neighbour(2, 8, "pan", 0.5, pixels[2])]]
    images, texts = shown(plot_neighbours(pixels[:1], neighbours, labels=["cup"]))
    assert texts[1:] == ["query", "✓ cup\n0.90", "✗ pan\n0.50"]
    for image, row in zip(images, pixels, strict=True):
        np.testing.assert_array_equal(image[:, :-1].reshape(4, 4), (row * 255).round())
    assert shown(plot_neighbours(pixels[:1], neighbours))[1] == ["query", "cup\n0.90", "pan\n0.50"]
    with pytest.raises(ValueError, match=r"1 have none: index them by index\(x, y, data=x\)"):
        plot_neighbours(pixels[:1], [[Neighbour(1, 7, "cup", 0.9)]])
    with pytest.raises(ValueError, match="right must say of each image"):
        plot_neighbours(pixels[:1], [pixels[1:]])


def test_confusions_are_shares_of_the_true_class() -> None:
    figure = plot_confusion(["<a>", "<a>", "<a>", "b"], ["<a>", "<a>", "b", "b"])
    _, texts = shown(figure)
    assert texts == ["rows: the true class; 75.0% of 4 right", "67", "33", "100"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["<a>", "b"]


def test_distances_tell_pairs_medians_and_the_threshold() -> None:
    figure = plot_distances(np.array([0.1, 0.2, 0.3]), np.array([0.8, 1.0]), threshold=0.5)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert sorted(t.get_text() for t in legend.get_texts()) == [
        "2 pairs of two classes, median 0.90",
        "3 pairs of one class, median 0.20",
        "threshold 0.50",
    ]


def test_the_map_keeps_apart_what_is_apart() -> None:
    centres = np.array([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]])
    labels = np.repeat(["x", "y", "z"], 30)
    figure = plot_map(np.repeat(centres, 30, axis=0) + RNG.normal(size=(90, 3)), labels)
    at = np.concatenate([points.get_offsets() for points in figure.axes[0].collections])
    assert len(at) == 90
    means = np.stack([at[labels == n].mean(axis=0) for n in "xyz"])
    nearest = ((at[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (np.array(list("xyz"))[nearest] == labels).all()


def test_names_of_a_map_do_not_cover_each_other() -> None:
    figure = plot_map(np.ones((3, 2)), ["a", "b", "c"])
    heights = sorted(t.get_position()[1] for t in figure.axes[0].texts)
    assert np.diff(heights).min() > 0


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot_confusion([1], [1, 2]), "a prediction for each label, got 1 and 2"),
        (lambda: plot_distances(np.array([]), np.array([1.0])), "of both kinds, got 0 same"),
        (lambda: plot_map(np.array([[np.nan, 1]]), [1]), "a label for each finite row"),
        (lambda: plot_map(np.ones((3, 2)), [1]), "a label for each finite row"),
        *(
            (lambda image=image: plot_neighbours([image], [[image]], [[True]]), r"an image must be \(h, w\)")
            for image in (np.full((3, 3), 7.0), np.zeros((3, 3, 2), np.uint8), np.zeros(3, np.uint8))
        ),
    ],
)
def test_what_cannot_be_drawn_is_told(draw: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw()


def test_one_row_and_equal_rows_can_be_drawn() -> None:
    for rows in (np.ones((1, 1)), np.ones((4, 3))):
        shown(plot_map(rows, [0] * len(rows)))
    shown(plot_distances(np.ones(3), np.ones(2)))


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install topkin\[plots\]"):
        plot_distances([1.0], [2.0])
