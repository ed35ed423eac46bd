"""The encoder of a saved model: written where it can be read again."""

import keras

from topkin.artifacts import storage
from topkin.encoding.signature import MODEL
from topkin.errors import ArtifactError
from topkin.models.encoders.keras_files import SavedModel, described
from topkin.models.ops.archive import ModelFileError, load_model, round_trip

_CURE = (
    "write such a layer as a class with get_config and @keras.saving.register_keras_serializable(), in a module that "
    "is imported before loading"
)


def saved_encoder(encoder: keras.Model) -> SavedModel:
    """The encoder as it will be read, which was tried.

    Raises:
        ValueError: It does not load, with the layers and the cure: a Lambda, a class that is not registered, one that
            leaves out arguments or weights.
        InputError: It takes a fixed number of rows.
    """
    try:
        data, again = round_trip(encoder)
    except ModelFileError as e:
        if str(e).startswith("must come back"):
            raise ValueError(f"encoder {e}; {_CURE}") from e
        raise ValueError(
            f"encoder must load again from its file, which fails by {_culprits(encoder) or e.reason}: {_CURE}"
        ) from e
    return described(again, data, "encoder")


def read_encoder(folder: str) -> keras.Model:
    """The encoder of a folder, whose hash was checked. Raises ArtifactError where it is no model, or holds code."""
    path = storage.join(folder, MODEL)
    try:
        return load_model(storage.read_bytes(path))
    except ModelFileError as e:
        raise ArtifactError(f"{path} {e}") from e


def _culprits(encoder: keras.Model) -> str:
    """The layers that cannot be read again."""
    return ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in encoder._flatten_layers() if _odd(layer))


def _odd(layer: keras.layers.Layer) -> bool:
    kind = type(layer)
    if isinstance(layer, keras.layers.Lambda):
        return True
    own = not kind.__module__.startswith("keras.")
    return own and keras.saving.get_registered_object(keras.saving.get_registered_name(kind)) is not kind
