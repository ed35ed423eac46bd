"""Two towers: what asks and what answers, each by an encoder of its own, in one space.

Huang et al., Learning deep structured semantic models for web search using clickthrough data, CIKM 2013.
"""

from typing import Any, NamedTuple

import keras

from topkin.models.metric_learning.serialization import serializable


@serializable
class SideBySide(keras.layers.Layer):
    """Two (n, d) inputs as one (n, 2, d): the form in which InfoNCE and SampledSoftmax read pairs."""

    def call(self, inputs: Any) -> Any:
        """See the class."""
        left, right = inputs
        return keras.ops.stack([left, right], axis=1)


class TwoTowers(NamedTuple):
    """``model`` is trained on pairs: inputs (left's, right's), output (n, 2, d); the towers share its weights."""

    model: keras.Model
    left: keras.Model
    right: keras.Model


def dssm(left: keras.Model, right: keras.Model) -> TwoTowers:
    """A model of pairs out of two encoders that give vectors of one dimension.

    Compile it with ``SampledSoftmax(counts)`` (in-batch negatives with the logQ correction, labels the
    numbers of the right-hand items) or ``InfoNCE()``; afterwards embed each side with its own tower and
    score by cosine. Raises ValueError where the dimensions differ.
    """
    if left.output_shape != right.output_shape or len(left.output_shape) != 2:
        raise ValueError(
            f"towers must give one vector of the same dimension, got {left.output_shape} and {right.output_shape}: "
            "end each with MetricEmbedding(dim)"
        )
    inputs = [keras.Input(tower.input_shape[1:], dtype=tower.inputs[0].dtype) for tower in (left, right)]
    return TwoTowers(keras.Model(inputs, SideBySide()([left(inputs[0]), right(inputs[1])])), left, right)
