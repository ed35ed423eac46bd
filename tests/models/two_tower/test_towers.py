"""Tables of rows: sums of several rows of an item, and what of them learns."""

import numpy as np
import pytest
import tensorflow as tf

from topkin.models.two_tower.towers import RowTable, TwoTower


def table(rows: int = 9, dim: int = 3) -> RowTable:
    vectors = RowTable(rows, dim, seed=1)
    vectors.build()
    return vectors


@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (3, 0), (0, 4)])
def test_mixed_is_the_sum_of_rows_and_row_0_is_nothing(shape: tuple[int, int]) -> None:
    rng, words = np.random.default_rng(0), table()
    rows = rng.integers(0, 10, shape).astype(np.int32)
    shares = rng.random(shape).astype(np.float32)
    weights = np.asarray(words.table)
    expected = np.zeros((shape[0], 3))
    for i, j in np.ndindex(shape):
        if rows[i, j]:
            expected[i] += shares[i, j] * weights[rows[i, j]]
    np.testing.assert_allclose(words.mixed(tf.constant(rows), tf.constant(shares)), expected, atol=1e-6)


def test_the_gradient_of_mixed_names_each_row_once() -> None:
    words, rows = table(), tf.constant([[1, 1, 0], [1, 4, 2]])
    shares = tf.constant([[0.5, 0.25, 9.0], [1.0, 2.0, 3.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(words.mixed(rows, shares) * tf.constant([[1.0], [10.0]]))
    gradient = tape.gradient(loss, words.table._value)
    learned = dict(zip(gradient.indices.numpy().tolist(), gradient.values.numpy()[:, 0].tolist(), strict=True))
    assert len(gradient.indices) == 4
    assert learned == pytest.approx({0: 0, 1: 0.75 + 10, 4: 20, 2: 30})


def test_words_and_features_are_the_tables_that_are_mixed() -> None:
    tower = TwoTower(items=2, dim=2, word_buckets=4, title_words=2, categories=1, values=3, name="content")
    assert {t.name for t in tower.mixed} == {"words_out", "words_in", "values_out", "values_in"}
