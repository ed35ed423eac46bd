"""A model over a table: batches of one shape whatever the row groups, and every row counted."""

from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vectors_of
from topkin.encoding.signature import EncoderInput
from topkin.ingest.folders.file import File
from topkin.models import save_encoder
from topkin.models.encoders import image_files, keras_encoder, keras_files
from topkin.models.encoders.keras_files import read_model
from topkin.pipelines.engine.job import run_pipeline
from topkin.transforms import encode
from topkin.transforms.encode import EncodeInputs, EncodeTable, batch_rows, chunk_rows, of_rows


def history(length: int) -> EncoderInput:
    return EncoderInput(
        name="h", column="h", kind="history", dtype="int64", shape=(length,), buckets=(8, 16, 32, length)
    )


def image(*shape: int) -> EncoderInput:
    return EncoderInput(name="x", column="x", kind="image", dtype="float32", shape=shape)


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 12), st.integers(1, 12))
def test_rows_are_dealt_out_in_their_order(sizes: list[int], rows: int, most: int) -> None:
    """A row is 8 bytes; a table is read with fewer than ``most`` rows."""
    ends = np.cumsum([0, *sizes])
    tables = [pa.table({"n": np.arange(a, b)}).slice(0, min(b - a, most)) for a, b in pairwise(ends)]
    dealt = list(of_rows(tables, rows, 8 * most))
    numbers = [n for table in tables for n in table["n"].to_pylist()]
    assert [n for table, _ in dealt for n in table["n"].to_pylist()] == numbers
    assert all(0 < len(table) <= most for table, _ in dealt)
    runs = np.split([len(table) for table, _ in dealt], np.flatnonzero([full for _, full in dealt]) + 1)
    assert [run.sum() for run in runs] == [rows] * (len(numbers) // rows) + [len(numbers) % rows]
    if most >= rows:
        assert all(len(run) <= 1 for run in runs)


@pytest.mark.parametrize(
    ("inputs", "batch", "chunk"),
    [
        ([image(28, 28, 1)], 1024, 10 * 1024),
        ([image(2)], 1024, 16 * 1024),
        ([image(224, 224, 3)], 32, 32),
        ([image(224, 224, 3), image(224, 224, 3)], 16, 16),
        ([image(9000, 9000, 3)], 1, 1),
        ([history(64)], 1024, 64 * 1024),
        ([history(64), image(28, 28, 1)], 1024, 8 * 1024),
    ],
)
def test_large_rows_make_small_batches(inputs: list[EncoderInput], batch: int, chunk: int) -> None:
    assert batch_rows(inputs, 1024) == batch
    assert chunk_rows(inputs, batch) == chunk


def embedded(
    tmp_path: Path, table: pa.Table, batch: int, row_group: int | None = None
) -> tuple[pa.Table, dict[str, dict[str, int]]]:
    """The vectors and counts of a table whose images are flattened, all in one row group."""
    inputs = keras.Input((2, 3, 1), name="v")
    save_encoder(keras.Model(inputs, keras.layers.Flatten()(inputs)), str(tmp_path / "encoder"), overwrite=True)
    pq.write_table(table, tmp_path / "items.parquet", row_group_size=row_group)
    what = EncodeInputs(
        encoder=str(tmp_path / "encoder"),
        files=[File(str(tmp_path / "items.parquet"), 0, rows=len(table))],
        id_column="id",
        id_type=pa.int64(),
        columns=["id", "v"],
        batch_size=batch,
    )
    run_pipeline(EncodeTable(what, str(tmp_path / "out"), str(tmp_path / "tally.json")), [])
    return storage.read_parts(str(tmp_path / "out" / "items")), storage.read_json(str(tmp_path / "tally.json"))


def test_large_rows_are_read_a_few_at_a_time_and_fill_whole_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of images are larger than the arrays that they make."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2, 3, 1), dtype=np.uint8)
    files: list[bytes | None] = [bytes(tf.io.encode_png(p).numpy()) + bytes(10_000) for p in pixels]
    files[3], files[30] = None, b"no image"
    files[40] = pixels[40].tobytes()
    monkeypatch.setattr(encode, "CHUNK_BYTES", 80_000)
    sizes: list[int] = []
    read = image_files.decode

    def counted(column: pa.Array, *others: object, **named: object) -> np.ndarray:
        sizes.append(column.nbytes)
        return read(column, *others, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(keras_encoder, "decode", counted)
    vectors, counts = embedded(tmp_path, pa.table({"id": range(50), "v": files}), 20)
    kept = [n for n in range(50) if n not in (3, 30)]
    assert vectors["item_id"].to_pylist() == kept
    np.testing.assert_array_equal(vectors_of(vectors), pixels[kept].reshape(-1, 6))
    assert counts["rejects"] == {"v is missing": 1, "v is no image that can be decoded": 1}
    assert counts["items"]["padded"] == 12  # one chunk of 50, in three batches
    assert sum(sizes) > 450_000
    assert max(sizes) < 100_000


def test_small_row_groups_are_filled_up_to_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "CHUNK_BATCHES", 2)
    inputs = keras.Input((2,), name="v")
    save_encoder(keras.Model(inputs, keras.layers.UnitNormalization()(inputs)), str(tmp_path / "encoder"))
    rows = np.random.default_rng(0).random((103, 2)).astype("f4")
    files = []
    for number, part in enumerate(np.split(np.arange(103), [60])):
        vectors = [None if n % 20 == 7 else list(rows[n]) for n in part]
        pq.write_table(pa.table({"id": part, "v": vectors}), tmp_path / f"{number}.parquet", row_group_size=7)
        files.append(File(str(tmp_path / f"{number}.parquet"), 0, rows=len(part)))
    what = EncodeInputs(
        encoder=str(tmp_path / "encoder"),
        files=files,
        id_column="id",
        id_type=pa.int64(),
        columns=["id", "v"],
        batch_size=10,
    )
    run_pipeline(EncodeTable(what, str(tmp_path / "out"), str(tmp_path / "tally.json")), [])
    table = storage.read_parts(str(tmp_path / "out" / "items"))
    kept = np.array([n for n in range(103) if n % 20 != 7])
    assert table["item_id"].to_pylist() == kept.tolist()
    np.testing.assert_allclose(vectors_of(table), rows[kept] / np.linalg.norm(rows[kept], axis=1)[:, None], atol=1e-6)
    counts = storage.read_json(str(tmp_path / "tally.json"))
    # Of 60 rows three chunks of 20 lose one each, of 43 two of 20 one each, and three rows are left.
    assert counts["items"] == {"read": 103, "embedded": 98, "padded": 3 + 2 + 7}
    assert counts["rejects"] == {"v is missing": 5}
    assert sum(counts["device"].values()) == 2


def test_several_splits_of_a_process_share_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(path: str, side: str) -> object:
        read.append(path)
        return read_model(path, side)

    monkeypatch.setattr(keras_files, "read_model", noted)
    monkeypatch.setattr(encode, "SPLIT_ROWS", 8)
    pixels = np.zeros((40, 6), np.uint8)
    vectors, _ = embedded(tmp_path, pa.table({"id": range(40), "v": pa.array([p.tobytes() for p in pixels])}), 4, 8)
    assert len(vectors) == 40
    assert len(storage.files(str(tmp_path / "out" / "items"))) == 5
    assert len(read) == 1
