import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import storage
from topkin.encoding.blocks import Block, dim_of
from topkin.errors import ArtifactError

keras = pytest.importorskip("keras")

from topkin.models.two_tower import serialization  # noqa: E402


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("model"))
    serialization.save(trained.encoder, path, {"seed": 3})
    return path


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def replace_model(folder: Path, data: bytes) -> None:
    """Another file under a signature that agrees with it."""
    (folder / serialization.MODEL).write_bytes(data)
    signature = storage.read_json(str(folder / serialization.SIGNATURE))
    signature["encoder"] = storage.sha256(str(folder / serialization.MODEL))
    storage.write_json(signature, str(folder / serialization.SIGNATURE))


def test_a_loaded_encoder_gives_the_same_vectors(trained, folder, catalogue):
    encoder = serialization.load(folder)
    for a, b in zip(trained.encoder.encode_items(catalogue), encoder.encode_items(catalogue), strict=True):
        assert (a == b).all()
    assert encoder.meaning == trained.encoder.meaning
    assert encoder.ids.equals(trained.encoder.ids)


def test_the_hash_is_that_of_the_file_and_equal_for_equal_weights(folder, tmp_path):
    encoder = serialization.load(folder)
    assert encoder.hash == storage.sha256(f"{folder}/encoder.keras")
    again = serialization.save(encoder, str(tmp_path), {"seed": 3})
    assert again.hash == encoder.hash
    assert storage.read_bytes(f"{tmp_path}/signature.json") == storage.read_bytes(f"{folder}/signature.json")


def test_the_hash_changes_with_a_weight_and_with_the_meaning(folder, tmp_path):
    encoder = serialization.load(folder)
    encoder.model.meaning = {**encoder.meaning, "reach": 25.0}
    meant = serialization.save(encoder, str(tmp_path / "a"), {}).hash
    table = encoder.model.towers[0].tables[0].table
    table.assign(np.asarray(table) + 1e-3)
    moved = serialization.save(encoder, str(tmp_path / "b"), {}).hash
    assert len({serialization.load(folder).hash, meant, moved}) == 3


def test_the_signature_tells_what_numpy_needs_for_reasons(folder, trained):
    signature = storage.read_json(f"{folder}/signature.json")
    assert {"blocks", "encoder", "dim", "item_type", "items", "items_sha256"} <= set(signature)
    assert signature["item_type"] == "string"
    blocks = [Block.from_json(b) for b in signature["blocks"]]
    assert blocks == trained.encoder.blocks
    assert signature["dim"] == dim_of(blocks) == trained.encoder.dim


def test_a_damaged_file_is_refused_before_tensorflow_reads_it(copy, monkeypatch):
    data = bytearray((copy / serialization.MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / serialization.MODEL).write_bytes(data)
    monkeypatch.setattr(keras.saving, "load_model", lambda *a, **k: pytest.fail("Keras read a damaged file"))
    with pytest.raises(ArtifactError, match=r"encoder\.keras must have the SHA-256"):
        serialization.load(str(copy))


def test_a_model_with_code_in_it_is_refused(copy, tmp_path):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "code.keras")
    replace_model(copy, (tmp_path / "code.keras").read_bytes())
    with pytest.raises(ArtifactError, match="without code in it"):
        serialization.load(str(copy))


def test_a_foreign_model_is_refused(copy, tmp_path):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "foreign.keras")
    replace_model(copy, (tmp_path / "foreign.keras").read_bytes())
    with pytest.raises(ArtifactError, match="must hold a Towers of topkin, got Sequential"):
        serialization.load(str(copy))


@pytest.mark.parametrize("data", [b"", b"not a model", b"PK\x03\x04 cut off"])
def test_what_is_no_model_is_refused(copy, data):
    replace_model(copy, data)
    with pytest.raises(ArtifactError, match=r"encoder\.keras must be an encoder of topkin"):
        serialization.load(str(copy))


@pytest.mark.parametrize("name", ["encoder.keras", "items.parquet", "signature.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        serialization.load(str(copy))


@pytest.mark.parametrize("signature", [{"format": 99}, {}, []])
def test_a_signature_of_another_format_is_refused(copy, signature):
    (copy / serialization.SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(ArtifactError, match="must have format 2"):
        serialization.load(str(copy))


def test_items_of_another_training_are_refused(copy):
    storage.write_parquet(pa.table({"item_id": ["a", "b"]}), str(copy / serialization.ITEMS))
    with pytest.raises(ArtifactError, match=r"items\.parquet is not the one"):
        serialization.load(str(copy))
