"""Samplers: each batch is what it says, everything comes as often as it should, the seed decides."""

import itertools
from collections import Counter
from typing import Any

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from topkin.models import MetricEmbedding, losses
from topkin.models.metric_learning.samplers.in_memory import (
    ClassBatches,
    HierarchicalBatches,
    PopularityNegatives,
    RowBatches,
    class_batches,
    pair_batches,
)

LABELS = np.array(["a"] * 6 + ["b"] * 4 + ["c"] * 5 + ["d"] * 1)


def drawn(seed: int = 0, **sizes: Any) -> list[np.ndarray]:
    return list(
        class_batches(LABELS, **{"classes": 3, "examples": 2, "batches": 40, **sizes}, rng=np.random.default_rng(seed))
    )


def test_a_batch_has_so_many_classes_and_so_many_examples_of_each() -> None:
    for rows in drawn():
        assert sorted(Counter(LABELS[rows]).values()) == [2, 2, 2]
        assert [len(set(LABELS[rows[i : i + 2]])) for i in (0, 2, 4)] == [1, 1, 1]


def test_classes_and_rows_come_in_rounds() -> None:
    batches = drawn(batches=400)
    classes = [LABELS[rows[i]] for rows in batches for i in (0, 2, 4)]
    # 1,200 turns of four classes; rounds that straddle a batch may swap an order, not a count.
    assert set(Counter(classes).values()) == {300}
    of_a = [r for rows in batches for r in rows if LABELS[r] == "a"]
    assert all(sorted(of_a[i : i + 6]) == list(range(6)) for i in range(0, len(of_a), 6))


def test_a_class_with_fewer_rows_repeats_them() -> None:
    rows = next(batch for batch in drawn(classes=4) if 15 in batch)
    assert list(rows).count(15) == 2


def test_the_seed_decides() -> None:
    assert all((a == b).all() for a, b in zip(drawn(3), drawn(3), strict=True))
    assert any((a != b).any() for a, b in zip(drawn(3), drawn(4), strict=True))


def test_more_classes_than_there_are_is_explained() -> None:
    with pytest.raises(ValueError, match="classes must be at most the 4 there are, got 5: take fewer"):
        drawn(classes=5)
    with pytest.raises(ValueError, match="at least 2 classes and 1 example of each, got 1 x 2"):
        drawn(classes=1)


