"""What a loss or a miner sees of a batch: rows, references, who is alike. The inputs are checked here, once.

Shapes are always checked. Values (NaN, a batch of one class, rows that are not unit rows) are checked as
well where TensorFlow runs eagerly or in a graph. XLA drops such checks: Keras turns it on where there is a
GPU, so there compile a model with ``jit_compile=False`` to have them in ``fit``.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from topkin.metrics.labels import label_array
from topkin.models.metric_learning.serialization import Tensor

ONE_CLASS = (
    "a batch must hold two classes at least, got one in {} rows: shuffle, drop a small last batch "
    "(drop_remainder=True), or sample M classes x N examples; check=False lets it pass with what is left"
)


def require(condition: Tensor, message: str, *values: Tensor | int) -> None:
    """Raise where ``condition`` is false: ValueError eagerly, InvalidArgumentError in a graph, nothing under XLA.

    message: the rule and the cure, with ``{}`` for each of ``values``.
    """
    if tf.executing_eagerly():
        if not bool(condition):
            raise ValueError(message.format(*(c.numpy() if hasattr(c, "numpy") else c for c in values)))
        return
    tf.debugging.Assert(condition, [message.format(*("…" for _ in values)), *values], summarize=8)


def finite(x: Tensor, name: str) -> None:
    """Require that no number of ``x`` is NaN or infinite."""
    bad = tf.logical_not(tf.math.is_finite(x))
    require(
        tf.logical_not(tf.reduce_any(bad)),
        name
        + " must be finite, got {} numbers that are NaN or infinite: look at the inputs, or lower the learning rate",
        tf.reduce_sum(tf.cast(bad, tf.int32)),
    )


def unit(x: Tensor, who: str) -> None:
    """Require that each row of ``x`` (n, d) has length 1, or is a zero row."""
    square = tf.reduce_sum(tf.square(x), axis=-1)
    tolerance = 0.01  # float16 rows are unit rows to about .002
    fine = tf.logical_or(tf.abs(square - 1.0) < tolerance, tf.equal(square, 0.0))
    require(
        tf.reduce_all(fine),
        who
        + " needs unit rows, got rows of lengths up to {}: end the encoder with topkin.models.ops.cosine.UnitRows()",
        tf.sqrt(tf.reduce_max(square)),
    )


def flat_labels(labels: Tensor, name: str = "labels", *, check: bool = True) -> Tensor:
    """Labels as (n,), from (n,) or (n, 1), of any dtype that can be compared; check: that none is NaN.

    Raises ValueError for anything else, one-hot rows among it, TypeError for labels of several kinds.
    """
    if isinstance(labels, str | bytes):
        raise ValueError(f"{name} must be one label for each row, (n,), got the text {labels!r} alone: give a list")
    if not tf.is_tensor(labels) and not (isinstance(labels, np.ndarray) and labels.dtype.kind in "biuf"):
        labels = _converted(labels, name)
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank == 2 and labels.shape[1] == 1:
        labels = tf.squeeze(labels, 1)
    if labels.shape.rank != 1:
        raise ValueError(
            f"{name} must be one label for each row, (n,) or (n, 1), got shape {labels.shape}: "
            "of one-hot rows take the argmax"
        )
    if check and labels.dtype.is_floating:
        bad = tf.math.is_nan(labels)
        require(
            tf.logical_not(tf.reduce_any(bad)),
            name + " must not be NaN, got {} that are: leave those rows out",
            tf.reduce_sum(tf.cast(bad, tf.int32)),
        )
    return labels


def _converted(labels: object, name: str) -> np.ndarray:
    """What is no tensor and no array of numbers: lists, text, objects, columns of pandas and of Arrow."""
    shape = np.shape(labels) if isinstance(labels, list | tuple | np.ndarray) else ()
    if len(shape) > 1 and shape[1:] != (1,):
        return np.asarray(labels)
    try:
        return label_array(labels, name)
    except TypeError as e:
        if isinstance(labels, list | tuple) and not isinstance(labels[0] if labels else 0, str | bytes):
            return np.asarray(labels)  # numbers of several kinds, 0-d tensors
        raise e


def whole(labels: Tensor, who: str, *, check: bool = True) -> Tensor:
    """Labels that number something, as (n,) int64. Raises TypeError for text; requires no fractions."""
    if labels.dtype == tf.string:
        raise TypeError(f"{who} needs labels that are whole numbers, got text: number them, such as by np.unique")
    if check and labels.dtype.is_floating:
        require(
            tf.reduce_all(tf.equal(labels, tf.floor(labels))),
            who + " needs labels that are whole numbers, got fractions among {}: number them, such as by np.unique",
            tf.shape(labels)[0],
        )
    return tf.cast(labels, tf.int64)


def same_length(labels: Tensor, rows: Tensor, names: str = "labels and embeddings") -> None:
    """Require as many labels as rows."""
    n, m = labels.shape[0], rows.shape[0]
    if n is not None and m is not None:
        if n != m:
            raise ValueError(f"{names} must have the same length, got {n} and {m}: pass one label for each row")
        return
    require(
        tf.equal(tf.shape(labels)[0], tf.shape(rows)[0]),
        names + " must have the same length, got {} and {}: pass one label for each row",
        tf.shape(labels)[0],
        tf.shape(rows)[0],
    )


def compute_dtype(x: Tensor, dtype: str | None = None) -> tf.DType:
    """The dtype to compute in: the one asked for, else that of ``x``, at least float32."""
    if dtype is not None:
        return tf.as_dtype(dtype)
    return x.dtype if x.dtype.is_floating and x.dtype.size >= 4 else tf.float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows against references.

    vectors: (n, d) float32 or float64. labels: (n,). references: (m, d), ref_labels: (m,), the batch itself
    where ``own``. same: (n, m) bool, pairs of one label; of the batch with itself, no row with itself.
    different: (n, m) bool, pairs of two labels. weights: (n,), the rows' sample weights, or None.
    """

    vectors: Tensor
    labels: Tensor
    references: Tensor
    ref_labels: Tensor
    same: Tensor
    different: Tensor
    weights: Tensor
    own: bool


