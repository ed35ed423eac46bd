"""Tables of rows: sums of several rows of an item, and what of them learns."""

import numpy as np
import pytest
import tensorflow as tf

from topkin.models.two_tower.towers import RowTable, TwoTower, mixed


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


def test_a_product_of_several_tables_is_the_sum_of_theirs_and_names_each_row_of_each_once() -> None:
    rng = np.random.default_rng(1)
    tables = [table(9), table(4), table(6)]
    rows = [
        tf.constant(rng.integers(0, t.rows + 1, (7, w)).astype(np.int32))
        for t, w in zip(tables, (3, 1, 2), strict=True)
    ]
    shares = [tf.constant(rng.random(r.shape).astype(np.float32)) for r in rows]
    parts = list(zip(tables, rows, shares, strict=True))
    pull = tf.constant(rng.standard_normal((7, 3)).astype(np.float32))
    variables = [t.table._value for t in tables]
    with tf.GradientTape(persistent=True) as tape:
        together, apart = mixed(parts), tf.add_n([t.mixed(r, s) for t, r, s in parts])
        sums = [tf.reduce_sum(x * pull) for x in (together, apart)]
    np.testing.assert_allclose(together, apart, atol=1e-6)
    for got, want in zip(*(tape.gradient(x, variables) for x in sums), strict=True):
        assert len(set(got.indices.numpy())) == len(got.indices)
        np.testing.assert_allclose(tf.convert_to_tensor(got), tf.convert_to_tensor(want), atol=1e-6)


def test_content_is_read_of_every_table_but_that_of_the_items_and_that_of_their_own_vectors() -> None:
    tower = TwoTower(items=2, dim=2, word_buckets=4, title_words=2, categories=1, values=3, vector_dim=2, name="tower")
    names = {f"{name}_{end}" for name in ("words", "category", "price", "values") for end in ("out", "in")}
    assert {t.name for t in tower.mixed} == names
