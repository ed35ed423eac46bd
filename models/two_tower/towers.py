"""The two towers as Keras layers: items from what is known of them, users from what they bought."""

from collections.abc import Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from topkin.models.data.item_features import PRICE_STEPS
from topkin.models.ops.row_sums import row_sums


def unit(x: tf.Tensor) -> tf.Tensor:
    """Vectors divided by their length; a zero vector stays zero and its gradient stays finite.

    Not ``ops.cosine.unit_rows``, which rounds differently: trained models and their figures would move.
    """
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.where(square > 0, ops.rsqrt(ops.maximum(square, 1e-24)), 0.0)


@keras.saving.register_keras_serializable("topkin")
class RowTable(keras.layers.Layer):
    """An embedding table whose row 0 is always the zero vector.

    rows: rows beside row 0. scale: deviation of the values that it begins with, 0 for zeros, which cost nothing.
    Gradients are row-sparse (``tf.IndexedSlices``).
    """

    def __init__(self, rows: int, dim: int, *, scale: float = 0.1, seed: int = 0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.rows, self.dim, self.scale, self.seed = rows, dim, scale, seed

    def build(self, input_shape: tuple[int, ...] | None = None) -> None:
        """Make the table, (rows + 1, dim) float32."""
        start = keras.initializers.RandomNormal(stddev=self.scale, seed=self.seed) if self.scale else "zeros"
        self.table = self.add_weight((self.rows + 1, self.dim), initializer=start, name="table")
        self.built = True

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """(…,) int -> (…, dim)."""
        return self.read(rows) * ops.cast(ops.expand_dims(rows > 0, -1), self.compute_dtype)

    def mixed(self, rows: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
        """Sums of a few rows each: (m, w) int and (m, w) float32 of what each counts -> (m, dim).

        Its gradient names each row once, and row 0 with a gradient of zero.
        """
        return mixed([(self, rows, shares)])

    def read(self, rows: tf.Tensor) -> tf.Tensor:
        """The rows as the table has them, row 0 too: where nothing counts that, this takes less than :meth:`call`."""
        # From the variable itself: Keras' take, and its value inside a layer, copy the whole table at every step.
        return tf.gather(self.table._value, rows)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "rows": self.rows,
            "dim": self.dim,
            "scale": self.scale,
            "seed": self.seed,
        }


def mixed(parts: Sequence[tuple[RowTable, tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """The sum of :meth:`RowTable.mixed` over some tables, by one product: their rows and shares, (m, w) each."""
    weights, places, before = [], [], tf.constant(0)
    for table, rows, _ in parts:
        distinct, place = tf.unique(tf.concat([[0], tf.reshape(rows, [-1])], axis=0))  # one row there always is
        weights.append(table.read(distinct))
        places.append(tf.reshape(place[1:], tf.shape(rows)) + before)
        before += tf.size(distinct)
    columns, rows, shares = (tf.concat(x, axis=1) for x in (places, *([part[i] for part in parts] for i in (1, 2))))
    there = tf.where(rows > 0)
    entries = tf.stack([there[:, 0], tf.cast(tf.gather_nd(columns, there), tf.int64)], axis=1)
    return row_sums(entries, tf.gather_nd(shares, there), tf.concat(weights, axis=0), tf.shape(rows)[0])


@keras.saving.register_keras_serializable("topkin")
class Projection(keras.layers.Dense):
    """What the vectors that items bring are multiplied by, (inputs, dim), beside the :class:`RowTable` of their
    words."""

    def __init__(self, inputs: int, dim: int, *, scale: float = 0.01, seed: int = 0, **kwargs: object) -> None:
        start = keras.initializers.RandomNormal(stddev=scale, seed=seed)
        super().__init__(dim, use_bias=False, kernel_initializer=start, **kwargs)
        self.inputs, self.scale, self.seed = inputs, scale, seed

    def build(self, input_shape: tuple[int, ...] | None = None) -> None:
        """Make the matrix."""
        super().build((None, self.inputs))

    @property
    def table(self) -> keras.Variable:
        """The matrix."""
        return self.kernel

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        named = keras.layers.Layer.get_config(self)
        return {**named, "inputs": self.inputs, "dim": self.units, "scale": self.scale, "seed": self.seed}


@keras.saving.register_keras_serializable("topkin")
class HistoryPooling(keras.layers.Layer):
    """The user tower: a weighted sum of in-vectors, then the unit vector.

    Linear before the norm, so that each purchase's share of a score is known exactly.
    """

    def call(self, in_vectors: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """(b, h, dim), (b, h) -> (b, dim) unit rows; zero for a history without weight."""
        return unit(ops.sum(in_vectors * ops.expand_dims(weights, -1), axis=1))


@keras.saving.register_keras_serializable("topkin")
class TwoTower(keras.Model):
    """One block's weights: called on item features it gives out-vectors and in-vectors.

    A vector is the sum of what is known of the item: its id row, the mean of its words, its category, its
    price, its features (``values`` rows), and a linear map of the vector that it brings, of ``vector_dim`` numbers.
    Out-vectors are scored, in-vectors are pooled by :class:`HistoryPooling`. ``unit_out``: out-vectors are unit rows,
    as in training; without it their lengths count. ``with_content``: whether there are tables beside the ids'.
    ``content_scale``: deviation of these as they begin. ``profile_rows``: where it is not 0 no history is pooled, there
    are no tables of in-vectors, and users are known by so many rows, ``profiles``: of their features, and one of all.
    """

    def __init__(
        self,
        *,
        items: int,
        dim: int,
        word_buckets: int,
        title_words: int,
        categories: int,
        seed: int = 0,
        unit_out: bool = True,
        with_content: bool = True,
        vector_dim: int = 0,
        values: int = 0,
        content_scale: float = 0.01,
        profile_rows: int = 0,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.profile_rows = profile_rows
        self.vector_dim, self.values = (vector_dim, values) if with_content else (0, 0)
        self.items, self.dim, self.word_buckets, self.title_words = items, dim, word_buckets, title_words
        self.categories, self.seed, self.unit_out, self.with_content = categories, seed, unit_out, with_content
        self.outs = self._side("out", seed, content_scale)
        self.ins = [] if profile_rows else self._side("in", seed + 1, content_scale)
        rows = [profile_rows] if profile_rows else []
        self.profiles = [RowTable(n, dim, scale=content_scale, seed=seed + 13, name="profiles") for n in rows]
        self.users = HistoryPooling(name="users")
        self._infer: Any = None

    def _side(self, end: str, seed: int, scale: float) -> list[RowTable | Projection]:
        """The tables of out-vectors or of in-vectors."""
        tables: list[RowTable | Projection] = [RowTable(self.items, self.dim, seed=seed + 1, name=f"id_{end}")]
        if self.with_content:
            content = [("words", self.word_buckets, 3), ("category", self.categories, 5), ("price", PRICE_STEPS, 7)]
            content += [("values", self.values, 11)] if self.values else []
            for name, rows, more in content:
                tables.append(RowTable(rows, self.dim, scale=scale, seed=seed + more, name=f"{name}_{end}"))
        if self.vector_dim:
            tables.append(Projection(self.vector_dim, self.dim, seed=seed + 9, name=f"vector_{end}"))
        return tables

    @property
    def id_out(self) -> RowTable:
        """The id rows of out-vectors."""
        return cast(RowTable, self.outs[0])

    @property
    def id_in(self) -> RowTable:
        """Those of in-vectors."""
        return cast(RowTable, self.ins[0])

    def build(self, input_shape: tuple[int, ...] | None = None) -> None:
        """Make every table."""
        for table in self.tables:
            if not table.built:
                table.build()
        self.users.build(None)
        self.built = True

    @property
    def tables(self) -> list[RowTable | Projection]:
        """All tables, out and in by turns: ids, words, categories, prices, features, what vectors are multiplied by."""
        if self.profiles:
            return [*self.outs, *self.profiles]
        return [table for pair in zip(self.outs, self.ins, strict=True) for table in pair]

    @property
    def mixed(self) -> list[RowTable]:
        """The tables of content that are read by :func:`mixed`: all but that of the vectors that items bring."""
        content = [*self.outs[1:], *self.ins[1:]]
        return [table for table in content if isinstance(table, RowTable)]

    def call(self, features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Item features, as ``ItemFeatures.padded`` names them -> out-vectors, in-vectors, (m, dim)."""
        out, pooled = self.sums(features)
        return unit(out) if self.unit_out else out, pooled

    def sums(self, features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """As :meth:`call`, the out-vectors not yet divided by their lengths."""
        names = ("out",) if self.profiles else ("out", "in")
        sides = [tables[0](features["id_rows"]) for tables in (self.outs, self.ins) if tables]
        if self.with_content:
            sides = [self.content(features, name) + own for name, own in zip(names, sides, strict=True)]
        return sides[0], sides[-1] if self.ins else ops.zeros_like(sides[0])

    def content(self, features: dict[str, tf.Tensor], side: str) -> tf.Tensor:
        """What words, category, price, features and own vectors say of items, (m, dim); side: ``out`` or ``in``."""
        _, texts, categories, prices, *more = self.outs if side == "out" else self.ins
        known = ops.cast(features["words"] > 0, "float32")
        parts = [(texts, features["words"], known / ops.maximum(ops.sum(known, axis=1, keepdims=True), 1.0))]
        for table, name in ((categories, "categories"), (prices, "prices")):
            rows = ops.expand_dims(features[name], 1)
            parts.append((table, rows, ops.ones_like(rows, "float32")))
        if self.values:
            parts.append((more[0], features["values"], features["shares"]))
        total = mixed(parts)
        return total + more[-1](features["vectors"]) if self.vector_dim else total

    def infer(self, features: dict[str, np.ndarray], *, again: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """:meth:`sums`, to the same bits; compiled for the shape of the features where such batches come again."""
        if not again:
            return self.sums({name: tf.constant(values) for name, values in features.items()})
        if self._infer is None:
            self._infer = tf.function(self.sums, autograph=False)
        return self._infer(features)

    def rotate(self, turned: np.ndarray) -> None:
        """Multiply every table by a rotation, (dim, dim): no score changes."""
        for table in self.tables:
            table.table.assign((np.asarray(table.table, np.float64) @ turned).astype(np.float32))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "name": self.name,
            "items": self.items,
            "dim": self.dim,
            "word_buckets": self.word_buckets,
            "title_words": self.title_words,
            "categories": self.categories,
            "seed": self.seed,
            "unit_out": self.unit_out,
            "with_content": self.with_content,
            "vector_dim": self.vector_dim,
            "values": self.values,
            "profile_rows": self.profile_rows,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, type] | None = None) -> "TwoTower":
        """From :meth:`get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("topkin")
class Towers(keras.Model):
    """The encoder's weights: the two towers of each block of coordinates.

    ``meaning`` holds what else decides a result (blocks with their weights, prior, vocabulary, categories): it is
    saved in the file, so that the file's hash names the encoder completely. All blocks know the same items.
    """

    def __init__(self, towers: list[TwoTower], *, meaning: dict[str, Any] | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.towers, self.meaning = list(towers), dict(meaning or {})

    def build(self, input_shape: tuple[int, ...] | None = None) -> None:
        """Make every table."""
        for tower in self.towers:
            if not tower.built:
                tower.build()
        self.built = True

    def call(self, features: dict[str, tf.Tensor]) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Out-vectors and in-vectors of each block."""
        return [tower(features) for tower in self.towers]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        towers = [keras.saving.serialize_keras_object(tower) for tower in self.towers]
        return {"name": self.name, "towers": towers, "meaning": self.meaning}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, type] | None = None) -> "Towers":
        """From :meth:`get_config`."""
        towers = [keras.saving.deserialize_keras_object(tower) for tower in config.pop("towers")]
        return cls(towers, **config)
