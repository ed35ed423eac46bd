"""Two towers: what asks and what answers, each by an encoder of its own, in one space."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from topkin.encoding.signature import EncoderSignature
from topkin.models.encoders.keras_files import save_encoder
from topkin.models.metric_learning.serialization import serializable
from topkin.models.ops.encoders import embedding_dim


@serializable
class SideBySide(keras.layers.Layer):
    """Two (n, d) inputs as one (n, 2, d): the form in which InfoNCE and SampledSoftmax read pairs."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See the class."""
        left, right = inputs
        return keras.ops.stack([left, right], axis=1)


class TwoTowers(NamedTuple):
    """Two encoders and the model of pairs that trains them; the towers share its weights.

    Attributes:
        model: inputs (left's, right's), each tower's in its order, output (n, 2, d).
        left: the encoder of what asks.
        right: the encoder of what answers.

    Examples:
        >>> from topkin.models import MetricEmbedding, dssm
        >>> sides = [keras.Sequential([keras.Input((3,)), MetricEmbedding(2)]) for _ in range(2)]
        >>> dssm(*sides).model.output_shape
        (None, 2, 2)
    """

    model: keras.Model
    left: keras.Model
    right: keras.Model

    def save(
        self,
        folder: str,
        inputs: Mapping[str, str | Mapping[str, Any]] | None = None,
        user_inputs: Mapping[str, str | Mapping[str, Any]] | None = None,
        *,
        overwrite: bool = False,
    ) -> EncoderSignature:
        """Write both towers as one encoder, the right one as that of items, the left one as that of users.

        Args:
            folder: New or empty, local or a URI.
            inputs: Of the right tower, see :func:`save_encoder`.
            user_inputs: Of the left tower, likewise.
            overwrite: Replace an encoder that is there.

        Raises:
            InputError, FileExistsError: As :func:`save_encoder`.

        Examples:
            >>> from topkin.models import MetricEmbedding, dssm, history_encoder
            >>> user = history_encoder(["tea", "cup"], dim=4, kind="mean", time_gaps=False)
            >>> item = keras.Sequential([keras.Input((3,), name="size"), MetricEmbedding(4)])
            >>> towers = dssm(user, item)
            >>> signature = towers.save("towers", user_inputs={"items": {"column": "bought", "kind": "history"}})
            >>> sorted(signature.files), signature.user_inputs[0].column
            (['item.keras', 'user.keras'], 'bought')
        """
        return save_encoder(self.right, folder, inputs, user=self.left, user_inputs=user_inputs, overwrite=overwrite)


def dssm(left: keras.Model, right: keras.Model) -> TwoTowers:
    """A model of pairs out of two encoders that give embeddings of one dimension: the two-tower model, DSSM.

    Compile it with ``losses.SampledSoftmax(counts)`` (in-batch negatives with the logQ correction, labels the
    numbers of the right-hand items) or ``losses.InfoNCE()``; afterwards embed each side with its own tower and
    score by cosine.

    Huang et al., Learning deep structured semantic models for web search using clickthrough data, CIKM 2013.

    Args:
        left: encoder of what asks, such as users.
        right: encoder of what answers, such as items.

    Raises:
        ValueError: the dimensions differ.

    Examples:
        >>> from topkin.models import MetricEmbedding, dssm, losses
        >>> user, item = (keras.Sequential([keras.Input((3,)), MetricEmbedding(2)]) for _ in range(2))
        >>> towers = dssm(user, item)
        >>> towers.model.compile("adam", loss=losses.InfoNCE())
        >>> history = towers.model.fit([np.eye(3), np.eye(3)[::-1]], np.arange(3), verbose=0)
        >>> towers.left.predict(np.eye(3), verbose=0).shape
        (3, 2)
    """
    dims = [embedding_dim(tower, f"the {side} tower") for side, tower in (("left", left), ("right", right))]
    if dims[0] != dims[1]:
        raise ValueError(
            f"towers must give one vector of the same dimension, got {left.output_shape} and {right.output_shape}: "
            "end each with MetricEmbedding(dim)"
        )
    sides = [[keras.Input(t.shape[1:], dtype=t.dtype) for t in tower.inputs] for tower in (left, right)]
    vectors = [
        tower(keras.tree.pack_sequence_as(tower.input, inputs) if len(inputs) > 1 else inputs[0])
        for tower, inputs in zip((left, right), sides, strict=True)
    ]
    return TwoTowers(keras.Model([*sides[0], *sides[1]], SideBySide()(vectors)), left, right)
