"""Trained Keras models as encoders on disk: read in safe mode, looked at, written with their signature.

Any model will do that gives one vector a row: a ``.keras`` file as Keras writes it, or a folder of
:func:`save_encoder`.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import keras
import pyarrow as pa
import tensorflow as tf

from topkin.artifacts import storage
from topkin.encoding.inputs import InputChoice, ModelInput, by_name, is_listed, resolve
from topkin.encoding.signature import (
    MODEL,
    SIGNATURE,
    EncoderInput,
    EncoderSignature,
    read_signature,
    write_signature,
)
from topkin.errors import InputError
from topkin.models.ops.archive import ModelFileError, load_model, round_trip


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A model that was read and found to be an encoder.

    Args:
        place: Where it was.
        data: The ``.keras`` file.
        model: A functional model of any number of rows.
        inputs: What it declares.
        dim: Coordinates of a vector.
        signature: The folder's; None for a file alone.
    """

    place: str
    data: bytes
    model: keras.Model
    inputs: tuple[ModelInput, ...]
    dim: int
    signature: EncoderSignature | None = None

    def bound(
        self,
        choices: Mapping[str, InputChoice],
        type_of: Callable[[str], pa.DataType | None],
        columns: Sequence[str],
    ) -> EncoderSignature:
        """The signature with the columns of a table; what is not chosen is as in the folder's own, or inferred.

        Raises InputError as :func:`topkin.encoding.inputs.resolve`.
        """
        if self.signature is not None:
            choices = _over(self.signature.inputs, by_name([i.name for i in self.inputs], choices), type_of)
        return self._signed(resolve(self.inputs, choices, type_of, columns))

    def _signed(self, inputs: tuple[EncoderInput, ...]) -> EncoderSignature:
        files = {MODEL: hashlib.sha256(self.data).hexdigest()}
        return EncoderSignature(inputs=inputs, dim=self.dim, files=files, versions=_versions())

    def alone(self, choices: Mapping[str, InputChoice], *, whole: bool = True) -> EncoderSignature:
        """The signature where no table is at hand: columns have the types that inputs take.

        ``whole`` False: inputs that need a size or length are left out, for who embeds a table to say.

        Raises InputError as :meth:`bound`.
        """
        choices = by_name([i.name for i in self.inputs], choices)
        types: dict[str, pa.DataType] = {}
        for declared in self.inputs:
            choice = choices.get(declared.name, InputChoice())
            types[choice.column or declared.name] = _natural_type(declared, choice.kind)
        if whole:
            return self.bound(choices, types.get, list(types))
        known: list[EncoderInput] = []
        for declared in self.inputs:
            with suppress(InputError):
                known += resolve([declared], choices, types.get, list(types))
        return self._signed(tuple(known))

    def write(self, folder: str, signature: EncoderSignature) -> None:
        """Write the folder of the encoder."""
        storage.write_bytes(self.data, storage.join(folder, MODEL))
        write_signature(signature, folder)


def _over(
    known: Sequence[EncoderInput],
    choices: Mapping[str, InputChoice],
    type_of: Callable[[str], pa.DataType | None],
) -> dict[str, InputChoice]:
    """Choices over those that a folder was saved with, key by key.

    A column of lists in the place of one value or image, or the other way round, says anew what it is.
    """
    merged = dict(choices)
    for i in known:
        said = {k: v for k, v in vars(merged.get(i.name, InputChoice())).items() if v is not None}
        listed = i.kind not in ("image", "number", "category", "text")
        t = type_of(said.get("column", i.column))
        if t is not None and is_listed(t) != listed:
            own = InputChoice(column=i.column, missing=i.missing)
        else:
            own = InputChoice(
                column=i.column,
                kind=i.kind,
                size=i.shape[:2] if i.kind == "image" else None,  # type: ignore[arg-type]
                length=i.shape[0] if listed and len(i.shape) == 1 else None,
                missing=i.missing,
            )
        merged[i.name] = InputChoice(**{**vars(own), **said})
    return merged


def _versions() -> dict[str, str]:
    return {"keras": str(keras.__version__), "tensorflow": str(tf.__version__)}


def read_model(path: str) -> SavedModel:
    """Read a ``.keras`` file, or the folder of an encoder, whose hashes are checked before Keras reads a byte.

    Raises:
        ArtifactError: A file of the folder is missing or not the one of its signature.
        InputError: There is no model, or it is none that topkin can run: it holds code or a class that is not
            registered, has several outputs, one that is not a vector, or a fixed number of rows.
    """
    signature = None
    place = path
    if not path.endswith(".keras") and storage.exists(storage.join(path, SIGNATURE)):
        signature = read_signature(path)
        place = storage.join(path, MODEL)
    elif not path.endswith(".keras") or not storage.exists(path):
        what = "is not there" if not storage.exists(path) else f"holds no {SIGNATURE}"
        if storage.exists(path) and "." in os.path.basename(path.rstrip("/")):
            what = "is another file"
        raise InputError(
            f"an encoder must be a .keras file or a folder of save_encoder, {path} {what}: save the model by "
            "model.save('my_model.keras') and name that"
        )
    data = storage.read_bytes(place)
    try:
        model = load_model(data)
    except ModelFileError as e:
        raise InputError(f"{place} {e}") from e
    return described(model, data, place, signature)


def described(model: keras.Model, data: bytes, place: str, signature: EncoderSignature | None = None) -> SavedModel:
    """A model that was read from a ``.keras`` file as an encoder. Raises InputError as :func:`read_model`."""
    model = _functional(model, place)
    return SavedModel(place, data, model, tuple(_inputs(model, place)), _dim(model, place), signature)


