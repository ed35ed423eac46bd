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
        self._held: dict[str, tf.Tensor] = {}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "distinct": list(self.distinct)}

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the moments, and places for rows of each table and of its moments while they are updated."""
        super().build(variables)
        self._parts = [[_rows_of(variable) for _ in range(3)] for variable in variables]

    def hold(self, variable: keras.Variable, values: tf.Tensor) -> tf.Tensor:
        """Keep what was read of a table for its next update, so that this need not read it again.

        The table must be one of ``distinct``, and the rows all those that its gradient names, in order.
        """
        self._held[variable.path] = values
        return values

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update one variable in place."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        rows, summed = gradient.indices, gradient.values
        at = self._get_variable_index(variable)
        name = self._trainable_variables[at].path
        if name not in self.distinct:
            rows, places = tf.unique(rows)
            summed = tf.math.unsorted_segment_sum(summed, places, tf.size(rows))
        tables = [_tensor(x) for x in (variable, self._momentums[at], self._velocities[at])]
        held = self._held.pop(name, None)
        for part, table, known in zip(self._parts[at], tables, (held, None, None), strict=True):
            part.assign(tf.gather(table, rows) if known is None else known)
        self._update_parts(self._parts[at], summed, tf.cast(learning_rate, summed.dtype))
        for part, table in zip(self._parts[at], tables, strict=True):
            table.scatter_update(tf.IndexedSlices(part.read_value(), rows))

    def _update_parts(self, parts: Sequence[tf.Variable], gradient: tf.Tensor, rate: tf.Tensor) -> None:
        """Adam's step of the rows that were gathered, by TensorFlow's kernel: one reading of each array."""
        weights, first, second = parts
        betas = [tf.constant(beta, gradient.dtype) for beta in (self.beta_1, self.beta_2)]
        step = tf.cast(self.iterations + 1, gradient.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=weights.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=betas[0] ** step,
            beta2_power=betas[1] ** step,
            lr=rate,
            beta1=betas[0],
            beta2=betas[1],
            epsilon=tf.constant(self.epsilon, gradient.dtype),
            grad=gradient,
        )


def _tensor(variable: keras.Variable | tf.Variable) -> tf.Variable:
    """The TensorFlow variable behind a Keras one."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def _rows_of(variable: keras.Variable) -> tf.Variable:
    """A variable for some rows of another, as yet none.

    A compiled step may assign it one number of rows alone: TensorFlow takes the shapes of all assignments for one.
    """
    rest = tuple(variable.shape)[1:]
    return tf.Variable(tf.zeros((0, *rest), variable.dtype), shape=(None, *rest), trainable=False)
