"""What the pictures say is what the numbers are."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from topkin.models.visualize.embedding_pictures import confusion_picture, distances_picture, map_picture

RNG = np.random.default_rng(3)


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_confusions_are_shares_of_the_true_class():
    shown = texts(confusion_picture(["<a>", "<a>", "<a>", "b"], ["<a>", "<a>", "b", "b"]))
    assert "rows: the true class; 75.0% of 4 rightly" in shown
    assert [t for t in shown if t.isdigit()] == ["67", "33", "100"]
    assert "<a>" in shown


def test_distances_tell_pairs_medians_and_the_threshold():
    shown = texts(distances_picture(np.array([0.1, 0.2, 0.3]), np.array([0.8, 1.0]), threshold=0.5))
    assert "3 pairs of one class, median 0.20" in shown
    assert "2 pairs of two classes, median 0.90" in shown
    assert "threshold 0.50" in shown


def test_the_map_keeps_apart_what_is_apart():
    centres = np.array([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]])
    labels = np.repeat(["x", "y", "z"], 30)
    svg = map_picture(np.repeat(centres, 30, axis=0) + RNG.normal(size=(90, 3)), labels)
    at = np.array([[float(v) for v in p] for p in re.findall(r"<circle cx='([\d.-]+)' cy='([\d.-]+)'", svg)])
    assert len(at) == 90
    means = np.stack([at[labels == n].mean(axis=0) for n in "xyz"])
    nearest = ((at[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (np.array(list("xyz"))[nearest] == labels).all()


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: confusion_picture([1], [1, 2]), "a prediction for each label, got 1 and 2"),
        (lambda: distances_picture(np.array([]), np.array([1.0])), "of both kinds, got 0 same"),
        (lambda: map_picture(np.array([[np.nan, 1]]), [1]), "a label for each finite row"),
        (lambda: map_picture(np.ones((3, 2)), [1]), "a label for each finite row"),
    ],
)
def test_what_cannot_be_drawn_is_told(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()


def test_one_row_and_equal_rows_can_be_drawn():
    for rows in (np.ones((1, 1)), np.ones((4, 3))):
        ET.fromstring(map_picture(rows, [0] * len(rows)))
    ET.fromstring(distances_picture(np.ones(3), np.ones(2)))