def _functional(model: keras.Model, place: str) -> keras.Model:
    """The model with declared inputs of any number of rows.

    A ``Sequential`` without an input, and a class of one's own, learn their shape from the first batch.
    """
    if isinstance(model, keras.Sequential) and model.built:
        (declared,) = model.inputs
        return _declared(model, declared.shape[1:], declared.dtype, declared.name, place)
    if getattr(model, "inputs", None):
        return model
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if isinstance(shape, list | tuple) and shape and all(isinstance(s, int | None) for s in shape):
        return _declared(model, tuple(shape[1:]), "float32", "input", place)
    raise InputError(
        f"{place} must say its inputs, got a {type(model).__name__} that does not: save keras.Model(inputs, "
        "model(inputs)) with inputs = keras.Input(shape), or a dict of them"
    )


def _declared(model: keras.Model, shape: tuple[int | None, ...], dtype: str, name: str, place: str) -> keras.Model:
    inputs = keras.Input(shape, dtype=dtype, name=name)
    try:
        return keras.Model(inputs, model(inputs))
    except Exception as e:  # whatever the layers of a stranger's model raise
        raise InputError(
            f"{place} must take any number of rows, calling it fails: {str(e).splitlines()[0][:300]}; save "
            "keras.Model(inputs, model(inputs)) with inputs = keras.Input(shape)"
        ) from e


def _inputs(model: keras.Model, place: str) -> Iterator[ModelInput]:
    names = input_names(model)
    for name, tensor in zip(names, model.inputs, strict=True):
        if tensor.shape[0] is not None:
            raise InputError(
                f"{place} must take any number of rows, its input {name!r} has the fixed shape {tuple(tensor.shape)}: "
                f"save it with keras.Input({tuple(tensor.shape[1:])}) in place of batch_shape"
            )
        yield ModelInput(name, str(tensor.dtype), tuple(tensor.shape[1:]))


def input_names(model: keras.Model) -> list[str]:
    """The names of a functional model's inputs, in the order of ``model.inputs``: a dict's keys, or the layers'."""
    if isinstance(model.input, dict):
        keyed = {id(tensor): name for name, tensor in model.input.items()}
        return [str(keyed[id(tensor)]) for tensor in model.inputs]
    return [str(tensor._keras_history.operation.name) for tensor in model.inputs]


def _dim(model: keras.Model, place: str) -> int:
    if len(model.outputs) != 1:
        raise InputError(
            f"{place} must have one output, the vectors, got {len(model.outputs)}: save keras.Model(model.inputs, "
            "model.outputs[i]) with the one"
        )
    output = model.outputs[0]
    if len(output.shape) != 2 or output.shape[1] is None or "float" not in str(output.dtype):
        raise InputError(
            f"{place} must give vectors, (rows, dim) of floats, got {tuple(output.shape)} of {output.dtype}: end the "
            "model with a pooling, Flatten or Dense layer"
        )
    return int(output.shape[1])


def save_encoder(
    model: keras.Model,
    folder: str,
    inputs: Mapping[str, str | Mapping[str, Any]] | None = None,
    *,
    overwrite: bool = False,
) -> EncoderSignature:
    """Write a model as an encoder: a folder that ``topkin embed --encoder`` runs over a table.

    What was written is read again in safe mode at once, so that a model which could not be loaded is refused here.

    Args:
        model: Rows to vectors, with one output (n, dim); how it is trained is not kept.
        folder: New or empty, local or a URI.
        inputs: For each input of the model its column or SQL expression, or a mapping of ``column``, ``kind``,
            ``size``, ``length`` and ``missing``, as in the configuration's ``[encoder.inputs]``; without it columns
            have the names of the inputs, and kinds follow from their types and shapes.
        overwrite: Replace an encoder that is there.

    Returns:
        What was written of the encoder: its inputs, dimension and hash.

    Raises:
        InputError: The model cannot be an encoder: it holds code, has several outputs, or an input is not clear.
        FileExistsError: The folder has files, and ``overwrite`` is False or they are none of an encoder.

    Examples:
        >>> from topkin.models import save_encoder, small_cnn
        >>> signature = save_encoder(small_cnn((28, 28, 1), widths=(4, 8)), "encoder", {"image": "photo"})
        >>> signature.inputs[0].column, signature.inputs[0].kind, signature.inputs[0].shape
        ('photo', 'image', (28, 28, 1))
        >>> signature.dim
        16
    """
    held = storage.files(folder, hidden=True)
    if held and not (overwrite and {SIGNATURE} <= set(held) <= {MODEL, SIGNATURE}):
        raise FileExistsError(
            f"{folder} must be empty or new, it has {len(held)} files: give overwrite=True or another"
        )
    try:
        data, again = round_trip(model)
    except ModelFileError as e:
        raise InputError(f"the model {e}") from e
    saved = described(again, data, "the model")
    given = {
        name: {"column": value} if isinstance(value, str) else dict(value) for name, value in (inputs or {}).items()
    }
    signature = saved.alone({name: InputChoice(**value) for name, value in given.items()})
    storage.remove_files(folder, sorted(held, reverse=True))  # the signature first: without it there is no encoder
    saved.write(folder, signature)
    return signature


def _natural_type(declared: ModelInput, kind: str | None) -> pa.DataType:
    """The type of a column that an input takes, where no table is at hand."""
    text = declared.dtype == "string"
    value = pa.string() if text else pa.float64() if "float" in declared.dtype else pa.int64()
    if kind == "image" or (kind is None and len(declared.shape) >= 2):
        return pa.binary()
    one = declared.shape in ((), (1,)) if kind is None else kind in ("number", "category", "text")
    return value if one else pa.list_(value)
