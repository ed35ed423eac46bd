"""Collapse: an encoder that gives every row nearly the same vector. Seen by its spread, and stopped.

The spread of unit rows is the standard deviation of each coordinate over the rows, averaged over the
coordinates, times sqrt(dim): 0 where all rows are one vector, near 1 where they point in all directions
(Chen and He, Exploring simple Siamese representation learning, CVPR 2021).
"""

import keras
import numpy as np
import tensorflow as tf

from topkin.linalg.cosine import unit_rows as unit_rows_np
from topkin.models.ops.cosine import unit_rows

LEAST = 0.05


class CollapseError(RuntimeError):
    """The embedding collapsed; the message says what to change.

    Examples:
        >>> from topkin.models import CollapseError
        >>> issubclass(CollapseError, RuntimeError)
        True
    """


def spread(vectors: tf.Tensor) -> tf.Tensor:
    """The spread of a batch of embeddings, a float32 scalar tensor. vectors: (n, dim), of any length."""
    unit = unit_rows(tf.cast(vectors, tf.float32))
    deviation = tf.math.reduce_std(unit, axis=0)
    return tf.reduce_mean(deviation) * tf.sqrt(tf.cast(tf.shape(unit)[1], tf.float32))


def effective_rank(vectors: np.ndarray) -> float:
    """How many directions the embedding uses: exp of the entropy of its centred singular values, 0 to dim.

    A spread far from 0 with a low rank is a partial collapse; 0 for rows all equal.

    Roy and Vetterli, The effective rank, EUSIPCO 2007.

    Args:
        vectors: (n, dim), a row at least.

    Raises:
        ValueError: another shape.

    Examples:
        >>> from topkin.models import effective_rank
        >>> round(effective_rank(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 4)
        2.0
    """
    x = np.asarray(vectors, np.float64)
    if x.ndim != 2 or not len(x):
        raise ValueError(f"vectors must be (n, dim) with a row at least, got shape {x.shape}")
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).any(axis=1).sum())
        raise ValueError(f"vectors must be finite, got {bad} rows with a NaN or an infinity: set them aside")
    unit = unit_rows_np(x)
    values = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False)
    if values.sum() <= 1e-9:
        return 0.0
    share = values / values.sum()
    return float(np.exp(-(share * np.log(np.maximum(share, 1e-300))).sum()))


class StopAtCollapse(keras.callbacks.Callback):
    """A Keras callback that stops a run whose embedding collapsed, and says what to change.

    After a stop ``reason`` holds the message; ``history`` the spread of each epoch.

    Args:
        inputs: rows to embed after each epoch; the ``spread`` that a self-supervised model logs is read where None.
        encoder: embeds ``inputs``; the model where None.
        least: the spread below which it counts as collapsed.
        patience: how many epochs in a row may be below.
        error: raise CollapseError instead of stopping with a warning.
        batch_size: rows embedded at once.

    Raises:
        ValueError: settings out of range; in a run, neither inputs nor a logged spread.

    Examples:
        >>> from topkin.models import StopAtCollapse
        >>> StopAtCollapse(least=0.1, patience=2).history
        []
    """

    def __init__(
        self,
        inputs: tf.Tensor | None = None,
        *,
        encoder: keras.Model | None = None,
        least: float = LEAST,
        patience: int = 1,
        error: bool = True,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        if not 0 < least < 1:
            raise ValueError(f"least must be between 0 and 1, got {least}: 0 is a collapse, 1 all directions")
        if patience < 1:
            raise ValueError(f"patience must be at least 1 epoch, got {patience}")
        self.inputs, self.encoder, self.least, self.patience = inputs, encoder, least, patience
        self.error, self.batch_size = error, batch_size
        self.history: list[float] = []
        self.reason = ""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Forget an earlier run."""
        self.history, self.reason = [], ""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measure, and stop where it is too low."""
        self.history.append(self._measure(logs or {}))
        recent = self.history[-self.patience :]
        if len(recent) < self.patience or max(recent) >= self.least:
            return
        self.reason = advice(self.history[-1], self.least, epoch + 1)
        self.model.stop_training = True
        if self.error:
            raise CollapseError(self.reason)
        print(self.reason)

    def _measure(self, logs: dict[str, float]) -> float:
        if self.inputs is not None:
            encoder = self.encoder or self.model
            return float(spread(encoder.predict(self.inputs, batch_size=self.batch_size, verbose=0)))
        if "spread" not in logs:
            raise ValueError(
                "StopAtCollapse needs rows to embed, or a model that logs its spread, got neither: "
                "give it inputs, such as StopAtCollapse(images[:1000])"
            )
        return float(logs["spread"])


def advice(value: float, least: float, epoch: int) -> str:
    """What to tell of a collapsed run."""
    return (
        f"the embedding collapsed: its spread after epoch {epoch} must be at least {least:g} (0: all rows are one "
        f"vector, 1: all directions), got {value:.4f}. Try a lower learning rate; batch normalisation in the "
        "projector; more negatives (a larger batch) or a lower temperature; for BYOL its predictor and a momentum "
        "nearer 1, for VICReg a larger variance weight, for SwAV a smaller epsilon; for a triplet loss easier "
        "triplets (SemiHard) and unit rows."
    )
