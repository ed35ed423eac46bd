"""An encoder on disk: ``encoder.keras``, ``items.parquet``, ``signature.json``, and the ``profiles.parquet`` of users.

The hash in the signature is checked before TensorFlow reads a byte, and Keras loads in safe mode, which
refuses files with code in them.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import keras
import pyarrow as pa

from topkin.artifacts import storage
from topkin.artifacts.ids import vocabulary_hash
from topkin.errors import ArtifactError
from topkin.models.ops.archive import ModelFileError, load_model, model_bytes
from topkin.models.two_tower.encoder import Encoder
from topkin.models.two_tower.towers import Towers

FORMAT = 2
MODEL = "encoder.keras"
ITEMS = "items.parquet"
SIGNATURE = "signature.json"


def save(encoder: Encoder, folder: str, signature: Mapping[str, Any]) -> Encoder:
    """Write an encoder, and return it with its hash. ``signature`` holds what is to be told besides."""
    data = model_bytes(encoder.model)
    digest = hashlib.sha256(data).hexdigest()
    storage.write_bytes(data, storage.join(folder, MODEL))
    storage.write_parquet(pa.table({"item_id": encoder.ids}), storage.join(folder, ITEMS))
    meaning = encoder.meaning
    if encoder.profiles is not None:
        encoder.profiles.write(folder)
    storage.write_json(
        {
            **signature,
            **meaning,
            "format": FORMAT,
            "encoder": digest,
            "dim": encoder.dim,
            "items": len(encoder.ids),
            "items_sha256": vocabulary_hash(encoder.ids),
            "item_type": str(encoder.ids.type),
            "word_buckets": encoder.model.towers[0].word_buckets,
            "title_words": encoder.model.towers[0].title_words,
            "versions": {"keras": keras.__version__, "tensorflow": _tensorflow_version()},
        },
        storage.join(folder, SIGNATURE),
    )
    return Encoder(encoder.model, encoder.ids, digest)


def _tensorflow_version() -> str:
    import tensorflow as tf

    return str(tf.__version__)


def load(folder: str) -> Encoder:
    """Load an encoder that :func:`save` wrote.

    Raises ArtifactError where a file is missing, is not the one that the signature names, or is of a format
    or kind that this version does not know.
    """
    signature = storage.read_json(storage.join(folder, SIGNATURE))
    path = storage.join(folder, MODEL)
    if not isinstance(signature, dict) or signature.get("format") != FORMAT:
        version = signature.get("format") if isinstance(signature, dict) else type(signature).__name__
        raise ArtifactError(f"{folder}/{SIGNATURE} must have format {FORMAT}, got {version!r}: train again")
    data = storage.read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if digest != signature["encoder"]:
        raise ArtifactError(
            f"{path} must have the SHA-256 of its signature, {signature['encoder']}, got {digest}: "
            "the file is damaged or was replaced; run train again with --force"
        )
    ids = storage.read_parquet(storage.join(folder, ITEMS))["item_id"].combine_chunks()
    if isinstance(ids, pa.ChunkedArray):
        ids = pa.array([], ids.type)
    if vocabulary_hash(ids) != signature["items_sha256"]:
        raise ArtifactError(
            f"{folder}/{ITEMS} is not the one the encoder was trained with: run train again with --force"
        )
    return Encoder(_read_model(data, path), ids, digest)


def _read_model(data: bytes, path: str) -> Towers:
    try:
        model = load_model(data)
    except ModelFileError as e:
        raise ArtifactError(f"{path} must be an encoder of topkin without code in it: it {e}") from e
    if not isinstance(model, Towers):
        raise ArtifactError(f"{path} must hold a Towers of topkin, got {type(model).__name__}: train again")
    return model
