"""Any trained Keras model run over Arrow tables, in batches of one shape, on the GPU where there is one."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from topkin.encoding.batching import shrinking
from topkin.encoding.columns import Rejections, read_column
from topkin.encoding.signature import EncoderSignature
from topkin.errors import ConfigError
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.sql import Expression
from topkin.models.encoders.image_files import decode
from topkin.models.encoders.keras_files import SavedModel, input_names, read_model
from topkin.models.ops import device

Feeds = Mapping[str, np.ndarray]
TOO_BIG = (MemoryError, tf.errors.ResourceExhaustedError)


class Embedded(NamedTuple):
    """Of n rows: the vectors of those that could be embedded, which these are, and why not the others.

    Attributes:
        vectors: (good, dim) float32, as the model gives them.
        good: (n,) bool.
        reasons: (n - good,) strings.
    """

    vectors: np.ndarray
    good: np.ndarray
    reasons: pa.Array


class KerasEncoder:
    """A trained model and the columns that feed it.

    Args:
        saved: The model.
        signature: Its inputs, see ``SavedModel.bound``.
        batch_size: Rows of a call; the last batch is padded to it. It is halved for good where memory does not do.
        jit_compile: Compile the model by XLA.
        precision: What layers compute in: float32, or mixed_bfloat16 or mixed_float16, which are faster on some GPUs
            and differ from ``model.predict`` by more.

    Raises:
        ConfigError: ``jit_compile`` of a model that takes strings.

    Examples:
        >>> import pyarrow as pa
        >>> from topkin.models import KerasEncoder, save_encoder
        >>> inputs = keras.Input((2,), name="size")
        >>> signature = save_encoder(keras.Model(inputs, keras.layers.UnitNormalization()(inputs)), "encoder")
        >>> embedded = KerasEncoder.load("encoder").embed(pa.table({"size": [[3.0, 4.0], [1.0], None]}))
        >>> embedded.vectors.round(3).tolist()
        [[0.6000000238418579, 0.800000011920929]]
        >>> embedded.reasons.to_pylist()
        ['size has not 2 numbers', 'size is missing']
    """

    def __init__(
        self,
        saved: SavedModel,
        signature: EncoderSignature,
        *,
        batch_size: int = 1024,
        jit_compile: bool = False,
        precision: str = "float32",
    ) -> None:
        texts = [i.name for i in signature.inputs if i.dtype == "string"]
        if jit_compile and texts:
            raise ConfigError(
                f"encoder.jit_compile must be false for a model that takes strings, for XLA has none: input "
                f"{texts[0]!r} does, leave the key out"
            )
        self.device = device.set_up()
        self.signature, self.batch_size = signature, batch_size
        if precision != "float32":
            _set_precision(saved.model, precision)
        self._names = input_names(saved.model)
        self._dtypes = {i.name: i.dtype for i in signature.inputs}
        self._model = saved.model
        self._call = tf.function(self._vectors, jit_compile=jit_compile, autograph=False)

    @classmethod
    def load(cls, folder: str, **settings: object) -> "KerasEncoder":
        """From the folder of an encoder, which says its columns. Raises as ``read_model``."""
        saved = read_model(folder)
        if saved.signature is None:
            raise ConfigError(f"{folder} must be the folder of an encoder, with the columns that feed it, got a file")
        unfed = [i.name for i in saved.inputs if i.name not in {known.name for known in saved.signature.inputs}]
        if unfed:
            raise ConfigError(
                f"{folder} must say what feeds each input of its model, it does not for {', '.join(unfed)}: "
                "write it by save_encoder(model, folder, inputs), with their size or length"
            )
        return cls(saved, saved.signature, **settings)  # type: ignore[arg-type]

    def _vectors(self, feeds: dict[str, tf.Tensor]) -> tf.Tensor:
        cast = {
            name: x if self._dtypes[name] == "string" else tf.cast(x, self._dtypes[name]) for name, x in feeds.items()
        }
        inputs = keras.tree.pack_sequence_as(self._model.input, [cast[name] for name in self._names])
        return tf.cast(keras.tree.flatten(self._model(inputs, training=False))[0], tf.float32)

    def read(self, rows: pa.Table, rejections: Rejections, *, folder: str = "") -> Feeds:
        """The arrays of the good rows, (good, …) by input; rows that cannot be given are noted.

        Args:
            rows: With the columns of the signature, their texts UTF-8.
            rejections: Of the n rows; those that have a reason are not looked at.
            folder: What relative paths of images begin in.

        Raises:
            ConfigError: An SQL expression does not fit the columns.
        """
        asked = rejections.good
        if not asked.all():
            rows = rows.filter(pa.array(asked))
        found = Rejections(len(rows))
        feeds = {}
        for spec in self.signature.inputs:
            if spec.column in rows.column_names:
                values = rows[spec.column]
            else:
                values = Expression(f"encoder.inputs.{spec.name}", spec.column).evaluate(rows)
            feeds[spec.name] = read_column(values, spec, found, partial(decode, folder=folder))
        rejections.include(found, asked)
        return feeds if found.good.all() else {name: array[found.good] for name, array in feeds.items()}

    def encode(self, feeds: Feeds) -> np.ndarray:
        """The model's vectors of such arrays, (n, dim) float32, each row's the same in whatever batch it is."""
        vectors, self.batch_size = shrinking(partial(self._encode, feeds), self.batch_size, TOO_BIG)
        return vectors

    def _encode(self, feeds: Feeds, size: int) -> np.ndarray:
        n = len(next(iter(feeds.values())))
        vectors = np.empty((n, self.signature.dim), np.float32)
        for start in range(0, n, size):
            batch = {name: _batch(array[start : start + size], size) for name, array in feeds.items()}
            vectors[start : start + size] = self._call(batch).numpy()[: n - start]
        return vectors

    def embed(self, rows: pa.Table, *, folder: str = "") -> Embedded:
        """The vectors of a table's rows; a row that cannot be given, or whose vector is not finite, has a reason.

        Raises as :meth:`read`.
        """
        rejections = Rejections(len(rows))
        rows, invalid = escape_invalid_utf8(rows)
        for column, where in invalid.items():
            rejections.reject(where, f"{column} is not UTF-8")
        return self.finish(self.read(rows, rejections, folder=folder), rejections)

    def finish(self, feeds: Feeds, rejections: Rejections) -> Embedded:
        """As :meth:`embed`, of the arrays of the good rows; rows whose vector is not finite are noted."""
        vectors = self.encode(feeds)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            where = np.zeros(len(rejections.good), bool)
            where[rejections.good] = ~finite
            rejections.reject(where, "the encoder gives a number that is not finite")
            vectors = vectors[finite]
        return Embedded(vectors, rejections.good, rejections.reasons())


def _batch(array: np.ndarray, size: int) -> tf.Tensor:
    if len(array) < size:
        padded = np.full((size, *array.shape[1:]), b"" if array.dtype == object else 0, array.dtype)
        padded[: len(array)] = array
        array = padded
    return tf.constant(array, tf.string) if array.dtype == object else tf.constant(array)


def _set_precision(model: keras.Model, precision: str) -> None:
    """Let every layer that computes in float32 compute in a mixed precision."""
    for layer in model._flatten_layers(include_self=False):
        if getattr(layer, "compute_dtype", None) == "float32" and not isinstance(layer, keras.layers.InputLayer):
            layer.dtype_policy = keras.DTypePolicy(precision)
