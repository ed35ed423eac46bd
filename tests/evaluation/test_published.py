from topkin.evaluation.published import SPLITS, published_on


def test_published_figures_stand_beside_the_split_that_they_are_of_alone() -> None:
    versions = published_on(29_858, 40_981, 810_128, 217_242)
    assert versions is not None
    assert versions.figures["ChebyCF"] == (0.1941, 0.1616)
    assert published_on(29_858, 40_981, 810_128, 217_241) is None


def test_every_figure_is_of_a_metric() -> None:
    for split in SPLITS:
        assert {len(values) for values in split.figures.values()} == {len(split.metrics)}