def compare(
    labels: Tensor,
    vectors: Tensor,
    ref_labels: Tensor | None = None,
    references: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    check: bool = True,
    dtype: str | None = None,
    valid: Tensor | None = None,
) -> Comparison:
    """Compare rows with references, or with each other where no references are given.

    valid: (n, m) bool, pairs that may be used at all. check: check values too, not only shapes.
    Raises ValueError where shapes do not fit or a number is not finite.
    """
    vectors = matrix(vectors, "embeddings", dtype)
    labels = flat_labels(labels, check=check)
    same_length(labels, vectors)
    own = references is None
    if own:
        references, ref_labels = vectors, labels
    else:
        references = tf.cast(matrix(references, "references", None), vectors.dtype)
        ref_labels = _alike(flat_labels(ref_labels, "labels of references", check=check), labels)
        same_length(ref_labels, references, "labels and rows of references")
    alike = tf.equal(labels[:, None], ref_labels[None, :])
    same, different = alike, tf.logical_not(alike)
    if own:
        same = tf.linalg.set_diag(same, tf.zeros_like(tf.linalg.diag_part(same)))
    if valid is not None:
        same, different = tf.logical_and(same, valid), tf.logical_and(different, valid)
    if check:
        finite(vectors, "embeddings")
        if not own:
            finite(references, "references")
    return Comparison(
        vectors=vectors,
        labels=labels,
        references=references,
        ref_labels=ref_labels,
        same=same,
        different=different,
        weights=row_weights(weights, vectors, check=check),
        own=own,
    )


def require_two_classes(comparison: Comparison) -> None:
    """Require that some row and some reference have different labels."""
    require(tf.reduce_any(comparison.different), ONE_CLASS, tf.shape(comparison.labels)[0])


def _alike(ref_labels: Tensor, labels: Tensor) -> Tensor:
    """The labels of references in the dtype of the rows'. Raises TypeError where one is text and the other is not."""
    if (ref_labels.dtype == tf.string) != (labels.dtype == tf.string):
        raise TypeError(
            f"labels of rows and of references must be of one kind, got {labels.dtype.name} and "
            f"{ref_labels.dtype.name}: cast one of them"
        )
    return tf.cast(ref_labels, labels.dtype)


def matrix(x: Tensor, name: str, dtype: str | None) -> Tensor:
    """``x`` as a matrix of rows in the dtype to compute in. Raises ValueError for another number of axes."""
    x = tf.convert_to_tensor(x)
    if x.shape.rank != 2:
        raise ValueError(f"{name} must be rows, (n, dim), got shape {x.shape}: end the encoder with one vector a row")
    return tf.cast(x, compute_dtype(x, dtype))


def row_weights(weights: Tensor, rows: Tensor, *, check: bool = True) -> Tensor:
    """Sample weights as (n,) in the dtype of ``rows``, or None. Raises ValueError for a shape, TypeError for text.

    check: require that they are finite and at least 0.
    """
    if weights is None:
        return None
    weights = flat_labels(weights, "sample weights", check=False)
    if weights.dtype == tf.string:
        raise TypeError("sample weights must be numbers, got text: cast them")
    same_length(weights, rows, "sample weights and embeddings")
    weights = tf.cast(weights, rows.dtype)
    if check:
        bad = tf.logical_not(tf.math.is_finite(weights) & (weights >= 0))
        require(
            tf.logical_not(tf.reduce_any(bad)),
            "sample weights must be finite and at least 0, got {} others: give 0 to a row that is not to count",
            tf.reduce_sum(tf.cast(bad, tf.int32)),
        )
    return weights


def counts_of(counts: ArrayLike) -> np.ndarray:
    """How often each label occurs, as an array. Raises ValueError for what is not (labels,) numbers of at least 0."""
    counts = np.asarray(counts)
    if counts.ndim != 1 or not counts.size or counts.dtype.kind not in "biuf":
        raise ValueError(f"counts must be (labels,) numbers of at least 0, got {counts.dtype} of shape {counts.shape}")
    bad = int((~(np.isfinite(counts) & (counts >= 0))).sum())
    if bad:
        raise ValueError(f"counts must be (labels,) finite numbers of at least 0, got {bad} others: count again")
    return counts


def log_share(counts: np.ndarray, labels: Tensor, dtype: tf.DType, *, check: bool = True) -> Tensor:
    """The logarithm of each label's share of ``counts``, (n,); an entry of 0 is taken as ½."""
    labels = whole(labels, "a correction by counts", check=check)
    if check:
        require(
            tf.reduce_all((labels >= 0) & (labels < len(counts))),
            "labels must number counts, 0 to {}, got {} to {}: pass a count for each label",
            len(counts) - 1,
            tf.reduce_min(labels),
            tf.reduce_max(labels),
        )
    amounts = np.maximum(counts.astype(np.float64), 0.5)
    return tf.gather(tf.constant(np.log(amounts / amounts.sum()), dtype), labels)
