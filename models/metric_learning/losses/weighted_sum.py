"""Several losses at once."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from topkin.models.metric_learning.losses.base import Loss
from topkin.models.metric_learning.named import part
from topkin.models.metric_learning.serialization import Tensor, serializable


@serializable
class WeightedSum(Loss):
    """The sum of losses of the same predictions, each times its weight (1 where none are given).

    All must read the same thing: embeddings, or what one head gives out (ArcFace and ProxyAnchor share
    proxies). A loss of embeddings and one of a head go together as two outputs of a model:
    ``compile(loss={"embedding": Triplet(), "proxies": ArcFace()}, loss_weights=...)``.

    Args:
        losses: of ``topkin.models.losses``, or their names.
        weights: one for each.
        **kwargs: of :class:`Loss`.

    Raises:
        ValueError: no losses, or unequally many weights.
        TypeError: a loss that is not topkin's.

    Examples:
        >>> from topkin.models import losses
        >>> rows, labels = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), [0, 0, 1]
        >>> both = losses.WeightedSum([losses.NTXent(), losses.Triplet(0.2)], weights=[1.0, 0.5])
        >>> round(float(both(labels, rows)), 4)
        1.6876
    """

    def __init__(self, losses: Sequence[Loss | str], weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.losses: list[Loss] = [part("loss", loss) for loss in losses]
        self.weights = [1.0] * len(self.losses) if weights is None else [float(w) for w in weights]
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"each loss must have one weight, got {len(self.losses)} losses and {len(self.weights)} weights"
            )
        for loss in self.losses:
            if not isinstance(loss, Loss):
                raise TypeError(
                    f"losses must be topkin's, got {type(loss).__name__}: a Keras loss needs an output of its own"
                )

    def head(self, classes: int | None = None) -> keras.layers.Layer | None:
        """The head that all losses share. Raises ValueError where they need different ones."""
        heads = [loss.head(classes) for loss in self.losses]
        kinds = {type(head).__name__ for head in heads}
        if len(kinds) > 1:
            raise ValueError(
                f"losses of one sum must read the same predictions, got heads {', '.join(sorted(kinds))}: "
                "give the model an output for each, and compile with a loss for each output"
            )
        return heads[0]

    @property
    def skipped(self) -> int:
        """The most that one of the losses skipped."""
        return max(loss.skipped for loss in self.losses)

    def compute(self, labels: Tensor, predictions: Tensor, weights: Tensor) -> Tensor:
        """As the losses."""
        values = [loss(labels, predictions, weights) for loss in self.losses]
        dtype = max((value.dtype for value in values), key=lambda dtype: dtype.size)
        return tf.add_n([w * tf.cast(value, dtype) for w, value in zip(self.weights, values, strict=True)])
