import json
from pathlib import Path
from typing import Any

import pytest

from topkin.artifacts import storage
from topkin.encoding.signature import EncoderInput, EncoderSignature, read_signature, write_signature
from topkin.errors import ArtifactError


def signature(column: str = "ln(price)", **files: str) -> EncoderSignature:
    price = EncoderInput(name="price", column=column, kind="number", dtype="float32", shape=(1,), missing=0.5)
    return EncoderSignature(inputs=(price,), dim=4, files=files or {"item.keras": "0" * 64}, versions={"keras": "3"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "item.keras").write_bytes(b"a model")
    write_signature(signature(**{"item.keras": storage.sha256(str(tmp_path / "item.keras"))}), str(tmp_path))
    return tmp_path


def test_it_comes_back_from_its_folder(folder: Path) -> None:
    read = read_signature(str(folder))
    assert read == signature(**read.files)
    assert json.loads((folder / "signature.json").read_text())["encoder"] == read.hash


def test_the_hash_is_that_of_the_files_whatever_columns_feed_them() -> None:
    assert signature().hash == signature("cost").hash
    assert signature().hash != signature(**{"item.keras": "1" * 64}).hash
    assert signature(**{"item.keras": "0" * 64, "user.keras": "0" * 64}).hash != signature().hash


def test_a_file_that_is_not_the_one_of_the_signature_is_refused(folder: Path) -> None:
    (folder / "item.keras").write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"item\.keras must have the SHA-256 of its signature, .*, got .*: the"):
        read_signature(str(folder))
    (folder / "item.keras").unlink()
    with pytest.raises(ArtifactError, match=r"item\.keras is missing, .*signature\.json names it: copy"):
        read_signature(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "must have format 1 of an encoder, got 2: save the encoder again"),
        ({"inputs": None}, "is not a whole signature"),
        ({"inputs": [{"name": "x"}]}, "is not a whole signature"),
    ],
)
def test_a_signature_of_another_form_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "signature.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=message):
        read_signature(str(folder))
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="must have format 1 of an encoder, got 'list'"):
        read_signature(str(folder))


def test_both_sides_come_back_and_a_folder_of_before_has_one() -> None:
    history = EncoderInput(
        name="items", column="bought", kind="history", dtype="int64", shape=(64,), pad="before", buckets=(8, 64)
    )
    both = EncoderSignature(inputs=signature().inputs, dim=4, files={}, user_inputs=(history,))
    content = json.loads(json.dumps(both.to_json()))
    assert EncoderSignature.from_json(content, "here") == both
    assert (both.side("items"), both.side("users")) == (both.inputs, (history,))
    del content["user_inputs"]
    for i in content["inputs"]:
        del i["pad"], i["buckets"]
    assert EncoderSignature.from_json(content, "here") == EncoderSignature(inputs=both.inputs, dim=4, files={})
