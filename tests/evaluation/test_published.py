from topkin.evaluation.published import SPLITS, published_on


def test_published_figures_stand_beside_the_split_that_they_are_of_alone() -> None:
    versions = published_on(29_858, 40_981, 810_128, 217_242)
    assert versions is not None
    assert versions.figures["ChebyCF"] == (0.1941, 0.1616)
    assert published_on(29_858, 40_981, 810_128, 217_241) is None


def test_every_figure_is_of_a_metric() -> None:
    for split in SPLITS:
        assert {len(values) for values in split.figures.values()} == {len(split.metrics)}


def test_sequences_are_known_by_their_users_items_and_rows() -> None:
    beauty = published_on(22_363, 12_092, 176_139, 22_363)
    assert beauty is not None
    printed = beauty.to_json()
    assert printed["metrics"] == ["hit_rate@10", "ndcg@10"]
    assert printed["figures"]["DuoRec"] == (0.0845, 0.0443)
