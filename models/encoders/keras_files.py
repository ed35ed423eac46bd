"""Trained Keras models as encoders on disk: read in safe mode, looked at, written with their signature.

Any model will do that gives one vector a row: a ``.keras`` file as Keras writes it, or a folder of
:func:`save_encoder`.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from topkin.artifacts import storage
from topkin.encoding.inputs import InputChoice, ModelInput, by_name, is_listed, resolve
from topkin.encoding.signature import (
    HISTORY,
    MODEL,
    MODELS,
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
        side: Whom it encodes: ``items`` or ``users``.
        beside: The folder's other models by their names.
    """

    place: str
    data: bytes
    model: keras.Model
    inputs: tuple[ModelInput, ...]
    dim: int
    signature: EncoderSignature | None = None
    side: str = "items"
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def other(self, side: str) -> "SavedModel":
        """The folder's model of the other side. Raises InputError where there is none."""
        if MODELS[side] not in self.beside:
            raise _one_sided(self.place, side)
        beside = {name: data for name, data in self.beside.items() if name != MODELS[side]}
        other = _read(self.beside[MODELS[side]], self.place, self.signature, side)
        return replace(other, beside={**beside, MODELS[self.side]: self.data})

    def bound(
        self,
        choices: Mapping[str, InputChoice],
        type_of: Callable[[str], pa.DataType | None],
        columns: Sequence[str],
    ) -> EncoderSignature:
        """The signature with the columns of a table; what is not chosen is as in the folder's own, or inferred.

        The inputs of the other side are the folder's. Histories are padded to a few lengths where the model gives the
        same for each, which is tried.

        Raises InputError as :func:`topkin.encoding.inputs.resolve`.
        """
        if self.signature is not None:
            own = self.signature.side(self.side)
            choices = _over(own, by_name([i.name for i in self.inputs], choices), type_of)
        return self._signed(resolve(self.inputs, choices, type_of, columns))

    def _signed(self, inputs: tuple[EncoderInput, ...]) -> EncoderSignature:
        known = self.signature or EncoderSignature(inputs=(), dim=self.dim, files={})
        open_lengths = any(i.buckets for i in inputs) and len(inputs) == len(self.inputs)
        if open_lengths and not _masked(self.model, inputs, self.place):
            inputs = tuple(replace(i, buckets=()) for i in inputs)
        of_items, of_users = (known.inputs, inputs) if self.side == "users" else (inputs, known.user_inputs)
        return EncoderSignature(
            inputs=of_items, user_inputs=of_users, dim=self.dim, files=self.hashes(), versions=_versions()
        )

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file of the folder."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self._files().items()}

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
        for name, data in self._files().items():
            storage.write_bytes(data, storage.join(folder, name))
        write_signature(signature, folder)

    def _files(self) -> dict[str, bytes]:
        return {MODELS[self.side]: self.data, **self.beside}


def _masked(model: keras.Model, inputs: Sequence[EncoderInput], place: str) -> bool:
    """Whether a model gives the same for histories however far they are padded. Raises InputError where it fails."""
    widths = max((i.buckets for i in inputs), key=len)
    vectors = []
    for width in (widths[0], widths[-1]):
        feeds = [tf.constant(_made_up(i, model, width if i.buckets else None)) for i in inputs]
        try:
            output = model(keras.tree.pack_sequence_as(model.input, feeds), training=False)
        except Exception as e:  # whatever the layers of a stranger's model raise
            raise InputError(
                f"{place} must take histories of {width} values, it fails: {str(e).splitlines()[0][:300]}; set a "
                "length that it takes"
            ) from e
        vectors.append(np.asarray(keras.tree.flatten(output)[0]))
    return np.allclose(vectors[0], vectors[1], rtol=1e-4, atol=1e-5, equal_nan=True)


def _made_up(spec: EncoderInput, model: keras.Model, width: int | None) -> np.ndarray:
    """Two rows for an input: histories of one and of three values, padded to a width; zeros of others."""
    shape = spec.shape if width is None else (min(width, spec.shape[0]),)
    text = spec.dtype == "string"
    rows = np.full((2, *shape), b"" if text else 0, object if text else spec.dtype)
    if spec.kind == HISTORY:
        values = _known_ids(model, text) or ([b"a", b"b", b"c"] if text else [1, 2, 3])
        for row, kept in enumerate((1, 3)):
            kept = min(kept, shape[0], len(values))
            rows[row, slice(-kept, None) if spec.pad == "before" else slice(kept)] = values[:kept]
    return rows


def _known_ids(model: keras.Model, text: bool) -> list[Any]:
    """Some ids of a vocabulary inside a model, texts as bytes; none where it has none of that type."""
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.StringLookup if text else keras.layers.IntegerLookup):
            ids = layer.get_vocabulary(include_special_tokens=False)[:3]
            return [str(i).encode() if text else int(i) for i in ids]
    return []


def _one_sided(place: str, side: str) -> InputError:
    other = MODELS["items" if side == "users" else "users"]
    return InputError(
        f"{place} must hold {MODELS[side]} to embed {side}, it has {other} alone: save both, by "
        "save_encoder(item_model, folder, user=user_model)"
    )


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
        chosen = {k: v for k, v in vars(merged.get(i.name, InputChoice())).items() if v is not None}
        listed = i.kind not in ("image", "number", "category", "text")
        t = type_of(chosen.get("column", i.column))
        if t is not None and is_listed(t) != listed:
            own = InputChoice(column=i.column, missing=i.missing)
        else:
            own = InputChoice(
                column=i.column,
                kind=i.kind,
                size=i.shape[:2] if i.kind == "image" else None,  # type: ignore[arg-type]
                length=i.shape[0] if listed and len(i.shape) == 1 else None,
                missing=i.missing,
                pad=i.pad if i.kind == HISTORY == chosen.get("kind", HISTORY) else None,
            )
        merged[i.name] = InputChoice(**{**vars(own), **chosen})
    return merged


