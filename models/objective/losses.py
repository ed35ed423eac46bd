"""The loss of the training step: the library's softmax over queries with many targets and shared candidates."""

import numpy as np
import tensorflow as tf

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
    of_target = tf.gather_nd(logits, tf.stack([tf.cast(question, tf.int32), tf.cast(target, tf.int32)], axis=1))
    return softmax_against(of_target, others, negative, question)
