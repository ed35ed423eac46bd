"""Encoders of users by what they did: the last items of a history, in their order and with the time between them.

    users = history_encoder(catalogue["sku"], dim=64)
    users({"items": [["a7", "b2", ""]], "ages": [[12.0, 0.0, 0.0]]})

Every layer passes over padding, whichever side it is on and however much of it there is.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf
from keras import ops

from topkin.metrics.labels import values_of
from topkin.models.metric_learning.layers import MetricEmbedding
from topkin.models.metric_learning.serialization import serializable

KINDS = ("transformer", "gru", "attention", "mean")
STEPS_OF_TIME = 32
"""Steps that times are told in: two for each doubling, from a quarter of a day to about 30 years."""
STARTS_OF_STEPS = ((2.0 ** (np.arange(1, STEPS_OF_TIME) / 2) - 1) / 4).astype(np.float32)
"""Days at which each step but the first begins."""


class _FromArguments(keras.layers.Layer):
    """A layer whose configuration is its constructor's arguments, kept as attributes; the names are in ``own``."""

    own: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **{name: getattr(self, name) for name in self.own}}

    def table(self, rows: int, width: int, name: str, seed: int | None) -> keras.Variable:
        """Trained vectors, (rows, width)."""
        return self.add_weight((rows, width), keras.initializers.RandomNormal(stddev=0.1, seed=seed), name=name)


