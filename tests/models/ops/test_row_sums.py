"""Weighted sums of rows and their gradient against NumPy's dense product."""

import numpy as np
import pytest
import tensorflow as tf

from topkin.models.ops.row_sums import row_sums


@pytest.mark.parametrize(("n", "count", "m"), [(400, 37, 50), (3, 5, 4), (0, 5, 4), (0, 0, 1)])
@pytest.mark.parametrize("compiled", [False, True])
def test_sums_and_their_gradient_are_those_of_a_dense_matrix(n, count, m, compiled):
    rng = np.random.default_rng(n)
    entries = np.column_stack([np.sort(rng.integers(0, max(count, 1), n)), rng.integers(0, max(m, 1), n)])
    shares, rows = rng.random(n).astype(np.float32), rng.standard_normal((m, 6)).astype(np.float32)
    pull = rng.standard_normal((count, 6)).astype(np.float32)
    dense = np.zeros((count, m))
    np.add.at(dense, tuple(entries.T), shares)  # an entry named twice counts twice

    def work(entries, shares, rows, pull):
        with tf.GradientTape() as tape:
            tape.watch((rows, shares))
            result = row_sums(entries, shares, rows, tf.shape(pull)[0])
            value = tf.reduce_sum(result * pull)
        return result, *tape.gradient(value, (rows, shares))

    arrays = [tf.constant(entries.reshape(-1, 2).astype(np.int32)), *map(tf.constant, (shares, rows, pull))]
    result, gradient, of_shares = (tf.function(work) if compiled else work)(*arrays)
    np.testing.assert_allclose(result, dense @ rows, atol=1e-5)
    np.testing.assert_allclose(gradient, dense.T @ pull, atol=1e-5)
    wanted = [pull[of] @ rows[row] for of, row in entries] if n else np.zeros(0)
    np.testing.assert_allclose(of_shares, wanted, atol=1e-4)
