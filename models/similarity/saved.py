"""Reading saved models, and writing none that could not be read again."""

import os
import re
import tempfile
import zipfile

import keras

from topkin.errors import ArtifactError
from topkin.models.ops.encoders import fingerprint
from topkin.models.ops.registered import register
from topkin.models.two_tower.serialization import model_bytes

_CURE = (
    "write such a layer as a class with get_config and @keras.saving.register_keras_serializable(), in a module that "
    "is imported before loading"
)
_ERRORS = (ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, zipfile.BadZipFile)


def encoder_bytes(encoder: keras.Model) -> bytes:
    """The encoder as a ``.keras`` file that loads again, which was tried.

    Raises ValueError, with the layers and the cure, where it does not: a Lambda, a class that is not registered, one
    that leaves out arguments or weights.
    """
    try:
        data = model_bytes(encoder)
        again = _read(data)
    except (*_ERRORS, NotImplementedError) as e:
        raise ValueError(
            f"encoder must load again from its file, which fails by {_culprits(encoder, e)}: {_CURE}"
        ) from e
    if fingerprint(again) != fingerprint(encoder):
        raise ValueError(
            "encoder must come back from its file with its weights, got others: a layer of its own must make them in "
            f"build or __init__; {_CURE}"
        )
    return data


def read_encoder(data: bytes, path: str) -> keras.Model:
    """The model of a ``.keras`` file, in safe mode. Raises ArtifactError, with ``path`` and the cure."""
    try:
        return _read(data)
    except _ERRORS as e:
        raise ArtifactError(
            f"{path} must be a Keras model without code in it whose classes are known, got {_reason(e)}: import the "
            "module that registers them, or save it anew"
        ) from e


def _read(data: bytes) -> keras.Model:
    register()
    with tempfile.TemporaryDirectory() as local:
        path = os.path.join(local, "encoder.keras")
        with open(path, "wb") as file:
            file.write(data)
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _culprits(encoder: keras.Model, error: Exception) -> str:
    """The layers that cannot be read again; what Keras says where none is to blame."""
    odd = [f"{layer.name} ({type(layer).__name__})" for layer in encoder._flatten_layers() if _odd(layer)]
    return ", ".join(odd) if odd else _reason(error)


def _odd(layer: keras.layers.Layer) -> bool:
    kind = type(layer)
    if isinstance(layer, keras.layers.Lambda):
        return True
    own = not kind.__module__.startswith("keras.")
    return own and keras.saving.get_registered_object(keras.saving.get_registered_name(kind)) is not kind


def _reason(error: BaseException) -> str:
    """The first line of an error, of those beneath it the one that names a class or a function."""
    named = re.search(r"Could not locate (class|function) '[^']+'", str(error))
    return (
        named[0]
        if named
        else f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error) else ''}"
    )