@serializable
class HistoryRows(_FromArguments):
    """Vectors of a history's items, of their places and of their times: (n, h) numbers and ages -> (n, h, width).

    Args:
        items: How many there are; numbers are 1 to this, 0 and all others are nothing, a zero vector.
        width: Of the vectors.
        places: How many places from the most recent item backwards have a vector; those before them share the last.
            None where the order is to count for nothing.
        ages: Whether there are ages: (n, h) days. An item's and the time that passed until the next one have vectors.
        seed: Of the first weights.
    """

    own = ("items", "width", "places", "ages", "seed")

    def __init__(
        self, items: int, width: int, *, places: int | None, ages: bool, seed: int | None = None, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.items, self.width, self.places, self.ages, self.seed = items, width, places, ages, seed

    def build(self, *shapes: object) -> None:
        """Make the tables."""
        seeds = [None] * 4 if self.seed is None else [self.seed + n for n in range(4)]
        self.of_items = self.table(self.items + 1, self.width, "items", seeds[0])
        if self.places is not None:
            self.of_places = self.table(self.places, self.width, "places", seeds[1])
        if self.ages:
            self.of_ages = self.table(STEPS_OF_TIME, self.width, "ages", seeds[2])
            self.of_gaps = self.table(STEPS_OF_TIME, self.width, "gaps", seeds[3])
        self.built = True

    def call(self, numbers: tf.Tensor, mask: tf.Tensor, ages: tf.Tensor | None = None) -> tf.Tensor:
        """See the class; ``mask``, (n, h) bool: where an item is."""
        rows = _rows(self.of_items, ops.where(mask, numbers, 0))
        after = ops.flip(ops.cumsum(ops.flip(ops.cast(mask, "int32"), axis=1), axis=1), axis=1)  # items from here on
        if self.places is not None:
            rows = rows + _rows(self.of_places, ops.clip(after - 1, 0, self.places - 1))
        if ages is not None:
            until_next = ages - ops.concatenate([ages[:, 1:], ages[:, :1]], axis=1)
            gaps = ops.where(after > 1, until_next, ops.zeros_like(ages))
            rows = rows + _rows(self.of_ages, _step(ages)) + _rows(self.of_gaps, _step(gaps))
        return rows * ops.cast(mask, rows.dtype)[..., None]

    def compute_output_shape(self, numbers: Any, *others: Any) -> Any:
        """(n, h, width)."""
        return (*numbers, self.width)


def _rows(table: keras.Variable, numbers: tf.Tensor) -> tf.Tensor:
    return tf.gather(tf.convert_to_tensor(table), numbers)


def _step(days: tf.Tensor) -> tf.Tensor:
    """Days as a number of steps that grow with them: floor(2 log2(1 + 4 days)), by comparing and not by a logarithm.

    A logarithm may differ in its last bit from one place of a batch to another, and so by a whole step at an edge.
    """
    flat = tf.reshape(ops.cast(days, "float32"), [-1])
    return tf.reshape(tf.searchsorted(tf.constant(STARTS_OF_STEPS), flat, side="right"), tf.shape(days))


@serializable
class HistoryBlock(_FromArguments):
    """A block of a transformer over histories, (n, h, width): attention among all items, then a layer for each.

    Norms come before, and both parts are added to what goes in.

    Vaswani et al., Attention is all you need, NeurIPS 2017; as a model of histories: Sun et al., BERT4Rec, CIKM 2019.

    Args:
        heads: Of the attention; they share the width.
        seed: Of the first weights.

    Raises:
        ValueError: The width is no multiple of heads.
    """

    own = ("heads", "seed")

    def __init__(self, heads: int = 2, *, seed: int | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.heads, self.seed = heads, seed

    def build(self, shape: Any, *_: Any) -> None:
        """Make the weights."""
        width = shape[-1]
        if width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {self.heads}")

        def weight(name: str, rows: int, columns: int, number: int) -> keras.Variable:
            start = keras.initializers.GlorotUniform(seed=None if self.seed is None else self.seed + number)
            return self.add_weight((rows, columns), start, name=name)

        self.before, self.between = (keras.layers.LayerNormalization(epsilon=1e-6, name=n) for n in ("before", "after"))
        for norm in (self.before, self.between):
            norm.build(shape)
        self.asks, self.joins = weight("asks", width, 3 * width, 0), weight("joins", width, width, 1)
        self.widens, self.narrows = weight("widens", width, 4 * width, 2), weight("narrows", 4 * width, width, 3)
        self.built = True

    def call(self, rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """(n, h, width), (n, h) bool -> (n, h, width)."""
        rows = rows + self._attended(self.before(rows), mask)
        return rows + _times(ops.relu(_times(self.between(rows), self.widens)), self.narrows)

    def _attended(self, rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        n, length, width = ops.shape(rows)[0], ops.shape(rows)[1], rows.shape[-1]
        split = ops.reshape(_times(rows, self.asks), (n, length, 3, self.heads, width // self.heads))
        query, key, value = ops.unstack(ops.transpose(split, (2, 0, 3, 1, 4)), 3)
        scores = tf.matmul(query * (width // self.heads) ** -0.5, key, transpose_b=True)
        shares = ops.softmax(scores + _none_of(mask, scores.dtype)[:, None, None, :], axis=-1)
        joined = ops.reshape(ops.transpose(tf.matmul(shares, value), (0, 2, 1, 3)), (n, length, width))
        return _times(joined, self.joins)

    def compute_output_shape(self, rows: object, *_: object) -> Any:
        """As it came."""
        return rows


def _times(rows: tf.Tensor, weight: keras.Variable) -> tf.Tensor:
    return tf.matmul(rows, tf.cast(tf.convert_to_tensor(weight), rows.dtype))


def _none_of(mask: tf.Tensor, dtype: object) -> tf.Tensor:
    """What is added to scores so that padding gets no share."""
    return ops.where(mask, ops.cast(0, dtype), ops.cast(-1e4, dtype))


@serializable
class AttentionPooling(_FromArguments):
    """The mean of a history's vectors, weighted by a softmax of what a small layer gives each: (n, h, w) -> (n, w).

    A history of nothing is a zero vector.

    seed: of the first weights.
    """

    own = ("seed",)

    def __init__(self, *, seed: int | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, shape: Any, *_: Any) -> None:
        """Make the weights, (w, w) and (w, 1)."""
        start = keras.initializers.GlorotUniform(seed=self.seed)
        self.hidden = self.add_weight((shape[-1], shape[-1]), start, name="hidden")
        self.scores = self.add_weight((shape[-1], 1), start.clone(), name="scores")
        self.built = True

    def call(self, rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """See the class; ``mask``, (n, h) bool: where an item is."""
        scores = _times(ops.tanh(_times(rows, self.hidden)), self.scores)[..., 0]
        shares = ops.softmax(scores + _none_of(mask, scores.dtype), axis=1) * ops.cast(mask, scores.dtype)
        return tf.matmul(shares[:, None, :], rows)[:, 0]

    def compute_output_shape(self, rows: Any, *_: Any) -> Any:
        """(n, w)."""
        return (rows[0], rows[-1])


@serializable
class MeanPooling(keras.layers.Layer):
    """The mean of a history's vectors: (n, h, w), (n, h) bool -> (n, w); a history of nothing is a zero vector."""

    def call(self, rows: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """See the class."""
        there = ops.cast(mask, rows.dtype)
        return tf.matmul(there[:, None, :], rows)[:, 0] / ops.maximum(ops.sum(there, axis=1, keepdims=True), 1)

    def compute_output_shape(self, rows: Any, *_: Any) -> Any:
        """(n, w)."""
        return (rows[0], rows[-1])


@serializable
class KnownItems(keras.layers.Layer):
    """The numbers of a lookup layer, where 1 is what it does not know, as 1 to the number of items, and where they are.

    (n, h) int -> (n, h) int32, 0 for padding and what is not known, and (n, h) bool. ``items``: the largest number;
    ``looked_up``: whether a lookup made them.
    """

    def __init__(self, items: int, *, looked_up: bool, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.items, self.looked_up = items, looked_up

    def call(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See the class."""
        numbers = numbers - 1 if self.looked_up else numbers
        there = (numbers > 0) & (numbers <= self.items)
        return ops.cast(ops.where(there, numbers, 0), "int32"), there

    def compute_output_spec(self, numbers: Any) -> Any:
        """Both of the shape that came."""
        return keras.KerasTensor(numbers.shape, "int32"), keras.KerasTensor(numbers.shape, "bool")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "items": self.items, "looked_up": self.looked_up}


def history_encoder(
    items: int | Sequence[str] | Sequence[int] | pa.Array | pa.ChunkedArray,
    dim: int = 64,
    *,
    length: int = 64,
    kind: str = "transformer",
    time_gaps: bool = True,
    width: int | None = None,
    blocks: int = 1,
    heads: int = 2,
    seed: int | None = None,
) -> keras.Model:
    """Histories to unit rows: the tower of users of a two-tower model.

    Inputs ``items``, (n, h) ids, the most recent last, and with time gaps ``ages``, (n, h) float32 days, such as before
    the most recent one; output (n, dim) float32. Any h will do, and the result is the same for any padding, 0 or the
    empty text, before the items or after them. Items that are not known are passed over; a history of none is a zero
    vector. To :func:`save_encoder` both inputs are of kind ``history``.

    Args:
        items: The ids that are known, unique, strings or integers: they become a layer of the model. Or how many there
            are, where histories hold numbers from 1.
        dim: Coordinates of a vector.
        length: Places from the most recent item backwards that are told apart.
        kind: ``transformer``: blocks of attention among all items, then a pooling that weighs them; ``attention``: that
            pooling alone; ``gru``: item after item; ``mean``: all alike.
        time_gaps: Whether the times of items count.
        width: Of the vectors within; ``dim`` where None.
        blocks: Of a transformer.
        heads: Of a transformer.
        seed: Of the first weights.

    Raises:
        ValueError: An unknown kind, no items, ids that are not unique, empty or 0, or sizes that do not fit.

    Examples:
        >>> from topkin.models import history_encoder
        >>> users = history_encoder(["tea", "cup", "pot"], dim=8, time_gaps=False, seed=0)
        >>> known, padded = (np.asarray(users(np.array(h, object))) for h in ([["tea", "cup"]], [["tea", "cup", ""]]))
        >>> known.shape, bool(np.allclose(known, padded, atol=1e-6))
        ((1, 8), True)
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if min(dim, length, blocks, heads, width or 1) < 1:
        raise ValueError(
            f"dim, length, width, blocks and heads must be at least 1, got {dim}, {length}, {width}, {blocks} and "
            f"{heads}"
        )
    ids = keras.Input((None,), dtype="int64", name="items")
    count, numbers = (items, ids) if isinstance(items, int) else (0, None)
    if not isinstance(items, int):
        known = _vocabulary(items)
        if isinstance(known[0], str):
            ids = keras.Input((None,), dtype="string", name="items")
            lookup = keras.layers.StringLookup(vocabulary=known, mask_token="", name="vocabulary")
        else:
            lookup = keras.layers.IntegerLookup(vocabulary=known, mask_token=0, name="vocabulary")
        count, numbers = len(known), lookup(ids)
    if count < 1:
        raise ValueError(f"items must be at least one, got {count}")
    ages = [keras.Input((None,), dtype="float32", name="ages")] if time_gaps else []
    inner = width or dim
    numbers, mask = KnownItems(count, looked_up=not isinstance(items, int), name="known")(numbers)
    places = None if kind == "mean" else length
    rows = HistoryRows(count, inner, places=places, ages=time_gaps, seed=seed, name="rows")(numbers, mask, *ages)
    if kind == "transformer":
        for number in range(blocks):
            start = None if seed is None else seed + 10 * (number + 1)
            rows = HistoryBlock(heads, seed=start, name=f"block_{number}")(rows, mask)
    if kind == "gru":
        pooled = keras.layers.GRU(inner, seed=seed, name="gru")(rows, mask=mask)
    elif kind == "mean":
        pooled = MeanPooling(name="pooling")(rows, mask)
    else:
        pooled = AttentionPooling(seed=seed, name="pooling")(rows, mask)
    vectors = MetricEmbedding(dim, seed=seed, name="vector")(pooled)
    return keras.Model([ids, *ages] if ages else ids, vectors, name="users")


def _vocabulary(items: object) -> list[str] | list[int]:
    """The ids, all strings or all integers. Raises ValueError where they cannot be those of a lookup."""
    known = [v.item() if isinstance(v, np.generic) else v for v in values_of(items, "items")]
    for kind, kept in ((str, ("", "[UNK]")), (int, (0, -1))):
        if known and all(isinstance(v, kind) for v in known):
            if len(set(known)) < len(known) or not set(known).isdisjoint(kept):
                wrong = "an id twice" if len(set(known)) < len(known) else "one that stands for none"
                raise ValueError(f"items must be unique ids, none of them {kept[0]!r} or {kept[1]!r}, got {wrong}")
            return known
    raise ValueError(
        f"items must be ids, all of them strings or all integers, or how many there are, got {len(known)} of "
        f"{', '.join(sorted({type(v).__name__ for v in known})) or 'no type'}"
    )
