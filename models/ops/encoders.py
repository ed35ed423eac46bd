"""What is asked of any encoder before it is used: a built model with one vector a row, and inputs that fit it."""

import hashlib
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from topkin.metrics.labels import label_array

Inputs: TypeAlias = np.ndarray | dict[str, np.ndarray] | list[np.ndarray] | tuple[np.ndarray, ...]


def embedding_dim(encoder: keras.Model, who: str = "encoder") -> int:
    """The coordinates of an encoder's output. Raises ValueError unless it is built and has one output (n, dim)."""
    shape = getattr(encoder, "output_shape", None) if getattr(encoder, "built", False) else None
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] is None:
        raise ValueError(
            f"{who} must be a built Keras model with one output (n, dim), got {type(encoder).__name__} with "
            f"output shape {shape}: begin it with keras.Input and end it with a pooling, Flatten or Dense layer"
        )
    return int(shape[-1])


def fitting(encoder: keras.Model, x: object) -> tuple[Any, int | None]:
    """Inputs as arrays that the encoder takes, and how many rows; a dataset as it is, and None.

    x: one array, or a dict or list of them for an encoder of several inputs. Raises TypeError or ValueError, with what
    the encoder takes, for another shape or type, or unequally many rows.
    """
    if isinstance(x, tf.data.Dataset | keras.utils.PyDataset):
        return x, None
    wanted = input_of(encoder)
    if isinstance(wanted, dict):
        if not isinstance(x, dict) or not set(wanted) <= set(x):
            got = ", ".join(map(str, x)) if isinstance(x, dict) else type(x).__name__
            raise TypeError(f"inputs must be a dict of {', '.join(wanted)}, got {got}: give an array for each name")
        parts: Any = {name: _array(tensor, x[name], name) for name, tensor in wanted.items()}
    elif isinstance(wanted, list | tuple):
        if isinstance(x, dict) and {tensor.name for tensor in wanted} <= set(x):
            x = [x[tensor.name] for tensor in wanted]
        if not isinstance(x, list | tuple) or len(x) != len(wanted):
            got = f"{len(x)}" if isinstance(x, list | tuple) else type(x).__name__
            raise TypeError(f"inputs must be a list of {len(wanted)} arrays, got {got}: give one for each input")
        parts = [_array(tensor, part, tensor.name) for tensor, part in zip(wanted, x, strict=True)]
    else:
        if isinstance(x, dict) and len(x) == 1:
            (x,) = x.values()
        parts = _array(wanted, x, "inputs")
    counts = {len(part) for part in tf.nest.flatten(parts)}
    if len(counts) > 1:
        raise ValueError(f"inputs must have the same length, got {', '.join(map(str, sorted(counts)))} rows")
    return parts, counts.pop()


def input_of(encoder: keras.Model) -> Any:
    """What an encoder reads: the tensor of one input, the list or dict of several."""
    return encoder.inputs[0] if len(encoder.inputs) == 1 else encoder.input


def _array(wanted: Any, x: Any, name: str) -> np.ndarray:
    """One input as an array of the shape and kind that is wanted."""
    text = wanted.dtype == "string"
    if isinstance(x, dict):
        raise TypeError(f"{name} must be one array, got a dict of {', '.join(map(str, x))}")
    if text and getattr(x, "ndim", 1) <= 1:
        array = label_array(x, name) if len(wanted.shape) == 1 else np.asarray(x)
    else:
        try:
            array = np.asarray(x)
        except ValueError as e:
            raise ValueError(f"{name} must be rows of equal length, got {type(x).__name__} of several: pad them") from e
    if text:
        array = array.astype(object)
    elif array.dtype == object:
        array = _numbers_of(array, name)
    _check_kind(array, wanted.dtype, name)
    rest, shape = tuple(wanted.shape[1:]), array.shape
    if array.size == 0 and len(shape) == 1 and not shape[0]:
        return np.zeros((0, *(n or 0 for n in rest)), array.dtype)
    if len(shape) == len(rest) + 2 and shape[-1] == 1:
        array = array[..., 0]
    elif len(shape) == len(rest) and rest and rest[-1] == 1:
        array = array[..., None]
    fits = array.ndim == len(rest) + 1 and all(n in (None, m) for n, m in zip(rest, array.shape[1:], strict=True))
    if not fits:
        one = array.ndim == len(rest) and all(n in (None, m) for n, m in zip(rest, array.shape, strict=True))
        cure = "give rows, x[None] for one alone" if one else "shape them as the encoder was built"
        raise ValueError(f"{name} must have shape {_written(rest)}, got {shape}: {cure}")
    if not text and array.dtype.kind == "f" and wanted.dtype.startswith(("int", "uint")):
        if not np.array_equal(array, np.trunc(array)):
            raise TypeError(
                f"{name} must be whole numbers ({wanted.dtype}), got fractions or NaN: round or encode them"
            )
        array = array.astype(wanted.dtype)
    return array


def _numbers_of(array: np.ndarray, name: str) -> np.ndarray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as e:
        kinds = ", ".join(sorted({type(v).__name__ for v in array.ravel()[:1000]}))
        raise TypeError(f"{name} must be numbers, got {kinds}: encode them first") from e


def _check_kind(array: np.ndarray, dtype: str, name: str) -> None:
    if dtype == "string":
        odd = sorted({type(v).__name__ for v in array.ravel() if not isinstance(v, str | bytes)})
        if odd:
            raise TypeError(f"{name} must be texts, got {', '.join(odd)}: give '' where there is none")
    elif array.dtype.kind not in "fiub" and not _bfloat(array):
        raise TypeError(f"{name} must be numbers ({dtype}), got {array.dtype}: encode them first")


def _bfloat(array: np.ndarray) -> bool:
    return array.dtype.name.startswith(("bfloat", "float8"))


def _written(rest: tuple[int | None, ...]) -> str:
    return "(" + ", ".join(["n", *("any" if n is None else str(n) for n in rest)]) + ("," if not rest else "") + ")"


def fingerprint(encoder: keras.Model) -> str:
    """A hash of what decides the encoder's output: every weight's type, shape and numbers, and vocabularies.

    A 64-bit fingerprint of each weight where it lies, 20 ms for ten million weights; a lookup of one row through Keras
    takes as long.
    """
    digest = hashlib.sha256()
    with tf.device("CPU"):
        for weight in encoder.weights:
            value = tf.convert_to_tensor(weight)
            digest.update(f"{value.dtype.name}{value.shape.as_list()}".encode())
            digest.update(tf.fingerprint(tf.reshape(value, [1, -1])).numpy().tobytes())
    for layer in _layers(encoder):
        if hasattr(layer, "get_vocabulary"):
            digest.update(repr(layer.get_vocabulary()).encode())
    return digest.hexdigest()


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    return [part for layer in getattr(model, "layers", []) for part in (layer, *_layers(layer))]
