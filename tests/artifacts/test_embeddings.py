"""The vectors' tables: what is read is what was written, by the right encoder."""

import numpy as np
import pyarrow as pa
import pytest

from topkin.artifacts import schemas, storage
from topkin.artifacts.embeddings import read_items, read_users, vector_column, vectors_of, zero_non_finite
from topkin.errors import ArtifactError


def _write_items(folder: str, part: int, ids: list[str], vectors: np.ndarray, encoder: str) -> None:
    schema = schemas.with_encoder(schemas.item_embeddings(pa.string(), vectors.shape[1]), encoder)
    table = pa.Table.from_arrays(
        [pa.array(ids, pa.string()), vector_column(vectors), vector_column(-vectors)], schema=schema
    )
    storage.write_parquet(table, storage.join(folder, "items", storage.part_name(part, 2)))


def test_items_of_all_parts_are_read_in_order(tmp_path):
    x = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    _write_items(str(tmp_path), 0, ["a", "b", "c"], x[:3], "e")
    _write_items(str(tmp_path), 1, ["d", "e"], x[3:], "e")
    items = read_items(str(tmp_path), "e")
    assert items.ids.to_pylist() == list("abcde")
    assert np.array_equal(items.vectors, x)
    assert np.array_equal(items.in_vectors, -x)


def test_tables_of_two_encoders_are_refused(tmp_path):
    x = np.ones((1, 3), np.float32)
    _write_items(str(tmp_path), 0, ["a"], x, "e" * 64)
    _write_items(str(tmp_path), 1, ["b"], x, "f" * 64)
    with pytest.raises(ArtifactError, match=r"part-00001-of-00002.parquet must be made by encoder eeee.*got ffff"):
        read_items(str(tmp_path), "e" * 64)
    table = pa.Table.from_arrays([pa.array(["u"]), vector_column(x)], schema=schemas.user_embeddings(pa.string(), 3))
    storage.write_parquet(table, str(tmp_path / "users" / storage.part_name(0, 1)))
    with pytest.raises(ArtifactError, match="got None"):
        read_users(str(tmp_path), 0, 1, "e" * 64)


def test_missing_items_are_named(tmp_path):
    with pytest.raises(ArtifactError, match="items holds no Parquet file"):
        read_items(str(tmp_path), "e")


def test_rows_that_are_no_numbers_are_set_aside_in_both_arrays():
    a, b = np.ones((4, 2), np.float32), np.ones((4, 2), np.float32)
    a[1, 0], b[3, 1] = np.nan, np.inf
    count, (a, b) = zero_non_finite(a, b)
    assert count == 2
    assert a.tolist() == b.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]


def test_a_sliced_column_gives_its_own_rows():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    table = pa.table({"vector": vector_column(x)})
    assert np.array_equal(vectors_of(table.slice(1, 2)), x[1:3])
    assert vectors_of(table.slice(0, 0)).shape == (0, 3)
