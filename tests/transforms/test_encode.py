"""A model over a table: batches of one shape whatever the row groups, and every row counted."""

from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topkin.artifacts import storage
from topkin.artifacts.embeddings import vectors_of
from topkin.encoding.signature import EncoderInput
from topkin.ingest.folders.file import File
from topkin.models import save_encoder
from topkin.pipelines.engine.job import run_pipeline
from topkin.transforms import encode
from topkin.transforms.encode import EncodeInputs, EncodeTable, batch_rows, chunk_rows, of_rows


def image(*shape: int) -> EncoderInput:
    return EncoderInput(name="x", column="x", kind="image", dtype="float32", shape=shape)


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 12))
def test_rows_are_dealt_out_in_their_order(sizes: list[int], rows: int) -> None:
    ends = np.cumsum([0, *sizes])
    tables = [pa.table({"n": np.arange(a, b)}) for a, b in pairwise(ends)]
    dealt = list(of_rows(tables, rows))
    assert all(len(table) == rows for table in dealt[:-1])
    assert [n for table in dealt for n in table["n"].to_pylist()] == list(range(ends[-1]))
    assert all(len(table) for table in dealt)


@pytest.mark.parametrize(
    ("inputs", "batch", "chunk"),
    [
        ([image(28, 28, 1)], 1024, 10 * 1024),
        ([image(2)], 1024, 16 * 1024),
        ([image(224, 224, 3)], 32, 32),
        ([image(224, 224, 3), image(224, 224, 3)], 16, 16),
        ([image(9000, 9000, 3)], 1, 1),
    ],
)
def test_large_rows_make_small_batches(inputs: list[EncoderInput], batch: int, chunk: int) -> None:
    assert batch_rows(inputs, 1024) == batch
    assert chunk_rows(inputs, batch) == chunk


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
    made = storage.read_parts(str(tmp_path / "out" / "items"))
    kept = np.array([n for n in range(103) if n % 20 != 7])
    assert made["item_id"].to_pylist() == kept.tolist()
    np.testing.assert_allclose(vectors_of(made), rows[kept] / np.linalg.norm(rows[kept], axis=1)[:, None], atol=1e-6)
    counts = storage.read_json(str(tmp_path / "tally.json"))
    # Of 60 rows three chunks of 20 lose one each, of 43 two of 20 one each, and three rows are left.
    assert counts["items"] == {"read": 103, "embedded": 98, "padded": 3 + 2 + 7}
    assert counts["rejects"] == {"v is missing": 5}
    assert sum(counts["device"].values()) == 2
