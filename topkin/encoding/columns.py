"""From Arrow columns to the arrays that a model takes; rows that cannot be given are noted with their reason.

Numbers, vectors and raw images are views of Arrow's memory where type and missing values allow it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from topkin.artifacts import ids
from topkin.encoding.signature import HISTORY, LISTS, EncoderInput


class Rejections:
    """The first reason for which each of ``rows`` rows cannot be used."""

    def __init__(self, rows: int) -> None:
        self._broken = np.full(rows, -1, np.int32)
        self._reasons: list[str] = []

    def reject(self, where: np.ndarray, reason: str) -> None:
        """Note a reason for rows, (n,) bool, that have none yet."""
        if where.any():
            self._broken[where & (self._broken < 0)] = len(self._reasons)
            self._reasons.append(reason)

    def include(self, others: "Rejections", where: np.ndarray) -> None:
        """Note the reasons of those rows, (n,) bool, that ``others`` is of, where they have none yet."""
        places = np.flatnonzero(where)[~others.good]
        reasons = others._broken[~others.good] + len(self._reasons)
        free = self._broken[places] < 0
        self._broken[places[free]] = reasons[free]
        self._reasons += others._reasons

    @classmethod
    def joined(cls, parts: Sequence["Rejections"]) -> "Rejections":
        """Those of all rows of the parts, one after the other."""
        whole = cls(sum(len(part._broken) for part in parts))
        owner = np.repeat(np.arange(len(parts)), [len(part._broken) for part in parts])
        for number, part in enumerate(parts):
            whole.include(part, owner == number)
        return whole

    @property
    def good(self) -> np.ndarray:
        """(n,) bool: the rows without a reason."""
        return self._broken < 0

    def reasons(self) -> pa.Array:
        """The reason of each rejected row, in order, as strings."""
        return pa.array(self._reasons, pa.string()).take(pa.array(self._broken[self._broken >= 0]))


Decode = Callable[[pa.Array, EncoderInput, Rejections], np.ndarray]
"""What turns files of images into (n, *shape) arrays; see ``topkin.models.encoders.image_files``."""


def read_column(values: pa.ChunkedArray, spec: EncoderInput, rejections: Rejections, decode: Decode) -> np.ndarray:
    """A column as a model takes it: (n, *spec.shape) of ``spec.dtype``, strings as objects of bytes, raw images uint8.

    Args:
        values: (n,) of a type that ``inputs.resolve`` accepts.
        spec: The input.
        rejections: Of the n rows: those that cannot be given are noted, and hold anything.
        decode: For images that are not raw pixels.
    """
    column = _whole(ids.decoded(values))
    if spec.kind == "image":
        rows = _pixels(column, spec, rejections, decode)
    elif spec.kind == "vector":
        rows = _vectors(column, spec, rejections)
    elif spec.kind == HISTORY or spec.kind in LISTS:
        rows = _lists(column, spec, rejections)
    else:
        rows = _scalars(column, spec, rejections)
    return rows.reshape(len(column), *spec.shape)


def ask_lengths(columns: Mapping[EncoderInput, pa.ChunkedArray], rejections: Rejections) -> None:
    """Note the rows in which a history of numbers, such as times, is of another length than those of ids.

    It has to go with one of them, value by value; without a history of ids there is none to go with.
    """
    lengths = {
        spec: np.asarray(pc.fill_null(pc.list_value_length(_whole(ids.decoded(values))), -1))
        for spec, values in columns.items()
        if spec.kind == HISTORY
    }
    of_ids = {spec: length for spec, length in lengths.items() if "float" not in spec.dtype}
    for spec, length in lengths.items():
        if of_ids and spec not in of_ids:
            alone = np.all([(length != other) & (length >= 0) & (other >= 0) for other in of_ids.values()], axis=0)
            named = " or ".join(other.label for other in of_ids)
            rejections.reject(np.asarray(alone), f"{spec.label} has not as many values as {named}")


def _whole(values: pa.ChunkedArray) -> pa.Array:
    return values.chunk(0) if values.num_chunks == 1 else pa.concat_arrays(values.chunks or [pa.array([], values.type)])


def _missing(where: np.ndarray, spec: EncoderInput, rejections: Rejections) -> None:
    if spec.missing is None:
        rejections.reject(where, f"{spec.label} is missing")


def _nulls(column: pa.Array) -> np.ndarray:
    if not column.null_count:
        return np.zeros(len(column), bool)
    return np.asarray(pc.is_null(column))


def _scalars(column: pa.Array, spec: EncoderInput, rejections: Rejections) -> np.ndarray:
    """(n,) values; null and NaN are missing, infinite numbers and those that the type cannot hold are rejected."""
    null = _nulls(column)
    _missing(null, spec, rejections)
    if spec.dtype == "string":
        texts = column.cast(pa.large_binary()) if not types.is_null(column.type) else pa.nulls(len(column), pa.binary())
        filled = pc.fill_null(texts, str(spec.missing or "").encode()) if column.null_count else texts
        return filled.to_numpy(zero_copy_only=False)
    if not (types.is_integer(column.type) or types.is_floating(column.type)):
        column = column.cast(pa.uint8() if types.is_boolean(column.type) else pa.float64())
    stand_in = 0 if spec.missing is None else spec.missing
    numbers = np.asarray(pc.fill_null(column, pa.scalar(0, column.type)) if column.null_count else column)
    if np.issubdtype(numbers.dtype, np.floating) and (nan := np.isnan(numbers)).any():
        _missing(nan, spec, rejections)
        null |= nan
    numbers = _fitted(numbers, spec, rejections, ~null)
    if null.any():
        numbers = np.where(null, np.asarray(stand_in, numbers.dtype), numbers)
    return numbers


def _fitted(numbers: np.ndarray, spec: EncoderInput, rejections: Rejections, asked: np.ndarray) -> np.ndarray:
    """Numbers, (n, …), of the input's type; rows of ``asked``, (n,) bool, that it cannot hold are rejected."""
    dtype = np.dtype(spec.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = numbers.astype(dtype, copy=False)
    whole = spec.kind == HISTORY and np.issubdtype(numbers.dtype, np.integer)
    if spec.kind in ("category", "categories") or whole:
        good = _same(numbers, fitted)
        reason = f"{spec.label} does not fit into {dtype.name}"
    elif np.issubdtype(dtype, np.floating):
        good = np.isfinite(fitted)
        reason = f"{spec.label} is not finite"
    elif fitted is numbers or np.can_cast(numbers.dtype, dtype):
        return fitted
    else:
        good = _same(numbers, fitted)
        reason = f"{spec.label} does not fit into {dtype.name}"
    if not good.all():
        rejections.reject(asked & ~good.reshape(len(good), -1).all(axis=1), reason)
    return fitted


def _same(numbers: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Which numbers another type holds as they are, (n, …) bool.

    A cast back tells it but for whole numbers: those wrap around, there and back again.
    """
    if np.issubdtype(numbers.dtype, np.integer) and np.issubdtype(fitted.dtype, np.integer):
        bounds = np.iinfo(fitted.dtype)
        return np.asarray((numbers >= bounds.min) & (numbers <= bounds.max))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(fitted.astype(numbers.dtype) == numbers)


def _flat(column: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """The values of all lists in a row, where each list begins in them, and its length; a null list has none."""
    if types.is_fixed_size_list(column.type):
        size = column.type.list_size
        values = column.values.slice(column.offset * size, len(column) * size)
        return values, size * np.arange(len(column)), np.where(_nulls(column), 0, size)
    offsets = np.asarray(column.offsets).astype(np.int64)
    lengths = np.diff(offsets)
    return column.values, offsets[:-1], np.where(_nulls(column), 0, lengths)


def _vectors(column: pa.Array, spec: EncoderInput, rejections: Rejections) -> np.ndarray:
    """(n, dim); those of another length are rejected, and those with a number that is null or not finite."""
    dim, null = int(np.prod(spec.shape)), _nulls(column)
    _missing(null, spec, rejections)
    values, starts, lengths = _flat(column)
    right = np.asarray(~null & (lengths == dim))
    rejections.reject(~null & ~right, f"{spec.label} has not {dim} numbers")
    gone = np.asarray(pc.is_null(values)) if values.null_count else None
    numbers = np.asarray(pc.fill_null(values, pa.scalar(0, values.type)) if values.null_count else values)
    if right.all() and len(column):
        rows = numbers[starts[0] : starts[0] + len(column) * dim].reshape(-1, dim)
        broken = None if gone is None else gone[starts[0] : starts[0] + len(column) * dim].reshape(-1, dim)
    else:
        at = starts[right, None] + np.arange(dim)
        rows = np.zeros((len(column), dim), numbers.dtype)
        rows[right] = numbers[at]
        broken = None
        if gone is not None:
            broken = np.zeros(rows.shape, bool)
            broken[right] = gone[at]
    if broken is not None:
        rejections.reject(np.asarray(broken.any(axis=1)), f"{spec.label} has a number that is missing")
    rows = _fitted(rows, spec, rejections, right)
    if spec.missing is not None and null.any():
        rows = np.where(null[:, None], np.asarray(spec.missing, rows.dtype), rows)
    return rows


def _lists(column: pa.Array, spec: EncoderInput, rejections: Rejections) -> np.ndarray:
    """(n, length) of the first values of each list, then 0 or the empty text; a null list is an empty one.

    Of a history the last values, with its padding on the side that its input says.
    """
    length, null = int(np.prod(spec.shape)), _nulls(column)
    _missing(null, spec, rejections)
    values, starts, lengths = _flat(column)
    kept = np.minimum(lengths, length)
    within = np.arange(length) < kept[:, None]
    first = starts if spec.kind != HISTORY else starts + lengths - kept
    at = (first[:, None] + np.arange(length))[within]
    if spec.pad == "before":
        within = within[:, ::-1]
    inner = Rejections(len(at))
    listed = _taken(_whole(ids.decoded(pa.chunked_array([values]))), at)
    given = _scalars(_ages(listed, kept) if ids.value_kind(listed.type) == "time" else listed, spec, inner)
    if not inner.good.all():
        bad = np.zeros(within.shape, bool)
        bad[within] = ~inner.good
        rejections.reject(np.asarray(bad.any(axis=1)), f"{spec.label} has a value that is missing or does not fit")
    rows = np.full(within.shape, b"" if spec.dtype == "string" else 0, given.dtype)
    rows[within] = given
    return rows


def _taken(values: pa.Array, at: np.ndarray) -> pa.Array:
    """The values at ascending places, (n,); a view where they lie together."""
    together = len(at) and at[-1] - at[0] + 1 == len(at)
    return values.slice(at[0], len(at)) if together else values.take(pa.array(at))


def _ages(times: pa.Array, lengths: np.ndarray) -> pa.Array:
    """Times of lists, one list after another, in days before the last of each list; null where a time is."""
    ticks = times.cast(pa.timestamp("us")).cast(pa.int64())
    last = ticks.take(pa.array(np.repeat(np.cumsum(lengths) - 1, lengths)))
    return pc.divide(pc.subtract(last, ticks).cast(pa.float64()), 86_400e6)


FILE_MARKS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")
"""How files of images begin: bytes of the right number that begin otherwise are raw pixels."""


def _pixels(column: pa.Array, spec: EncoderInput, rejections: Rejections, decode: Decode) -> np.ndarray:
    """(n, height, width, channels): raw pixels as they are, files and paths by ``decode``; each row by itself."""
    size, null = int(np.prod(spec.shape)), _nulls(column)
    _missing(null, spec, rejections)
    images, raw, begun = _raw(column, size)
    if begun.any():  # by chance, or files of that length
        decoded, attempt = _files(column, begun, spec, decode)
        begun[begun] = attempt.good
        images = _put(images, begun, decoded[attempt.good])
    files = ~null & ~raw
    if files.any():
        decoded, outcomes = _files(column, files, spec, decode)
        rejections.include(outcomes, files)
        images = _put(images, files, decoded)
    if spec.missing is not None and null.any():
        images = np.where(null[:, None], np.asarray(spec.missing, spec.dtype), images)
    return images


def _files(column: pa.Array, where: np.ndarray, spec: EncoderInput, decode: Decode) -> tuple[np.ndarray, Rejections]:
    """The images of some rows, (n,) bool, each (size,), and which of them are none."""
    rejections = Rejections(int(where.sum()))
    images = decode(column if where.all() else column.filter(pa.array(where)), spec, rejections)
    return images.reshape(len(images), -1), rejections


def _put(images: np.ndarray, where: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Images, (n, size), with others in the place of some rows, of a type that holds both."""
    if where.all():
        return others
    if where.any():
        images = images.astype(np.result_type(images, others))
        images[where] = others
    return images


def _raw(column: pa.Array, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The raw pixels, (n, size) uint8; which rows have as many bytes, (n,) bool; and which of these begin as a file."""
    null, none = _nulls(column), np.zeros(len(column), bool)
    if types.is_fixed_size_binary(column.type):
        return _joined(column, column.offset * size, size), ~null, none
    if not (types.is_binary(column.type) or types.is_large_binary(column.type)):
        return np.zeros((len(column), size), np.uint8), none, none
    wide = column.cast(pa.large_binary())
    raw = ~null & np.asarray(pc.fill_null(pc.equal(pc.binary_length(wide), size), False))
    if not raw.any():
        return np.zeros((len(column), size), np.uint8), raw, none
    kept = wide if raw.all() else wide.filter(pa.array(raw))
    pixels = _joined(kept, int(np.frombuffer(kept.buffers()[1], np.int64)[kept.offset]), size)
    if not raw.all():
        rows = np.zeros((len(column), size), np.uint8)
        rows[raw] = pixels
        pixels = rows
    marks = (np.frombuffer(mark, np.uint8) for mark in FILE_MARKS if len(mark) <= size)
    return pixels, raw, raw & np.any([(pixels[:, : len(m)] == m).all(axis=1) for m in marks], axis=0)


def _joined(column: pa.Array, start: int, size: int) -> np.ndarray:
    """Rows of ``size`` bytes that lie one after the other, as a view, (n, size) uint8."""
    if not len(column):
        return np.zeros((0, size), np.uint8)
    return np.frombuffer(column.buffers()[-1], np.uint8)[start : start + len(column) * size].reshape(-1, size)
