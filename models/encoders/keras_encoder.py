"""Any trained Keras model run over Arrow tables, in batches of one shape, on the GPU where there is one."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import NamedTuple

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from topkin.encoding.batching import shrinking
from topkin.encoding.buckets import Feeds, history_lengths, in_buckets, of_width
from topkin.encoding.columns import Rejections, ask_lengths, read_column
from topkin.encoding.signature import EncoderInput, EncoderSignature
from topkin.errors import ConfigError
from topkin.ingest.readers import escape_invalid_utf8
from topkin.ingest.sql import Expression
from topkin.models.encoders.image_files import decode
from topkin.models.encoders.keras_files import SavedModel, input_names, read_model
from topkin.models.ops import device

_LOOKUPS = (keras.layers.IntegerLookup, keras.layers.StringLookup)
TOO_BIG = (MemoryError, tf.errors.ResourceExhaustedError)


class Padding(NamedTuple):
    """What a model worked through in vain, and all that it did: rows, or values of histories of any length."""

    padded: int
    worked: int


class Embedded(NamedTuple):
    """Of n rows: the vectors of those that could be embedded, which these are, and why not the others.

    Attributes:
        vectors: (good, dim) float32, as the model gives them.
        good: (n,) bool.
        reasons: (n - good,) strings.
        padding: What of the model's work was padding.
    """

    vectors: np.ndarray
    good: np.ndarray
    reasons: pa.Array
    padding: Padding


class KerasEncoder:
    """A trained model and the columns that feed it: that of the items of an encoder, or that of its users.

    Args:
        saved: The model, of one of these sides.
        signature: The inputs of both, see ``SavedModel.bound``.
        batch_size: Rows of a call; the last batch is padded to it. It is halved for good where memory does not do.
        jit_compile: Compile the model by XLA.
        precision: What layers compute in: float32, or mixed_bfloat16 or mixed_float16, which are faster on some GPUs
            and differ from ``model.predict`` by more.

    Raises:
        ConfigError: ``jit_compile`` of a model that takes strings or looks ids up.

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
        self.inputs = signature.side(saved.side)
        texts = [i.name for i in self.inputs if i.dtype == "string"]
        if jit_compile and texts:
            raise ConfigError(
                f"encoder.jit_compile must be false for a model that takes strings, for XLA has none: input "
                f"{texts[0]!r} does, leave the key out"
            )
        tables = [layer.name for layer in saved.model._flatten_layers() if isinstance(layer, _LOOKUPS)]
        if jit_compile and tables:
            raise ConfigError(
                f"encoder.jit_compile must be false for a model that looks ids up, for XLA has no tables: layer "
                f"{tables[0]!r} does, leave the key out"
            )
        self.device = device.set_up()
        self.signature, self.batch_size = signature, batch_size
        if precision != "float32":
            _set_precision(saved.model, precision)
        self._names = input_names(saved.model)
        self._dtypes = {i.name: i.dtype for i in self.inputs}
        self._widths = max((i.buckets for i in self.inputs), key=len, default=()) or (1,)
        self._saved, self._settings = saved, (jit_compile, precision)
        self._model = saved.model
        self._compiled: dict[object, Callable[..., tf.Tensor]] = {}

    @classmethod
    def load(cls, folder: str, *, side: str = "items", **settings: object) -> "KerasEncoder":
        """From the folder of an encoder, which says its columns; ``side`` is ``items`` or ``users``.

        Raises as ``read_model``.
        """
        saved = read_model(folder, side)
        if saved.signature is None:
            raise ConfigError(f"{folder} must be the folder of an encoder, with the columns that feed it, got a file")
        fed = {known.name for known in saved.signature.side(side)}
        unfed = [i.name for i in saved.inputs if i.name not in fed]
        if unfed:
            raise ConfigError(
                f"{folder} must say what feeds each input of its model, it does not for {', '.join(unfed)}: "
                "write it by save_encoder(model, folder, inputs), with their size or length"
            )
        return cls(saved, saved.signature, **settings)  # type: ignore[arg-type]

    @cached_property
    def _of_users(self) -> "KerasEncoder":
        if self._saved.side == "users":
            return self
        other, (compiled, precision) = self._saved.other("users"), self._settings
        return KerasEncoder(
            other, self.signature, batch_size=self.batch_size, jit_compile=compiled, precision=precision
        )

    def _call(self, feeds: dict[str, tf.Tensor]) -> tf.Tensor:
        """The model, compiled once for each shape of a batch."""
        shapes = tuple(tuple(x.shape) for x in feeds.values())
        if shapes not in self._compiled:
            self._compiled[shapes] = tf.function(self._vectors, jit_compile=self._settings[0], autograph=False)
        return self._compiled[shapes](feeds)

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
        faults = Rejections(len(rows))
        section = "encoder.user_inputs" if self._saved.side == "users" else "encoder.inputs"
        columns = {spec: _values(spec, rows, section) for spec in self.inputs}
        feeds = {
            spec.name: read_column(values, spec, faults, partial(decode, folder=folder))
            for spec, values in columns.items()
        }
        ask_lengths(columns, faults)
        rejections.include(faults, asked)
        return feeds if faults.good.all() else {name: array[faults.good] for name, array in feeds.items()}

    def encode(self, feeds: Feeds) -> np.ndarray:
        """The model's vectors of such arrays, (n, dim) float32, each row's the same in whatever batch it is."""
        return self._measured(feeds)[0]

    def _measured(self, feeds: Feeds) -> tuple[np.ndarray, Padding]:
        """As :meth:`encode`, with what of the work was padding."""
        measured, self.batch_size = shrinking(partial(self._encode, feeds), self.batch_size, TOO_BIG)
        return measured

    def _encode(self, feeds: Feeds, size: int) -> tuple[np.ndarray, Padding]:
        vectors = np.empty((len(next(iter(feeds.values()))), self.signature.dim), np.float32)
        given = worked = 0
        for rows, width, lengths in self._batches(feeds, size):
            taken = {i.name: of_width(i, feeds[i.name][rows], width) for i in self.inputs}
            batch = {name: _batch(array, size) for name, array in taken.items()}
            vectors[rows] = self._call(batch).numpy()[: len(lengths)]
            given, worked = given + int(lengths.sum()), worked + size * width
        return vectors, Padding(worked - given, worked)

    def _batches(self, feeds: Feeds, size: int) -> Iterator[tuple[slice | np.ndarray, int, np.ndarray]]:
        """Which rows go into each batch, how wide their histories are, and how long each is: 1 without histories."""
        n = len(next(iter(feeds.values())))
        if len(self._widths) == 1:
            for start in range(0, n, size):
                rows = slice(start, min(start + size, n))
                yield rows, 1, np.ones(rows.stop - start, np.int64)
            return
        lengths = history_lengths(self.inputs, feeds)
        for numbers, width in in_buckets(lengths, size, self._widths):
            yield numbers, width, lengths[numbers]

    def embed(self, rows: pa.Table, *, folder: str = "") -> Embedded:
        """The vectors of a table's rows; a row that cannot be given, or whose vector is not finite, has a reason.

        Raises as :meth:`read`.
        """
        rejections = Rejections(len(rows))
        rows, invalid = escape_invalid_utf8(rows)
        for column, where in invalid.items():
            rejections.reject(where, f"{column} is not UTF-8")
        return self.finish(self.read(rows, rejections, folder=folder), rejections)

    def embed_users(self, rows: pa.Table, *, folder: str = "") -> Embedded:
        """As :meth:`embed`, of users by the encoder's ``user.keras``. Raises InputError where it has none."""
        return self._of_users.embed(rows, folder=folder)

    def finish(self, feeds: Feeds, rejections: Rejections) -> Embedded:
        """As :meth:`embed`, of the arrays of the good rows; rows whose vector is not finite are noted."""
        vectors, padding = self._measured(feeds)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            where = np.zeros(len(rejections.good), bool)
            where[rejections.good] = ~finite
            rejections.reject(where, "the encoder gives a number that is not finite")
            vectors = vectors[finite]
        return Embedded(vectors, rejections.good, rejections.reasons(), padding)


def _values(spec: EncoderInput, rows: pa.Table, section: str) -> pa.ChunkedArray:
    """The column of an input, or what its SQL expression gives."""
    if spec.stored:
        return rows[spec.stored]
    if spec.column in rows.column_names:
        return rows[spec.column]
    return Expression(f"{section}.{spec.name}", spec.column).evaluate(rows)


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
