"""The loss of the training step: the library's softmax over queries with many targets and shared candidates."""

from typing import Any

import numpy as np
import tensorflow as tf

from topkin.models.metric_learning.losses.softmax import softmax_against

_LOWEST = -1e30


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


def sampled_softmax_of_pairs(
    users: tf.Tensor,
    items: tf.Tensor,
    question: tf.Tensor,
    target: tf.Tensor,
    bought: tf.Tensor,
    log_q: tf.Tensor,
    *,
    temperature: float,
    logq: float = 1.0,
    base: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> tf.Tensor:
    """:func:`sampled_softmax` for the training step: the same losses, (t,), for a fraction of the memory and time.

    Only one array of questions x candidates is ever held, and written over: all that is added to the logits is a
    coordinate more of the vectors that are multiplied, and the gradient is by hand, from the exponentials of the loss.

    bought: (n, 2) int, the places (question, candidate) that are no negatives, those of all targets among them.
    question: ascending. base: (q, e) and (c, e), whose inner products are added to the logits; they and ``log_q`` get
    no gradient. The rest is as of :func:`sampled_softmax`.
    """
    fixed = [tf.stop_gradient(part) for part in base or ()]
    off = tf.stop_gradient(logq * tf.cast(log_q, items.dtype))
    places = tf.stack([question, target], axis=1)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def losses_of(own: tf.Tensor, others: tf.Tensor) -> tuple[tf.Tensor, Any]:
        left = tf.concat([own, *fixed[:1], tf.ones_like(own[:, :1])], axis=1)
        right = tf.concat([others, *fixed[1:], -off[:, None]], axis=1)
        logits = tf.matmul(left, right, transpose_b=True)
        of_target = tf.gather_nd(logits, places)
        with tf.control_dependencies([of_target]):  # read before it is written over
            count = tf.shape(bought)[0]
            logits = tf.tensor_scatter_nd_update(logits, bought, tf.fill([count], tf.constant(_LOWEST, logits.dtype)))
        top = tf.reduce_max(logits, axis=1, keepdims=True)
        shares = tf.exp(logits - top)
        total = tf.reduce_sum(shares, axis=1)
        gap = tf.gather(top[:, 0] + tf.math.log(total), question) - of_target - tf.gather(off, target)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pull = upstream * tf.sigmoid(gap)
            push = (tf.math.segment_sum(pull, question) / total)[:, None]  # of each row, so that no product is made
            of_own = tf.math.segment_sum(pull[:, None] * tf.gather(others, target), question)
            of_others = tf.math.unsorted_segment_sum(
                pull[:, None] * tf.gather(own, question), target, tf.shape(others)[0]
            )
            away = tf.matmul(shares, push * own, transpose_a=True)
            return push * tf.matmul(shares, others) - of_own, away - of_others

        return tf.nn.softplus(gap), gradient

    return losses_of(users / temperature, items)
