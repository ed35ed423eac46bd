"""The two towers as Keras layers: items from what is known of them, users from what they bought."""

from typing import Any

import keras
from keras import ops

from topkin.models.features import PRICE_STEPS


def unit(x: Any, axis: int = -1) -> Any:
    """Vectors divided by their length; a zero vector stays zero and its gradient stays finite."""
    square = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.where(square > 0, ops.rsqrt(ops.maximum(square, 1e-24)), 0.0)


@keras.saving.register_keras_serializable("topkin")
class Table(keras.layers.Layer):
    """An embedding table whose row 0 is always the zero vector.

    rows: rows beside row 0. Gradients are row-sparse (``tf.IndexedSlices``).
    """

    def __init__(self, rows: int, dim: int, *, scale: float = 0.1, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows, self.dim, self.scale, self.seed = rows, dim, scale, seed

    def build(self, input_shape: Any = None) -> None:
        """Make the table, (rows + 1, dim) float32."""
        start = keras.initializers.RandomNormal(stddev=self.scale, seed=self.seed)
        self.table = self.add_weight((self.rows + 1, self.dim), initializer=start, name="table")
        self.built = True

    def call(self, rows: Any) -> Any:
        """(…,) int -> (…, dim)."""
        present = ops.cast(ops.expand_dims(rows > 0, -1), self.compute_dtype)
        return ops.take(self.table, rows, axis=0) * present

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "rows": self.rows,
            "dim": self.dim,
            "scale": self.scale,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("topkin")
class HistoryPooling(keras.layers.Layer):
    """The user tower: a weighted sum of in-vectors, then the unit vector.

    Linear before the norm, so that each purchase's share of a score is known exactly.
    """

    def call(self, in_vectors: Any, weights: Any) -> Any:
        """(b, h, dim), (b, h) -> (b, dim) unit rows; zero for a history without weight."""
        return unit(ops.sum(in_vectors * ops.expand_dims(weights, -1), axis=1))


@keras.saving.register_keras_serializable("topkin")
class TwoTower(keras.Model):
    """The encoder's weights: called on item features it gives out-vectors and in-vectors.

    A vector is the sum of what is known of the item: its id row, the mean of its words, its category, its
    price. Out-vectors are unit rows and are scored; in-vectors are pooled by :class:`HistoryPooling`.
    ``meaning`` holds what else decides a result (vocabulary hash, rarity, half-life, categories): it is
    saved in the file, so that the file's hash names the encoder completely.
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
        meaning: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.items, self.dim, self.word_buckets, self.title_words = items, dim, word_buckets, title_words
        self.categories, self.seed, self.meaning = categories, seed, dict(meaning or {})
        self.id_out = Table(items, dim, seed=seed + 1, name="id_out")
        self.id_in = Table(items, dim, seed=seed + 2, name="id_in")
        self.words_out = Table(word_buckets, dim, scale=0.01, seed=seed + 3, name="words_out")
        self.words_in = Table(word_buckets, dim, scale=0.01, seed=seed + 4, name="words_in")
        self.category_out = Table(categories, dim, scale=0.01, seed=seed + 5, name="category_out")
        self.category_in = Table(categories, dim, scale=0.01, seed=seed + 6, name="category_in")
        self.price_out = Table(PRICE_STEPS, dim, scale=0.01, seed=seed + 7, name="price_out")
        self.price_in = Table(PRICE_STEPS, dim, scale=0.01, seed=seed + 8, name="price_in")
        self.users = HistoryPooling(name="users")
        self._infer: Any = None

    def build(self, input_shape: Any = None) -> None:
        """Make every table."""
        for table in self.tables:
            table.build()
        self.users.build(None)
        self.built = True

    @property
    def tables(self) -> list[Table]:
        """All embedding tables."""
        return [
            self.id_out,
            self.id_in,
            self.words_out,
            self.words_in,
            self.category_out,
            self.category_in,
            self.price_out,
            self.price_in,
        ]

    def call(self, features: dict[str, Any]) -> tuple[Any, Any]:
        """Item features (``id_rows``, ``words``, ``categories``, ``prices``) -> out-vectors, in-vectors, (m, dim)."""
        out, pooled = self.sums(features)
        return unit(out), pooled

    def sums(self, features: dict[str, Any]) -> tuple[Any, Any]:
        """As :meth:`call`, the out-vectors not yet divided by their lengths."""
        words = features["words"]
        count = ops.maximum(ops.sum(ops.cast(words > 0, "float32"), axis=1, keepdims=True), 1.0)
        sides = []
        for ids, texts, categories, prices in (
            (self.id_out, self.words_out, self.category_out, self.price_out),
            (self.id_in, self.words_in, self.category_in, self.price_in),
        ):
            content = ops.sum(texts(words), axis=1) / count
            content = content + categories(features["categories"]) + prices(features["prices"])
            sides.append(content + ids(features["id_rows"]))
        return sides[0], sides[1]

    def infer(self, features: dict[str, Any]) -> tuple[Any, Any]:
        """:meth:`sums`, compiled once for each shape of features."""
        if self._infer is None:
            import tensorflow as tf

            self._infer = tf.function(self.sums)
        return self._infer(features)

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
            "meaning": self.meaning,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "TwoTower":
        """From :meth:`get_config`."""
        return cls(**config)
