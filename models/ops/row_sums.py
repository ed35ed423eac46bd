"""Weighted sums of a few rows each, by the product of a compressed sparse matrix: TensorFlow's of a list of entries
takes ten times as long on a processor."""

from typing import Any

import tensorflow as tf

from topkin.models.ops.topk import gpu_visible


def row_sums(entries: tf.Tensor, shares: tf.Tensor, rows: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The sums, (count, dim) float32.

    entries: (n, 2) int, sum and row, ascending by sum. shares: (n,) float32, their weights. rows: (m, dim) float32, one
    at least.
    """
    shape = tf.cast(tf.stack([tf.maximum(count, 1), tf.shape(rows)[0]]), tf.int64)  # a product divides by its size
    entries = tf.cast(entries, tf.int64)
    if gpu_visible():
        return tf.sparse.sparse_dense_matmul(tf.SparseTensor(entries, shares, shape), rows)[:count]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def sums(rows: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, Any]:
        matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(indices=entries, values=shares, dense_shape=shape)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            upstream = tf.pad(upstream, [[0, tf.cast(shape[0], tf.int32) - tf.shape(upstream)[0]], [0, 0]])
            turned = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=tf.float32)
            of_shares = tf.gather(upstream, entries[:, 0]) * tf.gather(rows, entries[:, 1])
            return tf.raw_ops.SparseMatrixMatMul(a=turned, b=upstream), tf.reduce_sum(of_shares, axis=1)

        return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=rows)[:count], gradient

    return sums(rows, shares)
