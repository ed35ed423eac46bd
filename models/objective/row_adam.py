"""Optimizers whose step costs what the batch touches, not what the catalogue holds."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("topkin")
class RowAdam(keras.optimizers.Adam):
    """Adam that updates only the rows of a table that have a gradient.

    For row-sparse gradients (``tf.IndexedSlices``) moments and weights of the other rows stay as they are:
    their moments do not decay, which is what makes the step as cheap with a million rows as with a
    thousand. Dense gradients are Adam's (Kingma & Ba, ICLR 2015). Bias correction counts all steps.

    distinct: names of variables whose gradients name each row once, but for rows with a gradient of zero; their
    rows need no adding up.
    """

    def __init__(self, *args: object, distinct: Sequence[str] = (), **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.distinct = tuple(distinct)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "distinct": list(self.distinct)}

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update one variable in place."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        rows, summed = gradient.indices, gradient.values
        at = self._get_variable_index(variable)
        if self._trainable_variables[at].path not in self.distinct:
            rows, places = tf.unique(rows)
            summed = tf.math.unsorted_segment_sum(summed, places, tf.size(rows))
        first, second = _tensor(self._momentums[at]), _tensor(self._velocities[at])
        rate, step = tf.cast(learning_rate, summed.dtype), tf.cast(self.iterations + 1, summed.dtype)
        rate = rate * tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        mean = self.beta_1 * tf.gather(first, rows) + (1 - self.beta_1) * summed
        square = self.beta_2 * tf.gather(second, rows) + (1 - self.beta_2) * tf.square(summed)
        first.scatter_update(tf.IndexedSlices(mean, rows))
        second.scatter_update(tf.IndexedSlices(square, rows))
        change = rate * mean / (tf.sqrt(square) + self.epsilon)
        _tensor(variable).scatter_sub(tf.IndexedSlices(change, rows))


def _tensor(variable: keras.Variable | tf.Variable) -> tf.Variable:
    """The TensorFlow variable behind a Keras one."""
    return variable.value if isinstance(variable, keras.Variable) else variable
