import numpy as np

from topkin.report.browse.item_map import map_items, plane


def test_the_plane_keeps_the_two_widest_directions_and_does_not_flip() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(200, 2)) * [9, 4]
    vectors = np.c_[wide, rng.normal(size=(200, 3)) * 0.01]
    points, explained = plane(vectors)
    assert explained > 0.999
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (points, wide)]
    np.testing.assert_allclose(*distances, atol=0.2)
    assert all(points[np.abs(points[:, axis]).argmax(), axis] > 0 for axis in (0, 1))
    assert plane(np.ones((4, 1)))[0].shape == (4, 2)


def test_the_map_puts_small_categories_together_and_goes_by_sales_without_any() -> None:
    vectors, events = np.random.default_rng(1).normal(size=(12, 4)), np.arange(12, 0, -1)
    item_map = map_items(vectors, [f"c{i:02d}" for i in range(12)], events)
    assert item_map is not None
    assert item_map.rest
    assert list(item_map.names) == [f"c{i:02d}" for i in range(7)] + ["all others"]
    assert item_map.groups.tolist() == [*range(7), *[7] * 5]
    tenths = map_items(vectors, [None] * 12, events)
    assert tenths is not None
    assert tenths.ordered
    assert (tenths.groups[0], tenths.groups[-1]) == (9, 0)
    assert map_items(vectors[:2], ["a", "b"], events[:2]) is None


def test_items_without_sales_or_categories_are_one_group() -> None:
    alone = map_items(np.eye(4), [None] * 4, np.zeros(4, np.int64))
    assert alone is not None
    assert (alone.groups.tolist(), alone.names, alone.ordered) == ([0] * 4, ["all items"], False)
    labelled = map_items(np.eye(4), ["cup", "pan", "cup", None], np.zeros(4, np.int64))
    assert labelled is not None
    assert list(labelled.names) == ["cup", "pan", "all others"]


def test_a_category_that_is_called_as_the_rest_is_a_category() -> None:
    categories = ["all others", "b", None]
    item_map = map_items(np.eye(3), categories, np.array([3, 2, 1]))
    assert item_map is not None
    assert item_map.groups.tolist() == [0, 1, 2]
