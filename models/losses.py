"""Losses of retrieval encoders: each is a function of arrays, tested against naive loops."""

from typing import Any

import numpy as np
from keras import ops

MASKED = -1e9


def log_inclusion(counts: np.ndarray, batch_size: int) -> np.ndarray:
    """log of the chance that an item is among a batch's distinct items, (n,) float32.

    counts: (n,) how many examples have the item as target. The chance is 1 - (1 - q)^batch_size with
    q = counts / sum: close to batch_size * q for rare items, at most 1 for those in every batch.
    Items that are no example's target are given half a count.
    """
    counts = np.maximum(counts.astype(np.float64), 0.5)
    share = np.minimum(counts / max(counts.sum(), 1.0), 1 - 1e-9)
    return np.log(-np.expm1(batch_size * np.log1p(-share))).astype(np.float32)


def in_batch_softmax(
    users: Any,
    items: Any,
    positive: Any,
    masked: Any,
    log_q: Any,
    *,
    temperature: float,
    logq: float = 1.0,
) -> Any:
    """Softmax cross-entropy of each example over the distinct items of its batch, (b,).

    users: (b, d) unit rows. items: (c, d) unit rows, each item once, so that no negative counts twice.
    positive: (b,) int, the target's column. masked: (b, c) bool, columns that are no negatives of the row
    (the user's other purchases, padding); the target is never masked. log_q: (c,) log of the chance that an
    item is among the candidates; ``logq`` times it is taken off the logits (the logQ correction), for
    without it popular items are learned away: they are negatives more often.

    Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations, RecSys 2019.
    """
    logits = ops.matmul(users, ops.transpose(items)) / temperature
    logits = logits - logq * ops.expand_dims(ops.cast(log_q, logits.dtype), 0)
    target = ops.one_hot(positive, ops.shape(items)[0], dtype="bool")
    logits = ops.where(ops.logical_and(masked, ops.logical_not(target)), ops.cast(MASKED, logits.dtype), logits)
    hit = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(positive, 1), axis=1), 1)
    return ops.logsumexp(logits, axis=1) - hit