def _versions() -> dict[str, str]:
    return {"keras": str(keras.__version__), "tensorflow": str(tf.__version__)}


def read_model(path: str, side: str = "items") -> SavedModel:
    """Read a ``.keras`` file, or the folder of an encoder, whose hashes are checked before Keras reads a byte.

    Args:
        path: Of the file or folder.
        side: Which of the folder's models: ``items`` or ``users``; for a file, whom it encodes.

    Raises:
        ArtifactError: A file of the folder is missing or not the one of its signature.
        InputError: There is no model, or it is none that topkin can run: it holds code or a class that is not
            registered, has several outputs, one that is not a vector, or a fixed number of rows; or the folder has no
            model of that side.
    """
    signature, beside = None, {}
    place = path
    if not path.endswith(".keras") and storage.exists(storage.join(path, SIGNATURE)):
        signature = read_signature(path)
        if MODELS[side] not in signature.files:
            raise _one_sided(path, side)
        place = storage.join(path, MODELS[side])
        beside = {n: storage.read_bytes(storage.join(path, n)) for n in signature.files if n != MODELS[side]}
    elif not path.endswith(".keras") or not storage.exists(path):
        what = "is not there" if not storage.exists(path) else f"holds no {SIGNATURE}"
        if storage.exists(path) and "." in os.path.basename(path.rstrip("/")):
            what = "is another file"
        raise InputError(
            f"an encoder must be a .keras file or a folder of save_encoder, {path} {what}: save the model by "
            "model.save('my_model.keras') and name that"
        )
    return replace(_read(storage.read_bytes(place), place, signature, side), beside=beside)


def _read(data: bytes, place: str, signature: EncoderSignature | None, side: str) -> SavedModel:
    try:
        model = load_model(data)
    except ModelFileError as e:
        raise InputError(f"{place} {e}") from e
    return described(model, data, place, signature, side)


def described(
    model: keras.Model,
    data: bytes,
    place: str,
    signature: EncoderSignature | None = None,
    side: str = "items",
) -> SavedModel:
    """A model that was read from a ``.keras`` file as an encoder. Raises InputError as :func:`read_model`."""
    model = _functional(model, place)
    return SavedModel(place, data, model, tuple(_inputs(model, place)), _dim(model, place), signature, side)


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
    user: keras.Model | None = None,
    user_inputs: Mapping[str, str | Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> EncoderSignature:
    """Write a model as an encoder: a folder that ``topkin embed --encoder`` runs over a table.

    What was written is read again in safe mode at once, so that a model which could not be loaded is refused here.

    Args:
        model: Items to vectors, with one output (n, dim); how it is trained is not kept.
        folder: New or empty, local or a URI.
        inputs: For each input of the model its column or SQL expression, or a mapping of ``column``, ``kind``,
            ``size``, ``length``, ``missing`` and ``pad``, as in the configuration's ``[encoder.inputs]``; without it
            columns have the names of the inputs, and kinds follow from their types and shapes.
        user: Users to vectors of the same space, where they are encoded by a network: beside the model in the folder,
            for ``topkin embed --users`` and ``KerasEncoder.embed_users``.
        user_inputs: As inputs, of ``user``. Histories are told: ``{"column": "bought", "kind": "history"}``.
        overwrite: Replace an encoder that is there.

    Returns:
        What was written of the encoder: its inputs, dimension and hash.

    Raises:
        InputError: A model cannot be an encoder: it holds code, has several outputs, or an input is not clear; or the
            two give vectors of unequal dimension.
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
    if user is None and user_inputs is not None:
        raise InputError("user_inputs must come with user, the model that they feed: give user=model")
    saved = _round_trip(model, "items", "the model")
    signature = saved.alone(_choices(inputs))
    if user is not None:
        of_users = _round_trip(user, "users", "the model of users")
        if of_users.dim != saved.dim:
            raise InputError(
                f"the model of users must give vectors of {saved.dim} coordinates as that of items does, got "
                f"{of_users.dim}: end both with MetricEmbedding(dim) of one dim"
            )
        saved = replace(saved, beside={MODELS["users"]: of_users.data})
        given = of_users.alone(_choices(user_inputs)).user_inputs
        signature = replace(signature, user_inputs=given, files=saved.hashes())
    storage.remove_files(folder, sorted(held, reverse=True))  # the signature first: without it there is no encoder
    saved.write(folder, signature)
    return signature


def _round_trip(model: keras.Model, side: str, place: str) -> SavedModel:
    """A model as it comes back from its file. Raises InputError where it does not."""
    try:
        data, again = round_trip(model)
    except ModelFileError as e:
        raise InputError(f"{place} {e}") from e
    return described(again, data, place, side=side)


def _choices(inputs: Mapping[str, str | Mapping[str, Any]] | None) -> dict[str, InputChoice]:
    return {
        name: InputChoice(column=value) if isinstance(value, str) else InputChoice(**value)
        for name, value in (inputs or {}).items()
    }


def _natural_type(declared: ModelInput, kind: str | None) -> pa.DataType:
    """The type of a column that an input takes, where no table is at hand."""
    text = declared.dtype == "string"
    value = pa.string() if text else pa.float64() if "float" in declared.dtype else pa.int64()
    if kind == "image" or (kind is None and len(declared.shape) >= 2):
        return pa.binary()
    one = declared.shape in ((), (1,)) if kind is None else kind in ("number", "category", "text")
    return value if one else pa.list_(value)