def double(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows * 2 + rng.random(rows.shape)


@pytest.mark.parametrize("kind", ["classes", "rows"])
def test_batches_for_fit_repeat_from_the_seed_and_differ_between_epochs(kind: str) -> None:
    rows = np.arange(len(LABELS), dtype=float)

    def make() -> Any:
        if kind == "classes":
            return ClassBatches(rows, LABELS, classes=3, examples=2, augment=double, seed=5)
        return RowBatches(rows, LABELS, batch_size=6, augment=double, seed=5)

    def epochs(data: Any, n: int) -> list[np.ndarray]:
        out = []
        for _ in range(n):
            out.append(np.stack([data[i][0] for i in range(len(data))]))
            data.on_epoch_end()
        return out

    first, again = epochs(make(), 2), epochs(make(), 2)
    assert len(make()) == 2
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (np.floor(first[0]) != np.floor(first[1])).any()
    data = make()
    x, y = data[1]
    assert (x == data[1][0]).all()  # asked again, the same: Keras may read batches in any order
    assert (LABELS[(x // 2).astype(int)] == data.classes_[y]).all()  # Keras takes numbers: text comes as such


def test_every_row_comes_once_in_an_epoch_of_rows() -> None:
    data = RowBatches(np.arange(16), LABELS, batch_size=4)
    assert sorted(np.concatenate([data[i][0] for i in range(4)])) == list(range(16))


def test_rows_and_labels_of_different_lengths_are_explained() -> None:
    for make in (ClassBatches, RowBatches):
        with pytest.raises(ValueError, match="rows and labels must have the same length"):
            make(np.zeros(15), LABELS)


def test_no_row_is_in_two_pairs_of_a_batch_and_no_pair_comes_twice() -> None:
    pairs = np.array([*itertools.combinations(range(9), 2)])
    batches = list(pair_batches(pairs, pairs_per_batch=3, rng=np.random.default_rng(1)))
    assert len(batches) >= 8
    for batch in batches:
        assert len(set(batch.ravel())) == 6
    seen = [tuple(pair) for batch in batches for pair in batch]
    assert len(seen) == len(set(seen))
    assert set(seen) <= {tuple(pair) for pair in pairs}


def test_pairs_apart_from_each_other_all_come() -> None:
    pairs = np.arange(40).reshape(20, 2)
    batches = list(pair_batches(pairs, pairs_per_batch=5, rng=np.random.default_rng(1)))
    assert sorted(np.concatenate(batches)[:, 0]) == list(range(0, 40, 2))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (np.zeros((3, 3), int), r"\(p, 2\) integers"),
        (np.zeros((3, 2)), r"\(p, 2\) integers"),
        ([[1, 1]], "with itself"),
    ],
)
def test_what_are_no_pairs_is_explained(pairs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(pair_batches(pairs, pairs_per_batch=2, rng=np.random.default_rng(0)))


def test_negatives_come_as_often_as_the_power_of_their_counts_says() -> None:
    counts = np.array([0, 1, 16, 81, 0])
    sampler = PopularityNegatives(counts, power=0.5)
    drawn = np.bincount(sampler.draw(140_000, np.random.default_rng(0)), minlength=5)
    # Expected are 10,000, 40,000 and 90,000; four standard deviations are below 800.
    np.testing.assert_allclose(drawn, [0, 10_000, 40_000, 90_000, 0], atol=800)
    np.testing.assert_allclose(np.exp(sampler.log_probability([1, 2, 3])), [1 / 14, 4 / 14, 9 / 14])
    assert sampler.log_probability(0) == -np.inf
    assert set(PopularityNegatives(counts, power=0).draw(1000, np.random.default_rng(0))) == {0, 1, 2, 3, 4}


def test_no_user_gets_an_own_item_as_negative() -> None:
    bought = [np.array([0, 1]), np.array([], int), np.array([2, 1, 2])]
    drawn = PopularityNegatives([5, 100, 5, 1], power=1).draw_for(bought, 200, np.random.default_rng(0))
    assert drawn.shape == (3, 200)
    assert set(drawn[0]) == {2, 3}
    assert set(drawn[1]) == {0, 1, 2, 3}
    assert set(drawn[2]) == {0, 3}


def test_a_user_who_bought_everything_is_explained() -> None:
    with pytest.raises(ValueError, match="user 1 must leave something to draw, got 2 of 3 items"):
        PopularityNegatives([1, 1, 0]).draw_for([np.array([0]), np.array([0, 1])], 4, np.random.default_rng(0))


@pytest.mark.parametrize("counts", [[], [-1.0, 2], [np.nan], [0, 0], [[1, 2]]])
def test_counts_that_are_none_are_explained(counts: Any) -> None:
    with pytest.raises(ValueError, match="counts must"):
        PopularityNegatives(counts)


@pytest.mark.parametrize("kind", ["text", "objects", "bytes", "column", "pandas", "arrow", "numbers", "bool"])
def test_labels_of_any_type_train(kind: str) -> None:
    rows, codes = np.eye(8, dtype="float32")[np.arange(16) % 8], np.arange(16) % 2
    names = np.array(["a", "b"])[codes]
    labels = {
        "text": names,
        "objects": names.astype(object),
        "bytes": [n.encode() + b"\x00" for n in names],
        "column": names[:, None],
        "pandas": pd.Series(names, dtype="category"),
        "arrow": pa.array(names).dictionary_encode(),
        "numbers": codes + 5,
        "bool": codes == 1,
    }[kind]
    inputs = keras.Input((8,))
    encoder = keras.Model(inputs, MetricEmbedding(3)(inputs))
    encoder.compile("adam", loss=losses.MultiSimilarity())
    batches = ClassBatches(rows, labels, classes=2, examples=2)
    history = encoder.fit(batches, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert len(batches.classes_) == 2
    _, y = batches[0]
    assert set(y.tolist()) == ({5, 6} if kind == "numbers" else {0, 1})


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ("abab", ValueError, "same length, got"),
        ([1.0, np.nan, 1.0, 2.0], ValueError, "labels must not be NaN, got 1"),
        (np.array([1.0, np.nan, 1.0, 2.0]), ValueError, "labels must not be NaN, got 1"),
        (["a", None, "a", "b"], TypeError, "of one kind, one for each row, got NoneType, str"),
        ([1, "1", 2, "2"], TypeError, "got int, str"),
        (np.eye(4), ValueError, "one-hot rows take the argmax"),
        ([[1, 2], [1, 2], [3, 4], [3, 4]], TypeError, "got list"),
        (["a", "b", "a"], ValueError, "same length"),
        (None, TypeError, "got NoneType"),
        (["a"] * 4, ValueError, "classes must be at most the 1 there are"),
    ],
)
def test_labels_that_are_none_are_told(labels: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ClassBatches(np.zeros((4, 2)), labels, classes=2, examples=1)


def test_counts_are_checked_as_labels_are() -> None:
    for wrong in ([1, np.inf], [np.nan, 1], [-1, 2], ["a", "b"], 3, []):
        with pytest.raises(ValueError, match="counts must be"):
            PopularityNegatives(wrong)
        with pytest.raises(ValueError, match="counts must be"):
            losses.SampledSoftmax(counts=wrong)


def hierarchical(**sizes: Any) -> HierarchicalBatches:
    """Six labels in three groups of 3, 2 and 1 labels, eight rows each."""
    labels = np.repeat(["a1", "a2", "a3", "b1", "b2", "c1"], 8)
    groups = np.array([name[0] for name in labels])
    return HierarchicalBatches(np.arange(48), labels, groups, **{"groups_per_batch": 2, "classes": 2, **sizes})


def test_a_batch_is_of_few_groups_and_so_many_classes_of_each() -> None:
    batches = hierarchical(examples=3, batches=60)
    names = np.repeat(["a1", "a2", "a3", "b1", "b2", "c1"], 8)
    seen: Counter[str] = Counter()
    for rows, labels in (batches[i] for i in range(len(batches))):
        of = Counter(names[rows].tolist())
        assert sorted(of.values()) == [3, 3, 3, 3]
        assert Counter(name[0] for name in of) == {"a": 2, "b": 2}  # c has one class, fewer than a batch needs
        assert (batches.classes_[labels] == names[rows]).all()
        seen.update(of)
    assert seen["a1"] == seen["a2"] == seen["a3"] == 60 * 2  # two of three, each in turn
    first = [batches[i][0].tolist() for i in range(3)]
    assert first == [hierarchical(examples=3, batches=60)[i][0].tolist() for i in range(3)]
    batches.on_epoch_end()
    assert first != [batches[i][0].tolist() for i in range(3)]


def test_a_hierarchy_that_is_none_is_explained() -> None:
    with pytest.raises(ValueError, match="1 labels are of several, such as 'a'"):
        HierarchicalBatches(np.arange(4), list("aabb"), [0, 1, 1, 1])
    with pytest.raises(ValueError, match="at most the 2 groups of 2 classes that there are, got 3"):
        hierarchical(groups_per_batch=3)
    for batches in (0, -1):
        with pytest.raises(ValueError, match=f"batches must be at least 1, got {batches}"):
            hierarchical(batches=batches)
    with pytest.raises(ValueError, match="labels and groups must have the same length, got 4 and 3"):
        HierarchicalBatches(np.arange(4), list("aabb"), [0, 1, 1])
