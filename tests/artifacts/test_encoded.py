"""Vectors that a trained model made of a table are read as they were written, and of one encoder only."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import read_encoded, vector_column
from topkin.errors import ArtifactError


def write(folder: Path, name: str, ids: list[str], vectors: np.ndarray, encoder: str) -> None:
    schema = schemas.with_encoder(schemas.encoded_items(pa.string(), vectors.shape[1]), encoder)
    table = pa.Table.from_arrays([pa.array(ids, pa.string()), vector_column(vectors)], schema=schema)
    storage.write_parquet(table, str(folder / "items" / name))


def test_parts_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    write(tmp_path, "part-1.parquet", ["c", "d"], vectors[2:], "one")
    write(tmp_path, "part-0.parquet", ["b", "a"], vectors[:2], "one")
    encoded = read_encoded(str(tmp_path), "one")
    assert encoded.ids.to_pylist() == ["b", "a", "c", "d"]
    assert np.array_equal(encoded.vectors, vectors)


def test_no_row_is_no_vector(tmp_path: Path) -> None:
    write(tmp_path, "part-0.parquet", [], np.zeros((0, 3), np.float32), "one")
    encoded = read_encoded(str(tmp_path), "one")
    assert (len(encoded.ids), encoded.vectors.shape) == (0, (0, 3))


def test_another_encoder_or_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no Parquet file: run topkin embed again"):
        read_encoded(str(tmp_path), "one")
    write(tmp_path, "part-0.parquet", ["a"], np.ones((1, 3), np.float32), "other")
    with pytest.raises(ArtifactError, match="tables of two encoders"):
        read_encoded(str(tmp_path), "one")
