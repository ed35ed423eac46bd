"""A Keras model as the bytes of a ``.keras`` file, and back: in safe mode, every class of topkin known."""

import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

from topkin.models.ops.encoders import fingerprint
from topkin.models.ops.registered import register

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NAME = "model.keras"


class ModelFileError(Exception):
    """A model that its file does not give back. The message goes on from the model's name: must …, got …: the cure.

    Args:
        message: The message.
        reason: What failed, in a few words.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def model_bytes(model: keras.Model) -> bytes:
    """The model as a ``.keras`` file; equal models give equal bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, _NAME)
        model.save(path)
        with open(path, "rb") as file:
            return _without_times(file.read())


def _without_times(data: bytes) -> bytes:
    """A ``.keras`` archive with the dates taken out, so that equal weights give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            if name == "metadata.json":
                metadata = {k: v for k, v in json.loads(content).items() if k != "date_saved"}
                content = json.dumps(metadata, sort_keys=True).encode()
            new.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return out.getvalue()


def load_model(data: bytes) -> keras.Model:
    """The model of a ``.keras`` file. Raises ModelFileError where there is none, code in it, or a class unknown."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as e:
        raise ModelFileError(
            f"must be a .keras file, a zip archive with config.json, got {data[:4]!r} at its start: save the model "
            "again by model.save('my_model.keras')",
            "no zip archive with config.json",
        ) from e
    lambdas = sorted({str(p["config"].get("name")) for p in _parts(config) if p.get("class_name") == "Lambda"})
    if lambdas:
        raise ModelFileError(
            f"must hold no code, got a Lambda layer: {', '.join(lambdas)}. Save the model with a layer of Keras or "
            "topkin in its place, such as Rescaling or UnitNormalization",
            f"a Lambda, {', '.join(lambdas)}",
        )
    register()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, _NAME)
        with open(path, "wb") as file:
            file.write(data)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as e:  # whatever the layers of a stranger's model raise
            raise _unreadable(e) from e
    if not isinstance(model, keras.Model):
        kind = type(model).__name__
        raise ModelFileError(f"must hold a model, got a {kind}: save keras.Model(inputs, outputs)", f"a {kind}")
    return model


def round_trip(model: keras.Model) -> tuple[bytes, keras.Model]:
    """The model as a ``.keras`` file, and what that gives back.

    Raises ModelFileError where that is not the same model: as :func:`load_model`, or where weights are lost.
    """
    try:
        data = model_bytes(model)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as e:
        raise _unreadable(e) from e
    again = load_model(data)
    if fingerprint(again) != fingerprint(model):
        raise ModelFileError(
            "must come back from its file with its weights, got others: a layer of its own must make them in build or "
            "__init__",
            "other weights",
        )
    return data, again


def _parts(config: object) -> Iterator[dict[str, Any]]:
    """Every object of a model's configuration, those inside others too."""
    if isinstance(config, dict):
        if isinstance(config.get("config"), dict):
            yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)


def _unreadable(error: Exception) -> ModelFileError:
    """What Keras could not do, in a line."""
    unknown = re.search(r"Could not locate (class|function) '([^']+)'", str(error))
    if unknown is not None:
        rule = "must be of layers that Keras or topkin registers, got class"
        if unknown[1] == "function":
            rule = "must be of functions that Keras or topkin registers, got"
        return ModelFileError(
            f"{rule} {unknown[2]!r}: save the model with their layers, for the job runs where your module is not "
            "imported",
            unknown[0],
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
    if "lambda" in str(error).lower():
        return ModelFileError("must hold no code, got a Python lambda: save the model with layers in its place", reason)
    return ModelFileError(
        f"cannot be read by Keras {keras.__version__}: {lines[0][:300] if lines else reason}; save it again with this "
        "version, by model.save('my_model.keras')",
        reason,
    )
