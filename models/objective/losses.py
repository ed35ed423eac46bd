"""The losses of the training step: those of the library, over queries with many targets and shared candidates."""

import numpy as np
import tensorflow as tf

from topkin.models.metric_learning.losses.ranking import excess_over
from topkin.models.metric_learning.losses.softmax import softmax_against


def log_inclusion(
    counts: np.ndarray, batch_size: int, negative_chances: np.ndarray | None = None, negatives: int = 0
) -> np.ndarray:
    """log of the chance that an item is among a batch's candidates, (n,) float32.

    Candidates are the distinct targets of ``batch_size`` examples and of ``negatives`` shared draws.
    counts: (n,) how many examples have the item as target, half a one at least. negative_chances: (n,) of
    each draw. With q and s the item's share of examples and of draws, the chance is
    1 - (1 - q)^batch_size (1 - s)^negatives.
    """
    counts = np.maximum(counts.astype(np.float64), 0.5)
    absent = batch_size * np.log1p(-np.minimum(counts / max(counts.sum(), 1.0), 1 - 1e-9))
    if negative_chances is not None and negatives:
        absent += negatives * np.log1p(-np.minimum(negative_chances, 1 - 1e-9))
    return np.log(-np.expm1(absent)).astype(np.float32)


def sampled_softmax(
    users: tf.Tensor,
    items: tf.Tensor,
    question: tf.Tensor,
    target: tf.Tensor,
    negative: tf.Tensor,
    log_q: tf.Tensor,
    *,
    temperature: float,
    logq: float = 1.0,
    base: tf.Tensor | None = None,
) -> tf.Tensor:
    """Softmax cross-entropy of each target against sampled negatives that stand for all items, (t,).

    users: (q, d) unit rows, one for each question. items: (c, d) unit rows, each candidate once.
    question, target: (t,) int, row of users and row of items of each target. negative: (q, c) bool, the
    candidates that are negatives of a question: none that its user bought. log_q: (c,) log of the chance
    that an item is among the candidates; ``logq`` times it is taken off the negatives' logits, so that with
    1 the sum over them estimates the sum over all items without bias. With 0 popular items are learned away:
    they are candidates more often. base: (q, c) added to the logits, what another block of the vectors says.

    Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations, RecSys 2019.
    """
    logits = tf.matmul(users, items, transpose_b=True) / temperature
    if base is not None:
        logits = logits + base
    others = logits - logq * tf.cast(log_q, logits.dtype)[None, :]
    return softmax_against(_at(logits, question, target), others, negative, question)


def cosine_contrast(
    users: tf.Tensor,
    items: tf.Tensor,
    question: tf.Tensor,
    target: tf.Tensor,
    negative: tf.Tensor,
    log_q: tf.Tensor,
    *,
    margin: float,
    weight: float,
    logq: float = 1.0,
) -> tf.Tensor:
    """Cosine contrastive loss of each target, (t,): ``1 - cos`` and ``weight`` times what negatives exceed ``margin``.

    Arguments as those of :func:`sampled_softmax`. The excess is averaged over the negatives, each weighted
    by its chance to be a candidate to the power of ``-logq``, so that with 1 the mean stands for all items.

    Mao et al., SimpleX: A simple and strong baseline for collaborative filtering, CIKM 2021.
    """
    cosines = tf.matmul(users, items, transpose_b=True)
    shares = tf.where(negative, tf.exp(-logq * tf.cast(log_q, cosines.dtype))[None, :], tf.zeros((), cosines.dtype))
    excess = excess_over(cosines, shares, margin)
    return 1.0 - _at(cosines, question, target) + weight * tf.gather(excess, question)


def _at(matrix: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The entries of a (q, c) matrix at pairs of row and column, (t,)."""
    return tf.gather_nd(matrix, tf.stack([tf.cast(rows, tf.int32), tf.cast(columns, tf.int32)], axis=1))
