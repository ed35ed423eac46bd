"""Reducers: how many losses become one number, against loops."""

import numpy as np
import pytest
import tensorflow as tf

from topkin.models.metric_learning.reducers import (
    Mean,
    MeanOfNonZero,
    PerAnchor,
    PerClass,
    Reducer,
    Sum,
    sums_by_anchor,
    sums_of,
)

LOSSES = np.array([[1.0, 0.0, 3.0], [5.0, 7.0, 0.0], [0.0, 0.0, 0.0], [2.0, 4.0, 6.0]])
MASK = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
LABELS, WEIGHTS = np.array([8, 9, 9, 8]), np.array([1.0, 2.0, 3.0, 0.5])
# The losses that count, by anchor: [1, 0], [5, 0], [], [2, 4, 6].
EXPECTED = [
    (Mean(), 18 / 7, (1 + 10 + 6) / 7),
    (MeanOfNonZero(), 18 / 5, 17 / 5),
    (Sum(), 18, 17),
    (PerAnchor(), (0.5 + 2.5 + 4) / 3, (0.5 + 5 + 2) / 3),
    (PerClass(), (13 / 5 + 5 / 2) / 2, (7 / 5 + 10 / 2) / 2),
]


@pytest.mark.parametrize(("reducer", "bare", "weighted"), EXPECTED, ids=lambda x: type(x).__name__)
def test_each_reducer_by_hand(reducer: Reducer, bare: float, weighted: float) -> None:
    dense = sums_of(tf.constant(LOSSES), tf.constant(MASK))
    anchors, _ = np.nonzero(np.ones_like(MASK))
    listed = sums_by_anchor(tf.constant(LOSSES.ravel()), anchors, 4, tf.constant(MASK.ravel()))
    for sums in (dense, listed):
        assert float(reducer(sums, tf.constant(LABELS))) == pytest.approx(bare)
        assert float(reducer(sums, tf.constant(LABELS), tf.constant(WEIGHTS))) == pytest.approx(weighted)


@pytest.mark.parametrize("reducer", [e[0] for e in EXPECTED], ids=lambda x: type(x).__name__)
def test_nothing_to_learn_from_is_zero(reducer: Reducer) -> None:
    nothing = sums_of(tf.constant(LOSSES), tf.zeros((4, 3), tf.bool))
    assert float(reducer(nothing, tf.constant(LABELS))) == 0


def test_classes_need_labels() -> None:
    with pytest.raises(ValueError, match="PerClass needs labels, got None: take PerAnchor"):
        PerClass()(sums_of(tf.constant(LOSSES)))
