"""Two crops of one purchase history are a pair: what the same person bought at other times."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True, kw_only=True)
class HistoryCrops:
    """A random part of each history of a batch: (n, length) int item numbers, the same shape and dtype.

    A stretch of neighbouring interactions is kept, one at least; what is left out becomes ``padding``, wherever it
    stands. Draws from TensorFlow's global generator: ``keras.utils.set_random_seed`` makes them repeat.

    Args:
        share: of the history that the stretch is long, drawn from this range.
        drop: each kept interaction but the stretch's first is left out with this chance.
        padding: the number of no item.

    Raises:
        ValueError: shares or a drop outside their range; when called, floats or another rank.

    Examples:
        >>> from topkin.models import HistoryCrops
        >>> HistoryCrops(share=(0.5, 0.5), drop=0.0)(np.arange(1, 9).reshape(2, 4)).shape
        TensorShape([2, 4])
    """

    share: tuple[float, float] = (0.4, 0.8)
    drop: float = 0.1
    padding: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share[0] <= self.share[1] <= 1 or not 0 <= self.drop < 1:
            raise ValueError(
                f"share must be two shares above 0 and at most 1, the smaller first, and drop below 1, got {self}"
            )

    def __call__(self, histories: tf.Tensor) -> tf.Tensor:
        """See the class. Raises ValueError for another rank or floats."""
        histories = tf.convert_to_tensor(histories)
        if histories.shape.rank != 2 or not histories.dtype.is_integer:
            raise ValueError(
                f"histories must be (n, length) item numbers, got {histories.dtype.name} of shape {histories.shape}"
            )
        bought = tf.not_equal(histories, tf.cast(self.padding, histories.dtype))
        place = tf.cumsum(tf.cast(bought, tf.float32), axis=1) - 1.0
        count = tf.reduce_sum(tf.cast(bought, tf.float32), axis=1, keepdims=True)
        n = tf.shape(histories)[0]
        kept = tf.maximum(tf.round(count * tf.random.uniform((n, 1), *self.share)), 1.0)
        start = tf.floor(tf.random.uniform((n, 1)) * (tf.maximum(count - kept, 0.0) + 1.0))
        inside = bought & (place >= start) & (place < start + kept)
        stays = tf.random.uniform(tf.shape(histories)) >= self.drop
        return tf.where(inside & (stays | tf.equal(place, start)), histories, tf.cast(self.padding, histories.dtype))
